//! `vtep-agent capture`: the file, as Wireshark reads it, and each frame in words; what an interruption leaves; what it costs.

use std::{
    fs,
    io::Write as _,
    net::UdpSocket,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use vtep_lab::{BigIpAddresses, CILIUM_RUN, CONFIG, Config, Faults, Lab, STATE, Tunnel};

use crate::{
    far_end::{Chatter, ask_for_node, bigip},
    privileges,
    support::{AGENT, Agent, eventually},
};

const WITHIN: Duration = Duration::from_secs(60);

/// The flags with which a command finds its way in the lab.
pub(crate) const SOURCE: [&str; 6] = ["--config-dir", CONFIG, "--cilium-run", CILIUM_RUN, "--state-dir", STATE];

fn capture(lab: &Lab, args: &[&str]) -> Command {
    let mut command = lab.node.command(AGENT);
    command.arg("capture").args(SOURCE).args(args);
    command
}

/// The first BIG-IP asks for an address, with a frame of its own.
fn ask(lab: &Lab, target: [u8; 4]) -> Result<()> {
    let BigIpAddresses { underlay_ip, self_ip, mac, .. } = bigip(lab).addresses.clone();
    let ethernet = [&[0xff; 6], &mac.0[..], &[8, 6]].concat();
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 1], &mac.0[..], &self_ip.addr().octets(), &[0; 6], &target].concat();
    let to = (lab.topology.node_ip, 8472);
    bigip(lab).host.run(move || {
        let frame = [&[8, 0, 0, 0, 0, 0, 2, 0][..], &ethernet, &arp].concat();
        UdpSocket::bind((underlay_ip, 0))?.send_to(&frame, to)?;
        Ok(())
    })
}

/// Runs it to its end, while something happens again and again.
fn while_captured(mut command: Command, mut happens: impl FnMut() -> Result<()>) -> Result<Output> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    eventually("the capture ends", WITHIN, || {
        happens()?;
        thread::sleep(Duration::from_millis(50));
        Ok(child.try_wait()?)
    })?;
    Ok(child.wait_with_output()?)
}

/// These fields of each frame, as tshark reads the file.
fn tshark(file: &Path, fields: &[&str]) -> Result<Vec<Vec<String>>> {
    let mut command = Command::new("tshark");
    // Cilium's port is not the one that Wireshark takes for VXLAN.
    command.arg("-r").arg(file).args(["-n", "-d", "udp.port==8472,vxlan", "-T", "fields", "-E", "separator=|"]);
    command.args(fields.iter().flat_map(|field| ["-e", field]));
    let output = command.output().context("failed to run tshark (scripts/setup installs it)")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && !errors.contains("cut short"), "{errors}");
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect())
}

/// Whether tshark reads the whole file.
pub(crate) fn opens(bytes: &[u8]) -> Result<usize> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(bytes)?;
    Ok(tshark(file.path(), &["frame.number"])?.len())
}

#[test]
fn wireshark_reads_the_file() -> Result<()> {
    let lab = Lab::start()?;
    let _agent = Agent::healthy(&lab)?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("tunnels.pcapng");
    let output = while_captured(capture(&lab, &["--seconds", "3", "--output", &file.to_string_lossy()]), || {
        ask_for_node(&lab, &bigip(&lab).host)
    })?;
    let words = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(0) && words.contains("on eth0, cilium_vxlan; written to"), "{words}");
    let fields = [
        "frame.interface_name",
        "frame.packet_flags_direction",
        "vxlan.vni",
        "arp.opcode",
        "frame.comment",
        "frame.cap_len",
    ];
    let frames = tshark(&file, &fields)?;
    let has =
        |wanted: [&str; 4]| frames.iter().any(|frame| frame.iter().zip(wanted).all(|(found, wanted)| found == wanted));
    for (wanted, what) in [
        (["eth0", "0x00000001", "2", "1"], "BIG-IP's question"),
        (["eth0", "0x00000002", "2", "2"], "the node's answer"),
        (["cilium_vxlan", "0x00000001", "", "1"], "the question on Cilium's device"),
        (["cilium_vxlan", "0x00000002", "", "2"], "Cilium's own answer"),
    ] {
        ensure!(has(wanted), "{what} is not in {frames:#?}");
    }
    let comments: Vec<_> = frames.iter().map(|frame| frame[4].as_str()).collect();
    for comment in [
        "probe of vtep-agent: ARP for 10.1.6.34 through the tunnel",
        "answer to a probe of vtep-agent: 00:50:56:a0:7d:d8 has 10.1.6.34",
        "probe of vtep-agent: echo beside the tunnel",
        "probe of vtep-agent: echo through the tunnel, 84 bytes",
    ] {
        ensure!(comments.contains(&comment), "{comment:?} is not in {comments:#?}");
    }
    ensure!(frames.iter().all(|frame| frame[5].parse::<u32>().is_ok_and(|length| length <= 128)), "{frames:#?}");
    let names: Vec<_> = fs::read_dir(dir.path())?.collect::<Result<_, _>>()?;
    ensure!(names.len() == 1, "nothing beside it: {names:?}");

    let again = capture(&lab, &["--output", &file.to_string_lossy()]).output()?;
    let words = String::from_utf8(again.stderr)?;
    ensure!(again.status.code() == Some(2) && words.contains("exists: name another file"), "{words}");
    Ok(())
}

#[test]
fn each_frame_is_said_in_words() -> Result<()> {
    let mut lab = Lab::builder().fill_map(true).faults(Faults { zero_mac_arp: true, ..Faults::default() }).start()?;
    lab.config.write(&Config::seed_keys())?;
    let explain = |lab: &Lab| -> Result<String> {
        let output = while_captured(capture(lab, &["--seconds", "3", "--explain"]), || {
            ask(lab, [10, 0, 0, 200])?;
            ask(lab, lab.topology.pod_ip.octets())
        })?;
        let lines = String::from_utf8(output.stdout)?;
        ensure!(output.status.code() == Some(0), "{lines} {}", String::from_utf8_lossy(&output.stderr));
        Ok(lines)
    };
    let lines = explain(&lab)?;
    for words in [
        "eth0         in  BIG-IP 10.169.72.34 asks who has 10.0.0.200; nobody on this node answers",
        "; a MAC of zeros is no answer: this release of Cilium is broken for VTEPs",
    ] {
        ensure!(lines.contains(words), "{words:?} is not in\n{lines}");
    }
    lab.cilium.faults = Faults::default();
    lab.cilium.start()?;
    let lines = explain(&lab)?;
    ensure!(lines.contains("BIG-IP 10.169.72.34 asks who has 10.0.0.130; answered after "), "{lines}");
    ensure!(!lines.contains("zeros"), "{lines}");

    // The reader has enough.
    let mut command = capture(&lab, &["--seconds", "1", "--explain"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    drop(child.stdout.take());
    ensure!(child.wait()?.success(), "as after `head`");
    Ok(())
}

#[test]
fn geneve_is_captured_with_the_rights_of_the_manifest() -> Result<()> {
    let lab = Lab::builder().tunnel(Tunnel::UserGeneve).start()?;
    let _agent = Agent::healthy(&lab)?;
    let _chatter = Chatter::start(&lab)?;
    let confined = privileges::confined(&privileges::granted()?);
    let mut command = lab.node.command(&confined[0]);
    command.args(&confined[1..]).args([AGENT, "capture"]).args(SOURCE).args(["--seconds", "2", "--explain"]);
    let output = command.output()?;
    let lines = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let pings = format!("10.1.6.34 pings {}, from BIG-IP 10.169.72.34; answered after ", lab.topology.pod_ip);
    ensure!(lines.contains(&pings), "{pings:?} is not in\n{lines}");
    Ok(())
}

#[test]
fn what_cannot_be_captured_is_said() -> Result<()> {
    let lab = Lab::start()?;
    for (keys, words) in [(None, "no usable configuration"), (Some(()), "no VTEP is in effect")] {
        if keys.is_some() {
            let mut keys = Config::seed_keys();
            keys.insert("enable-vtep".into(), "false".into());
            lab.config.write(&keys)?;
        }
        let output = capture(&lab, &["--seconds", "1", "--explain"]).output()?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(2) && said.contains(words), "{words:?}: {said}");
    }
    let output = capture(&lab, &["--packets", "100000", "--snap", "65535", "--explain"]).output()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(2) && said.contains("more than 16 MiB of memory: give at most"), "{said}");
    Ok(())
}

#[test]
fn a_device_without_ethernet_is_left_out_and_named() -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    let [one, other] = [0, 1].map(|number| lab.topology.bigips[number].underlay_ip);
    lab.node.command("ip").args(["tuntap", "add", "dev", "tun0", "mode", "tun"]).status()?;
    lab.node.ip(&format!("link set tun0 up\nroute add {other}/32 dev tun0\n"))?;
    let captured = |args: &[&str]| capture(&lab, args).args(["--seconds", "1"]).output();
    let output = captured(&["--explain"])?;
    let said = String::from_utf8(output.stderr)?;
    let words = "on eth0, cilium_vxlan; not on tun0, which has no Ethernet header";
    ensure!(output.status.code() == Some(0) && said.contains(words), "{said}");
    let output = captured(&["--output", "-"])?;
    let words = b"not on tun0, which has no Ethernet header";
    ensure!(output.stdout.windows(words.len()).any(|bytes| bytes == words), "the file says so, too");

    // The other devices are gone.
    lab.node.ip(&format!("route add {one}/32 dev tun0\nlink delete cilium_vxlan\n"))?;
    let output = captured(&["--explain"])?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(2) && said.contains("tun0: no Ethernet header"), "{said}");
    Ok(())
}

/// The frames in the queues of the packet sockets of a process that does not read: the memory that they take.
fn queued(lab: &Lab) -> Result<Vec<u64>> {
    let table = lab.node.run(|| Ok(fs::read_to_string("/proc/thread-self/net/packet")?))?;
    let memory = |line: &str| line.split_whitespace().nth(6)?.parse().ok();
    table.lines().skip(1).map(|line| memory(line).with_context(|| line.to_owned())).collect()
}

/// Starts a capture that does not read until `happens` has filled its queues, and returns what it prints.
fn that_reads_late(lab: &Lab, packets: &str, happens: impl FnOnce() -> Result<()>) -> Result<String> {
    let dir = tempfile::tempdir()?;
    let child = started(lab, &["capture", "--explain", "--packets", packets], dir.path())?;
    let pid = Pid::from_raw(child.id().try_into()?);
    kill(pid, Signal::SIGSTOP)?;
    let happened = happens();
    kill(pid, Signal::SIGCONT)?;
    let output = child.wait_with_output()?;
    happened?;
    ensure!(output.status.code() == Some(0), "{:?}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// So many pings beside the tunnel, as fast as they are answered.
fn flood(lab: &Lab, count: &str) -> Result<()> {
    let to = bigip(lab).addresses.underlay_ip.to_string();
    let status = lab.node.command("ping").args(["-n", "-q", "-f", "-c", count, &to]).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "ping: {status}");
    Ok(())
}

#[test]
fn a_busy_device_leaves_the_others_their_turn() -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    let lines = that_reads_late(&lab, "60", || {
        flood(&lab, "100")?;
        eventually("a frame waits in each queue", WITHIN, || {
            ask_for_node(&lab, &bigip(&lab).host)?;
            let queued = queued(&lab)?;
            Ok((queued.len() >= 2 && queued.iter().all(|memory| *memory > 0)).then_some(()))
        })
    })?;
    ensure!(lines.contains("cilium_vxlan"), "{lines}");
    ensure!(lines.contains("eth0"), "{lines}");
    Ok(())
}

/// The answer to the last question has arrived, and `--packets` leaves no room for it.
#[test]
fn a_capture_ends_before_the_first_frame_that_it_does_not_have() -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    let lines = that_reads_late(&lab, "3", || {
        flood(&lab, "4")?;
        // An answer counts as missing after a second.
        let begin = Instant::now();
        eventually("a second has passed", WITHIN, || Ok((begin.elapsed() > Duration::from_millis(1500)).then_some(())))
    })?;
    ensure!(lines.lines().count() == 3 && !lines.contains("nobody answers"), "{lines}");
    ensure!(lines.trim_end().ends_with("; the capture ends before an answer"), "{lines}");
    Ok(())
}

/// The packet sockets in the node.
fn packet_sockets(lab: &Lab) -> Result<usize> {
    lab.node.run(|| Ok(fs::read_to_string("/proc/thread-self/net/packet")?.lines().count().saturating_sub(1)))
}

/// Starts a command that captures for a minute, in a directory of its own, and waits until it does.
pub(crate) fn started(lab: &Lab, args: &[&str], dir: &Path) -> Result<Child> {
    let before = packet_sockets(lab)?;
    let mut command = lab.node.command(AGENT);
    command.args(args).args(SOURCE).args(["--seconds", "60"]).current_dir(dir);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    eventually("it captures", WITHIN, || Ok((packet_sockets(lab)? >= before + 2).then_some(())))?;
    Ok(child)
}

/// Interrupts these commands in every way, and looks for what they leave in the working directory and beside it.
pub(crate) fn leaves_nothing(lab: &Lab, command: &str) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let files = || Ok::<_, anyhow::Error>(fs::read_dir(dir.path())?.collect::<Result<Vec<_>, _>>()?);
    let (temporary, sockets) = (tempfile::env::temp_dir(), packet_sockets(lab)?);
    let before = fs::read_dir(&temporary)?.count();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        for args in [&[command][..], &[command, "--output", "here"], &[command, "--output", "-"]] {
            let mut child = started(lab, args, dir.path())?;
            kill(Pid::from_raw(child.id().try_into()?), signal)?;
            let status = eventually("it ends", WITHIN, || Ok(child.try_wait()?))?;
            ensure!(status.code() == Some(2), "{signal} {args:?}: {status:?}");
            ensure!(files()?.is_empty(), "{signal} {args:?}: {:?}", files()?);
        }
    }
    // Nobody reads.
    let mut gone = lab.node.command(AGENT);
    gone.args([command, "--output", "-", "--seconds", "1"]).args(SOURCE).current_dir(dir.path());
    let mut gone = gone.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    drop(gone.stdout.take());
    let status = eventually("it ends", WITHIN, || Ok(gone.try_wait()?))?;
    ensure!(status.code() == Some(2) && files()?.is_empty(), "{status:?} {:?}", files()?);
    ensure!(packet_sockets(lab)? == sockets, "no socket remains");
    // Other tests use the same directory, but none leaves so many files.
    let after = fs::read_dir(&temporary)?.count();
    ensure!(after <= before + 6, "{before} files in {} have become {after}", temporary.display());
    Ok(())
}

#[test]
fn an_interruption_leaves_nothing() -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    leaves_nothing(&lab, "capture")
}

/// What a child has used until its end, at the last look before it.
struct Used {
    /// User and system time.
    cpu: Duration,
    /// The most memory of its own that it had at a look, in KB. The program's pages are those of its file.
    memory: u64,
}

fn used(child: &mut Child) -> Result<Used> {
    let mut used = Used { cpu: Duration::ZERO, memory: 0 };
    eventually("it ends", WITHIN, || {
        let of = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", child.id()));
        let (stat, status) = (of("stat")?, of("status")?);
        let words: Vec<_> = stat.rsplit_once(')').context("a name in parentheses")?.1.split_whitespace().collect();
        let ticks = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).context("a number of ticks");
        used.cpu = Duration::from_millis((ticks(11)? + ticks(12)?) * 10);
        // A process that has ended has none.
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
        used.memory = used.memory.max(line.unwrap_or("0").parse()?);
        Ok(child.try_wait()?)
    })?;
    Ok(used)
}

/// A transfer from BIG-IP to the pod at this rate.
struct Transfer {
    server: Child,
    client: Child,
}

impl Transfer {
    fn start(lab: &Lab, bitrate: &str, seconds: &str) -> Result<Self> {
        let iperf = |host: &vtep_lab::Host, args: &[&str]| {
            host.command("iperf3").args(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
        };
        let server = iperf(&lab.pod, &["--server"])?;
        // 5201, in hexadecimal.
        eventually("the server listens", WITHIN, || {
            Ok(lab.pod.run(|| Ok(fs::read_to_string("/proc/thread-self/net/tcp6")?.contains(":1451 ")))?.then_some(()))
        })?;
        let pod = lab.topology.pod_ip.to_string();
        let args = ["--client", &pod, "--bitrate", bitrate, "--time", seconds, "--json", "--connect-timeout", "2000"];
        Ok(Self { server, client: iperf(&bigip(lab).host, &args)? })
    }

    /// Its rate in Gbit/s.
    fn end(mut self) -> Result<f64> {
        let transfer: Value = serde_json::from_slice(&self.client.wait_with_output()?.stdout)?;
        let _ = self.server.kill();
        self.server.wait()?;
        Ok(transfer["end"]["sum_received"]["bits_per_second"].as_f64().context("a rate")? / 1e9)
    }
}

/// Each lasts as long as by default, so that the figure is what users get: half a minute in all.
#[test]
fn a_gigabit_through_the_tunnel_costs_little() -> Result<()> {
    const SECONDS: u64 = 10;
    let lab = Lab::start()?;
    let _agent = Agent::healthy(&lab)?;
    let dir = tempfile::tempdir()?;
    let file = |command: &str| dir.path().join(command).to_string_lossy().into_owned();
    for command in ["capture", "bundle"] {
        let transfer = Transfer::start(&lab, "1G", "12")?;
        let begin = Instant::now();
        let mut child = lab.node.command(AGENT);
        child.arg(command).args(SOURCE).args(["--output", &file(command)]).stderr(Stdio::null());
        let Used { cpu, memory } = used(&mut child.spawn()?)?;
        let lasted = begin.elapsed();
        let share = cpu.as_secs_f64() / lasted.as_secs_f64() * 100.0;
        let rate = transfer.end()?;
        writeln!(
            std::io::stdout(),
            "\n{command} beside {rate:.2} Gbit/s: {share:.2} % of a core, {memory} KB of memory"
        )?;
        ensure!(lasted >= Duration::from_secs(SECONDS), "{command} went on to its end");
        // A busy machine sends and captures slower. The promise is 2 %, and the line above has the figure.
        ensure!(rate > 0.1, "{rate} Gbit/s");
        ensure!(share < 20.0, "{command}: {share} % of a core");
        // The agent's pod has 48 MiB, of which the agent takes some 10.
        ensure!(memory < 24 << 10, "{command}: {memory} KB");
    }
    let frames = tshark(Path::new(&file("capture")), &["frame.time_relative", "tcp.port", "frame.comment"])?;
    let bulk = frames.iter().filter(|frame| !frame[1].is_empty()).count();
    ensure!(bulk == 500, "half of the frames: {bulk} of {}", frames.len());
    // Long after the half was full, probes are still captured.
    let last = frames.iter().rfind(|frame| frame[2].contains("probe of vtep-agent")).context("a probe")?;
    ensure!(last[0].parse::<f64>()? > 5.0, "{last:?}");
    Ok(())
}
