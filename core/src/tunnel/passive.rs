//! Passive first: where BIG-IP's own frames show that the tunnel lives, most probes can stay at home. A function of counts.

/// One probe in so many goes out all the same: only an answer tells that the way to BIG-IP works, too.
const ONE_IN: u32 = 10;

/// What one VTEP's tunnel carried, as of the last probe that was due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passive {
    seen: u64,
    answers: u64,
    /// Left out in a row.
    skipped: u32,
    /// Left out since the start.
    pub skipped_total: u64,
}

impl Passive {
    /// Whether the probe that is due may be left out. `seen` frames came from BIG-IP since the start, `answers` of them to our own
    /// probes; a lane that is not `sound` is in doubt.
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

    /// Runs intervals: `t` with BIG-IP's own traffic, `.` without, `!` in doubt. `P` where the probe goes out, and is answered.
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
    fn doubt_brings_every_probe_back() {
        assert_eq!(run("tt!!!!tt"), "__PPPP__");
    }
}
