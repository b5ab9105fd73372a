//! The entry point: parses the command line, and runs the command on one thread.

use std::{io::Write, process::ExitCode};

use vtep_agent::cli::Cli;

/// One thread is enough and saves memory: every loop waits for events, and a pass takes microseconds.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match Cli::of_process().run().await {
        Ok(code) => code,
        Err(error) => {
            // If standard error is closed, the exit status still reports the failure.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
