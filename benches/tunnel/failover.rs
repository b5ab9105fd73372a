//! Failovers of a pair under traffic: how soon packets pass again with `--mac learned`, and how soon the cause is named without it.
//!
//! A pod opens connections to a closed port of the self IP, and pings it, five hundred times a second each. The time begins with the first
//! tunnel frame of the new unit. A new MAC is learned at most six times an hour, and at most once in ten seconds, so four labs of their own
//! share the failovers, and each waits between two. Two labs run at a time, because their traffic takes a core.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    process::Stdio,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, anyhow, ensure};
use socket2::{Domain, Protocol, Socket, Type};
use vtep_core::tunnel::frames::{Echo, echo_reply, echo_request};
use vtep_lab::{BigIp, Config, Host, Lab, Mac, Standby};

use crate::support::{Agent, Figure, Report, Unit, status};

const OTHER: Mac = Mac([0x00, 0x50, 0x56, 0xa0, 0x7d, 0x99]);
const LABS: usize = 4;
const AT_ONCE: usize = 2;
/// In each lab, there and back.
const FAILOVERS: usize = 5;
const PAUSE: Duration = Duration::from_millis(10_500);
const PACE: Duration = Duration::from_millis(2);
/// A SYN without an answer after this time is lost.
const LOST_AFTER: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(30);
const PORT: u16 = 4001;

/// Seconds from the first frame of the new unit.
#[derive(Default)]
struct Times {
    tcp: Vec<f64>,
    icmp: Vec<f64>,
    named: Vec<f64>,
}

pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let learned = in_all_labs(true)?;
    let configured = in_all_labs(false)?;
    ensure!(learned.tcp.len() == 2 * LABS * FAILOVERS && configured.named.len() == LABS * FAILOVERS, "all failovers");
    let p99 = |times: &[f64]| vec![times.iter().copied().fold(0.0, f64::max)];
    report.figure(&Figure::new("failover-learned-tcp-back", Unit::Seconds, learned.tcp.clone()));
    report.figure(&Figure::new("failover-learned-tcp-back-p99", Unit::Seconds, p99(&learned.tcp)).promise(1.0));
    report.figure(&Figure::new("failover-learned-icmp-back", Unit::Seconds, learned.icmp.clone()));
    report.figure(&Figure::new("failover-learned-icmp-back-p99", Unit::Seconds, p99(&learned.icmp)).promise(1.0));
    report.figure(&Figure::new("failover-configured-named", Unit::Seconds, configured.named.clone()));
    report.figure(&Figure::new("failover-configured-named-p99", Unit::Seconds, p99(&configured.named)).promise(3.0));
    Ok(())
}

fn in_all_labs(learns: bool) -> Result<Times> {
    // A cause that comes back again and again is held, because the VTEP flaps: it has to be named anew in a lab that was healthy.
    let (labs, failovers) = if learns { (LABS, FAILOVERS) } else { (LABS * FAILOVERS, 1) };
    let mut sum = Times::default();
    for _ in 0..labs / AT_ONCE {
        let times = thread::scope(|scope| {
            let labs: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(move || in_one_lab(learns, failovers))).collect();
            let times = labs.into_iter().map(|lab| lab.join().map_err(|_| anyhow!("a lab panicked"))?);
            times.collect::<Result<Vec<_>>>()
        })?;
        for Times { tcp, icmp, named } in times {
            sum.tcp.extend(tcp);
            sum.icmp.extend(icmp);
            sum.named.extend(named);
        }
    }
    Ok(sum)
}

fn in_one_lab(learns: bool, failovers: usize) -> Result<Times> {
    let lab = Lab::builder().standby(Standby { mac: OTHER, masquerade: false }).start()?;
    lab.config.write(&Config::keys_for(&lab.topology.vteps()))?;
    let _agent = Agent::start(&lab, if learns { &["--mac", "learned"] } else { &[] })?;
    let units = [&lab.bigips[0], lab.standby.as_ref().context("a standby")?];
    let self_ip = units[0].addresses.self_ip.addr();
    let (pod, is_over) = (lab.pod.clone(), AtomicBool::new(false));
    let (answered, mut times) = (Answered::default(), Times::default());
    thread::scope(|scope| {
        let traffic = [
            scope.spawn(|| tcp(&pod, self_ip, &answered, &is_over)),
            scope.spawn(|| icmp(&pod, self_ip, &answered, &is_over)),
        ];
        let failovers = (0..2 * failovers).try_for_each(|n| {
            thread::sleep(PAUSE);
            let (from, to, is_back) = (units[n % 2], units[(n + 1) % 2], n % 2 == 1);
            let first = fail_over(from, to)?;
            if learns || is_back {
                let back = |last: fn(&Answered) -> &Mutex<Option<SystemTime>>| answered.after(first, last(&answered));
                let (tcp, icmp) = (back(|of| &of.tcp)?, back(|of| &of.icmp)?);
                if learns {
                    times.tcp.push(tcp.as_secs_f64());
                    times.icmp.push(icmp.as_secs_f64());
                }
            } else {
                times.named.push(named(&lab, first)?.as_secs_f64());
            }
            anyhow::Ok(())
        });
        is_over.store(true, Ordering::Relaxed);
        for traffic in traffic {
            traffic.join().map_err(|_| anyhow!("the traffic panicked"))??;
        }
        failovers
    })?;
    Ok(times)
}

/// The other unit takes over. Returns the time of its first tunnel frame.
fn fail_over(from: &BigIp, to: &BigIp) -> Result<SystemTime> {
    let mut capture = to.host.command("tcpdump");
    let source = to.addresses.underlay_ip.to_string();
    capture.args(["-tt", "-n", "-U", "-l", "-c", "1", "-i", "eth0", "udp and src host"]).arg(source);
    let mut capture = capture.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("failed to run tcpdump")?;
    // It writes again at its end, so the pipe stays open.
    let mut messages = BufReader::new(capture.stderr.take().context("stderr")?);
    let mut message = String::new();
    while !message.contains("listening on") {
        message.clear();
        ensure!(messages.read_line(&mut message)? > 0, "tcpdump has ended");
    }
    from.step_down()?;
    to.take_over()?;
    let mut line = String::new();
    BufReader::new(capture.stdout.take().context("stdout")?).read_line(&mut line)?;
    capture.wait()?;
    let seconds: f64 =
        line.split(' ').next().and_then(|at| at.parse().ok()).with_context(|| format!("no frame: {line}"))?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds))
}

/// When the last answers came.
#[derive(Default)]
struct Answered {
    tcp: Mutex<Option<SystemTime>>,
    icmp: Mutex<Option<SystemTime>>,
}

impl Answered {
    /// How long after `first` packets are answered again.
    fn after(&self, first: SystemTime, last: &Mutex<Option<SystemTime>>) -> Result<Duration> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let last = *last.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(after) = last.and_then(|last| last.duration_since(first).ok()) {
                return Ok(after);
            }
            ensure!(Instant::now() < deadline, "no answer within {TIMEOUT:?}");
            thread::sleep(Duration::from_micros(200));
        }
    }
}

fn note(last: &Mutex<Option<SystemTime>>) {
    *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(SystemTime::now());
}

/// Connects to a closed port: a RST is the answer.
fn tcp(pod: &Host, self_ip: Ipv4Addr, answered: &Answered, is_over: &AtomicBool) -> Result<()> {
    pod.run(|| {
        let to = SocketAddr::from(SocketAddrV4::new(self_ip, PORT)).into();
        let mut open: VecDeque<(Instant, Socket)> = VecDeque::new();
        while !is_over.load(Ordering::Relaxed) {
            let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
            // It is in progress.
            let _ = socket.connect(&to);
            open.push_back((Instant::now(), socket));
            thread::sleep(PACE);
            let before = open.len();
            open.retain(|(_, socket)| matches!(socket.take_error(), Ok(None)));
            if open.len() < before {
                note(&answered.tcp);
            }
            while open.front().is_some_and(|(at, _)| at.elapsed() > LOST_AFTER) {
                open.pop_front();
            }
        }
        Ok(())
    })
}

/// `ping` would take a whole core at this rate.
fn icmp(pod: &Host, self_ip: Ipv4Addr, answered: &Answered, is_over: &AtomicBool) -> Result<()> {
    pod.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW.nonblocking(), Some(Protocol::ICMPV4))?;
        let to = SocketAddr::from(SocketAddrV4::new(self_ip, 0)).into();
        let mut answer = [0; 128];
        for sequence in (0..=u16::MAX).cycle().take_while(|_| !is_over.load(Ordering::Relaxed)) {
            socket.send_to(&echo_request(Echo { id: PORT, sequence }, 0), &to)?;
            thread::sleep(PACE);
            while let Ok(length) = (&socket).read(&mut answer) {
                if echo_reply(&answer[..length]).is_some_and(|(from, echo)| from == self_ip && echo.id == PORT) {
                    note(&answered.icmp);
                }
            }
        }
        Ok(())
    })
}

/// How long after `first` the cause is named, with the right MAC.
fn named(lab: &Lab, first: SystemTime) -> Result<Duration> {
    let deadline = Instant::now() + TIMEOUT;
    let mac = OTHER.to_string().to_lowercase();
    loop {
        let status = status(lab)?;
        let vtep = &status["vteps"][0];
        let has_mac = vtep["hint"].as_str().is_some_and(|hint| hint.contains(&mac));
        if vtep["cause"] == "vtep-mac-mismatch" && has_mac {
            return Ok(SystemTime::now().duration_since(first).unwrap_or_default());
        }
        ensure!(Instant::now() < deadline, "not named within {TIMEOUT:?}: {vtep:#}");
        thread::sleep(Duration::from_millis(5));
    }
}
