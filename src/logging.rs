//! Log output: text for people, JSON for machines, and how errors are printed in either.

use std::{error::Error, fmt, io::IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{EnvFilter, fmt::time::FormatTime};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// Starts logging to standard output. `RUST_LOG`-style directives in `level` are understood: `info`, `vtep_agent=debug`.
///
/// # Errors
///
/// When `level` cannot be read, or logging was started before.
pub fn init(format: Format, level: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse(level)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_timer(Utc).with_target(false);
    let result = match format {
        Format::Text => builder.with_ansi(in_colour()).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    result.map_err(|error| anyhow::anyhow!("failed to start logging: {error}"))
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

/// Prints an error with all its causes: `what we were doing: why it failed`.
#[must_use]
pub fn chain(error: &dyn Error) -> Chain<'_> {
    Chain(error)
}

pub struct Chain<'a>(&'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}
