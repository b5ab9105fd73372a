//! The window of one kind of probe: its counts, and the state that follows from the last results. A function of events and of `now`.

use std::{
    collections::VecDeque,
    io,
    time::{Duration, Instant},
};

use super::{rtt::RttHistogram, send_error::SendError};

/// The state that follows from the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowState {
    /// Nothing was answered yet, but not enough probes were lost to count as failed.
    Pending,
    Ok,
    Failed,
}

/// How many results in a row change the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Failures that turn `ok` or `pending` into `failed`.
    pub raise: u32,
    /// Answers that turn `failed` into `ok`.
    pub clear: u32,
}

/// This many answers in a row end an earlier loss: the losses leave the window.
const QUIET_ANSWERS: u32 = 30;
/// This many losses in a row are no chance.
pub const CERTAIN_LOSSES: u32 = 6;
/// Losses in a row for at least this many time-outs are an interruption. The first was noticed one time-out after it was sent.
const INTERRUPTION: u32 = 2;
/// The number of results from which the loss is computed.
const WINDOW: usize = 100;

/// The window of one kind of probe of one VTEP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeWindow {
    thresholds: Thresholds,
    timeout: Duration,
    state: WindowState,
    /// Results in a row that contradict `state`.
    contrary: u32,
    /// Sequence number and time of each probe whose answer is awaited, oldest first.
    awaited: VecDeque<(u16, Instant)>,
    /// The last results, oldest first: `None` if it was answered, else when the loss was noticed.
    window: VecDeque<Option<Instant>>,
    /// The results at the end of `window` between which none was dropped.
    unbroken: usize,
    /// Answers in a row.
    answered_in_a_row: u32,
    /// Losses in a row.
    lost_in_a_row: u32,
    /// The most losses in a row in this state.
    longest_loss: u32,
    /// When the first of those in a row now was noticed.
    lost_from: Option<Instant>,
    interruptions: u64,
    /// When the first probe after the last answer was sent; during an outage, the first probe of the outage.
    unanswered_since: Option<Instant>,
    /// When the last loss was noticed.
    lost_at: Option<Instant>,
    /// When the last answer came.
    answered_at: Option<Instant>,
    pub sent: u64,
    pub received: u64,
    /// Not answered in time, or not sent.
    pub lost_total: u64,
    /// Answers to probes that were already answered or given up. Flooded frames reach several nodes, and each of them may forward them.
    pub duplicates: u64,
    /// Round-trip time of the last answer.
    pub rtt: Option<Duration>,
    /// Round-trip times of all answers.
    pub rtts: RttHistogram,
    /// Why the last probe could not be sent.
    pub send_error: Option<SendError>,
}

impl ProbeWindow {
    #[must_use]
    pub fn new(thresholds: Thresholds, timeout: Duration) -> Self {
        Self {
            thresholds,
            timeout,
            state: WindowState::Pending,
            contrary: 0,
            awaited: VecDeque::new(),
            window: VecDeque::new(),
            unbroken: 0,
            answered_in_a_row: 0,
            lost_in_a_row: 0,
            longest_loss: 0,
            lost_from: None,
            interruptions: 0,
            unanswered_since: None,
            lost_at: None,
            answered_at: None,
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
    pub fn state(&self) -> WindowState {
        self.state
    }

    #[must_use]
    pub fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    /// A probe without an answer after this time is lost.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The last result was a loss.
    #[must_use]
    pub fn last_lost(&self) -> bool {
        self.window.back().is_some_and(Option::is_some)
    }

    /// Whether the probe `sequence` still awaits its first answer.
    #[must_use]
    pub fn awaits(&self, sequence: u16) -> bool {
        self.awaited.iter().any(|(awaited, _)| *awaited == sequence)
    }

    /// Share of the last probes that were lost, 0 to 1.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.share(self.lost())
    }

    /// Share of the last probes that were sent after this time and lost, 0 to 1.
    #[must_use]
    pub fn loss_since(&self, since: Option<Instant>) -> f64 {
        self.share(self.lost_since(since))
    }

    fn share(&self, lost: usize) -> f64 {
        if self.window.is_empty() { 0.0 } else { lost as f64 / self.window.len() as f64 }
    }

    /// How many of the last probes were lost.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.lost_since(None)
    }

    /// How many of the last probes were sent after this time and lost.
    #[must_use]
    pub fn lost_since(&self, since: Option<Instant>) -> usize {
        self.losses_since(since).count()
    }

    /// When the losses of probes that were sent after this time were noticed: one time-out after that.
    fn losses_since(&self, since: Option<Instant>) -> impl Iterator<Item = &Instant> + Clone {
        let losses = self.window.iter().flatten();
        losses.filter(move |lost| since.is_none_or(|since| **lost > since + self.timeout))
    }

    /// How often probes began to be lost after this time, among the last ones. Losses soon after each other are one interruption: answers
    /// after its end overtake the time-outs of probes before it.
    #[must_use]
    pub fn lost_runs_since(&self, since: Option<Instant>) -> usize {
        let lost = self.losses_since(since);
        let is_apart =
            |(before, lost): (&Instant, &Instant)| lost.saturating_duration_since(*before) > 2 * self.timeout;
        usize::from(lost.clone().next().is_some())
            + lost.clone().zip(lost.skip(1)).filter(|pair| is_apart(*pair)).count()
    }

    #[must_use]
    pub fn lost_in_a_row(&self) -> u32 {
        self.lost_in_a_row
    }

    /// No probe was lost for as long as it takes to forget earlier losses.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.answered_in_a_row >= QUIET_ANSWERS
    }

    /// How often losses in a row, and not only one or two at random, were followed by an answer.
    #[must_use]
    pub fn interruptions(&self) -> u64 {
        self.interruptions
    }

    /// The number of probes among which [`Self::lost`] were lost, without a gap up to the last one.
    #[must_use]
    pub fn recent(&self) -> usize {
        self.unbroken
    }

    /// When the last answer came.
    #[must_use]
    pub fn answered_at(&self) -> Option<Instant> {
        self.answered_at
    }

    /// When the first probe after the last answer was sent; during an outage, the first probe of the outage.
    #[must_use]
    pub fn unanswered_since(&self) -> Option<Instant> {
        self.unanswered_since
    }

    /// When the last loss was noticed.
    #[must_use]
    pub fn lost_at(&self) -> Option<Instant> {
        self.lost_at
    }

    /// A probe was sent.
    pub fn on_sent(&mut self, sequence: u16, now: Instant) {
        self.sent += 1;
        self.send_error = None;
        self.unanswered_since.get_or_insert(now);
        self.awaited.push_back((sequence, now));
    }

    /// A probe could not be sent. It counts as lost at once.
    pub fn on_send_error(&mut self, error: &io::Error, now: Instant) {
        self.sent += 1;
        self.unanswered_since.get_or_insert(now);
        self.send_error = Some(error.into());
        self.lost_at = Some(now);
        self.record(false, now);
    }

    /// The answer to the probe `sequence` came.
    pub fn on_reply(&mut self, sequence: u16, now: Instant) {
        match self.awaited.iter().position(|(awaited, _)| *awaited == sequence) {
            Some(position) => {
                let sent_at = self.awaited.remove(position).map_or(now, |(_, sent_at)| sent_at);
                self.received += 1;
                self.answered_at = Some(now);
                let rtt = now.duration_since(sent_at);
                self.rtt = Some(rtt);
                self.rtts.observe(rtt);
                self.record(true, now);
                // An outage ends only when the state changes: its first answer does not end it.
                if self.state != WindowState::Failed {
                    self.unanswered_since = None;
                }
            }
            None => self.duplicates += 1,
        }
    }

    /// An answer without a sequence number came (ARP). It counts for the newest probe.
    pub fn on_reply_to_newest(&mut self, now: Instant) {
        match self.awaited.back() {
            Some(&(sequence, _)) => self.on_reply(sequence, now),
            None => self.duplicates += 1,
        }
    }

    /// Gives up probes that have waited for longer than the timeout.
    pub fn on_time(&mut self, now: Instant) {
        while let Some(&(_, sent_at)) = self.awaited.front() {
            if now.duration_since(sent_at) < self.timeout {
                break;
            }
            self.awaited.pop_front();
            self.lost_at = Some(now);
            self.record(false, now);
        }
    }

    /// When [`Self::on_time`] next gives up a probe.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.awaited.front().map(|(_, sent_at)| *sent_at + self.timeout)
    }

    /// Records a result of now: an answer, or a loss.
    fn record(&mut self, answered: bool, now: Instant) {
        let lost = (!answered).then_some(now);
        if self.window.len() == WINDOW {
            self.window.pop_front();
        }
        self.window.push_back(lost);
        self.unbroken = (self.unbroken + 1).min(WINDOW);
        self.lost_total += u64::from(!answered);
        self.answered_in_a_row = if answered { self.answered_in_a_row.saturating_add(1) } else { 0 };
        if answered && self.lost_in_a_row > 0 {
            let began = self
                .lost_from
                .is_some_and(|from| now.saturating_duration_since(from) >= (INTERRUPTION - 1) * self.timeout);
            self.interruptions += u64::from(began);
        }
        self.lost_in_a_row = if answered { 0 } else { self.lost_in_a_row.saturating_add(1) };
        self.longest_loss = self.longest_loss.max(self.lost_in_a_row);
        self.lost_from = if answered { None } else { self.lost_from.or(Some(now)) };
        if self.answered_in_a_row >= QUIET_ANSWERS && self.lost() > 0 {
            self.window.retain(Option::is_none);
            self.unbroken = QUIET_ANSWERS as usize;
        }
        let (agrees, threshold, other) = match self.state {
            WindowState::Ok => (answered, self.thresholds.raise, WindowState::Failed),
            WindowState::Failed => (!answered, self.thresholds.clear, WindowState::Ok),
            // One answer proves that the path works, but a failure needs as many losses as in the state `ok`.
            WindowState::Pending if answered => (false, 1, WindowState::Ok),
            WindowState::Pending => (false, self.thresholds.raise, WindowState::Failed),
        };
        self.contrary = if agrees { 0 } else { self.contrary + 1 };
        if self.contrary >= threshold {
            if other == WindowState::Ok && self.longest_loss >= CERTAIN_LOSSES {
                // A past outage does not count as loss. A few losses in a row may be chance.
                self.window.clear();
                self.window.push_back(None);
                self.unbroken = 1;
            }
            self.longest_loss = self.lost_in_a_row;
            self.state = other;
            self.contrary = 0;
        }
    }
}

#[cfg(test)]
mod tests;
