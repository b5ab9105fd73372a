//! The life cycles of Cilium and of the agent: restarts, removals, remounts, and two agents on one node.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use vtep_core::{datapath::layout::Layout, diagnosis::Cause};
use vtep_lab::{BPF_FS, CONFIG, Config, Lab, Vtep};

use crate::support::{
    AGENT, Agent, HEALTHY_WITHIN, NOTICED_WITHIN, REPAIRED_WITHIN, all_healthy, eventually, in_kernel,
};

fn nth(lab: &Lab, n: u8) -> Result<Vtep> {
    let first = lab.topology.vteps()[0];
    Ok(Vtep { cidr: ipnet::Ipv4Net::new([10, 2, n, 0].into(), 24)?, ..first })
}

#[test]
fn a_pin_that_is_removed_and_comes_back_is_filled() -> Result<()> {
    let mut lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    for _ in 0..3 {
        lab.cilium.remove_pin()?;
        agent.wait_for("the missing pin is named", HEALTHY_WITHIN, |status| status.datapath.model == Layout::None)?;
        lab.cilium.replace_pin()?;
        eventually("it is filled", REPAIRED_WITHIN, || Ok(in_kernel(&lab, &lab.topology.vteps())?.then_some(())))?;
    }
    ensure!(agent.status()?.context("a status")?.datapath.repairs_total == 0, "filling a new map is no repair");
    Ok(())
}

#[test]
fn a_bpffs_that_is_mounted_anew_is_found() -> Result<()> {
    let mut lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let run = |program: &str, args: &[&str]| -> Result<()> {
        ensure!(lab.node.command(program).args(args).status()?.success(), "{program} {args:?}");
        Ok(())
    };
    run("umount", &[BPF_FS])?;
    agent.wait_for("the missing map is named", HEALTHY_WITHIN, |status| !status.datapath.model.is_known())?;
    run("mount", &["-t", "bpf", "bpf", BPF_FS])?;
    run("mkdir", &["-p", vtep_lab::PINS])?;
    lab.cilium.start()?;
    eventually("the new map is filled", REPAIRED_WITHIN, || Ok(in_kernel(&lab, &lab.topology.vteps())?.then_some(())))?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    Ok(())
}

#[test]
fn a_cilium_that_is_uninstalled_is_waited_for() -> Result<()> {
    let mut lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    lab.cilium.stop()?;
    lab.node.ip("link delete cilium_host\nlink delete cilium_vxlan")?;
    let status = agent.wait_for("Cilium's absence is named", NOTICED_WITHIN, |status| {
        status.vteps.iter().all(|vtep| vtep.cause == Some(Cause::CiliumNotRunning))
    })?;
    ensure!(!status.cilium.running && agent.code("/livez")? == 200, "{:?}", status.cilium);
    Ok(())
}

#[test]
fn a_left_behind_pin_does_not_prove_that_vtep_is_on() -> Result<()> {
    let mut lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    lab.cilium.running.enable_vtep = false;
    lab.cilium.start()?;
    agent.wait_for("the switch is named", NOTICED_WITHIN, |status| {
        // The agent sees Cilium's drops before it reads Cilium's file, and reads the file before the verdict.
        let names = |hint: &String| hint.contains("enable-vtep: Cilium runs with false");
        status.cilium.restart_required
            && status
                .vteps
                .iter()
                .all(|vtep| vtep.cause == Some(Cause::CiliumRestartRequired) && vtep.hint.as_ref().is_some_and(names))
    })?;
    Ok(())
}

#[test]
fn what_went_while_it_was_away_is_removed() -> Result<()> {
    let lab = Lab::builder().vteps(&[]).start()?;
    let mut agent = Agent::healthy(&lab)?;
    ensure!(agent.terminate()?.success(), "a clean end");
    let rest = &lab.topology.vteps()[..1];
    lab.config.write(&Config::keys_for(rest))?;
    let _agent = Agent::start(&lab)?;
    eventually("only the first is left", HEALTHY_WITHIN, || Ok(in_kernel(&lab, rest)?.then_some(())))?;
    eventually("its rule, too", HEALTHY_WITHIN, || {
        let rules = lab.node.ip("rule show")?;
        Ok((rules.contains("10.1.6.0/24 lookup 2021") && !rules.contains("10.1.5.0/24")).then_some(()))
    })
}

#[test]
fn the_second_agent_only_looks_until_the_first_is_gone() -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    let mut first = lab.agent_command(Path::new(AGENT), SocketAddr::from(([127, 0, 0, 1], 9809)));
    let mut first = Agent::spawn(&lab, {
        first.args(["--mode", "enforce"]);
        first
    })?;
    eventually("the first writes", HEALTHY_WITHIN, || Ok(in_kernel(&lab, &lab.topology.vteps())?.then_some(())))?;
    let second = Agent::start(&lab)?;
    second.wait_for("the second says why it does not", HEALTHY_WITHIN, |status| {
        status.datapath.problems.iter().any(|problem| problem.contains("another vtep-agent writes on this node"))
    })?;
    ensure!(second.lines("another vtep-agent writes on this node").len() == 1, "{}", second.log().join("\n"));
    // A job beside them changes nothing either.
    let once = lab.node.command(AGENT).args(["run", "--once", "--config-dir", CONFIG]).output()?;
    ensure!(once.status.code() == Some(1), "{once:?}");

    ensure!(first.terminate()?.success(), "a clean end");
    lab.cilium.delete_vtep(lab.topology.vteps()[0].key())?;
    eventually("the second takes over", REPAIRED_WITHIN, || Ok(in_kernel(&lab, &lab.topology.vteps())?.then_some(())))?;
    second.wait_for("it has no problem left", HEALTHY_WITHIN, |status| status.datapath.in_sync)?;
    Ok(())
}

#[test]
fn one_pass_is_enough_for_a_job() -> Result<()> {
    let lab = Lab::start()?;
    let run = |more: &[&str]| {
        let mut command = lab.node.command(AGENT);
        command.args(["run", "--once", "--config-dir", CONFIG, "--cilium-run", vtep_lab::CILIUM_RUN]).args(more);
        command.env("VTEP_AGENT_STATE_DIR", vtep_lab::STATE).output().context("failed to run the agent")
    };
    ensure!(run(&[])?.status.code() == Some(2), "without a configuration");
    lab.config.write(&Config::seed_keys())?;
    ensure!(run(&["--mode", "observe"])?.status.code() == Some(1), "looking alone leaves it as it is");
    ensure!(lab.cilium.vtep_entries()?.is_empty(), "nothing is written");
    let output = run(&[])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    ensure!(in_kernel(&lab, &lab.topology.vteps())?, "{:?}", lab.cilium.vtep_entries()?);
    ensure!(lab.node.ip("rule show")?.contains("113:"), "routes, too");
    Ok(())
}

#[test]
fn room_is_left_for_what_cilium_will_write() -> Result<()> {
    let mut lab = Lab::start()?;
    // Cilium's running configuration has four others.
    lab.cilium.running.vteps = (0..4).map(|n| nth(&lab, n)).collect::<Result<_>>()?;
    lab.cilium.start()?;
    let mut wanted = lab.topology.vteps();
    wanted.extend((10..16).map(|n| nth(&lab, n)).collect::<Result<Vec<_>>>()?);
    lab.config.write(&Config::keys_for(&wanted))?;
    let agent = Agent::start(&lab)?;
    // The status is asked for before the map is read, so it may be older.
    agent.wait_for("four are in the map, and eight reported", HEALTHY_WITHIN, |status| {
        lab.cilium.vtep_entries().is_ok_and(|entries| entries.len() == 4) && status.vteps.len() == 8
    })?;
    lab.cilium.sync().context("Cilium's own sync has room")?;
    let status = agent.wait_for("the others are reported", NOTICED_WITHIN, |status| {
        status.vteps.iter().filter(|vtep| vtep.cause == Some(Cause::DatapathMissing)).count() == 4
    })?;
    ensure!(!status.datapath.in_sync && status.cilium.restart_required, "{:?}", status.datapath);
    ensure!(lab.cilium.vtep_entries()?.len() == 8, "Cilium's four stay");
    Ok(())
}

#[test]
fn a_deleted_route_is_back_also_after_an_overrun() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let routes = || lab.node.ip("route show table 2021");
    let back = |what: &str| eventually(what, REPAIRED_WITHIN, || Ok((routes()?.lines().count() == 2).then_some(())));
    back("both routes are there")?;
    lab.node.ip("route del 10.1.6.0/24 table 2021")?;
    back("the route is back")?;
    // More notifications than a socket's buffer has room for, while the agent does not read.
    let stop = nix::sys::signal::Signal::SIGSTOP;
    nix::sys::signal::kill(agent.pid()?, stop)?;
    let flood =
        |verb: &str| (0..4000).map(|n| format!("route {verb} 10.200.{}.{}/32 dev lo\n", n / 250, n % 250)).collect();
    let (add, del): (String, String) = (flood("add"), flood("del"));
    lab.node.ip(&add)?;
    lab.node.ip(&del)?;
    lab.node.ip("route del 10.1.5.0/24 table 2021")?;
    nix::sys::signal::kill(agent.pid()?, nix::sys::signal::Signal::SIGCONT)?;
    back("the route is back after the overrun")?;
    lab.node.ip("route del 10.1.6.0/24 table 2021")?;
    back("notices still come")
}

#[test]
fn the_node_itself_reaches_bigip() -> Result<()> {
    let lab = Lab::start()?;
    let _agent = Agent::healthy(&lab)?;
    eventually("the host routes are there", REPAIRED_WITHIN, || {
        Ok((lab.node.ip("route show table 2021")?.lines().count() == 2).then_some(()))
    })?;
    for bigip in &lab.bigips {
        let address = bigip.addresses.self_ip.addr();
        let listener = bigip.host.run(move || Ok(TcpListener::bind((address, 443))?))?;
        let server = thread::spawn(move || -> Result<String> {
            let (mut stream, _) = listener.accept()?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        });
        // An ordinary socket: without a source address or a device.
        lab.node.run(move || {
            let mut stream = TcpStream::connect_timeout(&(address, 443).into(), Duration::from_secs(20))?;
            // More than one packet of the tunnel's MTU.
            Ok(stream.write_all(&[b'x'; 10_000])?)
        })?;
        let received = server.join().ok().context("the server ended")??;
        ensure!(received.len() == 10_000, "{} bytes", received.len());
    }
    Ok(())
}
