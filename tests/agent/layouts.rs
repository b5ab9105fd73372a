//! All known layouts: the VTEP map as a trie, and both layouts of the ipcache. The tests write and read bytes with bpftool.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vtep_core::{
    config::finding::Rule,
    datapath::{ipcache::Version, layout::Layout},
    diagnosis::Cause,
    report::status::Status,
};
use vtep_lab::{CILIUM_RUN, Config, Lab, STATE};

use crate::support::{AGENT, Agent, HEALTHY_WITHIN, LISTEN, NOTICED_WITHIN, all_healthy, bpftool, eventually};

const VTEP_PIN: &str = "/sys/fs/bpf/tc/globals/cilium_vtep_map";
const IPCACHE_V1: &str = "/sys/fs/bpf/tc/globals/cilium_ipcache";
const IPCACHE_V2: &str = "/sys/fs/bpf/tc/globals/cilium_ipcache_v2";

/// Keys and values in bpftool's form: numbers with blanks.
fn dump(lab: &Lab, pin: &str) -> Result<Vec<(String, String)>> {
    let entries: Vec<Value> = serde_json::from_str(&bpftool(lab, &format!("-j map dump pinned {pin}"))?)?;
    let byte = |word: &Value| u8::from_str_radix(word.as_str()?.strip_prefix("0x")?, 16).ok();
    let words = |bytes: &Value| -> Option<String> {
        Some(bytes.as_array()?.iter().map(|word| Some(byte(word)?.to_string())).collect::<Option<Vec<_>>>()?.join(" "))
    };
    let entry = |entry: &Value| Some((words(entry.get("key")?)?, words(entry.get("value")?)?));
    let mut entries: Vec<_> = entries.iter().map(entry).collect::<Option<_>>().context("keys and values in bytes")?;
    entries.sort();
    Ok(entries)
}

fn put(lab: &Lab, pin: &str, key: &str, value: &str) -> Result<()> {
    bpftool(lab, &format!("map update pinned {pin} key {key} value {value}")).map(drop)
}

/// An ipcache key of 10.1.x.y.
fn ipcache_key(length: u8, x: u8, y: u8) -> String {
    format!("{} 0 0 0 0 0 0 1 10 1 {x} {y} 0 0 0 0 0 0 0 0 0 0 0 0", 32 + length)
}

/// An ipcache value, newer layout; the endpoint is 10.169.72.z.
fn value_v2(identity: u16, z: u8) -> String {
    let [low, high] = identity.to_le_bytes();
    format!("{low} {high} 0 0 10 169 72 {z} 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 2")
}

fn start_with(lab: &Lab, args: &[&str]) -> Result<Agent> {
    let mut command = lab.agent_command(Path::new(AGENT), LISTEN);
    command.args(args);
    Agent::spawn(lab, command)
}

/// A Cilium without a VTEP map, with the older ipcache.
fn become_old(lab: &Lab) -> Result<()> {
    lab.cilium.remove_pin()?;
    lab.node.command("rm").arg(IPCACHE_V2).status()?;
    bpftool(
        lab,
        &format!("map create {IPCACHE_V1} type lpm_trie key 24 value 12 entries 512000 name cilium_ipcache flags 1"),
    )?;
    put(lab, IPCACHE_V1, "32 0 0 0 0 0 0 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0", "2 0 0 0 0 0 0 0 0 0 0 0")
}

/// Cilium fills a trie from custom resources: the agent compares it and writes nothing, whatever the lists contain.
#[test]
fn a_trie_of_vteps_is_compared_and_not_written() -> Result<()> {
    let lab = Lab::start()?;
    lab.cilium.remove_pin()?;
    bpftool(
        &lab,
        &format!("map create {VTEP_PIN} type lpm_trie key 8 value 16 entries 8 name cilium_vtep_map flags 1"),
    )?;
    // The first as configured, the second with another MAC, and one that is not in the configuration.
    put(&lab, VTEP_PIN, "24 0 0 0 10 1 6 0", "0 80 86 160 125 216 0 0 10 169 72 34 0 0 0 0")?;
    put(&lab, VTEP_PIN, "24 0 0 0 10 1 5 0", "0 80 86 1 2 3 0 0 10 169 72 36 0 0 0 0")?;
    put(&lab, VTEP_PIN, "25 0 0 0 10 1 9 0", "0 80 86 1 2 3 0 0 10 9 9 9 0 0 0 0")?;
    let before = dump(&lab, VTEP_PIN)?;
    lab.config.write(&Config::seed_keys())?;
    let agent = Agent::start(&lab)?;
    let differs = |status: &Status| {
        let pending = &status.datapath.pending;
        pending.len() == 1 && pending.iter().all(|op| op.starts_with("replace vtep entry 10.1.5.0/24"))
    };
    let status = agent.wait_for("the difference is reported", HEALTHY_WITHIN, |status| {
        status.datapath.model == Layout::VtepLpm && differs(status)
    })?;
    ensure!(!status.datapath.in_sync, "{status:?}");
    let at = status.datapath.last_pass.map(|pass| pass.at);
    agent.wait_for("later passes", HEALTHY_WITHIN, |status| {
        status.datapath.last_pass.as_ref().map(|pass| pass.at) > at
    })?;
    ensure!(dump(&lab, VTEP_PIN)? == before, "nothing is written or deleted: {:?}", dump(&lab, VTEP_PIN)?);
    ensure!(agent.lines("VTEP map is an LPM trie").len() == 1, "{}", agent.log().join("\n"));
    ensure!(agent.code("/readyz")? == 200, "ready");
    Ok(())
}

#[test]
fn who_else_has_addresses_of_bigips_network_is_named() -> Result<()> {
    let lab = Lab::start()?;
    // The VTEPs were in effect first; entries that existed before would exclude them, see needs.rs.
    let mut agent = Agent::healthy(&lab)?;
    ensure!(agent.terminate()?.success(), "a clean end");
    // A pod on another node, and the pod network of another node.
    put(&lab, IPCACHE_V2, &ipcache_key(32, 6, 77), &value_v2(4711, 233))?;
    put(&lab, IPCACHE_V2, &ipcache_key(24, 5, 0), &value_v2(2, 233))?;
    // An address that a policy names still belongs to BIG-IP.
    put(&lab, IPCACHE_V2, &ipcache_key(32, 6, 78), "1 0 0 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0")?;
    lab.config.write(&Config::seed_keys())?;
    let agent = Agent::start(&lab)?;
    let blamed = |status: &Status| status.vteps.iter().all(|vtep| vtep.cause == Some(Cause::VtepCidrInUse));
    let status =
        agent.wait_for("both are blamed", NOTICED_WITHIN, |status| status.vteps.len() == 2 && blamed(status))?;
    ensure!(status.datapath.ipcache == Some(Version::V2), "{:?}", status.datapath);
    let named: Vec<_> = status
        .datapath
        .intruders
        .iter()
        .map(|i| (i.vtep.to_string(), i.prefix.to_string(), i.identity, i.endpoint.map(|e| e.to_string())))
        .collect();
    let endpoint = || Some("10.169.72.233".to_owned());
    let pod = ("10.1.6.0/24".to_owned(), "10.1.6.77/32".to_owned(), 4711, endpoint());
    let network = ("10.1.5.0/24".to_owned(), "10.1.5.0/24".to_owned(), 2, endpoint());
    ensure!(named.contains(&pod) && named.contains(&network) && named.len() == 2, "{named:?}");
    ensure!(agent.lines("Cilium has pods or nodes inside").len() == 2, "{}", agent.log().join("\n"));
    // Every pass looks up the network as a whole.
    bpftool(&lab, &format!("map delete pinned {IPCACHE_V2} key {}", ipcache_key(24, 5, 0)))?;
    agent.wait_for("the second is well", NOTICED_WITHIN, |status| status.vteps[1].cause.is_none())?;
    Ok(())
}

/// The agent may start before Cilium: an ipcache that does not exist yet does not show the owner of a VTEP's addresses.
#[test]
fn an_ipcache_that_comes_later_is_asked_before_anything_is_written() -> Result<()> {
    let lab = Lab::start()?;
    put(&lab, IPCACHE_V2, &ipcache_key(32, 6, 77), &value_v2(4711, 233))?;
    let [ipcache, vteps] = [IPCACHE_V2, VTEP_PIN].map(|pin| (pin, format!("{pin}_x")));
    let move_pin = |from: &str, to: &str| std::fs::rename(from, to);
    move_pin(vteps.0, &vteps.1)?;
    move_pin(ipcache.0, &ipcache.1)?;
    lab.config.write(&Config::seed_keys())?;
    let agent = Agent::start(&lab)?;
    agent.wait_for("both are wanted", HEALTHY_WITHIN, |status| {
        status.vteps.len() == 2 && status.datapath.model == Layout::None && status.datapath.last_pass.is_some()
    })?;

    move_pin(&ipcache.1, ipcache.0)?;
    move_pin(&vteps.1, vteps.0)?;
    let [first, second] = lab.topology.vteps()[..] else { anyhow::bail!("two VTEPs") };
    eventually("the second is written, and never the first", HEALTHY_WITHIN, || {
        let entries = lab.cilium.vtep_entries()?;
        ensure!(!entries.contains_key(&first.key()), "{entries:?}\n{}", agent.log().join("\n"));
        Ok(entries.contains_key(&second.key()).then_some(()))
    })?;
    let refused = |status: &Status| {
        status.config.findings.iter().any(|f| f.rule == Rule::VtepCidrOverlapsIpcache && f.index == Some(0))
    };
    agent.wait_for("it is said why", HEALTHY_WITHIN, refused)?;
    ensure!(!lab.cilium.vtep_entries()?.contains_key(&first.key()), "{:?}", lab.cilium.vtep_entries()?);
    Ok(())
}

#[test]
fn the_ipcache_is_written_only_when_told() -> Result<()> {
    let lab = Lab::start()?;
    let before = dump(&lab, IPCACHE_V2)?;
    let _agent = Agent::healthy(&lab)?;
    ensure!(dump(&lab, IPCACHE_V2)? == before, "auto leaves it alone where there is a VTEP map");
    Ok(())
}

#[test]
fn what_was_put_into_the_ipcache_is_taken_back_and_nothing_else() -> Result<()> {
    let lab = Lab::builder().vteps(&[]).start()?;
    // A pod network of another node inside the second VTEP, which does not take effect, and an adjacent network.
    put(&lab, IPCACHE_V2, &ipcache_key(24, 5, 0), &value_v2(4711, 233))?;
    put(&lab, IPCACHE_V2, &ipcache_key(24, 9, 0), &value_v2(2, 34))?;
    let before = dump(&lab, IPCACHE_V2)?;
    let ours = (ipcache_key(24, 6, 0), value_v2(2, 34));
    let mut written = before.clone();
    written.push(ours.clone());
    written.sort();
    let holds = |expected: &[(String, String)]| Ok((dump(&lab, IPCACHE_V2)? == expected).then_some(()));

    lab.config.write(&Config::seed_keys())?;
    let mut agent = start_with(&lab, &["--ipcache", "on"])?;
    eventually("the first VTEP is written, and the foreign entry stays", HEALTHY_WITHIN, || holds(&written))?;
    put(&lab, IPCACHE_V2, &ours.0, &value_v2(2, 34).replacen('2', "9", 1))?;
    bpftool(&lab, &format!("map delete pinned {IPCACHE_V2} key {}", ours.0))?;
    eventually("it is repaired", HEALTHY_WITHIN, || holds(&written))?;

    // VTEP is switched off while the agent does not run.
    ensure!(agent.terminate()?.success(), "a clean end");
    let mut off = Config::seed_keys();
    off.insert("enable-vtep".into(), "false".into());
    lab.config.write(&off)?;
    let mut agent = start_with(&lab, &["--ipcache", "on"])?;
    eventually("what is ours and stale goes", HEALTHY_WITHIN, || holds(&before))?;

    lab.config.write(&Config::seed_keys())?;
    eventually("it is written again", HEALTHY_WITHIN, || holds(&written))?;
    let has_rule = || Ok(lab.node.ip("rule show")?.contains("lookup 2021").then_some(()));
    eventually("its route and rule follow", HEALTHY_WITHIN, has_rule)?;
    let cleanup = || {
        let args = ["cleanup", "--state-dir", STATE, "--cilium-run", CILIUM_RUN];
        lab.node.command(AGENT).args(args).output().context("failed to run the agent")
    };
    let refused = cleanup()?;

    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1) && words.contains("end it first"), "{words}");
    ensure!(agent.terminate()?.success(), "a clean end");
    let map = lab.cilium.vtep_entries()?;
    lab.node.ip("rule add priority 113 to 10.77.0.0/16 lookup 254")?;
    let done = cleanup()?;
    let words = String::from_utf8(done.stdout)?;
    ensure!(done.status.success(), "{words}");
    for line in [
        "delete stale ipcache entry 10.1.6.0/24: endpoint 10.169.72.34",
        "delete rule priority 113 to 10.1.6.0/24 lookup 2021",
        "delete route 10.1.6.0/24 table 2021",
    ] {
        ensure!(words.lines().any(|seen| seen == line), "no {line:?} in\n{words}");
    }
    ensure!(dump(&lab, IPCACHE_V2)? == before, "only ours is gone");
    ensure!(lab.cilium.vtep_entries()? == map && !map.is_empty(), "the VTEP map stays");
    let rules = lab.node.ip("rule show")?;
    ensure!(!rules.contains("lookup 2021") && rules.contains("10.77.0.0/16"), "{rules}");
    ensure!(String::from_utf8(cleanup()?.stdout)?.contains("nothing to clean up"), "the second time");
    Ok(())
}

#[test]
fn before_the_vtep_map_the_ipcache_is_the_datapath() -> Result<()> {
    let lab = Lab::start()?;
    become_old(&lab)?;
    lab.config.write(&Config::seed_keys())?;
    let before = dump(&lab, IPCACHE_V1)?;
    // Cilium's version is unknown: a newer one whose map is missing would take the entry for a node.
    let mut agent = start_with(&lab, &[])?;
    agent.wait_for("the missing map is named", HEALTHY_WITHIN, |status| {
        status.datapath.last_pass.is_some() && status.datapath.model == Layout::None
    })?;
    ensure!(agent.terminate()?.success() && dump(&lab, IPCACHE_V1)? == before, "nothing is written");

    let agent = start_with(&lab, &["--cilium-version", "1.12.0-rc2"])?;
    let mut expected = before;
    expected.push((ipcache_key(24, 5, 0), "2 0 0 0 10 169 72 36 0 0 0 0".into()));
    expected.push((ipcache_key(24, 6, 0), "2 0 0 0 10 169 72 34 0 0 0 0".into()));
    expected.sort();
    eventually("both VTEPs are in the ipcache", HEALTHY_WITHIN, || {
        Ok((dump(&lab, IPCACHE_V1)? == expected).then_some(()))
    })?;
    let status = agent.wait_for("it is in sync", HEALTHY_WITHIN, |status| status.datapath.in_sync)?;
    ensure!((status.datapath.model, status.datapath.ipcache) == (Layout::Ipcache, Some(Version::V1)), "{status:?}");
    ensure!(agent.code("/readyz")? == 200, "ready");
    Ok(())
}

/// A new VTEP does not take effect while the owner of its addresses is unknown; one that is in effect remains.
#[test]
fn an_unknown_ipcache_is_not_written() -> Result<()> {
    let lab = Lab::start()?;
    lab.node.command("rm").arg(IPCACHE_V2).status()?;
    bpftool(&lab, &format!("map create {IPCACHE_V2} type lpm_trie key 24 value 32 entries 8 name x flags 1"))?;
    lab.config.write(&Config::seed_keys())?;
    let mut agent = start_with(&lab, &["--ipcache", "on"])?;
    let status =
        agent.wait_for("the problem is reported", HEALTHY_WITHIN, |status| status.datapath.last_pass.is_some())?;
    let problem = status.datapath.problems.join("\n");
    ensure!(problem.contains("lpmtrie with 24-byte keys and 32-byte values"), "{problem}");
    ensure!(status.config.findings.iter().any(|finding| finding.rule == Rule::VtepCidrOverlapsIpcache), "{status:?}");
    ensure!(dump(&lab, IPCACHE_V2)?.is_empty() && lab.cilium.vtep_entries()?.is_empty(), "nothing is written");
    ensure!(agent.terminate()?.success(), "a clean end");

    let aside = format!("{IPCACHE_V2}_x");
    std::fs::rename(IPCACHE_V2, &aside)?;
    let mut agent = Agent::healthy(&lab)?;
    ensure!(agent.terminate()?.success(), "a clean end");
    std::fs::rename(&aside, IPCACHE_V2)?;
    let agent = start_with(&lab, &["--ipcache", "on"])?;
    agent.wait_for("both VTEPs stay", HEALTHY_WITHIN, all_healthy)?;
    ensure!(dump(&lab, IPCACHE_V2)?.is_empty(), "nothing is written");
    Ok(())
}
