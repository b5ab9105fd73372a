//! The status page in a real browser beside the agent, in every state that it can have. Screenshots are in target/screens.

#[path = "../page/driver.rs"]
pub(crate) mod driver;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ipnet::Ipv4Net;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use vtep_core::{
    config::{finding::Severity, truth::Truth, vtep_config::ObjectStatus},
    diagnosis::{Cause, Verdict},
    report::status::{PathMtu, Status, Stream, VtepStatus},
    tunnel::vtep_probes::ProbeState,
};
use vtep_lab::{Config, Lab};

use self::driver::Driver;
use crate::support::{Agent, HEALTHY_WITHIN, LISTEN, NOTICED_WITHIN, all_healthy};

/// A headless Chromium on the lab's node.
struct Browser {
    driver: Driver,
    /// In place of the agent's own.
    history: Option<Value>,
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
    /// Where each of them starts: 0 is ten minutes ago, 240 is now.
    starts: Vec<f64>,
    /// The height of each bar of lost pings; a full one has 44.
    bars: Vec<f64>,
    /// The VTEPs from top to bottom.
    vteps: Vec<String>,
    /// The number of VTEPs of which only one line is visible.
    folded: usize,
    /// The addresses of the links to the runbook.
    runbooks: Vec<String>,
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
        Ok(Self { driver: Driver::start(lab.node.command("node"))?, history: None })
    }

    fn ask(&mut self, command: &Value) -> Result<Value> {
        self.driver.ask(command)
    }

    /// Opens the page; with a status, it renders that one.
    fn open(&mut self, width: u32, scheme: &str, status: Option<&Status>) -> Result<Value> {
        let history = self.history.take();
        let command = json!({"do": "open", "url": Self::url(), "width": width, "scheme": scheme, "status": status, "history": history});
        self.history = history;
        self.ask(&command)
    }

    fn url() -> String {
        format!("http://{LISTEN}/")
    }

    fn click(&mut self, selector: &str) -> Result<()> {
        self.driver.click(selector)
    }

    fn wait(&mut self, text: &str) -> Result<()> {
        self.driver.wait(text)
    }

    fn shot(&mut self, name: &str) -> Result<()> {
        self.driver.shot(name)
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

fn status(agent: &Agent) -> Result<Status> {
    agent.status()?.context("a status")
}

#[test]
fn healthy_and_then_gone_and_then_back() -> Result<()> {
    let lab = Lab::start()?;
    let mut agent = Agent::healthy(&lab)?;
    let mut browser = Browser::start(&lab)?;
    let look = browser.views("healthy", None, "Both tunnels work from worker-1")?;
    ensure!(look.hops == 12 && look.troubled.is_empty() && look.title.starts_with('✓'), "{look:?}");
    for seen in [
        "10.1.6.0/24",
        "10.169.72.34",
        "VNI 2",
        "cilium_vxlan",
        "in-sync",
        "as configured",
        "tunnel works",
        "last check",
    ] {
        ensure!(look.text.contains(seen), "no {seen} in {}", look.text);
    }
    // An echo from the node proves nothing about a pod.
    ensure!(look.text.matches("not tested from a pod").count() == 2, "{}", look.text);
    ensure!(look.text.contains("Tested from this node, not from a pod."), "{}", look.text);
    ensure!(!look.text.contains("the pods") && !look.text.contains("in order"), "{}", look.text);

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
    browser.wait("Both tunnels work")?;
    lab.bigips[0].down()?;
    // Without user input.
    browser.wait("1 of 2 tunnels works from worker-1")?;
    let look = browser.look()?;
    ensure!(look.errors.is_empty() && look.troubled == ["Underlay"], "{look:?}");
    let hint = status(&agent)?.vteps[0].hint.clone().context("a hint")?;
    ensure!(
        look.text.matches(&hint).count() == 1 && look.text.contains("endpoint-unreachable"),
        "{hint}: {}",
        look.text
    );
    ensure!(look.text.contains("ping not answered for") && look.text.contains("pings lost"), "{}", look.text);
    // Without an address of its own, the runbook is the agent's.
    ensure!(look.runbooks == ["runbook#endpoint-unreachable"], "{:?}", look.runbooks);
    let (code, runbook) = agent.get("/runbook")?.context("an answer")?;
    ensure!(code == 200 && runbook.contains("<section id=\"endpoint-unreachable\">"), "{code}: {runbook}");
    browser.views("unreachable", None, "endpoint-unreachable")?;
    let runbook = format!("{}runbook#endpoint-unreachable", Browser::url());
    browser.ask(&json!({"do": "open", "url": runbook, "width": 390, "scheme": "dark"}))?;
    browser.shot("runbook-390-dark")?;
    ensure!(browser.look()?.headline == "Runbook: by cause", "another document");
    lab.bigips[0].up()?;
    agent.wait_for("healthy again", NOTICED_WITHIN, all_healthy)?;
    browser.open(390, "light", None)?;
    browser.wait("Both tunnels work")?;
    browser.wait("unreachable (endpoint-unreachable)")
}

/// The page with each cause in turn; the rest of the status is real.
#[test]
fn every_cause_has_its_place() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let mut browser = Browser::start(&lab)?;
    let real = status(&agent)?;
    for &cause in Cause::ALL.iter().filter(|cause| !cause.is_remark()) {
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
        ensure!(look.headline.contains("of 2 tunnels"), "{cause}: {}", look.headline);
        ensure!(look.text.matches(&format!("do this about {cause}")).count() == 1, "twice: {}", look.text);
        ensure!(look.runbooks == [format!("https://runbook.example.com#{cause}")], "{:?}", look.runbooks);
        browser.shot(&format!("cause-{cause}"))?;
    }
    // One cause has two verdicts: if ping was answered before, the VTEP is now unreachable.
    let mut status = real.clone();
    (status.verdict, status.vteps[0].verdict) = (Verdict::Unreachable, Verdict::Unreachable);
    (status.vteps[0].cause, status.vteps[0].hint) = (Some(Cause::NoReturnPath), Some("the way back is lost".into()));
    browser.open(1280, "light", Some(&status))?;
    browser.wait("the way back is lost")?;
    let look = browser.look()?;
    ensure!(look.headline == "1 of 2 tunnels works from worker-1", "{}", look.headline);

    let mut status = real;
    (status.verdict, status.vteps[0].verdict) = (Verdict::Degraded, Verdict::Degraded);
    (status.vteps[0].cause, status.vteps[0].hint) = (Some(Cause::PacketLoss), Some("7 % are lost".into()));
    browser.views("degraded", Some(&status), "works, but not well")?;
    let look = browser.look()?;
    ensure!(look.headline == "2 of 2 tunnels work from worker-1, 1 of them not well", "{}", look.headline);
    ensure!(look.title.starts_with("! "), "{}", look.title);
    Ok(())
}

/// A point of the history, `ago` seconds before the newest.
fn point(ago: u64, rtt_us: Option<u64>, received: u64, lost: u64) -> Value {
    let at = Timestamp::UNIX_EPOCH + Duration::from_secs(1_000_000 - ago);
    json!({"at": at, "rtt_us": rtt_us, "received": received, "lost": lost})
}

/// While BIG-IP's own frames show a working tunnel, the agent skips most rounds of probes: most points have no answer, and no loss.
#[test]
fn round_trips_are_a_line_over_what_was_not_asked() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let mut browser = Browser::start(&lab)?;
    let vtep = &status(&agent)?.vteps[0];
    let mut length = |points: &[(Option<u64>, u64)]| {
        let times = (0..points.len() as u64).rev().map(|n| 5 * n);
        let point =
            |((rtt_us, lost), ago): (&(Option<u64>, u64), u64)| point(ago, *rtt_us, u64::from(rtt_us.is_some()), *lost);
        let points: Vec<Value> = points.iter().zip(times).map(point).collect();
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
    let change = |to: Value, repairs, route_repairs| {
        let from = json!({"verdict": "healthy", "cause": null});
        json!({"at": at, "cidr": "10.1.6.0/24", "from": from, "to": to, "repairs": repairs, "route_repairs": route_repairs})
    };
    let changes = [
        change(json!({"verdict": "unreachable", "cause": "tunnel-silent"}), 1, 0),
        change(json!({"verdict": "healthy", "cause": null}), 2, 1),
        change(json!({"verdict": "healthy", "cause": null}), 0, 3),
    ];
    let vteps = [
        json!({"cidr": "10.1.6.0/24", "points": [point(5, Some(100), 3, 0), point(0, Some(500), 1, 0)]}),
        json!({"cidr": "10.1.5.0/24", "points": [point(0, None, 0, 0)]}),
    ];
    let history = json!({"changes": changes, "vteps": vteps});
    let mut browser = Browser::start(&lab)?;
    browser.ask(&json!({"do": "open", "url": Browser::url(), "width": 1280, "status": status, "history": history}))?;
    for text in [
        "10.1.6.0/24: unreachable (tunnel-silent), was healthy; 1 repair of the map entry",
        "10.1.6.0/24: 2 repairs of the map entry; 1 repair of routes and rules",
        "10.1.6.0/24: 3 repairs of routes and rules",
        "mean 0.20 ms, worst 5 s 0.50 ms",
        "no ping",
        "10.1.6.0/24: tunnel-silent. 1 error in cilium-config",
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
    let look = browser.views("named", Some(&status), "Both tunnels work from worker-1")?;
    for seen in ["10.1.6.0/24 at 10.169.72.34", "vpc-gateway", "BIG-IP 10.169.72.36", "FDB on BIG-IP"] {
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
    let look = browser.views("all-named", Some(&status), "Both tunnels work from worker-1")?;
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

/// The status with this many VTEPs, all of them healthy.
fn with_vteps(real: &Status, count: u8) -> Status {
    let vtep = |n: u8| VtepStatus {
        cidr: Ipv4Net::new([10, 1, n, 0].into(), 24).expect("24 is a prefix length"),
        endpoint: [10, 169, 72, 30 + n].into(),
        ..real.vteps[0].clone()
    };
    Status { vteps: (1..=count).map(vtep).collect(), ..real.clone() }
}

/// Also makes the screenshots of one VTEP and of eight.
#[test]
fn trouble_comes_first_and_many_healthy_vteps_are_folded() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let mut browser = Browser::start(&lab)?;
    let real = status(&agent)?;
    let points: Vec<_> =
        (0..120).rev().map(|n| point(5 * n, Some(400 + n % 7 * 20), 5, u64::from(n % 50 == 9))).collect();
    let track = |n: u8| json!({"cidr": format!("10.1.{n}.0/24"), "points": points});
    browser.history = Some(json!({"changes": [], "vteps": (1..=8).map(track).collect::<Vec<_>>()}));
    let look = browser.views("one", Some(&with_vteps(&real, 1)), "The tunnel works from worker-1")?;
    ensure!(look.vteps.len() == 1 && look.folded == 0 && look.hops == 6, "{look:?}");
    let look = browser.views("three", Some(&with_vteps(&real, 3)), "All 3 tunnels work from worker-1")?;
    ensure!(look.vteps.len() == 3 && look.folded == 0, "{look:?}");
    let look = browser.views("eight-healthy", Some(&with_vteps(&real, 8)), "All 8 tunnels work from worker-1")?;
    ensure!(look.vteps.len() == 8 && look.folded == 8, "{look:?}");

    let mut status = with_vteps(&real, 8);
    for (n, cause) in [(3, Cause::PacketLoss), (6, Cause::TunnelSilent)] {
        let vtep = &mut status.vteps[n];
        (vtep.cause, vtep.verdict, vtep.hint) = (Some(cause), cause.verdict(), Some(format!("do this about {cause}")));
    }
    status.vteps[6].probes.icmp.state = ProbeState::Failed;
    status.vteps[6].probes.arp.state = ProbeState::Failed;
    status.verdict = Verdict::Unreachable;
    let look = browser.views("eight", Some(&status), "7 of 8 tunnels work from worker-1, 1 of them not well")?;
    let order = ["10.1.7.0/24", "10.1.4.0/24", "10.1.1.0/24", "10.1.2.0/24", "10.1.3.0/24", "10.1.5.0/24"];
    ensure!(look.vteps[..6] == order && look.folded == 6, "{look:?}");
    ensure!(look.troubled == ["BIG-IP", "Tunnel self IP"], "the hops without an answer: {:?}", look.troubled);
    ensure!(look.text.contains("10.1.7.0/24: tunnel-silent; 10.1.4.0/24: packet-loss"), "{}", look.text);

    // An opened one stays open while the page is drawn anew.
    browser.open(1280, "light", Some(&with_vteps(&real, 8)))?;
    browser.wait("All 8 tunnels work")?;
    browser.click("summary")?;
    browser.click("#utc")?;
    browser.wait("VTEP map")?;
    ensure!(browser.look()?.folded == 7, "the opened one is folded again");
    Ok(())
}

/// A dead BIG-IP's values are those of some time ago. A state and the number beside it agree.
#[test]
fn old_values_are_dated_and_numbers_have_a_window() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let mut status = status(&agent)?;
    // Hours, because the pictures take a while on a busy machine.
    let ago = |minutes: i64| Timestamp::now().checked_sub(SignedDuration::from_mins(minutes)).ok();
    let vtep = &mut status.vteps[0];
    (vtep.cause, vtep.verdict) = (Some(Cause::EndpointUnreachable), Verdict::Unreachable);
    (vtep.hint, vtep.since) = (Some("look at it".into()), ago(720));
    for probe in [&mut vtep.probes.underlay, &mut vtep.probes.arp, &mut vtep.probes.icmp] {
        (probe.state, probe.answered_at, probe.observed_at) = (ProbeState::Failed, ago(720), ago(720));
        (probe.recent, probe.recent_lost, probe.loss) = (97, 14, 0.14);
    }
    let stream = |vni, seconds| Stream { port: 8472, vni, mac: vtep.mac, packets: 7, last_seen_at: ago(seconds) };
    vtep.seen.streams = vec![stream(2, 720), stream(68, 120)];
    for vtep in &mut status.vteps {
        vtep.probes.path_mtu = PathMtu { state: ProbeState::Ok, inner_mtu: Some(1450) };
    }
    let probes = &mut status.vteps[1].probes;
    (probes.arp.observed_at, probes.icmp.recent, probes.icmp.recent_lost) = (ago(-10), 100, 0);
    status.verdict = Verdict::Unreachable;
    let mut browser = Browser::start(&lab)?;
    let look = browser.views("dead", Some(&status), "1 of 2 tunnels works from worker-1")?;
    for seen in [
        "ping not answered for 12 h",
        "14 of the last 97 pings lost",
        "MAC 00:50:56:a0:7d:d8, seen 12 h ago",
        "VNI 2, UDP 8472, seen 12 h ago",
        "VNI 68, UDP 8472, seen 2 h ago",
        "none of the last 100 pings lost",
        "(12 h): look at it.",
    ] {
        ensure!(look.text.contains(seen), "no {seen} in {}", look.text);
    }
    ensure!(!look.text.contains(" %") && look.troubled == ["Underlay"], "{look:?}");
    // A MAC that was seen a moment ago has no date.
    ensure!(look.text.contains("MAC 00:50:56:86:6b:28\n"), "{}", look.text);
    // A size that passed before the outage says nothing now.
    ensure!(look.text.matches("inner packets up to").count() == 1, "{}", look.text);
    Ok(())
}

/// Before `/history` has arrived nothing is known; the graphs are as long as their labels say; one lost ping is no outage.
#[test]
fn graphs_show_what_their_labels_say() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let mut browser = Browser::start(&lab)?;
    browser.ask(&json!({"do": "open", "url": Browser::url(), "width": 1280, "history": "never"}))?;
    browser.wait("loading")?;
    let look = browser.look()?;
    ensure!(look.text.matches("loading").count() == 4 && !look.text.contains("no ping"), "{}", look.text);

    let vtep = &status(&agent)?.vteps[0];
    let mut look = |points: Vec<Value>| {
        let history = json!({"changes": [], "vteps": [{"cidr": vtep.cidr, "points": points}]});
        browser.ask(&json!({"do": "open", "url": Browser::url(), "width": 1280, "history": history}))?;
        browser.wait("none since the agent started")?;
        browser.look()
    };
    // Two minutes are a fifth of the graph, at its end.
    let minutes = |minutes: u64| (0..minutes * 12).rev().map(|n| point(5 * n, Some(200), 5, 0)).collect();
    let seen = look(minutes(2))?;
    ensure!((190.0..194.0).contains(&seen.starts[0]) && (46.0..50.0).contains(&seen.lines[0]), "{seen:?}");
    ensure!(
        seen.text.contains("Round trip, last 10 minutes")
            && seen.text.contains("none of 120 pings, recorded for 2 min"),
        "{}",
        seen.text
    );
    let seen = look(minutes(10))?;
    ensure!(seen.starts[0] < 3.0 && !seen.text.contains("recorded for"), "{seen:?}");
    // Older points are not drawn, and none of their pings is counted.
    let seen = look([point(3600, Some(900), 5, 5)].into_iter().chain(minutes(10)).collect())?;
    ensure!(seen.starts[0] < 3.0 && seen.bars.is_empty() && seen.text.contains("none of 600 pings"), "{seen:?}");
    // The agent was away.
    let seen = look(vec![point(300, Some(200), 5, 0), point(0, Some(200), 5, 0)])?;
    ensure!(seen.lines[0] == 0.0, "a line over a time of which nothing is known: {seen:?}");

    let full = 44.0;
    let seen = look(vec![point(5, None, 0, 0), point(0, None, 0, 1)])?;
    ensure!(seen.bars.len() == 1 && seen.bars[0] < full / 4.0, "the first lost ping of a start: {:?}", seen.bars);
    let seen = look((0..4).rev().map(|n| point(5 * n, None, 0, 5)).collect())?;
    ensure!(seen.bars == [full; 4], "an outage: {:?}", seen.bars);
    // The same with a ping every ten seconds, once enough are lost.
    let seen = look((0..12).rev().map(|n| point(5 * n, None, 0, n % 2)).collect())?;
    ensure!(seen.bars.last() == Some(&full) && seen.bars[0] < full / 4.0, "a slow outage: {:?}", seen.bars);
    Ok(())
}

/// An incident is written up elsewhere: a time has a date and a zone.
#[test]
fn times_have_date_and_zone_and_are_in_utc_on_request() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let mut status = status(&agent)?;
    status.started_at = "2026-01-01T00:00:00Z".parse()?;
    let state = |verdict: &str| json!({"verdict": verdict, "cause": null});
    let change = json!({"at": "2026-06-30T22:30:00Z", "cidr": "10.1.6.0/24", "from": state("unknown"), "to": state("healthy"), "repairs": 0});
    let history = json!({"changes": [change], "vteps": []});
    let mut browser = Browser::start(&lab)?;
    browser.ask(&json!({"do": "open", "url": Browser::url(), "width": 1280, "zone": "Europe/Berlin", "status": status, "history": history}))?;
    browser.wait("2026-07-01 00:30:00 CEST")?;
    let look = browser.look()?;
    ensure!(look.errors.is_empty() && !look.text.contains("2026-06-30 22:30:00"), "{look:?}");
    browser.click("#utc")?;
    browser.wait("2026-06-30 22:30:00 UTC")?;
    let look = browser.look()?;
    ensure!(look.errors.is_empty() && !look.text.contains("CEST") && !look.text.contains(" CET"), "{look:?}");
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
    ensure!(browser.look()?.headline == "Both tunnels work from worker-1", "a verdict");
    lab.bigips[0].down()?;
    browser.wait("1 of 2 tunnels works from worker-1")?;
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
