//! The end of an agent and the start of the next, perhaps of another version: quick, without loss, with its state.

use std::{
    fs,
    io::Write,
    net::TcpStream,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use vtep_apiserver::{Fault, Matcher, Times};
use vtep_core::diagnosis::Verdict;
use vtep_lab::{Config, Lab, STATE};

use crate::{
    api::{api_server, start},
    support::{AGENT, Agent, HEALTHY_WITHIN, LISTEN, NOTICED_WITHIN, all_healthy, bpftool, eventually, in_kernel},
};

#[test]
fn an_api_server_that_never_answers_does_not_hold_it() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    let everything = Matcher::all();
    server.misbehave(everything.clone(), Fault::Hang, Times::Always);
    let mut agent = start(&lab, &server, &[])?;
    server.wait_seen(&everything, 1, HEALTHY_WITHIN)?;
    ensure!(agent.terminate()?.success(), "while the first answers are waited for");

    server.behave();
    let mut agent = start(&lab, &server, &[])?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    server.interrupt(&everything, &Fault::Hang);
    ensure!(agent.terminate()?.success(), "while the watches are silent");
    Ok(())
}

#[test]
fn what_is_under_way_does_not_hold_it() -> Result<()> {
    let lab = Lab::start()?;
    let mut agent = Agent::healthy(&lab)?;
    for bigip in &lab.bigips {
        bigip.down()?;
    }
    // From the first loss on, there is always a probe that waits for its answer, and a search for the path MTU.
    agent.wait_for("probes are lost", NOTICED_WITHIN, |status| {
        status
            .vteps
            .iter()
            .all(|vtep| vtep.verdict != Verdict::Healthy && vtep.probes.icmp.sent > vtep.probes.icmp.received)
    })?;
    // Half a request of a slow client.
    let _client = lab.node.run(|| {
        let mut stream = TcpStream::connect(LISTEN)?;
        stream.write_all(b"GET /status HTTP/1.1\r\n")?;
        Ok(stream)
    })?;
    ensure!(agent.terminate()?.success(), "a clean end");
    Ok(())
}

#[test]
fn the_kernel_stays_as_it_is() -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    let mut command = lab.agent_command(Path::new(AGENT), LISTEN);
    command.args(["--ipcache", "on"]);
    let mut agent = Agent::spawn(&lab, command)?;
    agent
        .wait_for("both VTEPs are healthy", HEALTHY_WITHIN, |status| all_healthy(status) && status.datapath.in_sync)?;
    let before = kernel(&lab)?;
    ensure!(
        before.iter().all(|part| part.contains("10.1.6.0") || part.contains("\"0x0a\",\"0x01\",\"0x06\"")),
        "{before:#?}"
    );
    ensure!(agent.terminate()?.success(), "a clean end");
    ensure!(kernel(&lab)? == before, "{:#?}\nbefore: {before:#?}", kernel(&lab)?);
    Ok(())
}

/// All kernel objects that the agent writes.
fn kernel(lab: &Lab) -> Result<[String; 4]> {
    let map = |name: &str| bpftool(lab, &format!("-j map dump pinned /sys/fs/bpf/tc/globals/{name}"));
    Ok([
        map("cilium_vtep_map")?,
        map("cilium_ipcache_v2")?,
        lab.node.ip("rule show")?,
        lab.node.ip("route show table 2021")?,
    ])
}

/// The state of an agent that used the seed's configuration, in the form of another version.
fn rewrite_state(change: impl FnOnce(&mut Value)) -> Result<PathBuf> {
    let path = Path::new(STATE).join("last-good.json");
    let mut file: Value = serde_json::from_slice(&fs::read(&path)?)?;
    change(&mut file);
    let digest = Sha256::digest(file["content"].to_string());
    file["sha256"] = format!("{digest:x}").into();
    fs::write(&path, file.to_string())?;
    Ok(path)
}

#[test]
fn the_state_of_a_newer_agent_is_read() -> Result<()> {
    let lab = Lab::start()?;
    ensure!(Agent::healthy(&lab)?.terminate()?.success(), "a clean end");
    rewrite_state(|file| {
        file["written_by"] = json!("9.0.0");
        let content = &mut file["content"];
        content["zones"] = json!(["dmz"]);
        content["spec"]["flavour"] = json!({ "of": "tunnel" });
        content["spec"]["vteps"][0]["weight"] = json!(1);
    })?;
    // A node after boot, and a source that does not exist yet.
    for vtep in lab.topology.vteps() {
        lab.cilium.delete_vtep(vtep.key())?;
    }
    fs::rename(lab.config.dir(), "/mnt/moved")?;
    let agent = Agent::start(&lab)?;
    let status = agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    ensure!(status.config.stale, "{:?}", status.config);
    Ok(())
}

#[test]
fn the_state_of_another_format_is_put_aside() -> Result<()> {
    let lab = Lab::start()?;
    ensure!(Agent::healthy(&lab)?.terminate()?.success(), "a clean end");
    let state = rewrite_state(|file| file["format"] = json!(2))?;
    let theirs = fs::read(&state)?;
    let before = kernel(&lab)?;
    fs::rename(lab.config.dir(), "/mnt/moved")?;
    let agent = Agent::start(&lab)?;
    agent.wait_for("the agent has looked for a configuration", HEALTHY_WITHIN, |status| {
        status.config.findings.iter().any(|finding| finding.rule.id() == "configmap-missing")
    })?;
    let said = agent.lines("its format is 2, and this agent knows 1").len();
    ensure!(said == 1, "{}", agent.log().join("\n"));
    ensure!(kernel(&lab)? == before, "without a configuration nothing is changed");
    ensure!(fs::read(&state)? == theirs, "nor is the file");

    fs::rename("/mnt/moved", lab.config.dir())?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    eventually("this agent's own state is there", HEALTHY_WITHIN, || {
        Ok(fs::read_to_string(&state)?.contains("\"format\":1").then_some(()))
    })?;
    ensure!(fs::read(state.with_extension("json.unread"))? == theirs, "the other's is kept beside it");
    ensure!(in_kernel(&lab, &lab.topology.vteps())?, "{:?}", lab.cilium.vtep_entries()?);
    Ok(())
}
