//! The committed ratios, and what is slower than they are. Pure, and tested by `tests/figures.rs`.
//!
//! The file has no times, because times of different machines say nothing about each other. A ratio compares the agent with something that
//! was measured in the same run. In each of them, more is worse.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::figure::three_digits;

/// The tolerance of a ratio that `UPDATE_BASELINE` adds, until a person has considered it.
const NEW_TOLERANCE: f64 = 0.25;
const NEW_REASON: &str = "new: nobody has considered the tolerance yet";

/// The ratios by their figures' names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Baseline(BTreeMap<String, Entry>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    ratio: f64,
    /// The share of the ratio by which it may differ.
    tolerance: f64,
    /// Why the tolerance is what it is.
    reason: String,
}

/// The comparison of a ratio with the baseline.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    Same,
    Slower(String),
    /// A better ratio should become the baseline, or else what made it better can be lost again without notice.
    Faster(String),
    Unknown(String),
}

impl Baseline {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).context("the baseline is not what the benchmarks write")
    }

    pub(crate) fn text(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    pub(crate) fn compare(&self, name: &str, ratio: f64) -> Verdict {
        let Some(Entry { ratio: known, tolerance, .. }) = self.0.get(name) else {
            return Verdict::Unknown(format!("no baseline: {name} {}", three_digits(ratio)));
        };
        let margin = known * tolerance;
        let [of_run, of_file, differs] = [ratio, *known, margin].map(three_digits);
        let text = |how: &str| format!("{how}: {name} {of_run} (baseline {of_file} ± {differs})");
        if ratio > known + margin {
            Verdict::Slower(text("slower"))
        } else if ratio < known - margin {
            Verdict::Faster(text("faster"))
        } else if ratio.is_nan() {
            // A ratio without a value must not pass for a good one.
            Verdict::Slower(text("no value"))
        } else {
            Verdict::Same
        }
    }

    /// The ratio, divided by the baseline's.
    pub(crate) fn times(&self, name: &str, ratio: f64) -> Option<f64> {
        self.0.get(name).map(|known| ratio / known.ratio)
    }

    /// Records a ratio, and keeps the tolerance that a person has chosen.
    pub(crate) fn update(&mut self, name: &str, ratio: f64) {
        // JSON has no such numbers, and nothing can be compared with them.
        if !ratio.is_finite() {
            return;
        }
        // More digits would only make noise in the history of the file.
        let rounded = format!("{ratio:.3e}").parse().unwrap_or(ratio);
        let new = || Entry { ratio: rounded, tolerance: NEW_TOLERANCE, reason: NEW_REASON.to_owned() };
        self.0.entry(name.to_owned()).or_insert_with(new).ratio = rounded;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline() -> Baseline {
        let text = r#"{ "repair/bpftool-loop": { "ratio": 1.0, "tolerance": 0.15, "reason": "the wait is random" } }"#;
        Baseline::parse(text).expect("a baseline")
    }

    #[test]
    fn only_more_than_the_tolerance_is_slower() {
        let compare = |ratio| baseline().compare("repair/bpftool-loop", ratio);
        assert_eq!(compare(1.14), Verdict::Same);
        assert_eq!(compare(0.86), Verdict::Same);
        let slower = "slower: repair/bpftool-loop 1.31 (baseline 1.00 ± 0.150)";
        assert_eq!(compare(1.31), Verdict::Slower(slower.into()));
        let faster = "faster: repair/bpftool-loop 0.500 (baseline 1.00 ± 0.150)";
        assert_eq!(compare(0.5), Verdict::Faster(faster.into()));
        assert!(matches!(compare(f64::NAN), Verdict::Slower(_)), "NaN is no good figure");
        assert_eq!(baseline().compare("other/one", 2.0), Verdict::Unknown("no baseline: other/one 2.00".into()));
    }

    #[test]
    fn an_update_keeps_the_tolerance_and_its_reason() {
        let mut baseline = baseline();
        baseline.update("repair/bpftool-loop", 0.123_456);
        baseline.update("other/one", 2.0);
        baseline.update("other/one", f64::NAN);
        let read = Baseline::parse(&baseline.text().expect("text")).expect("its own text");
        assert_eq!(read, baseline);
        let known = &read.0["repair/bpftool-loop"];
        assert_eq!((known.ratio, known.tolerance, known.reason.as_str()), (0.1235, 0.15, "the wait is random"));
        assert_eq!(read.0["other/one"].reason, NEW_REASON);
        assert_eq!(read.times("other/one", 3.0), Some(1.5));
    }

    /// What `UPDATE_BASELINE` adds is not yet fit for a commit.
    #[test]
    fn each_committed_tolerance_has_a_reason() {
        let committed = Baseline::parse(include_str!("../baseline.json")).expect("the committed baseline");
        for (name, Entry { ratio, tolerance, reason }) in &committed.0 {
            assert!(name.split('/').count() == 2, "{name} does not name what it is compared with");
            assert!(*ratio > 0.0 && (0.0..=3.0).contains(tolerance), "{name}");
            assert!(reason.split(' ').count() > 3 && reason != NEW_REASON, "{name}: {reason:?}");
        }
    }
}
