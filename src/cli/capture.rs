//! `vtep-agent capture`: a pcapng file of what passes between this node and the BIG-IPs, or each frame in words.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use vtep_core::capture::{Capture, Known, explain::explain, fitting, memory, pcapng};

use super::{args::source, destination::Destination, interruption::unless_interrupted, snapshot::Snapshot};
use crate::kernel::capture::{Limits, record};

/// The exit status if there is no capture.
const FAILED: u8 = 2;
/// The most bytes of memory for the frames, with their file or their words. The agent's pod has 48 MiB, for the agent (some 10) and for all
/// commands in it.
const MEMORY: usize = 16 << 20;
/// The program and its version, as the file names them.
pub(super) const APPLICATION: &str = concat!("vtep-agent ", env!("CARGO_PKG_VERSION"));

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  vtep-agent capture --config-dir /etc/cilium-config --seconds 5 --explain\n\n\
                  Exit status: 0 captured, 2 not.")]
pub struct Args {
    #[command(flatten)]
    source: source::Source,
    /// How long to capture.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// End after so many frames. Traffic through the tunnels has at most half of them; then only ARP and ICMP are captured.
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    packets: u32,
    /// Bytes of each frame. The default has all headers, and little of what connections carry.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u32).range(96..=65_535))]
    snap: u32,
    /// The file to write, or - for standard output; without it, one in the working directory, and none with --explain.
    #[arg(short, long, value_name = "FILE")]
    output: Option<Destination>,
    /// Print one line for each frame, in words.
    #[arg(long)]
    explain: bool,
}

/// # Errors
///
/// Signals cannot be handled, or the output fails. If there is no capture, the exit status is 2.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let words = match unless_interrupted(capture(args)).await {
        Ok(Some(Ok(()))) => return Ok(ExitCode::SUCCESS),
        Ok(None) => "interrupted: nothing is written".to_owned(),
        Ok(Some(Err(error))) | Err(error) => format!("{error:#}"),
    };
    // If standard error is closed, the exit status still reports the failure.
    let _ = writeln!(io::stderr(), "error: {words}");
    Ok(ExitCode::from(FAILED))
}

async fn capture(args: &Args) -> anyhow::Result<()> {
    let destination = args.destination()?;
    destination.iter().try_for_each(Destination::check)?;
    let limits = args.limits()?;
    let Some(Snapshot { view, facts, .. }) = Snapshot::read(&args.source).await? else {
        bail!("without a configuration it is not known what to capture");
    };
    let known = Known::new(&view, &facts);
    let capture = record(&known, &facts, limits).await?;
    if let Some(destination) = &destination {
        destination.write(&pcapng::write(&capture, &known, APPLICATION, args.snap))?;
    }
    if args.explain {
        print(&explain(&capture, &known)).context("failed to print")?;
    }
    // It is only for people.
    let _ = writeln!(io::stderr(), "{}", summary(&capture, destination.as_ref()));
    Ok(())
}

fn print(lines: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match lines.iter().try_for_each(|line| writeln!(out, "{line}")) {
        // The reader, such as `head`, has enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

impl Args {
    fn destination(&self) -> anyhow::Result<Option<Destination>> {
        ensure!(
            !(self.explain && self.output == Some(Destination::Stdout)),
            "--explain prints to standard output, where the file would go, too: name a file with --output"
        );
        let named = || Destination::named("capture", &self.source.node_name, Timestamp::now(), "pcapng");
        Ok(self.output.clone().or_else(|| (!self.explain).then(named)))
    }

    fn limits(&self) -> anyhow::Result<Limits> {
        let (frames, snap) = (self.packets as usize, self.snap as usize);
        ensure!(
            memory(frames, snap) <= MEMORY,
            "--packets {frames} with --snap {snap} needs more than {} MiB of memory: give at most --packets {}, or a smaller --snap",
            MEMORY >> 20,
            fitting(MEMORY, snap)
        );
        Ok(Limits { time: Duration::from_secs(self.seconds), frames, snap })
    }
}

/// What was captured, in one sentence.
pub(super) fn summary(capture: &Capture, destination: Option<&Destination>) -> String {
    let names: Vec<_> = capture.interfaces.iter().map(|interface| interface.name.as_str()).collect();
    let count = capture.frames.len();
    let frames = if count == 1 { "frame" } else { "frames" };
    let mut words = format!("captured {count} {frames} on {}", names.join(", "));
    if let Some(left_out) = capture.left_out_words() {
        words += &format!("; {left_out}");
    }
    let dropped: u64 = capture.interfaces.iter().map(|interface| interface.dropped).sum();
    if dropped > 0 {
        words += &format!("; {dropped} more found no room");
    }
    if let Some(since) = capture.without_bulk_since {
        words += &format!(
            "; traffic through the tunnels had its half of --packets at {since}, and only ARP and ICMP follow"
        );
    }
    if let Some(destination) = destination {
        words += &format!("; written to {destination}");
    }
    words
}
