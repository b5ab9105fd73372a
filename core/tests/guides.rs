//! Documents for readers who decide, and for readers of Chinese: what they say agrees with its source.

use std::{collections::BTreeSet, fs, path::Path};

use vtep_core::diagnosis::Cause;

fn read(path: &str) -> String {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn sections(document: &str) -> BTreeSet<&str> {
    document.lines().filter_map(|line| line.strip_prefix("## ")).collect()
}

/// Alerts, Events and `/status` link to a section for each cause.
#[test]
fn the_chinese_runbook_has_a_section_for_each_cause() {
    let (chinese, english) = (read("docs/runbook.zh-CN.md"), read("docs/runbook.md"));
    let missing: Vec<_> =
        Cause::ALL.iter().map(|cause| cause.id()).filter(|id| !sections(&chinese).contains(id)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(sections(&chinese), sections(&english));
    // The table of causes: the same verdicts, hops and alerts.
    let rows = |text: &str| text.lines().filter(|line| line.starts_with("| [`")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(rows(&chinese).len(), rows(&english).len());
    for (chinese, english) in rows(&chinese).iter().zip(rows(&english)) {
        assert_eq!(*chinese, english.replace("| none |", "| 无 |"));
    }
}

/// Commands and addresses are not translated.
#[test]
fn the_chinese_documents_have_the_same_blocks() {
    for (chinese, english) in
        [("deploy/README.zh-CN.md", "deploy/README.md"), ("docs/runbook.zh-CN.md", "docs/runbook.md")]
    {
        let blocks = |path: &str| {
            let text = read(path);
            let fenced: Vec<_> = text.split("\n```").skip(1).step_by(2).map(str::to_owned).collect();
            let indented: Vec<_> = text.lines().filter(|line| line.starts_with("    ")).map(str::to_owned).collect();
            (fenced, indented)
        };
        assert!(!blocks(chinese).1.is_empty());
        assert_eq!(blocks(chinese), blocks(english), "{chinese}");
    }
}

/// The median of a row in docs/figures.md, without its unit.
fn figure(name: &str) -> f64 {
    let figures = read("docs/figures.md");
    let row = figures.lines().find(|line| line.starts_with(&format!("| {name} |"))).expect("a figure");
    let median = row.split(" | ").nth(3).expect("a median");
    median.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// `130`, `1.7` and `102 kB`: two digits of what is below ten.
fn shown(value: f64, bytes: bool) -> String {
    let (value, unit) = match value {
        value if bytes && value >= 1e6 => (value / 1e6, " MB"),
        value if bytes && value >= 1e3 => (value / 1e3, " kB"),
        value => (value, if bytes { " B" } else { "" }),
    };
    let digits = match value {
        value if value < 0.995 => 2,
        value if value < 9.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    // A whole number of requests is one.
    if !bytes && value.fract() == 0.0 { format!("{value:.0}{unit}") } else { format!("{text}{unit}") }
}

#[test]
fn the_capacity_follows_from_the_figures() {
    let text = read("docs/capacity.md");
    let fleets = [10.0, 100.0, 1000.0];
    // An agent opens each of its five watches again after 290 s.
    let watches = 5.0 / 290.0;
    let rows = [
        ("all agents start: requests", figure("one-agent-start-requests"), false),
        ("all agents start: bytes", figure("one-agent-start-bytes"), true),
        ("steady: requests per second", watches, false),
        ("an edit of the lists: bytes", figure("one-agent-edit-bytes"), true),
        ("back after an outage: requests", figure("one-agent-return-requests"), false),
        ("back after an outage: bytes", figure("one-agent-return-bytes"), true),
    ];
    for (name, one, bytes) in rows {
        let cells: Vec<_> = fleets.iter().map(|fleet| shown(one * fleet, bytes)).collect();
        let row = format!("| {name} | {} |", cells.join(" | "));
        assert!(text.contains(&row), "{row}");
    }
    // A round has at most four packets; with traffic, one round in ten goes out; after a loss, the next one comes after a quarter of the time.
    for (name, interval, share) in [
        ("no traffic, `probe.interval: 1s`", 1.0, 1.0),
        ("traffic to every node, `probe.interval: 1s`", 1.0, 0.1),
        ("no traffic, `probe.interval: 5s`", 5.0, 1.0),
        ("traffic to every node, `probe.interval: 5s`", 5.0, 0.1),
        ("packets are lost, `probe.interval: 1s`", 1.0, 4.0),
        ("packets are lost, `probe.interval: 5s`", 5.0, 4.0),
    ] {
        let cells: Vec<_> = fleets.iter().map(|fleet| format!("{}", 4.0 * fleet * share / interval)).collect();
        let row = format!("| {name} | {} |", cells.join(" | "));
        assert!(text.contains(&row), "{row}");
    }
}

#[test]
fn the_cost_of_an_agent_is_the_measured_one() {
    let cost = (figure("steady-share-of-core"), figure("memory-with-api-server"));
    let (share, memory) = (format!("{:.1} % of a core", cost.0), format!("{:.0} MB", cost.1));
    for path in ["docs/compared.md", "docs/capacity.md"] {
        let text = read(path);
        assert!(text.contains(&share) && text.contains(&memory), "{path}: {share}, {memory}");
    }
}

/// The walk breaks and repairs with commands that the other document explains.
#[test]
fn the_walk_uses_commands_that_are_explained() {
    let (walk, explained) = (read("docs/walk.md"), read("docs/try-without-bigip.md"));
    let commands: Vec<_> = walk.lines().filter_map(|line| line.strip_prefix("    bigip1 ")).collect();
    assert_eq!(commands.len(), 2);
    for command in commands {
        assert!(explained.contains(&format!("`bigip1 {command}`")), "{command}");
    }
}
