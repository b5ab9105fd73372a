//! Traffic through the tunnel during all kinds of changes: the agent causes no loss.

use std::{
    net::Ipv4Addr,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use vtep_lab::{Config, Host, Lab, PingResult, Vtep, ping};

use crate::support::{Agent, HEALTHY_WITHIN, REPAIRED_WITHIN, all_healthy, eventually, in_kernel};

const CHANGES: u8 = 100;
const RESTARTS: u8 = 20;
const UPDATES: u8 = 30;

/// A thousand pings a second from the pod to BIG-IP, and in the other direction.
pub(crate) struct Traffic([Child; 2]);

impl Traffic {
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        let bigip = &lab.bigips[0];
        let (self_ip, pod_ip) = (bigip.addresses.self_ip.addr(), lab.topology.pod_ip);
        // A side that does not know the other's MAC yet would lose the first packet.
        ensure!(ping(&lab.pod, None, self_ip, 3, Duration::from_millis(100))?.received > 0, "the tunnel works");
        let start = |from: &Host, to: Ipv4Addr| {
            let mut ping = from.command("ping");
            ping.args(["-n", "-q", "-i", "0.001", "-c", "600000", &to.to_string()]).stdout(Stdio::piped()).spawn()
        };
        Ok(Self([start(&lab.pod, self_ip)?, start(&bigip.host, pod_ip)?]))
    }

    /// No packet was lost, except perhaps one that is on its way now.
    pub(crate) fn end(self) -> Result<()> {
        for child in self.0 {
            // Ping prints its summary when it is interrupted.
            kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT)?;
            let output = child.wait_with_output()?;
            let result = PingResult::parse(&String::from_utf8_lossy(&output.stdout)).context("no result")?;
            // Under load, ping sends fewer than it is told to.
            ensure!(result.sent > 100 && result.sent - result.received <= 1, "{result:?}");
        }
        Ok(())
    }
}

/// The first VTEP remains, the second moves, and others appear and disappear.
fn variant(lab: &Lab, n: u8) -> Result<Vec<Vtep>> {
    let [first, second] = lab.topology.vteps()[..] else { anyhow::bail!("two VTEPs") };
    let mut vteps = vec![first, Vtep { endpoint: [10, 169, 72, 100 + n % 100].into(), ..second }];
    for m in 0..n % 6 {
        vteps.push(Vtep { cidr: ipnet::Ipv4Net::new([10, 2, n.wrapping_add(m), 0].into(), 24)?, ..first });
    }
    if n.is_multiple_of(7) {
        vteps.remove(1);
    }
    Ok(vteps)
}

#[test]
fn changes_around_a_vtep_cost_it_no_packet() -> Result<()> {
    let lab = Lab::builder().vteps(&[]).start()?;
    let _agent = Agent::healthy(&lab)?;
    let traffic = Traffic::start(&lab)?;
    for n in 0..CHANGES {
        let vteps = variant(&lab, n)?;
        lab.config.write(&Config::keys_for(&vteps))?;
        eventually("the change is programmed", REPAIRED_WITHIN, || Ok(in_kernel(&lab, &vteps)?.then_some(())))?;
    }
    traffic.end()
}

#[test]
fn restarts_of_cilium_cost_no_packet() -> Result<()> {
    // Cilium fills its new map itself; the agent must not remove entries meanwhile.
    let mut lab = Lab::builder().fill_map(true).start()?;
    let _agent = Agent::healthy(&lab)?;
    let traffic = Traffic::start(&lab)?;
    for _ in 0..RESTARTS {
        lab.cilium.start()?;
        let vteps = lab.topology.vteps();
        eventually("the new map is filled", HEALTHY_WITHIN, || Ok(in_kernel(&lab, &vteps)?.then_some(())))?;
        // The agent's next passes belong to the restart.
        thread::sleep(Duration::from_millis(250));
    }
    traffic.end()
}

#[test]
fn updates_of_the_agent_cost_no_packet() -> Result<()> {
    let lab = Lab::start()?;
    let mut agent = Agent::healthy(&lab)?;
    let traffic = Traffic::start(&lab)?;
    for _ in 0..UPDATES {
        ensure!(agent.terminate()?.success(), "a clean end");
        agent = Agent::start(&lab)?;
        // Its first passes and probes belong to the update.
        agent.wait_for("the next one is at work", HEALTHY_WITHIN, |status| {
            all_healthy(status) && status.datapath.in_sync
        })?;
        ensure!(agent.status()?.context("a status")?.datapath.repairs_total == 0, "it had nothing to do");
    }
    traffic.end()
}
