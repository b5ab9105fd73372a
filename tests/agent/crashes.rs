//! `kill -9` at any moment: after each restart the kernel again matches the configuration, and the agent touches nothing of other owners.

use std::{path::Path, thread, time::Duration};

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use vtep_lab::{Config, Lab, Vtep};

use crate::support::{AGENT, Agent, HEALTHY_WITHIN, LISTEN, bpftool, eventually, in_kernel};

const IPCACHE: &str = "/sys/fs/bpf/tc/globals/cilium_ipcache_v2";
const OTHERS_MAP: &str = "/sys/fs/bpf/tc/globals/somebody_elses_map";

/// Objects of other owners: a map, an ipcache entry, a route and rules, two of them similar to the agent's.
fn plant(lab: &Lab) -> Result<()> {
    bpftool(lab, &format!("map create {OTHERS_MAP} type hash key 4 value 16 entries 8 name other flags 1"))?;
    bpftool(lab, &format!("map update pinned {OTHERS_MAP} key 10 1 6 0 value 0 1 2 3 4 5 0 0 10 9 9 9 0 0 0 0"))?;
    let key = "56 0 0 0 0 0 0 1 10 1 9 0 0 0 0 0 0 0 0 0 0 0 0 0";
    let value = "2 0 0 0 10 169 72 34 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 2";
    bpftool(lab, &format!("map update pinned {IPCACHE} key {key} value {value}"))?;
    lab.node.ip("route add 10.99.0.0/16 dev cilium_host table 2021 proto kernel
                 rule add priority 113 to 10.98.0.0/16 lookup 254
                 rule add priority 112 to 10.97.0.0/16 lookup 202
                 route add 10.97.0.0/16 dev cilium_host table 202")?;
    Ok(())
}

/// All objects except the agent's own.
fn others(lab: &Lab) -> Result<Vec<String>> {
    let not_ours = |line: &&str| {
        !line.contains("proto 113")
            && !line.contains("113:\tfrom all to 10.1.")
            && !line.contains("113:\tfrom all to 10.2.")
    };
    let lines = |text: String| text.lines().filter(not_ours).map(str::to_owned).collect::<Vec<_>>();
    let mut seen = lines(lab.node.ip("rule show")?);
    seen.extend(lines(lab.node.ip("route show table 2021")?));
    seen.extend(lines(lab.node.ip("route show table 202")?));
    seen.push(bpftool(lab, &format!("-j map dump pinned {OTHERS_MAP}"))?);
    let ours = |entry: &serde_json::Value| {
        let key = entry["key"].to_string();
        key.contains("\"0x0a\",\"0x01\",\"0x06\"")
            || key.contains("\"0x0a\",\"0x02\"")
            || key.contains("\"0x0a\",\"0x01\",\"0x05\"")
    };
    let ipcache: Vec<serde_json::Value> =
        serde_json::from_str(&bpftool(lab, &format!("-j map dump pinned {IPCACHE}"))?)?;
    seen.extend(ipcache.iter().filter(|entry| !ours(entry)).map(ToString::to_string));
    Ok(seen)
}

fn configuration(lab: &Lab, n: u32) -> Result<Vec<Vtep>> {
    let first = lab.topology.vteps()[0];
    let other = |m: u32| {
        let net = ipnet::Ipv4Net::new([10, 2, ((n * 3 + m) % 250) as u8, 0].into(), 24)?;
        Ok(Vtep { cidr: net, endpoint: [10, 169, 72, 100 + (n % 100) as u8].into(), ..first })
    };
    (0..n % 5).map(other).chain([Ok(first)]).collect()
}

fn killed(times: u32) -> Result<()> {
    let lab = Lab::builder().vteps(&[]).start()?;
    plant(&lab)?;
    let before = others(&lab)?;
    lab.config.write(&Config::seed_keys())?;
    let mut seed = 0x2545_f491_u32;
    for n in 0..times {
        let mut command = lab.agent_command(Path::new(AGENT), LISTEN);
        command.args(["--ipcache", "on"]);
        let mut agent = Agent::spawn(&lab, command)?;
        // A random moment between the start of the process and a few changes later; each run of the test uses the same moments.
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        thread::sleep(Duration::from_millis(u64::from(seed % 90)));
        let vteps = configuration(&lab, n)?;
        lab.config.write(&Config::keys_for(&vteps))?;
        thread::sleep(Duration::from_micros(u64::from(seed % 45_000)));
        kill(agent.pid()?, Signal::SIGKILL)?;
        agent.wait_for_end()?;

        if n % 10 == 9 || n + 1 == times {
            let mut command = lab.agent_command(Path::new(AGENT), LISTEN);
            command.args(["--ipcache", "on"]);
            let mut agent = Agent::spawn(&lab, command)?;
            eventually("the map holds the configuration", HEALTHY_WITHIN, || {
                Ok(in_kernel(&lab, &vteps)?.then_some(()))
            })?;
            agent.wait_for("all of it is in sync", HEALTHY_WITHIN, |status| status.datapath.in_sync)?;
            ensure!(others(&lab)? == before, "after {n}: {:#?}\nbefore: {before:#?}", others(&lab)?);
            ensure!(agent.terminate()?.success(), "a clean end");
        }
    }
    Ok(())
}

#[test]
fn killed_at_any_moment_it_comes_back() -> Result<()> {
    killed(20)
}

/// Runs only with `make test-all`.
#[test]
#[ignore = "takes minutes"]
fn killed_two_hundred_times_it_comes_back() -> Result<()> {
    killed(200)
}
