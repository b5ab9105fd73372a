//! The start-up: reads the command line, and runs the command on one thread.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use vtep_agent::cli::Cli;

/// One thread is enough, and keeps the agent small: every loop waits for events, and a pass takes microseconds.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match Cli::parse().run().await {
        Ok(code) => code,
        Err(error) => {
            // Nowhere else to say it if this fails.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
