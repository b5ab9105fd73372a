//! Clients that send slowly, ask for much, ask often, or never read: none of them costs the agent more than its share, or delays its work.

use std::{
    collections::VecDeque,
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::Pid,
};
use vtep_core::report::status::Probe;
use vtep_lab::{Host, Lab};

use crate::support::{Agent, LISTEN, REPAIRED_WITHIN, all_healthy, eventually, in_kernel};

const CONNECTIONS: usize = 1000;
/// Nearly the limit of connections: a few are left for the requests of this test.
const PLACES: usize = 120;
const REQUESTS: usize = 10_000;
/// A header of a length that no honest client sends, in bytes.
const HEADER: usize = 1 << 20;
/// The documents promise 16 MB in all, more than a third of it for the program itself. A test build is larger, so the test does not count
/// the program.
const MEMORY_MB: f64 = 10.0;
/// The kubelet's default timeout for a probe.
const KUBELET_TIMEOUT: Duration = Duration::from_secs(1);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

fn connect() -> Result<TcpStream> {
    let stream = TcpStream::connect(LISTEN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    Ok(stream)
}

fn is_small(pid: Pid) -> Result<()> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("a RssAnon line")?;
    let megabytes = line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0;
    ensure!(megabytes < MEMORY_MB, "{megabytes:.1} MB");
    Ok(())
}

/// The agent restores a deleted entry as if there were no clients. The test deletes rarely, because the agent would take more for
/// contention.
fn repairs(lab: &Lab) -> Result<()> {
    let vteps = lab.topology.vteps();
    lab.cilium.delete_vtep(vteps[0].key())?;
    eventually("a deleted entry is back", REPAIRED_WITHIN, || Ok(in_kernel(lab, &vteps)?.then_some(())))
}

/// A request like the kubelet's: on a new connection.
fn lives(agent: &Agent) -> Result<()> {
    let begin = Instant::now();
    ensure!(agent.code("/livez")? == 200, "alive");
    ensure!(begin.elapsed() < KUBELET_TIMEOUT, "/livez took {:?}", begin.elapsed());
    Ok(())
}

/// The numbers of sent and of lost pings through the tunnel since the start.
fn pings(agent: &Agent) -> Result<(u64, u64)> {
    let status = agent.status()?.context("a status")?;
    ensure!(all_healthy(&status), "{:#?}", status.vteps);
    let sum = |of: fn(&Probe) -> u64| status.vteps.iter().map(|vtep| of(&vtep.probes.icmp)).sum::<u64>();
    Ok((sum(|probe| probe.sent), sum(|probe| probe.lost)))
}

/// A thousand requests that never end, one byte at a time.
fn slowly(lab: &Lab, agent: &Agent) -> Result<()> {
    let mut streams = lab.node.run(|| (0..CONNECTIONS).map(|_| connect()).collect::<Result<Vec<_>>>())?;
    for byte in b"GET / HTTP/1.1\r\nX-Slow: " {
        // The agent closes most of them to make room.
        streams.retain_mut(|stream| stream.write_all(&[*byte]).is_ok());
        lives(agent)?;
    }
    is_small(agent.pid()?)?;
    repairs(lab)
}

/// New connections, each of which closes an older one: the kubelet's is answered before it is the oldest. No time is checked here, since
/// the kernel's queue is full: a SYN that it drops comes again after a second.
fn floods(lab: &Lab, agent: &Agent) -> Result<()> {
    let node = &lab.node;
    let flood = || {
        node.run(|| {
            let mut held = VecDeque::new();
            for _ in 0..CONNECTIONS {
                held.push_back(connect()?);
                held.drain(..held.len().saturating_sub(CONNECTIONS / 4));
            }
            Ok(())
        })
    };
    thread::scope(|scope| {
        let floods = [scope.spawn(flood), scope.spawn(flood)];
        while !floods.iter().all(thread::ScopedJoinHandle::is_finished) {
            ensure!(agent.code("/livez")? == 200, "alive");
        }
        floods.into_iter().try_for_each(|flood| flood.join().map_err(|_| anyhow::anyhow!("a flood panicked"))?)
    })?;
    is_small(agent.pid()?)
}

/// A hundred pipelined requests for metrics on nearly every connection, whose answers nobody reads: a connection buffers few at a time.
fn never_read(lab: &Lab, agent: &Agent) -> Result<()> {
    let asked = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    let _streams = lab.node.run(|| {
        let mut streams = (0..PLACES).map(|_| connect()).collect::<Result<Vec<_>>>()?;
        for stream in &mut streams {
            stream.write_all(asked.as_bytes())?;
        }
        for stream in &mut streams {
            stream.read_exact(&mut [0]).context("an answer begins")?;
        }
        Ok(streams)
    })?;
    for _ in 0..20 {
        lives(agent)?;
        is_small(agent.pid()?)?;
    }
    Ok(())
}

/// A megabyte of header: the agent refuses it or closes the connection.
fn much(lab: &Lab) -> Result<()> {
    let answer = lab.node.run(|| {
        let mut stream = connect()?;
        let request = format!("GET /status HTTP/1.1\r\nHost: x\r\nX-Much: {}\r\n\r\n", "x".repeat(HEADER));
        // The agent may close before all is sent.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error)?,
            Ok(_) | Err(_) => Ok(answer),
        }
    })?;
    let answer = String::from_utf8_lossy(&answer);
    ensure!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    Ok(())
}

/// Ten thousand requests for the status over persistent connections.
fn often(node: &Host) -> Result<()> {
    node.run(|| {
        let mut stream = connect()?;
        let mut buffer = vec![0; 1 << 20];
        for _ in 0..REQUESTS {
            stream.write_all(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")?;
            read_answer(&mut stream, &mut buffer)?;
        }
        Ok(())
    })
}

fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        ensure!(read > 0, "the agent closed after {}", String::from_utf8_lossy(&buffer[..filled]));
        filled += read;
        let text = String::from_utf8_lossy(&buffer[..filled]);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("a length")?;
        if body.len() >= length.parse()? {
            return Ok(());
        }
    }
}

#[test]
fn no_client_costs_more_than_its_share() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let lab = Lab::start()?;
    let mut agent = Agent::healthy(&lab)?;
    let pid = agent.pid()?;
    let before = pings(&agent)?;

    slowly(&lab, &agent)?;
    floods(&lab, &agent)?;
    never_read(&lab, &agent)?;
    much(&lab)?;
    let node = lab.node.clone();
    thread::scope(|scope| {
        let asking = scope.spawn(move || often(&node));
        repairs(&lab)?;
        while !asking.is_finished() {
            lives(&agent)?;
            is_small(pid)?;
        }
        asking.join().map_err(|_| anyhow::anyhow!("the asking thread panicked"))?
    })?;

    let after = pings(&agent)?;
    let (sent, lost) = (after.0 - before.0, after.1 - before.1);
    // One or two may be lost whenever the machine has other work.
    ensure!(lost <= 2 + sent / 20, "{lost} of {sent} probes were lost");
    ensure!(agent.terminate()?.success(), "a clean end");
    Ok(())
}

/// More listeners of `/events` than the agent accepts; their places are free again after they disconnect.
#[test]
fn listeners_have_sixteen_places() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let streams = (0..16).map(|_| agent.listen()).collect::<Result<Vec<_>>>()?;
    let refused = agent.listen().err().context("a seventeenth")?;
    ensure!(refused.to_string() == "HTTP/1.1 503", "{refused}");
    drop(streams);
    eventually("a place is free again", ANSWER_WITHIN, || Ok(agent.listen().ok()))?;
    ensure!(agent.code("/livez")? == 200, "alive");
    Ok(())
}
