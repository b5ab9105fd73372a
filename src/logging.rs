//! Log output: text for people, JSON for programs, and the filter for the lines of libraries.

mod recent;

use std::{fmt, io::IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{EnvFilter, filter::ParseError, fmt::time::FormatTime};

pub use self::recent::Recent;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// The agent logs each failure of the API server's client itself, with a plain reason. The libraries' own lines are therefore off unless a
/// directive names them. The exception is `client::tls`: only that module reports a certificate that cannot be loaded or is not verified.
const LIBRARIES: &str = "kube=off,kube_client::client::tls=warn,hyper=off,tower=off,rustls=off";

/// Starts logging to standard output, and returns the last lines as they will be. `level` takes directives in the form of `RUST_LOG`: `info`, `vtep_agent=debug`.
///
/// # Errors
///
/// `level` is not valid, or logging was started before.
pub fn init(format: Format, level: &str) -> anyhow::Result<Recent> {
    let (filter, recent) = (filter(level)?, Recent::default());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_timer(Utc).with_target(false);
    let builder = builder.with_writer(recent.clone());
    let result = match format {
        Format::Text => builder.with_ansi(in_colour()).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    result.map_err(|error| anyhow::anyhow!("failed to start logging: {error}"))?;
    Ok(recent)
}

/// Directives in `level` come last, so they override `LIBRARIES` for a library or for one of its modules.
fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse(format!("{LIBRARIES},{level}"))
}

/// Colours are on if standard output is a terminal and `NO_COLOR` is unset or empty.
fn in_colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Timestamps in RFC 3339 and UTC, like all others in the interface.
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

    /// The events that pass the filter.
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
