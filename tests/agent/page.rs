//! The status page in a real browser beside the agent, in every state that it can have. Screenshots are in target/screens.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use vtep_core::{
    config::{finding::Severity, truth::Truth, vtep_config::ObjectStatus},
    diagnosis::{Cause, Verdict},
    report::status::Status,
};
use vtep_lab::{Config, Lab};

use crate::support::{Agent, HEALTHY_WITHIN, LISTEN, NOTICED_WITHIN, all_healthy};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A headless Chromium on the lab's node.
struct Browser {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// The page as a person and a checker see it.
#[derive(Debug, Deserialize)]
struct Look {
    title: String,
    headline: String,
    text: String,
    /// The number of pixels beyond the right border.
    overflow: i64,
    /// The names of hops with trouble.
    troubled: Vec<String>,
    hops: usize,
    /// The length of each line of round trips, in its own units.
    lines: Vec<f64>,
    images: usize,
    /// The browser's console messages.
    errors: Vec<String>,
    elsewhere: Vec<String>,
    /// The serious and critical results of axe-core.
    violations: Vec<String>,
    /// The rules of axe-core that passed.
    checked: usize,
}

impl Browser {
    fn start(lab: &Lab) -> Result<Self> {
        let mut command = lab.node.command("node");
        command.arg(Path::new(ROOT).join("tests/page/look.mjs")).arg(Path::new(ROOT).join("target/page"));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("no Node.js: `make setup` brings it")?;
        let commands = child.stdin.take().context("a pipe")?;
        let answers = BufReader::new(child.stdout.take().context("a pipe")?);
        Ok(Self { child, commands, answers })
    }

    fn ask(&mut self, command: &Value) -> Result<Value> {
        writeln!(self.commands, "{command}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the browser is gone: `make setup` brings Chromium and what drives it");
        let answer: Value = serde_json::from_str(&line)?;
        if let Some(failed) = answer["failed"].as_str() {
            bail!("{command}: {failed}");
        }
        Ok(answer)
    }

    /// Opens the page; with a status, it renders that one.
    fn open(&mut self, width: u32, scheme: &str, status: Option<&Status>) -> Result<Value> {
        self.ask(&json!({"do": "open", "url": Self::url(), "width": width, "scheme": scheme, "status": status}))
    }

    fn url() -> String {
        format!("http://{LISTEN}/")
    }

    fn wait(&mut self, text: &str) -> Result<()> {
        self.ask(&json!({"do": "wait", "text": text})).map(drop)
    }

    fn shot(&mut self, name: &str) -> Result<()> {
        let screens = PathBuf::from(ROOT).join("target/screens");
        fs::create_dir_all(&screens)?;
        self.ask(&json!({"do": "shot", "file": screens.join(format!("{name}.png"))})).map(drop)
    }

    /// The page's content; it has no fault except those that belong to its state.
    fn look(&mut self) -> Result<Look> {
        let look: Look = serde_json::from_value(self.ask(&json!({"do": "look"}))?)?;
        ensure!(look.violations.is_empty() && look.checked > 10, "axe-core: {:#?}", look.violations);
        ensure!(look.elsewhere.is_empty(), "requests to elsewhere: {:?}", look.elsewhere);
        ensure!(look.overflow <= 0, "{} pixels stick out", look.overflow);
        ensure!(look.images == 0, "something made an image");
        Ok(look)
    }

    /// Both widths and both colour schemes, each without a fault.
    fn views(&mut self, name: &str, status: Option<&Status>, text: &str) -> Result<Look> {
        let mut last = None;
        for (width, scheme) in [(1280, "light"), (390, "dark"), (320, "light"), (1280, "dark"), (390, "light")] {
            self.open(width, scheme, status)?;
            self.wait(text)?;
            let look = self.look().with_context(|| format!("{name} at {width} pixels, {scheme}"))?;
            ensure!(look.errors.is_empty(), "{name}: {:?}", look.errors);
            if width != 320 {
                self.shot(&format!("{name}-{width}-{scheme}"))?;
            }
            last = Some(look);
        }
        last.context("a view")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn status(agent: &Agent) -> Result<Status> {
    agent.status()?.context("a status")
}

#[test]
fn healthy_and_then_gone_and_then_back() -> Result<()> {
    let lab = Lab::start()?;
    let mut agent = Agent::healthy(&lab)?;
    let mut browser = Browser::start(&lab)?;
    let look = browser.views("healthy", None, "Both BIG-IPs reach the pods of worker-1")?;
    ensure!(look.hops == 12 && look.troubled.is_empty() && look.title.starts_with('✓'), "{look:?}");
    for seen in
        ["10.1.6.0/24", "10.169.72.34", "VNI 2", "cilium_vxlan", "in-sync", "as configured", "BIG-IP reaches the pods"]
    {
        ensure!(look.text.contains(seen), "no {seen} in {}", look.text);
    }

    browser.open(1280, "light", None)?;
    browser.wait("live")?;
    // A person copies a MAC while the page updates.
    let held = browser.ask(&json!({"do": "hold", "selector": ".hop:nth-child(2) li:nth-child(3)"}))?;
    ensure!(held["held"].as_str() == Some("00:50:56:a0:7d:d8"), "{held}");
    ensure!(agent.terminate()?.success(), "a clean end");
    browser.wait("The agent has not answered since")?;
    let look = browser.look()?;
    ensure!(look.headline == "No answer from worker-1", "{look:?}");
    ensure!(look.text.contains("what is below is old") && look.text.contains("10.1.6.0/24"), "{}", look.text);
    browser.shot("lost-1280-light")?;
    let _back = Agent::healthy(&lab)?;
    browser.wait("live")?;
    Ok(())
}

#[test]
fn trouble_is_named_where_it_is() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let mut browser = Browser::start(&lab)?;
    browser.open(1280, "light", None)?;
    browser.wait("Both BIG-IPs reach")?;
    lab.bigips[0].down()?;
    // Without user input.
    browser.wait("1 of 2 BIG-IPs reaches the pods of worker-1")?;
    let look = browser.look()?;
    ensure!(look.errors.is_empty() && look.troubled == ["Underlay"], "{look:?}");
    let hint = status(&agent)?.vteps[0].hint.clone().context("a hint")?;
    ensure!(look.text.contains(&hint) && look.text.contains("endpoint-unreachable"), "no {hint} in {}", look.text);
    browser.views("unreachable", None, "endpoint-unreachable")?;
    lab.bigips[0].up()?;
    agent.wait_for("healthy again", NOTICED_WITHIN, all_healthy)?;
    browser.open(390, "light", None)?;
    browser.wait("Both BIG-IPs reach")?;
    browser.wait("unreachable (endpoint-unreachable)")
}

/// The page with each cause in turn; the rest of the status is real.
#[test]
fn every_cause_has_its_place() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let mut browser = Browser::start(&lab)?;
    let real = status(&agent)?;
    for &cause in Cause::ALL {
        let mut status = real.clone();
        let vtep = &mut status.vteps[0];
        (vtep.cause, vtep.verdict) = (Some(cause), cause.verdict());
        status.verdict = cause.verdict();
        let vtep = &mut status.vteps[0];
        vtep.hint = Some(format!("do this about {cause}"));
        vtep.runbook = Some(cause.section("https://runbook.example.com"));
        browser.open(1280, "light", Some(&status))?;
        browser.wait(&format!("do this about {cause}"))?;
        let look = browser.look().with_context(|| cause.to_string())?;
        ensure!(look.errors.is_empty() && look.troubled.len() == 1, "{cause}: {look:?}");
        ensure!(look.headline.contains("of 2 BIG-IPs"), "{cause}: {}", look.headline);
        browser.shot(&format!("cause-{cause}"))?;
    }
    // One cause has two verdicts: if ping was answered before, the VTEP is now unreachable.
    let mut status = real.clone();
    (status.verdict, status.vteps[0].verdict) = (Verdict::Unreachable, Verdict::Unreachable);
    (status.vteps[0].cause, status.vteps[0].hint) = (Some(Cause::NoReturnPath), Some("the way back is lost".into()));
    browser.open(1280, "light", Some(&status))?;
    browser.wait("the way back is lost")?;
    let look = browser.look()?;
    ensure!(look.headline == "1 of 2 BIG-IPs reaches the pods of worker-1", "{}", look.headline);

    let mut status = real;
    (status.verdict, status.vteps[0].verdict) = (Verdict::Degraded, Verdict::Degraded);
    (status.vteps[0].cause, status.vteps[0].hint) = (Some(Cause::PacketLoss), Some("7 % are lost".into()));
    browser.views("degraded", Some(&status), "works, but not well")?;
    let look = browser.look()?;
    ensure!(look.headline == "2 of 2 BIG-IPs reach the pods of worker-1, 1 of them not well", "{}", look.headline);
    ensure!(look.title.starts_with("! "), "{}", look.title);
    Ok(())
}

/// While BIG-IP's own frames show a working tunnel, the agent skips most rounds of probes: most points have no answer, and no loss.
#[test]
fn round_trips_are_a_line_over_what_was_not_asked() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let mut browser = Browser::start(&lab)?;
    let vtep = &status(&agent)?.vteps[0];
    let mut length = |points: &[(Option<u64>, u64)]| {
        let point = |&(rtt_us, lost): &(Option<u64>, u64)| {
            let received = u64::from(rtt_us.is_some());
            json!({"at": "2026-01-01T00:00:00Z", "rtt_us": rtt_us, "received": received, "lost": lost})
        };
        let points: Vec<Value> = points.iter().map(point).collect();
        let history = json!({"changes": [], "vteps": [{"cidr": vtep.cidr, "points": points}]});
        browser.ask(&json!({"do": "open", "url": Browser::url(), "width": 1280, "history": history}))?;
        browser.wait("none since the agent started")?;
        anyhow::Ok(browser.look()?.lines[0])
    };
    let (answered, not_asked, lost) = ((Some(200), 0), (None, 0), (None, 1));
    ensure!(length(&[answered, not_asked, not_asked, answered])? > 5.0, "no line over what was not asked");
    ensure!(length(&[answered, lost, lost, answered])? == 0.0, "a line over what was lost");
    Ok(())
}

/// A repair does not hide another change, a mean is a mean of pings, and one sentence ends before the next begins.
#[test]
fn what_came_together_is_told_together() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let mut status = status(&agent)?;
    let vtep = &mut status.vteps[0];
    (vtep.verdict, vtep.cause) = (Verdict::Unreachable, Some(Cause::TunnelSilent));
    status.verdict = Verdict::Unreachable;
    let vtep = &mut status.vteps[0];
    vtep.hint = Some("look at the tunnel".into());
    (status.config.stale, status.config.valid) = (true, false);
    status.config.findings[0].severity = Severity::Error;
    let at = "2026-01-01T00:00:00Z";
    let change = |to: Value, repairs| {
        let from = json!({"verdict": "healthy", "cause": null});
        json!({"at": at, "cidr": "10.1.6.0/24", "from": from, "to": to, "repairs": repairs})
    };
    let changes = [
        change(json!({"verdict": "unreachable", "cause": "tunnel-silent"}), 1),
        change(json!({"verdict": "healthy", "cause": null}), 2),
    ];
    let point = |rtt_us: Option<u64>, received| json!({"at": at, "rtt_us": rtt_us, "received": received, "lost": 0});
    let vteps = [
        json!({"cidr": "10.1.6.0/24", "points": [point(Some(100), 3), point(Some(500), 1)]}),
        json!({"cidr": "10.1.5.0/24", "points": [point(None, 0)]}),
    ];
    let history = json!({"changes": changes, "vteps": vteps});
    let mut browser = Browser::start(&lab)?;
    browser.ask(&json!({"do": "open", "url": Browser::url(), "width": 1280, "status": status, "history": history}))?;
    for text in [
        "10.1.6.0/24: unreachable (tunnel-silent), was healthy; 1 repair of the map entry",
        "10.1.6.0/24: 2 repairs of the map entry",
        "mean 0.20 ms, worst 5 s 0.50 ms",
        "no ping",
        "10.1.6.0/24: look at the tunnel. 1 error in cilium-config",
    ] {
        browser.wait(text)?;
    }
    let look = browser.look()?;
    ensure!(look.errors.is_empty() && !look.text.contains("no answer"), "{look:?}");
    Ok(())
}

/// A VTEP from a custom resource may be any gateway: the page calls it by its name. Its failover is a move.
#[test]
fn a_vtep_with_a_name_is_called_by_it() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let mut browser = Browser::start(&lab)?;
    let mut status = status(&agent)?;
    status.vteps[0].name = Some("vpc-gateway".into());
    let look = browser.views("named", Some(&status), "Both VTEPs reach the pods of worker-1")?;
    for seen in ["10.1.6.0/24 at 10.169.72.34", "vpc-gateway reaches the pods", "BIG-IP 10.169.72.36", "FDB on BIG-IP"]
    {
        ensure!(look.text.contains(seen), "no {seen} in {}", look.text);
    }
    status.vteps[1].name = Some("the-longest-name-of-an-endpoint-that-a-custom-resource-permits".into());
    status.bigip.fdb_record = None;
    (status.config.truth, status.config.truth_reason) = (Truth::Crd, "cilium-config has no lists".into());
    let object = |name: &str, applies| ObjectStatus {
        name: format!("CiliumVTEPConfig/{name}"),
        version: "v2".into(),
        applies,
        synced: Some(false),
    };
    status.config.objects = vec![object("gateways", true), object("others", false)];
    let look = browser.views("all-named", Some(&status), "Both VTEPs reach the pods of worker-1")?;
    ensure!(!look.text.contains("BIG-IP"), "{}", look.text);
    let source = "custom resources: cilium-config has no lists\nCiliumVTEPConfig/gateways (v2), not synced by Cilium";
    ensure!(look.text.contains(source) && !look.text.contains("others"), "{}", look.text);

    let state = |verdict: &str| json!({"verdict": verdict, "cause": null});
    let place = |n: u8, mac: u8| json!({"endpoint": format!("10.0.0.{n}"), "mac": format!("02:00:00:00:00:0{mac}")});
    let change = |from: Value, to: Value, verdict: &str| {
        json!({"at": "2026-01-01T00:00:00Z", "cidr": "10.1.6.0/24", "from": state("healthy"), "to": state(verdict), "repairs": 0,
               "moved": {"from": from, "to": to}})
    };
    let changes = [
        change(place(5, 5), place(6, 6), "healthy"),
        change(place(6, 6), place(6, 7), "unknown"),
        change(place(6, 7), place(7, 7), "degraded"),
    ];
    let history = json!({"changes": changes, "vteps": []});
    browser.ask(&json!({"do": "open", "url": Browser::url(), "width": 1280, "status": status, "history": history}))?;
    browser.wait("moved: 10.0.0.5 → 10.0.0.6")?;
    let look = browser.look()?;
    let lines: Vec<_> =
        look.text.lines().filter_map(|line| Some(&line[line.find("vpc-gateway (10.1.6.0/24): ")?..])).collect();
    let expected = [
        "vpc-gateway (10.1.6.0/24): moved: 10.0.0.5 → 10.0.0.6",
        "vpc-gateway (10.1.6.0/24): moved: MAC 02:00:00:00:00:06 → 02:00:00:00:00:07",
        "vpc-gateway (10.1.6.0/24): moved: 10.0.0.6 → 10.0.0.7; degraded, was healthy",
    ];
    ensure!(lines == expected, "{lines:?} in {}", look.text);
    Ok(())
}

/// While the verdict is unknown, the tab does not report health.
#[test]
fn no_configuration_is_not_health() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let mut status = status(&agent)?;
    (status.config.enabled, status.config.valid) = (None, false);
    status.vteps.clear();
    status.verdict = Status::overall(None, &[]);
    let mut browser = Browser::start(&lab)?;
    browser.open(1280, "light", Some(&status))?;
    browser.wait("No configuration is in force yet")?;
    let look = browser.look()?;
    ensure!(look.errors.is_empty() && look.title.starts_with("? "), "{look:?}");
    Ok(())
}

/// VTEPs that come from another source are not trouble either.
#[test]
fn vteps_that_are_decided_elsewhere_are_said_to_be() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let mut status = status(&agent)?;
    status.config.truth = Truth::None;
    status.vteps.clear();
    status.verdict = Status::overall(status.config.enabled, &[]);
    let mut browser = Browser::start(&lab)?;
    let look = browser.views("elsewhere", Some(&status), "decided elsewhere")?;
    ensure!(look.headline == "The VTEPs of this node are decided elsewhere", "{look:?}");
    ensure!(look.text.contains("writes and deletes nothing"), "{}", look.text);
    Ok(())
}

/// All places of `/events` are taken: the page polls instead.
#[test]
fn a_page_without_live_events_asks() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let taken = (0..16).map(|_| agent.listen()).collect::<Result<Vec<_>>>()?;
    let mut browser = Browser::start(&lab)?;
    browser.open(1280, "light", None)?;
    browser.wait("asked every 5 s")?;
    ensure!(browser.look()?.headline == "Both BIG-IPs reach the pods of worker-1", "a verdict");
    lab.bigips[0].down()?;
    browser.wait("1 of 2 BIG-IPs reaches the pods of worker-1")?;
    drop(taken);
    browser.wait("live")
}

#[test]
fn a_configuration_in_error_is_shown_and_never_run() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let mut keys = Config::seed_keys();
    let markup = "<img/src=x/onerror=alert(1)>";
    keys.insert("vtep-mac".into(), format!("{markup} 00:50:56:86:6b:28"));
    lab.config.write(&keys)?;
    agent.wait_for("the error is found", HEALTHY_WITHIN, |status| status.config.stale)?;
    let mut browser = Browser::start(&lab)?;
    let look = browser.views("invalid", None, "last good values stay in force.")?;
    ensure!(look.text.contains(markup) && look.text.contains("vtep-mac, value 1"), "{}", look.text);
    Ok(())
}

#[test]
fn a_page_that_is_known_is_not_sent_again() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let mut browser = Browser::start(&lab)?;
    let headers = browser.open(1280, "light", None)?["headers"].take();
    let policy = headers["content-security-policy"].as_str().context("a policy")?;
    ensure!(policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    let etag = headers["etag"].as_str().context("an ETag")?;
    let conditional = |etag: &str| {
        agent.request(&format!("GET / HTTP/1.1\r\nHost: x\r\nIf-None-Match: {etag}\r\nConnection: close\r\n\r\n"))
    };
    let known = conditional(etag)?;
    ensure!(known.starts_with("HTTP/1.1 304 ") && known.ends_with("\r\n\r\n"), "{known}");
    ensure!(conditional("\"other\"")?.starts_with("HTTP/1.1 200 "), "a page for who knows another");
    for (method, code) in [("HEAD", 200), ("POST", 405), ("DELETE", 405)] {
        let answer = agent.request(&format!("{method} /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))?;
        ensure!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{method}: {answer}");
    }
    Ok(())
}
