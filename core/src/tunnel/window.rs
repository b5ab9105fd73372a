//! One probe's record: what was sent, what came back, and whether that counts as health. A function of events and of `now`.

use std::{
    collections::VecDeque,
    io,
    time::{Duration, Instant},
};

use super::rtt::RttHistogram;

/// What the answers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// None is in yet, and not enough were missed to say more.
    Pending,
    Ok,
    Failed,
}

/// How many results in a row change a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Failures that turn `ok` or `pending` into `failed`.
    pub raise: u32,
    /// Answers that turn `failed` into `ok`.
    pub clear: u32,
}

/// "No buffer space available" (`asm-generic/errno.h`).
const ENOBUFS: i32 = 105;

/// Why a probe could not be sent: nothing was asked, so that silence says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SendError {
    errno: Option<i32>,
    message: String,
}

impl SendError {
    /// A program on the device dropped it (`ENOBUFS`).
    #[must_use]
    pub fn is_drop(&self) -> bool {
        self.errno == Some(ENOBUFS)
    }
}

impl From<&io::Error> for SendError {
    fn from(error: &io::Error) -> Self {
        Self { errno: error.raw_os_error(), message: error.to_string() }
    }
}

/// So many answers in a row end what was lost before: it is over.
const CALM: u32 = 30;
/// Results kept to compute the loss.
const WINDOW: usize = 100;

/// The record of one probe of one VTEP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    thresholds: Thresholds,
    timeout: Duration,
    state: Answers,
    /// Results in a row that contradict `state`.
    contrary: u32,
    /// Sequence number and time of each probe that is still awaited, oldest first.
    awaited: VecDeque<(u16, Instant)>,
    window: VecDeque<bool>,
    /// Answers in a row.
    answered_in_a_row: u32,
    /// When the first probe of those left that were not answered since, or the first of the outage.
    unanswered_since: Option<Instant>,
    /// When the last loss was known.
    lost_at: Option<Instant>,
    pub sent: u64,
    pub received: u64,
    /// Not answered in time, or not sent.
    pub lost_total: u64,
    /// Answers to something already answered, or given up: flooded frames reach several nodes, and each may forward them.
    pub duplicates: u64,
    /// Of the last answer.
    pub rtt: Option<Duration>,
    /// Of all answers.
    pub rtts: RttHistogram,
    /// Why the last probe could not be sent.
    pub send_error: Option<SendError>,
}

impl Health {
    #[must_use]
    pub fn new(thresholds: Thresholds, timeout: Duration) -> Self {
        Self {
            thresholds,
            timeout,
            state: Answers::Pending,
            contrary: 0,
            awaited: VecDeque::new(),
            window: VecDeque::new(),
            answered_in_a_row: 0,
            unanswered_since: None,
            lost_at: None,
            sent: 0,
            received: 0,
            lost_total: 0,
            duplicates: 0,
            rtt: None,
            rtts: RttHistogram::default(),
            send_error: None,
        }
    }

    #[must_use]
    pub fn state(&self) -> Answers {
        self.state
    }

    #[must_use]
    pub fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    /// The last result was a loss.
    #[must_use]
    pub fn last_lost(&self) -> bool {
        self.window.back() == Some(&false)
    }

    /// The answer to the probe `sequence` would be its first.
    #[must_use]
    pub fn awaits(&self, sequence: u16) -> bool {
        self.awaited.iter().any(|(awaited, _)| *awaited == sequence)
    }

    /// Share of the last probes that were lost, 0 to 1.
    #[must_use]
    pub fn loss(&self) -> f64 {
        if self.window.is_empty() { 0.0 } else { self.lost() as f64 / self.window.len() as f64 }
    }

    /// How many of the last probes were lost.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.window.iter().filter(|answered| !**answered).count()
    }

    /// When the first probe left of those that were not answered since the last answer; in an outage, its first.
    #[must_use]
    pub fn unanswered_since(&self) -> Option<Instant> {
        self.unanswered_since
    }

    /// When a probe was given up last.
    #[must_use]
    pub fn lost_at(&self) -> Option<Instant> {
        self.lost_at
    }

    /// A probe left.
    pub fn on_sent(&mut self, sequence: u16, now: Instant) {
        self.sent += 1;
        self.send_error = None;
        self.unanswered_since.get_or_insert(now);
        self.awaited.push_back((sequence, now));
    }

    /// A probe could not leave: it failed without waiting.
    pub fn on_send_error(&mut self, error: &io::Error, now: Instant) {
        self.sent += 1;
        self.unanswered_since.get_or_insert(now);
        self.send_error = Some(error.into());
        self.lost_at = Some(now);
        self.record(false);
    }

    /// The answer to the probe `sequence` came.
    pub fn on_reply(&mut self, sequence: u16, now: Instant) {
        match self.awaited.iter().position(|(awaited, _)| *awaited == sequence) {
            Some(position) => {
                let sent_at = self.awaited.remove(position).map_or(now, |(_, sent_at)| sent_at);
                self.received += 1;
                let rtt = now.duration_since(sent_at);
                self.rtt = Some(rtt);
                self.rtts.observe(rtt);
                self.record(true);
                // An outage ends with the state: its first answer does not begin another.
                if self.state != Answers::Failed {
                    self.unanswered_since = None;
                }
            }
            None => self.duplicates += 1,
        }
    }

    /// An answer that carries no sequence number came (ARP): it is taken for the newest probe's.
    pub fn on_reply_to_newest(&mut self, now: Instant) {
        match self.awaited.back() {
            Some(&(sequence, _)) => self.on_reply(sequence, now),
            None => self.duplicates += 1,
        }
    }

    /// Gives up what has been awaited for too long.
    pub fn on_time(&mut self, now: Instant) {
        while let Some(&(_, sent_at)) = self.awaited.front() {
            if now.duration_since(sent_at) < self.timeout {
                break;
            }
            self.awaited.pop_front();
            self.lost_at = Some(now);
            self.record(false);
        }
    }

    /// When [`Self::on_time`] has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.awaited.front().map(|(_, sent_at)| *sent_at + self.timeout)
    }

    fn record(&mut self, answered: bool) {
        if self.window.len() == WINDOW {
            self.window.pop_front();
        }
        self.window.push_back(answered);
        self.lost_total += u64::from(!answered);
        self.answered_in_a_row = if answered { self.answered_in_a_row.saturating_add(1) } else { 0 };
        if self.answered_in_a_row >= CALM {
            self.window.retain(|answered| *answered);
        }
        let (agrees, threshold, other) = match self.state {
            Answers::Ok => (answered, self.thresholds.raise, Answers::Failed),
            Answers::Failed => (!answered, self.thresholds.clear, Answers::Ok),
            // The first answer says all; silence needs as many misses as it takes to lose health.
            Answers::Pending if answered => (false, 1, Answers::Ok),
            Answers::Pending => (false, self.thresholds.raise, Answers::Failed),
        };
        self.contrary = if agrees { 0 } else { self.contrary + 1 };
        if self.contrary >= threshold {
            if other == Answers::Ok {
                // An outage that is over is not loss.
                self.window.clear();
                self.window.push_back(true);
            }
            self.state = other;
            self.contrary = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(500);

    /// Runs one probe a second: `+` answered after 1 ms, `-` never, `x` could not be sent. Gives the state after each.
    fn states(script: &str) -> (Health, String) {
        let mut health = Health::new(Thresholds { raise: 3, clear: 3 }, TIMEOUT);
        let mut now = Instant::now();
        let mut states = String::new();
        for (sequence, step) in (0..).zip(script.chars()) {
            match step {
                'x' => health.on_send_error(&io::Error::other("no buffer space"), now),
                _ => health.on_sent(sequence, now),
            }
            if step == '+' {
                health.on_reply(sequence, now + Duration::from_millis(1));
            }
            now += Duration::from_secs(1);
            health.on_time(now);
            states.push(match health.state() {
                Answers::Pending => 'p',
                Answers::Ok => 'o',
                Answers::Failed => 'f',
            });
        }
        (health, states)
    }

    #[test]
    fn three_in_a_row_change_the_state() {
        let table = [
            ("+", "o"),
            ("--+", "ppo"),
            ("---", "ppf"),
            ("+--+---", "oooooof"),
            ("---++-+++", "ppffffffo"),
            ("xxx", "ppf"),
            ("+xx", "ooo"),
        ];
        for (script, expected) in table {
            assert_eq!(states(script).1, expected, "{script}");
        }
    }

    #[test]
    fn counts_and_loss() {
        let (health, _) = states("++-+");
        assert_eq!((health.sent, health.received, health.duplicates), (4, 3, 0));
        assert!((health.loss() - 0.25).abs() < f64::EPSILON);
        assert_eq!(health.rtt, Some(Duration::from_millis(1)));
    }

    #[test]
    fn loss_is_over_after_thirty_answers() {
        let script = |answers: usize| format!("+-+-{}", "+".repeat(answers));
        assert_eq!(states(&script(29)).0.lost(), 2);
        assert_eq!(states(&script(30)).0.lost(), 0);
    }

    #[test]
    fn a_second_answer_is_a_duplicate_and_a_late_one_no_success() {
        let mut health = Health::new(Thresholds { raise: 3, clear: 3 }, TIMEOUT);
        let now = Instant::now();
        health.on_sent(7, now);
        assert_eq!(health.deadline(), Some(now + TIMEOUT));
        health.on_reply(7, now);
        health.on_reply(7, now);
        health.on_sent(8, now);
        health.on_time(now + TIMEOUT);
        health.on_reply(8, now + TIMEOUT);
        assert_eq!((health.received, health.duplicates, health.deadline()), (1, 2, None));
    }
}
