//! Whole fleets, from JSON to the report.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    Member, NodeObject,
    common::Attribute,
    differences::Property,
    report::{Collected, Outcome, Report, Summary},
    selection::Selection,
    status::AgentStatus,
};
use crate::diagnosis::Verdict;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
const OLD: SignedDuration = SignedDuration::from_hours(24 * 90);

fn status(number: usize, vteps: &Value) -> Value {
    json!({
        "node": format!("worker-{number}"), "version": "0.1.0", "mode": "enforce",
        "config": { "hash": "1a072cc64ecf", "stale": false, "enabled": true, "truth": "configmap" },
        "kernel": { "release": "6.1.0" }, "cilium": { "version": "1.18.8" },
        "bigip": { "fdb_record": { "mac": format!("0a:0a:0a:00:00:{number:02x}"), "endpoint": format!("10.0.0.{number}") } },
        "vteps": vteps,
    })
}

fn vtep(cidr: &str, endpoint: &str) -> Value {
    json!({ "cidr": cidr, "endpoint": endpoint, "verdict": "healthy", "cause": null, "also": [] })
}

/// Without the FDB record of the node on BIG-IP.
fn silent(number: usize, since: &str) -> Value {
    let hint =
        format!("add the FDB record 0a:0a:0a:00:00:{number:02x} with endpoint 10.0.0.{number} on BIG-IP 10.169.72.34");
    json!({
        "cidr": "10.1.6.0/24", "endpoint": "10.169.72.34", "verdict": "unreachable", "cause": "tunnel-silent", "also": ["path-mtu"],
        "since": since, "hint": hint,
    })
}

fn member(number: usize, status: &Value) -> Member {
    Member {
        node: format!("worker-{number}"),
        pod: format!("vtep-agent-{number}"),
        about: Some(NodeObject {
            zone: Some(if number.is_multiple_of(2) { "even" } else { "odd" }.into()),
            created_at: NOW.checked_sub(OLD).ok(),
            ..NodeObject::default()
        }),
        answer: AgentStatus::read(status.to_string().as_bytes()).map_err(|error| error.to_string()),
    }
}

fn healthy(number: usize) -> Member {
    member(number, &status(number, &json!([vtep("10.1.6.0/24", "10.169.72.34"), vtep("10.1.10.0/24", "10.169.72.36")])))
}

fn broken(number: usize) -> Member {
    let vteps =
        json!([silent(number, &format!("2027-01-15T07:{number:02}:00Z")), vtep("10.1.10.0/24", "10.169.72.36")]);
    member(number, &status(number, &vteps))
}

fn report(members: Vec<Member>) -> Report {
    selected(&Selection::default(), members)
}

fn selected(selection: &Selection, members: Vec<Member>) -> Report {
    let asked = selection.asked(&members);
    Report::new(&Collected { members: selection.apply(members), asked, ..Collected::default() }, NOW)
}

#[test]
fn nodes_without_their_fdb_record_are_one_group() {
    let mut members: Vec<_> =
        (1..=40).map(|number| if number > 28 { broken(number) } else { healthy(number) }).collect();
    for young in members.iter_mut().filter_map(|member| member.about.as_mut()).skip(28) {
        young.created_at = NOW.checked_sub(SignedDuration::from_hours(5)).ok();
    }
    let report = report(members);
    assert_eq!(report.summary.to_string(), "28 of 40 nodes healthy, 12 with trouble");
    let [group] = report.trouble.as_slice() else { panic!("{:#?}", report.trouble) };
    assert_eq!((group.nodes.len(), group.of, group.verdict), (12, 40, Verdict::Unreachable));
    assert!(!group.same_hint && group.hint.as_ref().is_some_and(|hint| hint.contains("10.0.0.29")), "{group:?}");
    assert_eq!(group.hint_from, "worker-29");
    let since = [group.first_since, group.last_since].map(|at| at.map(|at| at.to_string()).unwrap_or_default());
    assert_eq!(since, ["2027-01-15T07:29:00Z", "2027-01-15T07:40:00Z"]);
    let common: Vec<_> =
        group.common.iter().map(|common| (common.attribute, common.value.as_str(), common.others)).collect();
    assert_eq!(common, [(Attribute::NodeAge, "in the last 24 hours", 0)]);
    let rows: Vec<_> =
        report.vteps.iter().map(|row| (row.vtep.cidr.as_str(), row.verdicts.unreachable, row.nodes)).collect();
    assert_eq!(rows, [("10.1.6.0/24", 12, 40), ("10.1.10.0/24", 0, 40)], "in the order of the addresses");
}

#[test]
fn a_zone_explains_a_group_unless_that_may_be_chance() {
    let common_of = |broken_nodes: &[usize]| {
        let of = |number| if broken_nodes.contains(&number) { broken(number) } else { healthy(number) };
        let report = report((1..=10).map(of).collect());
        let common = report.trouble[0].common.iter();
        common.map(|common| (common.attribute, common.value.clone(), common.others)).collect::<Vec<_>>()
    };
    let zone = |others| vec![(Attribute::Zone, "even".to_owned(), others)];
    assert_eq!(common_of(&[2, 4, 6, 8, 10]), zone(0));
    assert_eq!(common_of(&[2, 4, 6, 8]), zone(1));
    assert_eq!(common_of(&[2, 4, 6]), [], "of ten nodes, three are in the same half of them in one of twelve cases");
    assert_eq!(common_of(&[2, 3]), [], "two zones");
    assert_eq!(common_of(&[2]), [], "one node has nothing in common");
    assert_eq!(common_of(&(1..=10).collect::<Vec<_>>()), [], "all nodes have all in common");
}

#[test]
fn an_hour_is_within_the_day() {
    let of = |number| if number > 12 { broken(number) } else { healthy(number) };
    let mut members: Vec<_> = (1..=20).map(of).collect();
    let hours = |number| if number > 12 { number as i64 / 2 - 6 } else { 24 * 90 };
    for (number, member) in (1..).zip(&mut members) {
        // One of the healthy nodes is young, too.
        let age = SignedDuration::from_hours(if number == 1 { 2 } else { hours(number) });
        member.about.as_mut().expect("a Node").created_at = NOW.checked_sub(age).ok();
    }
    let common = &report(members).trouble[0].common;
    assert_eq!((common[0].value.as_str(), common[0].others), ("in the last 24 hours", 1), "{common:?}");
}

#[test]
fn another_cause_or_another_remedy_is_another_group() {
    let other = |number: usize, key: &str, value: Value| {
        let mut vtep = silent(number, "2027-01-15T07:00:00Z");
        vtep[key] = value;
        member(number, &status(number, &json!([vtep])))
    };
    let members = vec![
        other(1, "verdict", json!("degraded")),
        broken(2),
        broken(3),
        other(4, "cause", json!("cause-of-tomorrow")),
        other(5, "hint", json!("do something else")),
        other(6, "endpoint", json!("10.169.72.99")),
    ];
    let groups: Vec<_> = report(members).trouble.into_iter().map(|group| group.nodes).collect();
    assert_eq!(groups.len(), 5, "{groups:?}");
    assert_eq!(groups[0], ["worker-2", "worker-3"], "the largest of the most urgent");
    assert_eq!(groups[4], ["worker-1"], "a degraded one comes last");
}

#[test]
fn differences_have_their_nodes() {
    let mut members: Vec<_> = (1..=4).map(healthy).collect();
    let mut set = |index: usize, path: &str, value: Value| {
        let mut changed = status(index + 1, &json!([]));
        *changed.pointer_mut(path).expect("a value") = value;
        members[index].answer = AgentStatus::read(changed.to_string().as_bytes()).map_err(|error| error.to_string());
    };
    set(1, "/config/hash", json!("ffff"));
    set(2, "/mode", json!("observe"));
    set(3, "/cilium/version", Value::Null);
    let found = report(members).differences;
    let found: Vec<_> = found
        .iter()
        .map(|difference| {
            (difference.what, difference.values[1].value.as_deref(), difference.values[1].nodes.as_slice())
        })
        .collect();
    let expected = [
        (Property::ConfigHash, Some("ffff"), &["worker-2".to_owned()][..]),
        (Property::Mode, Some("observe"), &["worker-3".to_owned()]),
    ];
    assert_eq!(found, expected, "a version that one agent does not know is no difference");
}

#[test]
fn nodes_without_an_answer_are_not_healthy() {
    let mut members: Vec<_> = (1..=5).map(healthy).collect();
    members[1].answer = Err("no answer within 5s".into());
    members[2].answer = Err("its pod is Pending".into());
    members[4].answer = Err("no answer within 5s".into());
    let report = report(members);
    assert_eq!(report.summary.to_string(), "2 of 2 nodes healthy, 3 without an answer");
    assert!(!report.summary.all_healthy());
    let reasons: Vec<_> = report.unanswered.iter().map(|one| (one.reason.as_str(), one.nodes.len())).collect();
    assert_eq!(reasons, [("no answer within 5s", 2), ("its pod is Pending", 1)]);
    assert!(!Summary::default().all_healthy(), "nobody is not all");
}

#[test]
fn nodes_with_cilium_and_without_an_agent_are_known_by_their_pods() {
    let names = |numbers: &[usize]| numbers.iter().map(|number| format!("worker-{number}")).collect::<BTreeSet<_>>();
    let without = |cilium_nodes| {
        let agent_nodes = names(&[1, 2]);
        Report::new(&Collected { cilium_nodes, agent_nodes, ..Collected::default() }, NOW).without_agent
    };
    assert_eq!(without(Some(names(&[1, 2, 3]))), Some(vec!["worker-3".to_owned()]));
    assert_eq!(without(None), None);
}

#[test]
fn a_selection_decides_about_nodes_vteps_and_causes() {
    let members = || {
        let mut members = vec![healthy(1), broken(2), healthy(3)];
        members[2].answer = Err("no answer".into());
        members
    };
    let select = |nodes: &[&str], vteps: &[&str], causes: &[&str]| {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let selection = Selection { nodes: owned(nodes), vteps: owned(vteps), causes: owned(causes) };
        selected(&selection, members()).headline()
    };
    assert_eq!(select(&[], &[], &[]), "1 of 2 nodes healthy, 1 with trouble, 1 without an answer");
    assert_eq!(select(&["worker-1"], &[], &[]), "1 of 1 node healthy");
    assert_eq!(select(&["worker-[12]", "*-2"], &[], &[]), "0 of 1 node healthy, 1 with trouble");
    assert_eq!(select(&[], &["10.1.10.0/24"], &[]), "2 of 2 nodes healthy, 1 without an answer");
    assert_eq!(select(&[], &["10.169.72.34"], &[]), "1 of 2 nodes healthy, 1 with trouble, 1 without an answer");
    assert_eq!(select(&[], &[], &["tunnel-silent"]), "0 of 1 node healthy, 1 with trouble");
    assert_eq!(select(&[], &[], &["path-mtu"]), "0 of 1 node healthy, 1 with trouble", "also causes beside the first");
    assert_eq!(select(&[], &[], &["wrong-vni"]), "no node has such a cause: 2 of 3 agents answered");
}

/// That no node has a cause is good news, and that no node has a VTEP is none.
#[test]
fn what_matches_nothing_is_judged_by_those_that_answered() {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let outcome = |vteps: &[&str], causes: &[&str], answers: &[bool]| {
        let selection = Selection { vteps: owned(vteps), causes: owned(causes), ..Selection::default() };
        let member = |(number, answers): (usize, &bool)| {
            let member = healthy(number);
            if *answers { member } else { Member { answer: Err("no answer".into()), ..member } }
        };
        let report = selected(&selection, (1..).zip(answers).map(member).collect());
        (report.outcome(), report.headline())
    };
    let said = |outcome, headline: &str| (outcome, headline.to_owned());
    let silent = &["tunnel-silent"];
    let no_cause = "no node has such a cause: 2 of 2 agents answered";
    assert_eq!(outcome(&[], silent, &[true, true]), said(Outcome::Healthy, no_cause));
    assert_eq!(outcome(&["10.1.6.0/24"], silent, &[true, true]), said(Outcome::Healthy, no_cause));
    let one_did_not = "no node has such a cause: 1 of 2 agents answered";
    assert_eq!(outcome(&[], silent, &[true, false]), said(Outcome::Unhealthy, one_did_not));
    let no_vtep = "no node has such a VTEP: 2 of 2 agents answered";
    assert_eq!(outcome(&["10.9.9.0/24"], &[], &[true, true]), said(Outcome::Unhealthy, no_vtep));
    assert_eq!(outcome(&["10.9.9.0/24"], silent, &[true, true]), said(Outcome::Unhealthy, no_vtep));
    let nobody = "no node matches: 0 of 2 agents answered";
    assert_eq!(outcome(&[], silent, &[false, false]), said(Outcome::Nobody, nobody));
    assert_eq!(outcome(&[], &[], &[true, true]), said(Outcome::Healthy, "2 of 2 nodes healthy"));
}

/// A page and scripts depend on the names.
#[test]
fn the_report_as_json() {
    let mut members = vec![broken(1), healthy(2)];
    members.push(Member { answer: Err("no answer".into()), ..healthy(3) });
    let json = serde_json::to_value(report(members)).expect("JSON");
    assert_eq!(json["summary"], json!({ "nodes": 3, "answered": 2, "healthy": 1, "trouble": 1, "unanswered": 1 }));
    assert_eq!(
        json["vteps"][0],
        json!({ "cidr": "10.1.6.0/24", "endpoint": "10.169.72.34", "names": [], "nodes": 2,
            "verdicts": { "healthy": 1, "degraded": 0, "unreachable": 1, "misconfigured": 0, "unknown": 0 } })
    );
    assert_eq!(json["trouble"][0]["cause"], "tunnel-silent");
    assert_eq!(json["unanswered"], json!([{ "reason": "no answer", "nodes": ["worker-3"], "folded": "worker-3" }]));
    assert_eq!(json["nodes"][0]["vteps"][0]["verdict"], "unreachable");
    assert_eq!(json["without_agent"], Value::Null);
}
