//! SIGINT and SIGTERM end a command's work, and what the work has begun disappears with it.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

/// The result of `work`, or `None` if a signal came first.
///
/// # Errors
///
/// The process cannot listen for signals.
pub(super) async fn unless_interrupted<T>(work: impl Future<Output = T>) -> anyhow::Result<Option<T>> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    Ok(tokio::select! {
        biased;
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        done = work => Some(done),
    })
}
