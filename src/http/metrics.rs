//! Metrics for Prometheus. Each scrape makes them from the status, so that they never contradict it.
//!
//! `table` has every metric, and `samples` makes its values; this file writes them in the format that the scraper asks for.

mod samples;
mod table;

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};
use vtep_core::{report::status::Status, tunnel::rtt::RttHistogram};

pub use table::METRICS;

/// The prefix of each metric's name.
const PREFIX: &str = "vtep_agent";

/// The formats that a scraper can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own text format, the default.
    Prometheus,
    OpenMetrics,
}

/// One metric, with a series for each set of labels.
pub struct Metric {
    /// Without the prefix, and for a counter without the suffix `_total`.
    pub name: &'static str,
    pub kind: Kind,
    /// The names, in the same order as the values of each sample.
    pub labels: &'static [&'static str],
    /// The meaning of a value, for people.
    pub help: &'static str,
    samples: fn(&Status) -> Vec<Sample>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Gauge,
    Counter,
    Histogram,
}

struct Sample {
    labels: Vec<String>,
    value: Value,
}

enum Value {
    Whole(u64),
    Real(f64),
    Times(RttHistogram),
}

impl Format {
    /// The format that an `Accept` header asks for.
    #[must_use]
    pub fn asked_by(accept: Option<&str>) -> Self {
        let is_wanted = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"))
                && !parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0"))
        };
        if accept.is_some_and(|accept| accept.split(',').any(is_wanted)) { Self::OpenMetrics } else { Self::Prometheus }
    }

    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The metrics as text.
///
/// # Errors
///
/// Formatting fails, which does not happen in memory.
pub fn encode(status: Status, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Scrape(status)));
    let mut openmetrics = String::new();
    text::encode(&mut openmetrics, &registry)?;
    Ok(match format {
        Format::OpenMetrics => openmetrics,
        Format::Prometheus => classic(&openmetrics),
    })
}

/// Converts OpenMetrics to Prometheus' older format, in which a counter's description has the name of its series and no line marks the end.
fn classic(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines().filter(|line| *line != "# EOF") {
        let described = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
        let name = described.and_then(|described| described.split(' ').next()).unwrap_or_default();
        match name.strip_prefix(PREFIX).and_then(|name| name.strip_prefix('_')) {
            Some(short) if METRICS.iter().any(|metric| metric.name == short && metric.kind == Kind::Counter) => {
                text.push_str(&line.replacen(name, &format!("{name}_total"), 1));
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[derive(Debug)]
struct Scrape(Status);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Metric { name, kind, labels, help, samples } in METRICS {
            let mut family = encoder.encode_descriptor(name, help, None, kind.of_registry())?;
            for Sample { labels: values, value } in samples(&self.0) {
                let pairs: Vec<_> = labels.iter().copied().zip(values).collect();
                if pairs.is_empty() {
                    value.encode(*kind, &mut family)?;
                } else {
                    value.encode(*kind, &mut family.encode_family(&pairs)?)?;
                }
            }
        }
        Ok(())
    }
}

impl Kind {
    fn of_registry(self) -> MetricType {
        match self {
            Self::Gauge => MetricType::Gauge,
            Self::Counter => MetricType::Counter,
            Self::Histogram => MetricType::Histogram,
        }
    }

    /// The name in documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

impl Value {
    fn encode(&self, kind: Kind, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        match (self, kind) {
            (Self::Times(times), _) => {
                let buckets: Vec<_> = times.buckets().collect();
                encoder.encode_histogram::<NoLabelSet>(times.sum().as_secs_f64(), times.count(), &buckets, None)
            }
            (Self::Whole(value), Kind::Counter) => encoder.encode_counter::<NoLabelSet, u64, f64>(value, None),
            (Self::Whole(value), Kind::Gauge | Kind::Histogram) => encoder.encode_gauge(value),
            (Self::Real(value), _) => encoder.encode_gauge(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The row in docs/metrics.md.
    fn documented(metric: &Metric) -> String {
        let Metric { name, kind, labels, help, samples: _ } = metric;
        let suffix = if *kind == Kind::Counter { "_total" } else { "" };
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{PREFIX}_{name}{suffix}` | {} | {} | {help} |", kind.name(), labels.join(", "))
    }

    #[test]
    fn the_document_has_each_metric_and_no_other() {
        let document = include_str!("../../docs/metrics.md");
        let rows: Vec<_> = document.lines().filter(|line| line.starts_with("| `vtep_agent_")).collect();
        let expected: Vec<_> = METRICS.iter().map(documented).collect();
        assert_eq!(rows, expected, "docs/metrics.md must have these rows:\n{}", expected.join("\n"));
    }

    #[test]
    fn a_scraper_gets_what_it_asks_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let table = [
            (None, Format::Prometheus),
            (Some("*/*"), Format::Prometheus),
            (Some("text/plain"), Format::Prometheus),
            (Some(prometheus), Format::OpenMetrics),
            (Some("text/html, Application/OpenMetrics-Text"), Format::OpenMetrics),
            (Some("application/openmetrics-text;q=0, text/plain"), Format::Prometheus),
        ];
        for (accept, expected) in table {
            assert_eq!(Format::asked_by(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn the_older_format_names_counters_by_their_series() {
        let openmetrics = "# HELP vtep_agent_seen_bytes Bytes\n# TYPE vtep_agent_seen_bytes counter\nvtep_agent_seen_bytes_total 7\n\
                           # TYPE vtep_agent_config_valid gauge\nvtep_agent_config_valid 1\n# EOF\n";
        let expected = "# HELP vtep_agent_seen_bytes_total Bytes\n# TYPE vtep_agent_seen_bytes_total counter\n\
                        vtep_agent_seen_bytes_total 7\n\
                        # TYPE vtep_agent_config_valid gauge\nvtep_agent_config_valid 1\n";
        assert_eq!(classic(openmetrics), expected);
    }
}
