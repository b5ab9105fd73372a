//! The nodes of a fleet that belong into a bundle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{diagnosis::Verdict, fleet::report::Report};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The nodes, each with the reason in words.
    pub nodes: BTreeMap<String, String>,
    /// Nodes that belong into it as well, in the order of the report, and are too many.
    pub left_out: Vec<String>,
}

/// Whether healthy nodes belong into the bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Healthy {
    /// The nodes were named, so all of them belong into it.
    Included,
    Excluded,
}

/// At most `most` nodes: of each trouble one, then of each a second one, and so on, the most urgent trouble first. So a bundle that has
/// room for a few nodes shows every trouble.
#[must_use]
pub fn choose(report: &Report, healthy: Healthy, most: usize) -> Choice {
    let reasons = reasons(report);
    let mut queues = queues(report, healthy);
    let mut nodes = BTreeMap::new();
    let mut left_out = Vec::new();
    let mut seen = BTreeSet::new();
    while queues.iter().any(|queue| !queue.is_empty()) {
        for queue in &mut queues {
            // A node with two troubles is in two queues, and stands for both.
            let Some(node) = std::iter::from_fn(|| queue.pop_front()).find(|node| seen.insert(*node)) else { continue };
            if nodes.len() < most {
                nodes.insert(node.to_owned(), reasons.get(node).cloned().unwrap_or_else(|| "healthy".to_owned()));
            } else {
                left_out.push(node.to_owned());
            }
        }
    }
    let order: BTreeMap<_, _> = all(report).zip(0..).collect();
    left_out.sort_by_key(|node| order.get(node.as_str()));
    Choice { nodes, left_out }
}

fn queues(report: &Report, healthy: Healthy) -> Vec<VecDeque<&str>> {
    let trouble = report.trouble.iter().map(|group| &group.nodes);
    let unanswered = report.unanswered.iter().map(|unanswered| &unanswered.nodes);
    let groups = trouble.chain(unanswered);
    let mut queues: Vec<VecDeque<&str>> = groups.map(|nodes| nodes.iter().map(String::as_str).collect()).collect();
    let queued: BTreeSet<_> = queues.iter().flatten().copied().collect();
    let is_wanted = |verdict: Verdict| healthy == Healthy::Included || verdict != Verdict::Healthy;
    let others = report.nodes.iter().filter(|row| is_wanted(row.verdict)).map(|row| row.node.as_str());
    queues.push(others.filter(|node| !queued.contains(node)).collect());
    queues
}

fn all(report: &Report) -> impl Iterator<Item = &str> {
    let answered = report.nodes.iter().map(|node| node.node.as_str());
    answered.chain(report.unanswered.iter().flat_map(|unanswered| unanswered.nodes.iter().map(String::as_str)))
}

/// `unreachable, tunnel-silent at 10.1.5.0/24; …`
fn reasons(report: &Report) -> BTreeMap<&str, String> {
    let mut reasons: BTreeMap<&str, String> = BTreeMap::new();
    let mut add = |node, reason: &str| {
        let text = reasons.entry(node).or_default();
        *text += if text.is_empty() { "" } else { "; " };
        *text += reason;
    };
    for group in &report.trouble {
        let cause = group.cause.as_deref().map(|cause| format!(", {cause}")).unwrap_or_default();
        let reason = format!("{}{cause} at {}", group.verdict, group.vtep.cidr);
        group.nodes.iter().for_each(|node| add(node, &reason));
    }
    for unanswered in &report.unanswered {
        unanswered.nodes.iter().for_each(|node| add(node, &unanswered.reason));
    }
    for node in report.nodes.iter().filter(|node| node.verdict != Verdict::Healthy) {
        reasons.entry(&node.node).or_insert_with(|| node.verdict.to_string());
    }
    reasons
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::fleet::{Member, report::Collected, status::AgentStatus};

    /// A node whose VTEPs have these causes, or one without an answer.
    fn member(node: &str, causes: Option<&[&str]>) -> Member {
        let vtep = |(number, cause): (usize, &&str)| {
            let verdict = if cause.is_empty() { "healthy" } else { "unreachable" };
            json!({ "cidr": format!("10.1.{number}.0/24"), "endpoint": "10.169.72.34", "verdict": verdict, "cause": cause })
        };
        let answer = causes.map(|causes| {
            let status = json!({ "vteps": causes.iter().enumerate().map(vtep).collect::<Vec<_>>() });
            AgentStatus::read(status.to_string().as_bytes()).expect("a status")
        });
        let answer = answer.ok_or_else(|| "no answer within 5s".to_owned());
        Member { node: node.into(), pod: format!("pod-{node}"), about: None, answer }
    }

    fn report() -> Report {
        let members = vec![
            member("a", Some(&[""])),
            member("b", Some(&["tunnel-silent"])),
            member("c", Some(&["tunnel-silent"])),
            member("d", Some(&["tunnel-silent"])),
            member("e", Some(&["", "wrong-vni"])),
            member("f", None),
            member("g", Some(&["tunnel-silent", "wrong-vni"])),
        ];
        Report::new(&Collected { members, ..Collected::default() }, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn those_in_trouble_and_one_of_each_first() {
        let chosen = |healthy, most| {
            let Choice { nodes, left_out } = choose(&report(), healthy, most);
            (nodes.into_keys().collect::<Vec<_>>().join(""), left_out.join(""))
        };
        assert_eq!(chosen(Healthy::Excluded, 9), ("bcdefg".into(), String::new()));
        assert_eq!(chosen(Healthy::Included, 9), ("abcdefg".into(), String::new()));
        // One that is silent, one with a wrong VNI, one without an answer.
        assert_eq!(chosen(Healthy::Excluded, 3), ("bef".into(), "cdg".into()));
        assert_eq!(chosen(Healthy::Included, 6), ("abcefg".into(), "d".into()));
        assert_eq!(chosen(Healthy::Excluded, 0), (String::new(), "bcdegf".into()));
    }

    #[test]
    fn each_has_its_reason() {
        let nodes = choose(&report(), Healthy::Included, 9).nodes;
        assert_eq!(nodes["a"], "healthy");
        assert_eq!(nodes["b"], "unreachable, tunnel-silent at 10.1.0.0/24");
        assert_eq!(nodes["g"], "unreachable, tunnel-silent at 10.1.0.0/24; unreachable, wrong-vni at 10.1.1.0/24");
        assert_eq!(nodes["f"], "no answer within 5s");
    }
}
