//! `vtep-agent fleet`: all agents of a cluster in one look, also as `kubectl vtep`.

mod bundle;
mod page;
mod progress;
mod scope;
mod text;
mod unpack;
mod wide;

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

use jiff::Timestamp;
use vtep_core::fleet::{
    report::{Outcome, Report},
    selection::Selection,
};

use self::{progress::Progress, scope::Scope};
use super::{
    interruption::unless_interrupted,
    json,
    style::{CLEAR, clean},
};
use crate::fleet::collect::{Fleet, FleetError, Found};

/// The pause of `--watch` and of the page between two rounds.
const PAUSE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people, in 80 columns.
    #[default]
    Text,
    /// The same with all names, and a line for each node.
    Wide,
    Json,
    Yaml,
}

#[derive(Clone, Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Example:
  vtep-agent fleet
  kubectl vtep --context frankfurt --vtep 10.1.6.0/24 -o wide
  vtep-agent fleet --listen 127.0.0.1:9809

Rights in the namespace of the agent: list pods, and get and create
pods/portforward or pods/exec. The rights to list nodes, and the pods of Cilium,
add zones, ages, and nodes without an agent.

Exit status: 0 all nodes are healthy, or none has the cause of --cause; 1 not;
2 nobody could be asked."
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    scope: Scope,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
    /// Ask again every five seconds, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
    /// Serve a page with the same, at an address of this machine's loopback, until Ctrl-C.
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with_all = ["output", "watch"])]
    listen: Option<SocketAddr>,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Write one archive with everything that a ticket needs from all nodes that are in trouble.
    Bundle(bundle::Args),
}

/// # Errors
///
/// The kubeconfig cannot be used, or the output cannot be written. If nobody can be asked, the exit status is 2.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(Command::Bundle(args)) = &args.command {
        return Ok(bundle::run(args).await);
    }
    let fleet = match args.scope.fleet().await {
        Ok(fleet) => fleet,
        Err(error) => return nobody(&format!("{error:#}")),
    };
    let selection = args.scope.selection();
    if let Some(listen) = args.listen {
        return page::serve(fleet, selection, listen).await;
    }
    if args.watch { watch(&fleet, &selection, args).await } else { Ok(round(&fleet, &selection, args).await?.code) }
}

/// A round that has been printed.
struct Round {
    code: ExitCode,
    /// The reader of the output, such as `head`, has enough.
    is_last: bool,
}

/// Round after round until Ctrl-C. The exit status is that of the last one.
async fn watch(fleet: &Fleet, selection: &Selection, args: &Args) -> anyhow::Result<ExitCode> {
    let mut last = ExitCode::from(2);
    let rounds = async {
        loop {
            let Round { code, is_last } = round(fleet, selection, args).await?;
            last = code;
            if is_last {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    match unless_interrupted(rounds).await? {
        None => Ok(last),
        Some(ended) => ended.map(|()| last),
    }
}

async fn round(fleet: &Fleet, selection: &Selection, args: &Args) -> anyhow::Result<Round> {
    let report = match look(fleet, selection).await {
        Ok(report) => report,
        Err(error) => return Ok(Round { code: nobody(&error.to_string())?, is_last: false }),
    };
    let is_last = match print(args, &report) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => true,
        printed => printed.map(|()| false)?,
    };
    Ok(Round { code: status(&report), is_last })
}

/// One round.
async fn look(fleet: &Fleet, selection: &Selection) -> Result<Report, FleetError> {
    Ok(ask(fleet, selection).await?.1)
}

/// One round, and the agents that were asked in it.
async fn ask(fleet: &Fleet, selection: &Selection) -> Result<(Found, Report), FleetError> {
    let found = fleet.find().await?;
    let mut progress = Progress::new("nodes asked");
    let collected = fleet.collect(&found, selection, |done, of| progress.show(done, of)).await;
    drop(progress);
    Ok((found, Report::new(&collected, Timestamp::now())))
}

fn status(report: &Report) -> ExitCode {
    match report.outcome() {
        Outcome::Healthy => ExitCode::SUCCESS,
        Outcome::Unhealthy => ExitCode::FAILURE,
        Outcome::Nobody => ExitCode::from(2),
    }
}

fn nobody(reason: &str) -> anyhow::Result<ExitCode> {
    writeln!(io::stderr(), "error: {}", clean(reason))?;
    Ok(ExitCode::from(2))
}

fn print(args: &Args, report: &Report) -> io::Result<()> {
    let mut out = anstream::stdout();
    if args.watch {
        out.write_all(CLEAR.as_bytes())?;
    }
    let text = match args.output {
        Format::Text => text::render(report),
        Format::Wide => wide::render(report),
        Format::Json => json::pretty(report)?,
        Format::Yaml => serde_saphyr::to_string(report).map_err(io::Error::other)?,
    };
    out.write_all(text.as_bytes())?;
    out.flush()
}
