//! The command line: one file per subcommand.

use std::{
    io::{self, Write as _},
    process::{self, ExitCode},
};

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::build_info;

pub mod args;
mod bigip;
pub mod bundle;
pub mod capture;
pub mod check;
pub mod cleanup;
pub mod completion;
pub mod destination;
mod far_end;
pub mod fleet;
pub mod input;
mod interruption;
mod json;
pub mod plan;
mod plugin;
pub mod preflight;
pub mod probe;
pub mod run;
pub mod snapshot;
pub mod status;
pub(crate) mod style;
pub mod version;

/// How a command prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// Keeps BIG-IP tunnels into Cilium's pods working, and names the cause when one does not.
#[derive(Debug, Parser)]
#[command(name = "vtep-agent", version = build_info::VERSION, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch, program, probe and report on this node: the DaemonSet's command.
    Run(args::run::Args),
    /// Lint Cilium's configuration: a cilium-config, Helm values, or a repository.
    Check(check::Args),
    /// Print the tmsh commands for each BIG-IP of a cilium-config.
    Bigip(bigip::Args),
    /// Report whether this node is supported: kernel, capabilities, bpffs, Cilium's devices and maps.
    Preflight(preflight::Args),
    /// Print what `run` would change in the kernel now; writes nothing.
    Plan(plan::Args),
    /// One round of every probe now, without a running agent; writes nothing.
    Probe(probe::Args),
    /// Remove the routes, rules and ipcache entries that the agent added; the VTEP map stays.
    Cleanup(cleanup::Args),
    /// Ask the running agent.
    Status(status::Args),
    /// Write a pcapng file of the frames between this node and the BIG-IPs; with --explain, describe each of them.
    Capture(capture::Args),
    /// Write one archive with everything that a ticket needs from this node.
    Bundle(bundle::Args),
    /// Ask all agents of a cluster: which nodes, which BIG-IP, since when.
    Fleet(fleet::Args),
    /// Print version, commit, build time and target.
    Version(version::Args),
    /// Print the completions for a shell.
    Completion(completion::CompletionArgs),
    /// Write the man pages.
    #[command(hide = true)]
    Man(completion::ManArgs),
}

impl Cli {
    /// The command line of this process. Under the name `kubectl-vtep`, it is that of `fleet`. Ends the process if it is wrong, or if kubectl
    /// only asks for completions.
    #[must_use]
    pub fn of_process() -> Self {
        if let Some(completions) = plugin::completions(&mut Self::command(), std::env::args_os()) {
            // A shell that no longer reads needs none.
            let _ = io::stdout().write_all(completions.as_bytes());
            process::exit(0);
        }
        Self::parse_from(plugin::arguments(std::env::args_os()))
    }

    /// # Errors
    ///
    /// The command cannot do its work; the message names the remedy.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run(args) => run::run(args).await,
            Command::Check(args) => Ok(check::run(&args).await),
            Command::Bigip(args) => bigip::run(&args).await,
            Command::Preflight(args) => preflight::run(&args).await,
            Command::Plan(args) => plan::run(&args).await,
            Command::Probe(args) => probe::run(&args).await,
            Command::Cleanup(args) => cleanup::run(&args).await,
            Command::Status(args) => status::run(&args).await,
            Command::Capture(args) => capture::run(&args).await,
            Command::Bundle(args) => Ok(bundle::run(&args).await),
            Command::Fleet(args) => fleet::run(&args).await,
            Command::Version(args) => version::run(&args),
            Command::Completion(args) => completion::run(&args),
            Command::Man(args) => completion::write_man_pages(&args),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
