//! `vtep-agent completion SHELL`, and the man pages: both come from the definition of the command line.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use clap::CommandFactory;

use super::Cli;

const PROGRAM: &str = "vtep-agent";

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  source <(vtep-agent completion bash)
  vtep-agent completion zsh >\"${fpath[1]}/_vtep-agent\"
  vtep-agent completion fish >~/.config/fish/completions/vtep-agent.fish

Exit status: 0.")]
pub struct CompletionArgs {
    /// The shell: bash, zsh or fish.
    #[arg(value_enum, hide_possible_values = true)]
    shell: Shell,
}

#[derive(Clone, Debug, clap::Args)]
pub struct ManArgs {
    /// The directory for the pages, which is made if it is missing.
    directory: PathBuf,
}

/// Prints the completions.
///
/// # Errors
///
/// The output cannot be written.
pub fn run(args: &CompletionArgs) -> anyhow::Result<ExitCode> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    // The generator panics if it cannot write, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), PROGRAM, &mut script);
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a man page for the program and for each command.
///
/// # Errors
///
/// A page cannot be written.
pub fn write_man_pages(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let directory = &args.directory;
    fs::create_dir_all(directory).with_context(|| format!("failed to make {}", directory.display()))?;
    let command = Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, directory)
        .with_context(|| format!("failed to write man pages to {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}
