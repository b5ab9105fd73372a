//! `vtep-agent fleet bundle`: one archive with the bundles of all nodes that are in trouble.
//!
//! `vtep-agent bundle` runs in the pods of those nodes and sends its archive through the API server. Each node's files are in a directory
//! of its own, unpacked, so that `grep -r` and `diff -r` work on all of them. Addresses are replaced here and not on the nodes, because
//! only here the same address becomes the same one for all of them.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use jiff::Timestamp;
use vtep_core::{
    bundle::{
        fleet::{
            MOST_OF_ALL, NodeBundle,
            choice::{Choice, Healthy, choose},
            extent,
            readme::{Contents, JSON, TEXT, missing, readme},
            redacted::redacted,
        },
        part::Extent,
        readme::Origin,
        redact::{Redactor, Secret},
    },
    fleet::{names, report::Report},
};

use super::{ask, progress::Progress, scope::Scope, unpack::unpack, wide};
use crate::{
    cli::{
        args::run::between,
        bundle::{
            archive::{Compression, File, archive},
            exit, secret,
        },
        destination::Destination,
        interruption::unless_interrupted,
        style::clean,
    },
    fleet::{collect::Found, exec::Archive},
};

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  vtep-agent fleet bundle --redact
  kubectl vtep bundle --context frankfurt --cause tunnel-silent --output ticket.tar.gz
  kubectl vtep bundle --node worker-12 --node worker-13

Without --node, it has the nodes that are not healthy or do not answer; with it,
all nodes of these names. --vtep and --cause say which trouble counts.

Rights in the namespace of the agent: list pods, and get and create pods/exec.

Exit status: 0 complete, 1 in part (README.md in the bundle says what is missing
and why), 2 nothing.")]
pub(super) struct Args {
    #[command(flatten)]
    scope: Scope,
    /// The most nodes; each trouble has one of them before one has a second.
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=200))]
    max_nodes: u16,
    /// How long to capture frames on each node.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// How long the bundle of each node may take, 1s to 10m.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = bundle_timeout)]
    bundle_timeout: Duration,
    /// Replace addresses and the names of nodes, in all files of all nodes by the same ones.
    #[arg(long)]
    redact: bool,
    /// Compress with zstd in place of gzip.
    #[arg(long)]
    zstd: bool,
    /// The file to write, or - for standard output; without it, one in the working directory.
    #[arg(short, long, value_name = "FILE")]
    output: Option<Destination>,
}

fn bundle_timeout(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_secs(1), Duration::from_secs(600))
}

/// Without a bundle, the exit status is 2.
pub(super) async fn run(args: &Args) -> ExitCode {
    exit(unless_interrupted(bundle(args)).await)
}

type Bundles = BTreeMap<String, Result<NodeBundle, String>>;

/// Writes the bundle, if there is something in it. What is missing is named on standard error.
async fn bundle(args: &Args) -> anyhow::Result<Extent> {
    let now = Timestamp::now();
    let compression = if args.zstd { Compression::Zstd } else { Compression::Gzip };
    let destination = args.output.clone();
    let destination =
        destination.unwrap_or_else(|| Destination::named("bundle", "fleet", now, compression.extension()));
    destination.check()?;
    let secret = args.redact.then(secret).transpose()?;
    let fleet = args.scope.fleet().await?;
    let (found, report) = ask(&fleet, &args.scope.selection()).await?;
    let healthy = if args.scope.node.is_empty() { Healthy::Excluded } else { Healthy::Included };
    let choice = choose(&report, healthy, args.max_nodes.into());
    if choice.nodes.is_empty() {
        bail!("{}: there is no trouble to bundle; --node NAME makes a bundle of a healthy node", report.headline());
    }
    let bundles = collect(args, &found, &choice).await;
    say(&bundles, &choice)?;
    let extent = extent(&bundles, &choice.left_out);
    if extent == Extent::Nothing {
        return Ok(extent);
    }
    let is_redacted = args.redact;
    // In a thread, so that a signal is heard meanwhile.
    let packed = tokio::task::spawn_blocking(move || {
        let parts = match secret {
            Some(secret) => replaced(secret, &found, report, choice, bundles),
            None => Parts { report, choice, bundles },
        };
        archive(&parts.files(now, is_redacted)?, now, compression)
    });
    destination.write(&packed.await.context("failed to pack the bundle")??)?;
    // It is only for people.
    let _ = writeln!(io::stderr(), "written to {destination}");
    Ok(extent)
}

/// The bundles of the chosen nodes.
async fn collect(args: &Args, found: &Found, choice: &Choice) -> Bundles {
    let mut progress = Progress::new("bundles made");
    let mut bundles = Bundles::new();
    let mut size = 0;
    progress.show(0, choice.nodes.len());
    let nodes = choice.nodes.keys().map(String::as_str);
    let each = |node: &str, archive: Result<Archive, String>| {
        bundles.insert(node.to_owned(), archive.and_then(|archive| unpacked(&archive, &mut size)));
        progress.show(bundles.len(), choice.nodes.len());
    };
    found.bundles(nodes, args.seconds, args.bundle_timeout, each).await;
    bundles
}

/// `size`: the bytes of all bundles before it.
fn unpacked(archive: &Archive, size: &mut usize) -> Result<NodeBundle, String> {
    let Archive { bytes, is_complete } = archive;
    let files = unpack(bytes).map_err(|error| format!("its bundle cannot be used: {error:#}"))?;
    let extent = if *is_complete { Extent::Complete } else { Extent::InPart };
    let bundle = NodeBundle { files, extent };
    *size += bundle.size();
    if *size > MOST_OF_ALL {
        *size -= bundle.size();
        return Err(format!("the bundles of all nodes together have more than {} MB", MOST_OF_ALL >> 20));
    }
    Ok(bundle)
}

fn say(bundles: &Bundles, choice: &Choice) -> anyhow::Result<()> {
    let mut out = io::stderr();
    for line in missing(bundles) {
        writeln!(out, "missing: {}", clean(line.trim_start_matches("- "))).context("failed to report")?;
    }
    for (node, bundle) in bundles {
        if bundle.as_ref().is_ok_and(|bundle| bundle.extent != Extent::Complete) {
            writeln!(out, "in part: {node}: its README.md says what is missing").context("failed to report")?;
        }
    }
    if !choice.left_out.is_empty() {
        let nodes = names::fold(choice.left_out.iter().map(String::as_str));
        writeln!(out, "left out: {nodes}: --max-nodes is less").context("failed to report")?;
    }
    Ok(())
}

/// Everything that the archive is made of.
struct Parts {
    report: Report,
    choice: Choice,
    bundles: Bundles,
}

/// The same with other addresses and names, everywhere the same ones.
fn replaced(secret: Secret, found: &Found, report: Report, choice: Choice, bundles: Bundles) -> Parts {
    // In the order of the report, so that it still is one.
    let mut pods: Vec<_> = found.pods.iter().collect();
    pods.sort_by(|one, other| names::order(&one.node).cmp(&names::order(&other.node)));
    let nodes = pods.iter().map(|pod| &pod.node).chain(report.without_agent.iter().flatten());
    let nodes = (1..).zip(nodes).map(|(number, name)| (name.clone(), format!("node-{number}")));
    let agents = (1..).zip(&pods).map(|(number, pod)| (pod.name.clone(), format!("agent-{number}")));
    let mut redactor = Redactor::of_names(secret, nodes.chain(agents));
    let redactor = &mut redactor;
    let Choice { nodes, left_out } = choice;
    let nodes = nodes.iter().map(|(node, why)| (redactor.text(node), redactor.text(why))).collect();
    let left_out = left_out.iter().map(|node| redactor.text(node)).collect();
    let replace = |(node, bundle): (String, Result<NodeBundle, String>)| {
        let bundle = match bundle {
            Ok(bundle) => Ok(redacted(bundle, redactor)),
            Err(why) => Err(redactor.text(&why)),
        };
        (redactor.text(&node), bundle)
    };
    let bundles = bundles.into_iter().map(replace).collect();
    Parts { report: report.redacted(redactor), choice: Choice { nodes, left_out }, bundles }
}

impl Parts {
    /// The files with their paths, the README first.
    fn files(&self, now: Timestamp, is_redacted: bool) -> anyhow::Result<Vec<File<'_>>> {
        let Self { report, choice, bundles } = self;
        let origin = Origin { node: "", version: env!("CARGO_PKG_VERSION"), at: now, is_redacted };
        let text = readme(&Contents { origin, report, choice, bundles });
        let table = anstream::adapter::strip_str(&wide::render(report)).to_string();
        let json = serde_json::to_string_pretty(report)? + "\n";
        let mut files: Vec<File<'_>> = Vec::new();
        for (file, text) in [("README.md", text), (TEXT, table), (JSON, json)] {
            files.push((file.into(), text.into_bytes().into()));
        }
        for (node, bundle) in bundles {
            for (file, bytes) in bundle.iter().flat_map(|bundle| &bundle.files) {
                files.push((format!("nodes/{}/{file}", directory(node)).into(), bytes.as_slice().into()));
            }
        }
        Ok(files)
    }
}

/// The name of a Node is a DNS name; whatever else it is, it must not lead elsewhere.
fn directory(node: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let name: String = node.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    if name.starts_with('.') { format!("_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_below_that_of_the_nodes() {
        for (node, expected) in
            [("worker-1.example.com", "worker-1.example.com"), ("..", "_.."), ("../x", "_.._x"), ("a/b\n", "a_b_")]
        {
            assert_eq!(directory(node), expected);
        }
    }
}
