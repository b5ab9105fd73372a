//! What `capture` and `bundle` cost a node beside 1 Gbit/s through a tunnel: the process, and the kernel, which shows each frame to the
//! filter of the capture's sockets.
//!
//! The kernel's part has two figures. The filter's time for a frame is measured alone, on a socket that gets nothing else. The difference of
//! all interrupts' time with and without a capture has everything else in it, too, and the noise of the machine.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::Value;
use socket2::{SockFilter, SockRef};
use vtep_core::capture::{
    Known,
    filter::{Instruction, Tunneled, underlay},
};
use vtep_lab::{CILIUM_RUN, CONFIG, Config, Host, Lab, STATE};

use crate::support::{AGENT, Agent, Figure, Report, Unit, median, share_of};

const RUNS: usize = 3;
/// A capture lasts ten seconds, and the transfer some more.
const SECONDS: &str = "10";
const TRANSFER: &str = "16";
const WINDOW: Duration = Duration::from_secs(7);
const BITRATE: &str = "1G";
const STARTS_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// Of 1 Gbit/s in full frames (1,450 bytes inside), with one acknowledgement for two of them. Devices and the kernel usually merge many
/// frames before the filter sees them, so it is the most.
const FRAMES_PER_SECOND: f64 = 130_000.0;
const FILTERED: usize = 400_000;
const MEASUREMENTS: usize = 7;

pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let per_frame = filter_per_frame()?;
    let filter_share = median(&per_frame) * FRAMES_PER_SECOND / 1e9 * 100.0;
    report.figure(&Figure::new("capture-filter-per-frame", Unit::Nanoseconds, per_frame));

    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    let _agent = Agent::start(&lab, &[])?;
    for command in ["capture", "bundle"] {
        let (mut shares, mut rates) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let transfer = Transfer::start(&lab)?;
            shares.push(share_of_process(&mut start(&lab, command)?)?);
            rates.push(transfer.end()?);
        }
        report.figure(&Figure::new(format!("{command}-beside-gigabits"), Unit::Gigabits, rates));
        report.figure(&Figure::new(format!("{command}-share-of-core"), Unit::Percent, shares.clone()));
        let all = shares.iter().map(|share| share + filter_share).collect::<Vec<_>>();
        report.figure(&Figure::new(format!("{command}-and-filter-share-of-core"), Unit::Percent, all).promise(2.0));
    }
    report.figure(&Figure::new("capture-interrupts-share-of-core", Unit::Percent, interrupts(&lab)?));
    Ok(())
}

/// The command, which writes to nowhere.
fn start(lab: &Lab, command: &str) -> Result<Child> {
    let mut process = lab.node.command(AGENT);
    process.args([command, "--seconds", SECONDS, "--output", "-", "--config-dir", CONFIG]);
    process.args(["--cilium-run", CILIUM_RUN, "--state-dir", STATE]);
    process
        .args(["--probe-target", "10.1.6.0/24=10.1.6.34,10.1.5.0/24=10.1.5.36"].iter().filter(|_| command == "bundle"));
    Ok(process.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}

/// User and system time of a child until its end, as a share of that time.
fn share_of_process(child: &mut Child) -> Result<f64> {
    let used = || {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        let microseconds =
            [usage.user_time(), usage.system_time()].map(|time| time.tv_sec() * 1_000_000 + time.tv_usec());
        Ok::<_, nix::Error>(microseconds.iter().sum::<i64>())
    };
    let (begin, before) = (Instant::now(), used()?);
    let status = child.wait()?;
    // A bundle without a log or a status would be cheaper.
    ensure!(status.success(), "the command ended with {status}");
    Ok((used()? - before) as f64 / 1e6 / begin.elapsed().as_secs_f64() * 100.0)
}

/// The time of all interrupts with a capture, less that without one, in the same transfer: in turns, so that a machine that becomes slower
/// or faster favours neither.
fn interrupts(lab: &Lab) -> Result<Vec<f64>> {
    let mut differences = Vec::new();
    for n in 0..RUNS {
        let _transfer = Transfer::start(lab)?;
        let (mut without, mut with) = (0.0, 0.0);
        for captures in [n % 2 == 1, n % 2 == 0] {
            let mut capture = captures.then(|| start(lab, "capture")).transpose()?;
            let share = share_of(interrupt_time, WINDOW)?;
            if let Some(capture) = &mut capture {
                capture.kill()?;
                capture.wait()?;
                with = share;
            } else {
                without = share;
            }
        }
        differences.push(with - without);
    }
    Ok(differences)
}

/// Of all processors: `irq` and `softirq` of `/proc/stat`, in hundredths of a second.
fn interrupt_time() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let words: Vec<_> = stat.lines().next().context("a line")?.split_whitespace().collect();
    let ticks = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).context("a number of ticks");
    Ok(Duration::from_millis((ticks(6)? + ticks(7)?) * 10))
}

/// The nanoseconds that the filter takes for a frame of other traffic once that has had its share, above those of a filter that keeps
/// nothing at once. The socket is no packet socket, but the kernel runs the same program on it.
fn filter_per_frame() -> Result<Vec<f64>> {
    let known = Known {
        endpoints: (0..8).map(|n| ([10, 169, 72, 34 + n].into(), String::new())).collect(),
        next_hops: [[10, 169, 72, 1].into()].into(),
        ..Known::default()
    };
    let frame = tunneled()?;
    let program: Vec<_> = underlay(&known, Tunneled::ArpAndIcmp)
        .iter()
        .map(|Instruction { code, jump_true, jump_false, k }| SockFilter::new(*code, *jump_true, *jump_false, *k))
        .collect();
    // `ret #0`
    let nothing = [SockFilter::new(0x06, 0, 0, 0)];
    let mut above = Vec::new();
    for _ in 0..MEASUREMENTS {
        let without = per_frame(&nothing, &frame)?;
        above.push(per_frame(&program, &frame)? - without);
    }
    Ok(above)
}

fn per_frame(program: &[SockFilter], frame: &[u8]) -> Result<f64> {
    let (sender, receiver) = UnixDatagram::pair()?;
    SockRef::from(&receiver).attach_filter(program)?;
    receiver.set_nonblocking(true)?;
    let begin = Instant::now();
    for _ in 0..FILTERED {
        sender.send(frame)?;
    }
    let took = begin.elapsed();
    // Otherwise the sender would have waited for a reader.
    ensure!(receiver.recv(&mut [0; 64]).is_err(), "the filter keeps the frame");
    Ok(took.as_nanos() as f64 / FILTERED as f64)
}

/// TCP in VXLAN, with a VNI and an endpoint of ours, so that the filter goes its longest way.
fn tunneled() -> Result<Vec<u8>> {
    let ethernet = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    let mut inner = Vec::new();
    etherparse::PacketBuilder::ipv4([10, 1, 6, 34], [10, 0, 0, 24], 64)
        .tcp(40000, 80, 1, 1000)
        .write(&mut inner, &[0; 64])?;
    let payload = [&[8, 0, 0, 0, 0, 0, 2, 0][..], &ethernet, &inner].concat();
    let mut outer = Vec::new();
    etherparse::PacketBuilder::ipv4([10, 169, 72, 41], [10, 169, 72, 239], 64)
        .udp(40000, 8472)
        .write(&mut outer, &payload)?;
    Ok([&ethernet[..], &outer].concat())
}

/// One TCP stream from BIG-IP to the pod at 1 Gbit/s.
struct Transfer {
    server: Child,
    client: Child,
}

impl Transfer {
    fn start(lab: &Lab) -> Result<Self> {
        let iperf = |host: &Host, args: &[&str]| {
            host.command("iperf3").args(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
        };
        let server = iperf(&lab.pod, &["--server", "--one-off"])?;
        let begin = Instant::now();
        // 5201, in hexadecimal.
        while !lab.pod.run(|| Ok(fs::read_to_string("/proc/thread-self/net/tcp6")?.contains(":1451 ")))? {
            ensure!(begin.elapsed() < STARTS_WITHIN, "iperf3 does not listen");
            thread::sleep(POLL);
        }
        let pod = lab.topology.pod_ip.to_string();
        let args = ["--client", &pod, "--bitrate", BITRATE, "--time", TRANSFER, "--json"];
        Ok(Self { server, client: iperf(&lab.bigips[0].host, &args)? })
    }

    /// Its rate in Gbit/s.
    fn end(mut self) -> Result<f64> {
        let output = self.client.stdout.take().context("a pipe")?;
        let transfer: Value = serde_json::from_reader(output)?;
        transfer["end"]["sum_received"]["bits_per_second"].as_f64().map(|bits| bits / 1e9).context("no rate")
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        for child in [&mut self.client, &mut self.server] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
