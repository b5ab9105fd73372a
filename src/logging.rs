//! Log output: text for people, JSON for machines, and how errors are printed in either.

use std::{fmt, io::IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{EnvFilter, filter::ParseError, fmt::time::FormatTime};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// What the client of the API server and its libraries log of a failure is in this agent's own lines, as a reason in plain words; theirs
/// stay out unless a directive names them. Of a certificate that cannot be loaded or is not looked at, nobody else would tell.
const LIBRARIES: &str = "kube=off,kube_client::client::tls=warn,hyper=off,tower=off,rustls=off";

/// Starts logging to standard output. `RUST_LOG`-style directives in `level` are understood: `info`, `vtep_agent=debug`.
///
/// # Errors
///
/// When `level` cannot be read, or logging was started before.
pub fn init(format: Format, level: &str) -> anyhow::Result<()> {
    let filter = filter(level)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_timer(Utc).with_target(false);
    let result = match format {
        Format::Text => builder.with_ansi(in_colour()).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    result.map_err(|error| anyhow::anyhow!("failed to start logging: {error}"))
}

/// A directive in `level` for one of the libraries, or for a part of it, is stronger than ours.
fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse(format!("{LIBRARIES},{level}"))
}

/// On a terminal, unless `NO_COLOR` says otherwise.
fn in_colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// RFC 3339 in UTC, as everywhere in the interface.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> fmt::Result {
        write!(w, "{:.3}", jiff::Timestamp::now())
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::{Layer, layer::SubscriberExt};

    use super::*;

    /// Which of some events pass.
    fn passing(level: &str) -> Vec<&'static str> {
        let filter = filter(level).expect("directives");
        let subscriber = tracing_subscriber::registry().with(tracing_subscriber::fmt::layer().with_filter(filter));
        tracing::subscriber::with_default(subscriber, || {
            let mut passing = Vec::new();
            macro_rules! note {
                ($target:literal, $level:ident) => {
                    if tracing::enabled!(target: $target, tracing::Level::$level) {
                        passing.push(concat!($target, " ", stringify!($level)));
                    }
                };
            }
            note!("vtep_agent::config", INFO);
            note!("vtep_agent::config", DEBUG);
            note!("kube_client::client::builder", ERROR);
            note!("kube_client::client::tls", WARN);
            note!("hyper_util::client", ERROR);
            note!("rustls::conn", WARN);
            passing
        })
    }

    #[test]
    fn libraries_log_nothing_unless_they_are_named() {
        let ours = "vtep_agent::config INFO";
        let certificates = "kube_client::client::tls WARN";
        assert_eq!(passing("info"), [ours, certificates]);
        assert_eq!(passing("debug"), [ours, "vtep_agent::config DEBUG", certificates]);
        assert_eq!(passing("info,kube=warn"), [ours, "kube_client::client::builder ERROR", certificates]);
        assert_eq!(
            passing("info,kube_client=error,hyper=info"),
            [ours, "kube_client::client::builder ERROR", certificates, "hyper_util::client ERROR"]
        );
        assert!(filter("info,=nonsense=").is_err());
    }
}
