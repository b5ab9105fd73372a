//! Supported and unsupported nodes: `preflight`, and the behaviour of `run`.

use std::{path::Path, process::Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vtep_core::{diagnosis::Cause, node::kernel};
use vtep_lab::{CILIUM_RUN, Config, Lab};

use crate::{
    privileges::{confined, granted},
    support::{AGENT, Agent, HEALTHY_WITHIN, LISTEN, NOTICED_WITHIN, all_healthy, in_kernel, run},
};

/// Runs `preflight` behind a program that removes something from it.
fn preflight(lab: &Lab, wrapper: &[&str], args: &[&str]) -> Result<(Option<i32>, String)> {
    let line: Vec<_> = wrapper.iter().chain([&AGENT, &"preflight", &"--cilium-run", &CILIUM_RUN]).chain(args).collect();
    let (program, args) = line.split_first().context("a command line")?;
    let Output { status, stdout, stderr } = lab.node.command(program).args(args).output()?;
    Ok((status.code(), String::from_utf8(stdout)? + &String::from_utf8_lossy(&stderr)))
}

/// The names of the failed checks.
fn failed(words: &str) -> Vec<&str> {
    words.lines().filter_map(|line| line.strip_prefix("FAILED ")?.split_whitespace().next()).collect()
}

#[test]
fn a_fit_node_passes() -> Result<()> {
    let lab = Lab::start()?;
    let (code, words) = preflight(&lab, &[], &[])?;
    ensure!(code == Some(0) && failed(&words).is_empty(), "{words}");
    for line in [
        "ok     capabilities    CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW",
        "ok     bpf-features    hash and LPM trie maps, socket filters, large programs",
        "ok     tap             the kernel accepts its program and its maps",
        "ok     bpffs           /sys/fs/bpf",
        "ok     cilium-version  1.18.8 (read in its source, not run)",
        "ok     cilium-devices  cilium_vxlan, cilium_host with 10.0.0.126",
        "ok     vtep-map        a VTEP map with 0 entries",
        "this node is fit",
    ] {
        ensure!(words.lines().any(|seen| seen == line), "no {line:?} in\n{words}");
    }
    let (code, words) = preflight(&lab, &[], &["-o", "json"])?;
    let report: Value = serde_json::from_str(&words)?;
    let names: Vec<_> = report["checks"].as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect();
    ensure!(code == Some(0) && report["fit"] == true, "{report:#}");
    let all =
        ["kernel", "capabilities", "bpf-features", "tap", "bpffs", "cilium-version", "cilium-devices", "vtep-map"];
    ensure!(names == all, "{names:?}");
    Ok(())
}

#[test]
fn each_lack_is_named() -> Result<()> {
    type Row<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str], &'a str);
    let lab = Lab::builder().cilium_running(false).start()?;
    let table: [Row<'_>; 6] = [
        (&[], &[], &["vtep-map"], "no map is pinned at /sys/fs/bpf/tc/globals/cilium_vtep_map"),
        (&[], &["--bpffs", "/mnt"], &["bpffs", "vtep-map"], "no bpffs is mounted at /mnt"),
        (&[], &["--cilium-version", "1.18.3"], &["cilium-version", "vtep-map"], "1.18.8 is the first release without"),
        (&["setarch", "--uname-2.6"], &[], &["kernel", "vtep-map"], "is older than 5.4"),
        (&["setarch", "--uname-2.6"], &["--ignore-kernel-check"], &["vtep-map"], "not judged: kernel 2.6"),
        (
            &["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"],
            &[],
            &["capabilities", "bpf-features", "tap", "vtep-map"],
            "missing CAP_BPF (reading and writing Cilium's BPF maps, and the tap on the underlay; CAP_SYS_ADMIN before Linux 5.8) and",
        ),
    ];
    for (wrapper, args, lacks, reason) in table {
        let (code, words) = preflight(&lab, wrapper, args)?;
        ensure!(code == Some(1) && failed(&words) == lacks, "{wrapper:?} {args:?}: {words}");
        ensure!(words.contains(reason), "no {reason:?} in {words}");
    }
    lab.node.ip("link delete cilium_host")?;
    let (_, words) = preflight(&lab, &[], &[])?;
    ensure!(words.contains("cilium_host is not there"), "{words}");
    lab.node.ip("link delete cilium_vxlan")?;
    let (_, words) = preflight(&lab, &[], &[])?;
    ensure!(words.contains("neither cilium_vxlan nor cilium_geneve is there"), "{words}");
    Ok(())
}

/// With the rights of the manifest, the agent cannot raise this limit. Newer kernels do not count BPF maps against it.
#[test]
fn a_limit_of_locked_memory_is_named_where_it_counts() -> Result<()> {
    let lab = Lab::start()?;
    let confined = confined(&granted()?);
    let mut wrapper: Vec<_> = confined.iter().map(String::as_str).collect();
    wrapper.extend(["sh", "-c", r#"ulimit -l 8 && exec "$@""#, "sh"]);
    let (code, words) = preflight(&lab, &wrapper, &[])?;
    let counts = kernel::locks_memory(&nix::sys::utsname::uname()?.release().to_string_lossy());
    let reason = "they count against RLIMIT_MEMLOCK, which is 8 kB here";
    if counts {
        ensure!(code == Some(1) && failed(&words) == ["tap"] && words.contains(reason), "{words}");
    } else {
        ensure!(code == Some(0) && failed(&words).is_empty(), "{words}");
    }

    lab.config.write(&Config::seed_keys())?;
    let agent = start_behind(&lab, &wrapper, &[])?;
    let status = agent.wait_for("it writes and probes all the same", HEALTHY_WITHIN, all_healthy)?;
    ensure!(status.tap.error.as_ref().is_some_and(|error| error.contains(reason)) == counts, "{:?}", status.tap);
    ensure!(in_kernel(&lab, &lab.topology.vteps())?, "an entry is missing");
    Ok(())
}

#[test]
fn on_an_unfit_kernel_it_lives_and_writes_nothing() -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    let agent = start_behind(&lab, &["setarch", "--uname-2.6"], &[])?;
    lives_and_writes_nothing(&lab, &agent, "is older than 5.10, which VTEP in Cilium 1.18.8 needs")
}

/// The agent reports the reason everywhere; a crash loop would show it only in `kubectl logs`.
pub(crate) fn lives_and_writes_nothing(lab: &Lab, agent: &Agent, reason: &str) -> Result<()> {
    agent.wait_for("a pass, and the reason why the agent writes nothing", HEALTHY_WITHIN, |status| {
        let told = status.kernel.reasons.iter().any(|told| told.contains(reason));
        let named = status.vteps.iter().all(|vtep| vtep.cause == Some(Cause::NodeKernelUnsupported));
        !status.kernel.supported && told && named && !status.vteps.is_empty() && status.datapath.last_pass.is_some()
    })?;
    for path in ["/readyz", "/healthz"] {
        let (code, body) = agent.get(path)?.context("an answer")?;
        ensure!(code == 503 && body.contains(reason), "{path}: {body}");
    }
    ensure!(agent.code("/livez")? == 200, "a restart would not help");
    let lines = agent.lines("node unsupported; running read-only");
    ensure!(lines.iter().filter(|line| line.contains(reason)).count() == 1, "{lines:#?}");
    ensure!(lab.cilium.vtep_entries()?.is_empty(), "nothing is written");
    ensure!(!lab.node.ip("rule show")?.contains("113:"), "no rule is written");
    Ok(())
}

#[test]
fn the_release_can_be_ignored() -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    let agent = start_behind(&lab, &["setarch", "--uname-2.6"], &["--ignore-kernel-check"])?;
    let status = agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    ensure!(status.kernel.release.starts_with("2.6."), "{:?}", status.kernel);
    Ok(())
}

#[test]
fn a_broken_release_of_cilium_is_named() -> Result<()> {
    let mut lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let version = |text: &str| text.parse().ok();
    agent.wait_for("Cilium's version", HEALTHY_WITHIN, |status| status.cilium.version == version("1.18.8"))?;

    lab.cilium.version = Some("1.18.3".into());
    lab.cilium.start()?;
    let status = agent.wait_for("the release is blamed", NOTICED_WITHIN, |status| {
        status.vteps.iter().all(|vtep| vtep.cause == Some(Cause::CiliumBrokenRelease))
    })?;
    let hint = status.vteps[0].hint.as_deref().unwrap_or_default();
    ensure!(hint.contains("upgrade Cilium to 1.18.8") && status.cilium.version == version("1.18.3"), "{hint}");

    // While Cilium does not run, the last known version remains, because Cilium may return with it.
    lab.cilium.stop()?;
    agent.wait_for("Cilium is gone", HEALTHY_WITHIN, |status| !status.datapath.in_sync)?;
    ensure!(agent.status()?.context("a status")?.cilium.version == version("1.18.3"), "the last known version");
    lab.cilium.version = Some("1.18.8".into());
    lab.cilium.start()?;
    agent.wait_for("both VTEPs are healthy", NOTICED_WITHIN, all_healthy)?;
    Ok(())
}

/// Cilium's maps and programs work on without its agent, and so does this one. A person has to know it all the same.
#[test]
fn a_killed_agent_of_cilium_is_a_remark() -> Result<()> {
    let mut lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    agent.wait_for("Cilium's version", HEALTHY_WITHIN, |status| status.cilium.version.is_some())?;
    lab.cilium.kill_agent();
    let remark = [Cause::CiliumAgentNotRunning];
    let status = agent.wait_for("it is a remark on both VTEPs", NOTICED_WITHIN, |status| {
        status.vteps.iter().all(|vtep| vtep.also == remark)
    })?;
    ensure!(all_healthy(&status) && status.cilium.devices && !status.cilium.running, "{status:?}");
    let at = status.cilium.agent_stopped_at.context("the time")?;
    let (_, metrics) = agent.get("/metrics")?.context("an answer")?;
    for line in ["vtep_agent_cilium_running 0", "vtep_agent_cilium_devices 1"] {
        ensure!(metrics.lines().any(|of| of == line), "{line} is not in {metrics}");
    }
    let remarked = metrics.lines().filter(|line| line.contains(remark[0].id()) && line.ends_with(" 1")).count();
    ensure!(remarked == 2, "{remarked} series say it");
    let table = run(&lab, &["status"])?;
    let (table, told) = (String::from_utf8(table.stdout)?, format!("(its agent does not run since {at:.0})"));
    ensure!(table.contains(&told), "{table}");
    // What is lost now, nobody but this agent puts back.
    let vtep = lab.topology.vteps()[0];
    lab.cilium.delete_entry(vtep.cidr)?;
    agent.wait_for("the entry is repaired", NOTICED_WITHIN, |status| status.datapath.repairs_total == 1)?;

    lab.cilium.start()?;
    let status = agent.wait_for("it runs again", NOTICED_WITHIN, |status| {
        all_healthy(status) && status.cilium.running && status.vteps.iter().all(|vtep| vtep.also.is_empty())
    })?;
    ensure!(status.cilium.agent_stopped_at.is_none(), "{:?}", status.cilium);
    for line in ["Cilium's agent does not run on this node", "Cilium's agent runs again"] {
        ensure!(agent.lines(line).len() == 1, "{:?}", agent.log());
    }
    Ok(())
}

fn start_behind(lab: &Lab, wrapper: &[&str], more: &[&str]) -> Result<Agent> {
    let agent = lab.agent_command(Path::new(AGENT), LISTEN);
    let (program, args) = wrapper.split_first().context("a program")?;
    let mut command = lab.node.command(program);
    command.args(args).arg(agent.get_program()).args(agent.get_args()).args(more);
    Agent::spawn(lab, command)
}
