//! `--probe-tcp`: SYNs to a port of the tunnel self IP.

use anyhow::{Result, ensure};
use vtep_core::diagnosis::{Cause, Verdict};
use vtep_lab::Lab;

use crate::{
    failover::start,
    far_end::{bigip, filter},
    support::{NOTICED_WITHIN, all_healthy},
};

/// Nobody listens on the port: BIG-IP answers with RST, which proves the way as well.
#[test]
fn tcp_that_was_answered_and_is_silent_is_a_cause() -> Result<()> {
    let lab = Lab::start()?;
    let agent = start(&lab, &["--probe-tcp", "10.1.6.0/24=10.1.6.34:443,10.1.5.0/24=10.1.5.36:443"])?;
    agent.wait_for("TCP is answered", NOTICED_WITHIN, |status| {
        status.vteps[0].probes.tcp.as_ref().is_some_and(|tcp| tcp.received > 2 && tcp.port == Some(443))
    })?;
    filter(&lab, "input", "tcp dport 443 drop")?;
    let status =
        agent.wait_for("it is named", NOTICED_WITHIN, |status| status.vteps[0].cause == Some(Cause::TcpBroken))?;
    ensure!(status.vteps[1].verdict == Verdict::Healthy, "{:?}", status.vteps[1]);
    bigip(&lab).host.nft("flush ruleset")?;
    agent.wait_for("it is over", NOTICED_WITHIN, all_healthy)?;
    Ok(())
}

/// A port that never answered may be filtered: that says nothing about the tunnel.
#[test]
fn a_silent_port_is_no_verdict() -> Result<()> {
    let lab = Lab::start()?;
    filter(&lab, "input", "tcp dport 443 drop")?;
    let agent = start(&lab, &["--probe-tcp", "10.1.6.0/24=10.1.6.34:443"])?;
    let status = agent.wait_for("many are lost", NOTICED_WITHIN, |status| {
        // In the first ten seconds of Cilium's programs, lost probes change no verdict, and after a start there are four a second.
        status.vteps[0].probes.tcp.as_ref().is_some_and(|tcp| tcp.lost > 45)
    })?;
    ensure!(all_healthy(&status), "{status:#?}");
    Ok(())
}

/// A connection is never completed: a listener on the port accepts none.
#[test]
fn no_connection_is_completed() -> Result<()> {
    let lab = Lab::start()?;
    let address = bigip(&lab).addresses.self_ip.addr();
    let listener = bigip(&lab).host.run(|| Ok(std::net::TcpListener::bind((address, 443))?))?;
    listener.set_nonblocking(true)?;
    let agent = start(&lab, &["--probe-tcp", "10.1.6.0/24=10.1.6.34:443"])?;
    agent.wait_for("TCP is answered", NOTICED_WITHIN, |status| {
        status.vteps[0].probes.tcp.as_ref().is_some_and(|tcp| tcp.received > 3)
    })?;
    ensure!(listener.accept().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "nobody connected");
    Ok(())
}
