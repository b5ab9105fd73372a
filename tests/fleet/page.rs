//! The page of `vtep-agent fleet --listen`: over HTTP, and in a real browser with 500 nodes. Screenshots are in target/screens.

#[path = "../page/driver.rs"]
mod driver;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use vtep_apiserver::{Fault, Matcher, Times, Verb};
use vtep_core::types::digest;

use self::driver::Driver;
use crate::cluster::{Agent, Cluster, Page, healthy, silent};

const NODES: usize = 500;
const BROKEN: &str = "10.1.5.0/24";
/// Long enough for any answer on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The command that serves the page.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(cluster: &Cluster) -> Result<Self> {
        let mut child = cluster.command(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn()?;
        let mut url = String::new();
        BufReader::new(child.stdout.take().context("a pipe")?).read_line(&mut url)?;
        Ok(Self { child, url: url.trim().to_owned() })
    }

    fn address(&self) -> &str {
        self.url.trim_start_matches("http://").trim_end_matches('/')
    }

    /// Status line, headers and body.
    fn get(&self, path: &str, host: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.address())?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// The report of the first event of the stream that has one.
    fn report(&self) -> Result<Value> {
        self.events("/events")?.next(|event| !event.is_null())
    }

    fn events(&self, path: &str) -> Result<Events> {
        let mut stream = TcpStream::connect(self.address())?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        Ok(Events(BufReader::new(stream)))
    }
}

/// A stream of events. Its page is open until this is dropped.
struct Events(BufReader<TcpStream>);

impl Events {
    /// The next event like this.
    fn next(&mut self, is_wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut line = String::new();
        while self.0.read_line(&mut line)? > 0 {
            if let Some(json) = line.strip_prefix("data: ") {
                let event = serde_json::from_str(json)?;
                if is_wanted(&event) {
                    return Ok(event);
                }
            }
            line.clear();
        }
        anyhow::bail!("the stream ended")
    }
}

/// Looks again until it is so.
fn until(what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + TIMEOUT;
    while !is_so()? {
        ensure!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug, Deserialize)]
struct Look {
    headline: String,
    text: String,
    overflow: i64,
    cells: usize,
    rows: Vec<String>,
    errors: Vec<String>,
    elsewhere: Vec<String>,
    violations: Vec<String>,
    checked: usize,
}

fn small() -> Result<Cluster> {
    let cluster = Cluster::start()?;
    cluster.add("worker-1", "a", Agent::Answers(healthy("worker-1")))?;
    cluster.add("worker-2", "b", Agent::Answers(silent("worker-2", BROKEN, "2026-11-27T08:00:00Z")))?;
    Ok(cluster)
}

#[test]
fn the_report_comes_as_events_and_the_pages_of_agents_through_the_proxy() -> Result<()> {
    let cluster = small()?;
    let server = Server::start(&cluster)?;
    assert_eq!(server.report()?["summary"]["healthy"], 1);
    let page = server.get("/nodes/worker-1/", "localhost")?;
    ensure!(page.starts_with("HTTP/1.1 200") && page.contains("The page of worker-1"), "{page}");
    let status = server.get("/nodes/worker-2/status", "127.0.0.1")?;
    ensure!(status.contains("\"tunnel-silent\""), "{status}");
    for (path, code) in [("/nodes/worker-9/", 404), ("/nodes/worker-1/secret", 404), ("/other", 404), ("/fleet", 200)] {
        let answer = server.get(path, "localhost")?;
        ensure!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{path}: {answer}");
    }
    Ok(())
}

/// Another site's page, under a name that leads to 127.0.0.1, would have the rights of the person.
#[test]
fn only_local_names_are_answered() -> Result<()> {
    let cluster = small()?;
    let server = Server::start(&cluster)?;
    for (host, code) in [
        ("localhost:9809", 200),
        ("127.0.0.1", 200),
        ("[::1]:9809", 200),
        ("evil.example.com", 421),
        ("localhost.evil.example.com:9809", 421),
        ("10.0.0.1", 421),
    ] {
        let answer = server.get("/", host)?;
        ensure!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{host}: {answer}");
    }
    let outcome = cluster.fleet(&["--listen", "0.0.0.0:0"])?;
    ensure!(outcome.code == Some(1) && outcome.err.contains("only a loopback address"), "{outcome:?}");
    Ok(())
}

#[test]
fn with_exec_alone_there_is_a_report_and_no_page_of_a_node() -> Result<()> {
    let cluster = small()?;
    cluster.server.misbehave(Matcher::all().resource("pods/portforward"), Fault::Forbidden, Times::Always);
    let server = Server::start(&cluster)?;
    assert_eq!(server.report()?["summary"]["answered"], 2);
    let answer = server.get("/nodes/worker-1/", "localhost")?;
    ensure!(
        answer.starts_with("HTTP/1.1 502") && answer.contains("you lack the right to get pods/portforward"),
        "{answer}"
    );
    Ok(())
}

/// The page of a node is open, and the API server does not list pods for a while.
#[test]
fn a_failed_round_forgets_no_agent() -> Result<()> {
    let cluster = small()?;
    let server = Server::start(&cluster)?;
    let mut events = server.events("/events")?;
    events.next(|event| event["summary"]["answered"] == 2)?;
    cluster.server.misbehave(Matcher::all().resource("pods").verb(Verb::List), Fault::Forbidden, Times::Always);
    events.next(|event| event["error"].is_string())?;
    let page = server.get("/nodes/worker-1/", "localhost")?;
    ensure!(page.starts_with("HTTP/1.1 200"), "{page}");
    Ok(())
}

/// Nobody looks at the report; the page of a node may need to find its agent's next pod.
#[test]
fn the_page_of_a_node_keeps_the_agents_known() -> Result<()> {
    let cluster = small()?;
    let server = Server::start(&cluster)?;
    until("the first round", || Ok(server.get("/fleet", "localhost")?.contains("\"summary\"")))?;
    // It comes after the round, so the next one has to be asked for.
    cluster.add("worker-3", "a", Agent::Answers(healthy("worker-3")))?;
    until("a request has the agents looked for", || {
        Ok(server.get("/nodes/worker-3/", "localhost")?.starts_with("HTTP/1.1 200"))
    })?;
    let mut events = server.events("/nodes/worker-3/events")?;
    events.next(|event| event["node"] == "worker-3")?;
    let rounds = || {
        let requests = cluster.server.requests();
        requests.iter().filter(|request| request.verb == Verb::List && request.query.contains("component")).count()
    };
    // One more round may have been asked for by the requests before.
    let before = rounds();
    until("rounds go on", || Ok(rounds() >= before + 3))?;
    Ok(())
}

/// The page of an agent of this version, with its own policy.
fn own_page() -> Page {
    let style = include_str!("../../src/http/page/page.css");
    let script = include_str!("../../src/http/page/page.js");
    let html = include_str!("../../src/http/page/page.html");
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        digest::base64(script),
        digest::base64(style)
    );
    Page { html: html.replace("/*style*/", style).replace("/*script*/", script), policy }
}

#[test]
fn the_page_of_a_node_works_through_the_proxy() -> Result<()> {
    let cluster = Cluster::start()?;
    let mut status = silent("worker-1", BROKEN, "2026-11-27T08:00:00Z");
    for vtep in status["vteps"].as_array_mut().into_iter().flatten() {
        vtep["seen"]["pods"] = json!({});
    }
    cluster.add("worker-1", "a", Agent::Serves(own_page(), status))?;
    let server = Server::start(&cluster)?;
    server.report()?;
    let mut browser = Driver::start(Command::new("node"))?;
    // Under each name that a browser may know.
    for url in [server.url.clone(), server.url.replace("127.0.0.1", "localhost")] {
        browser.ask(&json!({"do": "open", "url": format!("{url}nodes/worker-1/"), "width": 1280}))?;
        browser.wait("live")?;
        browser.wait("answers ping beside the tunnel and nothing")?;
        browser.wait("none since the agent started")?;
        let look: Look = serde_json::from_value(browser.ask(&json!({"do": "look"}))?)?;
        // Chromium warns of the sandbox of a frame, which its page could take away; nobody can take away that of a header.
        let errors: Vec<_> = look.errors.iter().filter(|error| !error.contains("can escape its sandboxing")).collect();
        ensure!(errors.is_empty() && look.elsewhere.is_empty(), "{look:?}");
    }
    let answer = server.get("/nodes/worker-1/", "[::1]:9809")?;
    ensure!(answer.to_lowercase().contains("location: http://localhost:9809/nodes/worker-1/\r\n"), "{answer}");
    Ok(())
}

/// What whoever took a node over might send in place of the agent's page.
const HOSTILE: &str = r#"<!doctype html><title>hostile</title><h1>begun</h1><script>
const said = [];
const read = async (path) => { const answer = await fetch(path); return (await answer.text()).includes("worker"); };
const streamed = (path) => new Promise((done) => {
  const events = new EventSource(path);
  events.onmessage = () => done(true);
  events.onerror = () => done(false);
});
const framed = () => new Promise((done) => {
  const frame = document.createElement("iframe");
  frame.onload = frame.onerror = () => done(Boolean(frame.contentDocument?.body.textContent.includes("worker")));
  frame.src = "/fleet";
  document.body.append(frame);
  setTimeout(() => done(false), 2000);
});
const tries = {
  "its own": () => read("status"),
  "the report": () => read("/fleet"),
  "the stream": () => streamed("/events"),
  "another node": () => read("/nodes/worker-2/status"),
  "a longer name": () => read("/nodes/worker-10/status"),
  "a window": async () => Boolean(window.open("/")),
  "a frame": framed,
};
(async () => {
  for (const [what, attempt] of Object.entries(tries)) if (await attempt().catch(() => false)) said.push(what);
  document.querySelector("h1").textContent = `reached: ${said.join(", ")}.`;
})();
</script>"#;

#[test]
fn a_hostile_page_reads_from_its_own_node_only() -> Result<()> {
    let cluster = Cluster::start()?;
    let hostile = Page { html: HOSTILE.to_owned(), policy: "default-src * 'unsafe-inline'".into() };
    cluster.add("worker-1", "a", Agent::Serves(hostile, healthy("worker-1")))?;
    for node in ["worker-2", "worker-10"] {
        cluster.add(node, "a", Agent::Answers(healthy(node)))?;
    }
    let server = Server::start(&cluster)?;
    assert_eq!(server.report()?["summary"]["answered"], 3);
    let mut browser = Driver::start(Command::new("node"))?;
    browser.ask(&json!({"do": "open", "url": format!("{}nodes/worker-1/", server.url), "width": 1280}))?;
    browser.wait("reached: ")?;
    let look = browser.ask(&json!({"do": "look"}))?;
    assert_eq!(look["headline"], "reached: its own.");
    Ok(())
}

/// It takes longer than 20 s: a browser draws and checks a thousand cells in two widths and two colour schemes.
#[test]
fn five_hundred_nodes_in_a_browser() -> Result<()> {
    let cluster = Cluster::start()?;
    for number in 1..=NODES {
        let node = format!("worker-{number}");
        let agent = match number {
            7 => Agent::Dead,
            489.. => Agent::Answers(silent(&node, BROKEN, "2026-11-27T08:00:00Z")),
            _ => Agent::Answers(healthy(&node)),
        };
        cluster.add(&node, if number > 480 { "b" } else { "a" }, agent)?;
    }
    let server = Server::start(&cluster)?;
    let mut browser = Driver::start(Command::new("node"))?;
    for (width, scheme) in [(1280, "light"), (390, "dark"), (390, "light"), (1280, "dark")] {
        browser.ask(&json!({"do": "open", "url": server.url, "width": width, "scheme": scheme}))?;
        browser.wait("487 of 499 nodes healthy")?;
        let look: Look = serde_json::from_value(browser.ask(&json!({"do": "look"}))?)?;
        let at = format!("{width} pixels, {scheme}");
        ensure!(look.violations.is_empty() && look.checked > 10, "{at}: axe-core: {:#?}", look.violations);
        ensure!(look.overflow <= 0, "{at}: {} pixels stick out", look.overflow);
        ensure!(look.errors.is_empty() && look.elsewhere.is_empty(), "{at}: {look:?}");
        assert_eq!(look.headline, "487 of 499 nodes healthy, 12 with trouble, 1 without an answer");
        assert_eq!(look.cells, 2 * (NODES - 1));
        assert_eq!(look.rows.len(), 2);
        for seen in [
            "worker-[489-500]",
            "all in zone b (12 of 20)",
            "tunnel-silent",
            "a port-forward does not reach it",
            "since",
        ] {
            ensure!(look.text.contains(seen), "no {seen} in {}", look.text);
        }
        browser.shot(&format!("fleet-{width}-{scheme}"))?;
    }
    // A cell leads to the page of its node.
    browser.click("a[aria-label^=\"worker-489: unreachable\"]")?;
    browser.wait("The page of worker-489")?;
    Ok(())
}

#[test]
fn the_page_follows_the_fleet_and_says_when_it_cannot() -> Result<()> {
    let cluster = small()?;
    let server = Server::start(&cluster)?;
    let mut browser = Driver::start(Command::new("node"))?;
    browser.ask(&json!({"do": "open", "url": server.url, "width": 1280}))?;
    browser.wait("1 of 2 nodes healthy")?;
    cluster.add("worker-3", "a", Agent::Answers(healthy("worker-3")))?;
    browser.wait("2 of 3 nodes healthy")?;
    cluster.server.stop()?;
    browser.wait("the API server cannot be reached")?;
    cluster.server.resume()?;
    browser.wait("live")?;
    drop(server);
    browser.wait("what is below is old")?;
    Ok(())
}
