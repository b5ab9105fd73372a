//! Passive first: while BIG-IP's own frames show that the tunnel works, most probes can be skipped. A function of counts.

/// One probe in this many is sent all the same, because only an answer shows that the path to BIG-IP works, too.
const ONE_IN: u32 = 10;

/// The frames that one VTEP's tunnel has carried, up to the last due probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passive {
    seen: u64,
    answers: u64,
    /// Probes skipped in a row.
    skipped: u32,
    /// Probes skipped since the start.
    pub skipped_total: u64,
}

impl Passive {
    /// Whether to skip the due probe. Since the start, `seen` frames came from BIG-IP, and `answers` of them answered our own probes. If
    /// the VTEP is not `sound`, every probe is sent.
    pub fn skips(&mut self, seen: u64, answers: u64, sound: bool) -> bool {
        let unasked = seen.saturating_sub(self.seen) > answers.saturating_sub(self.answers);
        (self.seen, self.answers) = (seen, answers);
        let skips = sound && unasked && self.skipped + 1 < ONE_IN;
        self.skipped = if skips { self.skipped + 1 } else { 0 };
        self.skipped_total += u64::from(skips);
        skips
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs intervals: `t` with BIG-IP's own traffic, `.` without, `!` with a sign of trouble. Returns `P` for a probe that is sent and
    /// answered, `_` for a skipped one.
    fn run(script: &str) -> String {
        let (mut passive, mut seen, mut answers) = (Passive::default(), 0, 0);
        let interval = |step| {
            seen += u64::from(step != '.');
            let skips = passive.skips(seen, answers, step != '!');
            if !skips {
                seen += 1;
                answers += 1;
            }
            if skips { '_' } else { 'P' }
        };
        script.chars().map(interval).collect()
    }

    #[test]
    fn one_probe_in_ten_stays() {
        assert_eq!(run("tttttttttttttttttttt"), "_________P_________P");
    }

    #[test]
    fn answers_to_our_own_probes_are_no_sign_of_life() {
        assert_eq!(run("....t..t"), "PPPP_PP_");
    }

    #[test]
    fn trouble_brings_every_probe_back() {
        assert_eq!(run("tt!!!!tt"), "__PPPP__");
    }
}
