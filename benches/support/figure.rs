//! A figure: what was measured, and in how many runs. Pure, and tested by `tests/figures.rs`.

/// The unit of all runs of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Nanoseconds,
    Milliseconds,
    Seconds,
    Megabytes,
    Kilobytes,
    Bytes,
    /// A second.
    Gigabits,
    /// Of one core, of a fleet.
    Percent,
    /// Requests, packets.
    Count,
    /// Something divided by what it is compared with.
    Ratio,
}

/// What a benchmark prints as one row.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// Kebab words, and for a ratio two of them with a slash: people and scripts find it by this name.
    name: String,
    unit: Unit,
    runs: Vec<f64>,
    /// The largest median that the documents promise.
    promise: Option<f64>,
}

impl Figure {
    /// # Panics
    ///
    /// Without a run there is no figure.
    pub(crate) fn new(name: impl Into<String>, unit: Unit, runs: impl Into<Vec<f64>>) -> Self {
        let (name, mut runs) = (name.into(), runs.into());
        assert!(!runs.is_empty(), "{name} was not measured");
        runs.sort_unstable_by(f64::total_cmp);
        Self { name, unit, runs, promise: None }
    }

    /// `name/other`: each run, divided by the median of what it is compared with.
    pub(crate) fn ratio(name: &str, other: &str, runs: &[f64], others: &[f64]) -> Self {
        let against = median(others);
        Self::new(format!("{name}/{other}"), Unit::Ratio, runs.iter().map(|run| run / against).collect::<Vec<_>>())
    }

    pub(crate) fn promise(self, most: f64) -> Self {
        Self { promise: Some(most), ..self }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn median(&self) -> f64 {
        median(&self.runs)
    }

    /// The cells of its row: name, runs, minimum, median, maximum, and the promise, with a mark if the median misses it.
    pub(crate) fn cells(&self) -> [String; 6] {
        let of = |value| self.unit.of(value);
        let missed = |most: f64| if self.median() > most { "missed: " } else { "" };
        let promise = self.promise.map_or_else(String::new, |most| format!("{}{}", missed(most), of(most)));
        let [least, most] = [self.runs[0], self.runs[self.runs.len() - 1]];
        [self.name.clone(), self.runs.len().to_string(), of(least), of(self.median()), of(most), promise]
    }
}

impl Unit {
    /// The value with three digits that count, and the unit.
    fn of(self, value: f64) -> String {
        let (value, unit) = match (self == Self::Nanoseconds, value) {
            (true, 1e6..) => (value / 1e6, " ms"),
            (true, 1e4..) => (value / 1e3, " µs"),
            _ => (value, self.symbol()),
        };
        format!("{}{unit}", three_digits(value))
    }

    fn symbol(self) -> &'static str {
        match self {
            Self::Nanoseconds => " ns",
            Self::Gigabits => " Gbit/s",
            Self::Milliseconds => " ms",
            Self::Seconds => " s",
            Self::Megabytes => " MB",
            Self::Kilobytes => " kB",
            Self::Bytes => " B",
            Self::Percent => " %",
            Self::Count | Self::Ratio => "",
        }
    }
}

/// The value with three digits that count; more before the point if it has them.
pub(super) fn three_digits(value: f64) -> String {
    // The exponent after rounding, so that 9.999 becomes 10.0.
    let exponent = format!("{value:.2e}").rsplit_once('e').and_then(|(_, exponent)| exponent.parse().ok());
    let decimals = (2 - exponent.unwrap_or(0_i32)).clamp(0, 9);
    let decimals = usize::try_from(if value == 0.0 { 0 } else { decimals }).unwrap_or(0);
    format!("{value:.decimals$}")
}

pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 50)
}

/// The smallest value that this share of all values does not exceed.
pub(crate) fn percentile(values: &[f64], share: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = (sorted.len() * share).div_ceil(100).clamp(1, sorted.len().max(1));
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_least_the_median_and_the_most() {
        let figure = Figure::new("repair-p50", Unit::Milliseconds, [3.0, 1.0, 120.0, 2.0, 0.5]);
        assert_eq!(figure.cells(), ["repair-p50", "5", "0.500 ms", "2.00 ms", "120 ms", ""]);
        assert_eq!(figure.clone().promise(2.0).cells()[5], "2.00 ms");
        assert_eq!(figure.promise(1.5).cells()[5], "missed: 1.50 ms");
        let long = Figure::new("read", Unit::Nanoseconds, [175_000_000.0, 9000.0, 12_000.0]);
        assert_eq!(&long.cells()[2..5], ["9000 ns", "12.0 µs", "175 ms"]);
    }

    #[test]
    fn a_ratio_is_of_each_run_to_the_median_of_the_others() {
        let ratio = Figure::ratio("repair", "bpftool-loop", &[1.0, 2.0, 3.0], &[5.0, 4.0, 400.0]);
        assert_eq!(ratio.cells(), ["repair/bpftool-loop", "3", "0.200", "0.400", "0.600", ""]);
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<_> = (1..=200).rev().map(f64::from).collect();
        assert_eq!([1, 50, 99, 100].map(|share| percentile(&values, share)), [2.0, 100.0, 198.0, 200.0]);
        assert_eq!(percentile(&[7.0], 99), 7.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn three_digits_count() {
        let values = [0.0, 0.000_412_3, 0.012_34, 0.1234, 1.234, 12.34, 123.4, 12_345.0, 9.999, f64::NAN];
        let texts = values.map(three_digits);
        assert_eq!(texts, ["0", "0.000412", "0.0123", "0.123", "1.23", "12.3", "123", "12345", "10.0", "NaN"]);
    }
}
