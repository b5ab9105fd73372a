//! `plan` and `status` beside a node and a running agent. `check` needs neither: `tests/check.rs`.

use anyhow::{Context, Result, ensure};
use vtep_lab::{CONFIG, Config, Lab};

use crate::support::{Agent, NOTICED_WITHIN, run};

#[test]
fn plan_lists_what_run_would_do_and_writes_nothing() -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    let output = run(&lab, &["plan", "--config-dir", CONFIG])?;
    let words = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(1), "{words}");
    for line in [
        "add vtep entry 10.1.6.0/24: endpoint 10.169.72.34 mac 00:50:56:a0:7d:d8",
        "add vtep entry 10.1.5.0/24: endpoint 10.169.72.36 mac 00:50:56:86:6b:28",
        "add rule priority 113 to 10.1.6.0/24 lookup 2021",
    ] {
        ensure!(words.contains(line), "no {line:?} in\n{words}");
    }
    ensure!(lab.cilium.vtep_entries()?.is_empty(), "nothing is written");

    let _agent = Agent::healthy(&lab)?;
    let output = run(&lab, &["plan", "--config-dir", CONFIG, "-o", "json"])?;
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    ensure!(output.status.code() == Some(0), "{plan}");
    ensure!(
        plan["in_sync"] == true && plan["model"] == "vtep-hash" && plan["pending"] == serde_json::json!([]),
        "{plan}"
    );
    Ok(())
}

#[test]
fn probe_prints_the_ladder_and_writes_nothing() -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    let probe = |more: &[&str]| {
        let targets = "10.1.6.0/24=10.1.6.34,10.1.5.0/24=10.1.5.36";
        let mut args = vec!["probe", "--config-dir", CONFIG, "--cilium-run", vtep_lab::CILIUM_RUN];
        args.extend(["--probe-target", targets]);
        args.extend(more);
        run(&lab, &args)
    };
    let words = String::from_utf8(probe(&[])?.stdout)?;
    ensure!(words.contains("✗ map       pending") && words.contains("datapath-missing"), "{words}");
    ensure!(lab.cilium.vtep_entries()?.is_empty(), "nothing is written");

    let _agent = Agent::healthy(&lab)?;
    let output = probe(&[])?;
    let words = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{words}");
    for line in [
        "10.1.6.0/24 at 10.169.72.34, 00:50:56:a0:7d:d8",
        "✓ map       in-sync",
        "✓ path mtu  1450 bytes inside",
        "  healthy",
    ] {
        ensure!(words.contains(line), "no {line:?} in\n{words}");
    }
    ensure!(words.lines().any(|line| line.starts_with("  ✓ arp       10.1.6.34 in ")), "{words}");
    lab.bigips[0].down()?;
    let output = probe(&["-o", "json"])?;
    let vteps: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    ensure!(output.status.code() == Some(1), "{vteps:#}");
    ensure!(vteps[0]["cause"] == "endpoint-unreachable" && vteps[1]["verdict"] == "healthy", "{vteps:#}");
    Ok(())
}

#[test]
fn plan_says_why_it_cannot() -> Result<()> {
    let lab = Lab::builder().cilium_running(false).start()?;
    let output = run(&lab, &["plan", "--config-dir", "/mnt/nowhere"])?;
    let words = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(2) && words.contains("/mnt/nowhere"), "{words}");

    lab.config.write(&Config::seed_keys())?;
    let output = run(&lab, &["plan", "--config-dir", CONFIG])?;
    let words = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(1) && words.contains("problem: no map is pinned at"), "{words}");
    Ok(())
}

#[test]
fn status_prints_the_table_and_its_exit_status_tells() -> Result<()> {
    let lab = Lab::start()?;
    let output = run(&lab, &["status"])?;
    ensure!(output.status.code() == Some(2), "nobody listens yet");
    ensure!(String::from_utf8(output.stderr)?.contains("is the agent running?"), "it says what to do");

    let agent = Agent::healthy(&lab)?;
    let output = run(&lab, &["status"])?;
    let table = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(0), "{table}");
    ensure!(table.lines().all(|line| line.chars().count() <= 80), "80 columns:\n{table}");
    for word in ["worker-1", "10.1.6.0/24", "10.169.72.36", "healthy", "in-sync", "vxlan port 8472"] {
        ensure!(table.contains(word), "no {word:?} in\n{table}");
    }
    let output = run(&lab, &["status", "-o", "json"])?;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    ensure!(json["vteps"][0]["verdict"] == "healthy" && json["cilium"]["vtep_mask"] == "255.255.255.0", "{json:#}");

    lab.bigips[0].down()?;
    agent.wait_for("it is not healthy", NOTICED_WITHIN, |status| !status.healthy())?;
    let output = run(&lab, &["status"])?;
    let table = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(1) && table.contains("endpoint-unreachable"), "{table}");
    agent.get("/status")?.context("an answer")?;
    Ok(())
}
