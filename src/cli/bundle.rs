//! `vtep-agent bundle`: one archive with everything that a ticket needs from this node.
//!
//! The core lists the parts, and says what must not be in there. `collect` gets them, each with a deadline and a limit of its size.

mod agent;
pub(super) mod archive;
mod cilium;
mod collect;
mod maps;
mod redacted;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::Ipv4Addr,
    process::ExitCode,
};

use anyhow::{Context, anyhow};
use ipnet::Ipv4Net;
use jiff::Timestamp;
use vtep_core::bundle::{
    part::{Extent, Outcome, Part},
    readme::{Origin, readme},
    redact::Secret,
};

use self::archive::{Compression, File, archive};
use super::{
    args::{run::probe_target, source},
    destination::Destination,
    interruption::unless_interrupted,
    style::clean,
};

/// The exit status if there is no bundle.
const NOTHING: u8 = 2;

#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  kubectl -n kube-system exec POD -- vtep-agent bundle --output - > bundle.tar.gz\n\n\
                  Exit status: 0 complete, 1 in part (README.md in the bundle says what is missing and why), 2 nothing."
)]
pub struct Args {
    #[command(flatten)]
    source: source::Source,
    /// Where the agent of this node listens.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9808", env = "VTEP_AGENT_URL")]
    url: String,
    /// The tunnel self IP behind a VTEP CIDR, repeatable (the last one for a CIDR counts); without it, it is learned from BIG-IP's own frames.
    #[arg(long, value_name = "CIDR=IP", value_parser = probe_target, value_delimiter = ',', env = "VTEP_AGENT_PROBE_TARGET")]
    probe_target: Vec<(Ipv4Net, Ipv4Addr)>,
    /// How long to capture frames.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Replace addresses and the node's name, in all files by the same ones.
    #[arg(long)]
    redact: bool,
    /// Compress with zstd in place of gzip.
    #[arg(long)]
    zstd: bool,
    /// The file to write, or - for standard output; without it, one in the working directory.
    #[arg(short, long, value_name = "FILE")]
    output: Option<Destination>,
}

/// Without a bundle, the exit status is 2.
pub async fn run(args: &Args) -> ExitCode {
    exit(unless_interrupted(bundle(args)).await)
}

/// The exit status for the extent of a bundle. If there is none, standard error has the reason.
pub(super) fn exit(ended: anyhow::Result<Option<anyhow::Result<Extent>>>) -> ExitCode {
    let words = match ended {
        Ok(Some(Ok(Extent::Complete))) => return ExitCode::SUCCESS,
        Ok(Some(Ok(Extent::InPart))) => return ExitCode::FAILURE,
        Ok(Some(Ok(Extent::Nothing))) => "nothing could be collected, so nothing is written".to_owned(),
        Ok(None) => "interrupted: nothing is written".to_owned(),
        Ok(Some(Err(error))) | Err(error) => format!("{error:#}"),
    };
    // If standard error is closed, the exit status still reports the failure.
    let _ = writeln!(io::stderr(), "error: {}", clean(&words));
    ExitCode::from(NOTHING)
}

/// Writes the bundle, if there is something in it. What is missing is named on standard error.
async fn bundle(args: &Args) -> anyhow::Result<Extent> {
    let now = Timestamp::now();
    let compression = if args.zstd { Compression::Zstd } else { Compression::Gzip };
    let destination = args.output.clone().unwrap_or_else(|| {
        // A file's name must not tell what its content does not.
        let node = if args.redact { "node-1" } else { &args.source.node_name };
        Destination::named("bundle", node, now, compression.extension())
    });
    destination.check()?;
    let (outcomes, node) = collect::parts(args).await?;
    for (part, outcome) in &outcomes {
        if let Outcome::Missing(why) = outcome {
            writeln!(io::stderr(), "missing: {}: {why}", part.file()).context("failed to report")?;
        }
    }
    let extent = Extent::of(outcomes.values());
    if extent == Extent::Nothing {
        return Ok(extent);
    }
    destination.write(&archive(&files(args, &node, now, &outcomes), now, compression)?)?;
    // It is only for people.
    let _ = writeln!(io::stderr(), "written to {destination}");
    Ok(extent)
}

/// A secret for the replacement of addresses. `fastrand` would not do: its numbers follow from the time of the start.
///
/// # Errors
///
/// The kernel has no random bytes.
pub(super) fn secret() -> anyhow::Result<Secret> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("failed to get random bytes for --redact: {error}"))?;
    Ok(Secret::from(bytes))
}

/// The files with their paths, the README first.
fn files<'p>(args: &Args, node: &str, now: Timestamp, outcomes: &'p BTreeMap<Part, Outcome>) -> Vec<File<'p>> {
    let origin = Origin { node, version: env!("CARGO_PKG_VERSION"), at: now, is_redacted: args.redact };
    let collected = outcomes.iter().filter_map(|(part, outcome)| {
        if let Outcome::Collected(bytes) = outcome { Some((part.file().into(), bytes.as_slice().into())) } else { None }
    });
    [("README.md".into(), readme(&origin, outcomes).into_bytes().into())].into_iter().chain(collected).collect()
}
