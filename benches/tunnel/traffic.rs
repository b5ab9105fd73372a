//! Packets that are lost while the entry of their VTEP is deleted: 5,000 packets a second from a pod through the lab's datapath, which looks
//! up the VTEP map for each of them.
//!
//! The agent backs off from an entry after more than ten repairs in a minute, because then somebody else insists on another value. No
//! operator deletes one entry a hundred times a minute, so the deletions go round eight VTEPs: each loses its entry every 6.8 s, nine times
//! a minute, and the traffic goes through the VTEP whose turn it is. The agent needs no other settings, and its guard stays on.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::support::{Agent, Figure, Report, ShellLoop, Unit, eight_bigips, median, status, wait_for};
use anyhow::{Result, ensure};
use nix::{
    sys::socket::{setsockopt, sockopt::RcvBufForce},
    unistd::gettid,
};
use vtep_lab::{Config, Host, Lab};

const DELETIONS: usize = 100;
/// By a shell loop in the agent's place, and without any deletion.
const OTHERS: usize = 16;
const RATE: u32 = 5000;
/// Each deletion has this much time, in which the packets flow for the first part.
const ROUND: Duration = Duration::from_millis(850);
const PACKETS: u32 = RATE * 7 / 10;
/// The earliest time of a deletion in its round.
const DELETED_AFTER: Duration = Duration::from_millis(100);
/// The time in which the last packet must arrive.
const ARRIVES_WITHIN: Duration = Duration::from_millis(500);
const PORT: u16 = 4000;
/// All packets of a round, whatever the kernel counts for each.
const BUFFER: usize = 64 << 20;

pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let lab = Lab::builder().topology(eight_bigips()?).start()?;
    lab.config.write(&Config::keys_for(&lab.topology.vteps()))?;
    let agent = Agent::start(&lab, &[])?;
    let receivers = lab.bigips.iter().map(|bigip| receiver(&bigip.host, bigip.addresses.self_ip.addr()));
    let mut path = Path { lab: &lab, receivers: receivers.collect::<Result<_>>()?, round: 0 };
    let undisturbed = path.rounds(OTHERS, false)?;
    let repaired = path.rounds(DELETIONS, true)?;
    let counted = status(&lab)?["datapath"]["repairs_total"].as_u64();
    ensure!(counted >= Some(DELETIONS as u64), "the agent has repaired only {counted:?} entries");
    drop(agent);
    let shell = ShellLoop::start(&lab, None)?;
    let by_loop = path.rounds(OTHERS, true)?;
    drop(shell);

    let lost = |rounds: &[Round]| rounds.iter().map(|round| round.lost).collect::<Vec<_>>();
    let rates: Vec<_> = repaired.iter().map(|round| round.rate).collect();
    report.figure(&Figure::new("packets-sent-per-second", Unit::Count, rates));
    report.figure(&Figure::new("packets-lost-without-deletion", Unit::Count, lost(&undisturbed)).promise(0.0));
    report.figure(&Figure::new("packets-lost-per-deletion", Unit::Count, lost(&repaired)).promise(25.0));
    report.figure(&Figure::new("packets-lost-per-deletion-with-bpftool-loop", Unit::Count, lost(&by_loop)));
    report.ratio("packets-lost-per-deletion", "bpftool-loop", &lost(&repaired), &[median(&lost(&by_loop)).max(1.0)]);
    Ok(())
}

/// The way from the pod to each of the BIG-IPs.
struct Path<'l> {
    lab: &'l Lab,
    receivers: Vec<UdpSocket>,
    round: u32,
}

struct Round {
    lost: f64,
    rate: f64,
}

/// A socket that keeps what arrives, so that no reader takes processor time while packets flow.
fn receiver(host: &Host, address: Ipv4Addr) -> Result<UdpSocket> {
    host.run(|| {
        let socket = UdpSocket::bind(SocketAddrV4::new(address, PORT))?;
        setsockopt(&socket, RcvBufForce, &BUFFER)?;
        socket.set_read_timeout(Some(ARRIVES_WITHIN))?;
        Ok(socket)
    })
}

impl Path<'_> {
    fn rounds(&mut self, count: usize, delete: bool) -> Result<Vec<Round>> {
        (0..count).map(|_| self.next_round(delete)).collect()
    }

    /// Sends packets through the next VTEP, and perhaps deletes its entry meanwhile.
    fn next_round(&mut self, delete: bool) -> Result<Round> {
        let begin = Instant::now();
        self.round += 1;
        let (round, number) = (self.round, self.round as usize % self.receivers.len());
        let vteps = self.lab.topology.vteps();
        let to = SocketAddrV4::new(self.lab.topology.bigips[number].self_ip.addr(), PORT);
        let pod = &self.lab.pod;
        let took = thread::scope(|scope| {
            let sender = scope.spawn(move || pod.run(|| send(to, round)));
            // Independent of the agent's ticks.
            thread::sleep(DELETED_AFTER + Duration::from_micros(u64::from(round) * 37_123 % 100_000));
            let deleted = if delete { self.lab.cilium.delete_vtep(vteps[number].key()) } else { Ok(()) };
            let took = sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?;
            deleted.and(took)
        })?;
        let arrived = arrived(&self.receivers[number], round)?;
        wait_for(self.lab, &vteps)?;
        // The pace that the guard tolerates, whatever the time of the round.
        thread::sleep(ROUND.saturating_sub(begin.elapsed()));
        Ok(Round { lost: f64::from(PACKETS) - arrived as f64, rate: f64::from(PACKETS) / took.as_secs_f64() })
    }
}

/// Sends the packets of a round at the rate; returns how long that took.
fn send(to: SocketAddrV4, round: u32) -> Result<Duration> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // Where a shell loop takes a whole core, the sender would wait for its turn and send nothing while the entry is away.
    let thread = gettid().to_string();
    ensure!(Command::new("renice").args(["-n", "-20", "-p", &thread]).output()?.status.success(), "renice");
    let begin = Instant::now();
    for number in 0..PACKETS {
        // A sleep that ends late is made up for, so that the rate holds.
        thread::sleep((begin + Duration::from_secs(1) / RATE * number).saturating_duration_since(Instant::now()));
        let packet = [round.to_ne_bytes(), number.to_ne_bytes()].concat();
        socket.send_to(&packet, to)?;
    }
    Ok(begin.elapsed())
}

/// How many packets of this round arrived. The last one must: the entry is back long before it is sent.
fn arrived(receiver: &UdpSocket, round: u32) -> Result<usize> {
    let (mut numbers, mut packet) = (BTreeSet::new(), [0; 8]);
    while !numbers.contains(&(PACKETS - 1)) {
        match receiver.recv(&mut packet) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
        let [a, b, c, d, numbers_of @ ..] = packet;
        if u32::from_ne_bytes([a, b, c, d]) == round {
            numbers.insert(u32::from_ne_bytes(numbers_of));
        }
    }
    Ok(numbers.len())
}
