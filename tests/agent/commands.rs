//! `plan` and `status` beside a node and a running agent. `check` needs neither: `tests/check.rs`.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vtep_lab::{CONFIG, Config, Lab, STATE};

use crate::{
    api::{KUBECONFIG, api_server},
    support::{AGENT, Agent, HEALTHY_WITHIN, NOTICED_WITHIN, all_healthy, run},
};

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
    let plan: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(output.status.code() == Some(0), "{plan}");
    ensure!(plan["in_sync"] == true && plan["model"] == "vtep-hash" && plan["pending"] == json!([]), "{plan}");
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
    // An answered request has brought a frame.
    ensure!(words.matches("✓ seen").count() == 2 && !words.contains("no tunnel frame"), "{words}");
    lab.bigips[0].down()?;
    let output = probe(&["-o", "json"])?;
    let vteps: Value = serde_json::from_slice(&output.stdout)?;
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

/// A script must be able to distinguish "nothing to do" from "the source did not answer".
#[test]
fn without_a_reachable_source_commands_end_with_2_and_one_reason() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    std::fs::write(KUBECONFIG, server.kubeconfig())?;
    server.stop()?;
    let kube = |kubeconfig: &'static str| (vec!["--config-source", "kube"], kubeconfig);
    let sources = [
        // The part of the reason that must appear, exactly once.
        ("refused", kube(KUBECONFIG)),
        ("/mnt/no-kubeconfig", kube("/mnt/no-kubeconfig")),
        ("/mnt/nowhere", (vec!["--config-dir", "/mnt/nowhere"], "/mnt/no-kubeconfig")),
    ];
    for command in [&["plan"][..], &["probe"], &["run", "--once"]] {
        for (reason, (source, kubeconfig)) in &sources {
            let mut program = lab.node.command(AGENT);
            program.env("KUBECONFIG", kubeconfig).args(command).args(source);
            let output = program.args(["--state-dir", "/mnt/no-state"]).output()?;
            let words = String::from_utf8(output.stderr)?;
            let case = format!("{command:?}, {reason}: {words}");
            ensure!(output.status.code() == Some(2), "{:?}, {case}", output.status);
            ensure!(words.lines().filter(|line| line.starts_with("error: ")).count() == 1, "{case}");
            ensure!(words.lines().count() == 1 && words.matches(reason).count() == 1, "{case}");
            let log = String::from_utf8(output.stdout)?;
            ensure!(!log.contains(reason), "the reason a second time: {case}{log}");
        }
    }
    ensure!(lab.cilium.vtep_entries()?.is_empty(), "nothing is written");
    Ok(())
}

/// The saved configuration is shown, but the exit status says that it may be out of date.
#[test]
fn what_was_seen_last_is_shown_and_is_no_success() -> Result<()> {
    let lab = Lab::start()?;
    let mut agent = Agent::healthy(&lab)?;
    ensure!(agent.terminate()?.success(), "a clean end");
    let running = ["--cilium-run", vtep_lab::CILIUM_RUN, "--state-dir", STATE];
    let targets = "10.1.6.0/24=10.1.6.34,10.1.5.0/24=10.1.5.36";
    for command in [&["plan"][..], &["run", "--once"], &["probe", "--probe-target", targets]] {
        let output = lab.node.command(AGENT).args(command).args(running).args(["--config-dir", CONFIG]).output()?;
        ensure!(output.status.success(), "{command:?}: {output:?}");
        let gone = ["--config-dir", "/mnt/nowhere"];
        let output = lab.node.command(AGENT).args(command).args(running).args(gone).output()?;
        let words = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(2) && words.contains("last known configuration"), "{command:?}: {words}");
        let shown = String::from_utf8(output.stdout)?;
        let known = ["in sync", "in_sync=true", "map       in-sync"];
        ensure!(known.iter().any(|words| shown.contains(words)), "{command:?}: {shown}");
    }
    let two_ports = "10.1.6.0/24=10.1.6.34:443,10.1.6.0/24=10.1.6.34:80";
    for (wrong, words) in [
        (&["plan", "--no-such-flag"][..], "unexpected argument"),
        (&["run", "--once", "--log-level", "vtep_agent=loud"], "invalid value"),
        (&["run", "--once", "--probe-tcp", two_ports], "give each CIDR only one port"),
    ] {
        let output = run(&lab, wrong)?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(2) && said.contains(words), "a wrong command line: {wrong:?}: {said}");
    }
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
    let json: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(json["vteps"][0]["verdict"] == "healthy" && json["cilium"]["vtep_mask"] == "255.255.255.0", "{json:#}");

    lab.bigips[0].down()?;
    agent.wait_for("it is not healthy", NOTICED_WITHIN, |status| !status.healthy())?;
    let output = run(&lab, &["status"])?;
    let table = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(1) && table.contains("endpoint-unreachable"), "{table}");
    agent.get("/status")?.context("an answer")?;
    Ok(())
}

/// Other programs rely on the schema: it has every field that the agent sends, and no other.
#[test]
fn status_is_as_its_schema_says() -> Result<()> {
    let lab = Lab::start()?;
    let output = run(&lab, &["status", "--schema"])?;
    ensure!(output.status.success(), "{output:?}");
    let schema: Value = serde_json::from_slice(&output.stdout)?;
    let validator = jsonschema::validator_for(&schema)?;

    let valid = |agent: &Agent| -> Result<Value> {
        let (_, body) = agent.get("/status")?.context("an answer")?;
        let status: Value = serde_json::from_str(&body)?;
        let errors: Vec<_> =
            validator.iter_errors(&status).map(|error| format!("{}: {error}", error.instance_path())).collect();
        ensure!(errors.is_empty(), "{errors:#?}\n{status:#}");
        Ok(status)
    };
    let agent = Agent::start(&lab)?;
    agent.wait_for("that nothing is there is found", HEALTHY_WITHIN, |status| !status.config.findings.is_empty())?;
    valid(&agent)?;
    let mut keys = Config::seed_keys();
    lab.config.write(&keys)?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    let mut status = valid(&agent)?;
    keys.insert("vtep-mac".into(), "00:50:56:a0:7d:d8 nonsense".into());
    lab.config.write(&keys)?;
    lab.bigips[0].down()?;
    agent.wait_for("trouble", NOTICED_WITHIN, |status| status.config.stale && !status.healthy())?;
    valid(&agent)?;

    status["surprise"] = true.into();
    ensure!(!validator.is_valid(&status), "an unknown field");
    Ok(())
}

/// `--watch` repeats the table; if the output is not a terminal, without control sequences and colours.
#[test]
fn status_is_watched_until_it_is_ended() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let mut command = lab.node.command(AGENT);
    let mut watch = command.args(["status", "--watch"]).stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(watch.stdout.take().context("a pipe")?).lines();
    let heads = lines.map_while(Result::ok).inspect(|line| assert!(!line.contains('\x1b'), "{line}"));
    let three = heads.filter(|line| line.starts_with("node      worker-1")).take(3).count();
    watch.kill()?;
    watch.wait()?;
    ensure!(three == 3 && agent.code("/livez")? == 200, "{three} tables");
    Ok(())
}
