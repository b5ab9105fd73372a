//! `vtep-agent fleet`: all agents of a cluster in one look, also as `kubectl vtep`.

mod page;
mod progress;
mod text;
mod wide;

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

use jiff::Timestamp;
use vtep_core::fleet::{report::Report, selection::Selection};

use self::progress::Progress;
use super::{
    args::{cluster::Cluster, run::between},
    style::CLEAR,
};
use crate::fleet::collect::{Fleet, FleetError, Place};

/// The label of the agents' pods, as the chart sets it.
const SELECTOR: &str = "app.kubernetes.io/name=vtep-agent";
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
#[command(after_help = "\
Example:
  vtep-agent fleet
  kubectl vtep --context frankfurt --vtep 10.1.6.0/24 -o wide
  vtep-agent fleet --listen 127.0.0.1:9809

Rights in the namespace of the agent: list pods, and get and create
pods/portforward or pods/exec. The rights to list nodes, and the pods of Cilium,
add zones, ages, and nodes without an agent.

Exit status: 0 all nodes are healthy, 1 not, 2 nobody could be asked.")]
pub struct Args {
    #[command(flatten)]
    cluster: Cluster,
    /// The label of the agents' pods.
    #[arg(short = 'l', long, value_name = "LABELS", default_value = SELECTOR)]
    selector: String,
    /// Only nodes with this name, in which * stands for any text; repeatable.
    #[arg(long, value_name = "NAME")]
    node: Vec<String>,
    /// Only VTEPs with this CIDR, endpoint or name; repeatable.
    #[arg(long, value_name = "CIDR|IP|NAME")]
    vtep: Vec<String>,
    /// Only VTEPs with this cause; repeatable.
    #[arg(long, value_name = "ID")]
    cause: Vec<String>,
    /// How long each agent may take for its answer, 100ms to 5m.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = timeout)]
    timeout: Duration,
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

fn timeout(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_millis(100), Duration::from_secs(300))
}

/// # Errors
///
/// The kubeconfig cannot be used, or the output cannot be written. If nobody can be asked, the exit status is 2.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let place =
        Place { namespace: args.cluster.namespace.clone(), selector: args.selector.clone(), deadline: args.timeout };
    let fleet = match args.cluster.client().await {
        Ok(client) => Fleet::new(client, place),
        Err(error) => return nobody(&format!("{error:#}")),
    };
    let selection = Selection { nodes: args.node.clone(), vteps: args.vtep.clone(), causes: args.cause.clone() };
    if let Some(listen) = args.listen {
        return page::serve(fleet, selection, listen).await;
    }
    loop {
        let code = match look(&fleet, &selection).await {
            Ok(report) => match print(args, &report) {
                // The reader, such as `head`, has enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(status(&report)),
                printed => printed.map(|()| status(&report))?,
            },
            Err(error) => nobody(&error.to_string())?,
        };
        if !args.watch {
            return Ok(code);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// One round.
async fn look(fleet: &Fleet, selection: &Selection) -> Result<Report, FleetError> {
    let found = fleet.find().await?;
    let mut progress = Progress::new();
    let collected = fleet.collect(&found, selection, |done, of| progress.show(done, of)).await;
    progress.clear();
    Ok(Report::new(&collected, Timestamp::now()))
}

fn status(report: &Report) -> ExitCode {
    match report.summary {
        summary if summary.all_healthy() => ExitCode::SUCCESS,
        summary if summary.answered == 0 => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}

fn nobody(reason: &str) -> anyhow::Result<ExitCode> {
    writeln!(io::stderr(), "error: {reason}")?;
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
        Format::Json => serde_json::to_string_pretty(report)? + "\n",
        Format::Yaml => serde_saphyr::to_string(report).map_err(io::Error::other)?,
    };
    out.write_all(text.as_bytes())?;
    out.flush()
}
