//! The report with other addresses and names, for a bundle that has them replaced.

use super::{
    common::Common,
    differences::{Difference, Value},
    matrix::{Row, VtepKey},
    names,
    report::{NodeRow, NodeVtep, Report, Unanswered},
    trouble::Group,
};
use crate::bundle::redact::Redactor;

impl Report {
    /// Every field is named here, so that a new one cannot keep its addresses by mistake.
    #[must_use]
    pub fn redacted(&self, redactor: &mut Redactor) -> Self {
        let Self { at, asked, summary, vteps, trouble, differences, without_agent, unanswered, nodes, notes } = self;
        Self {
            at: *at,
            asked: *asked,
            summary: *summary,
            vteps: vteps.iter().map(|row| of_row(row, redactor)).collect(),
            trouble: trouble.iter().map(|group| of_group(group, redactor)).collect(),
            differences: differences.iter().map(|difference| of_difference(difference, redactor)).collect(),
            without_agent: without_agent.as_ref().map(|nodes| texts(nodes, redactor)),
            unanswered: unanswered.iter().map(|unanswered| of_unanswered(unanswered, redactor)).collect(),
            nodes: nodes.iter().map(|node| of_node(node, redactor)).collect(),
            notes: texts(notes, redactor),
        }
    }
}

fn texts(texts: &[String], redactor: &mut Redactor) -> Vec<String> {
    texts.iter().map(|text| redactor.text(text)).collect()
}

fn known(text: Option<&String>, redactor: &mut Redactor) -> Option<String> {
    text.map(|text| redactor.text(text))
}

fn folded(nodes: &[String]) -> String {
    names::fold(nodes.iter().map(String::as_str))
}

fn of_vtep(vtep: &VtepKey, redactor: &mut Redactor) -> VtepKey {
    let VtepKey { cidr, endpoint } = vtep;
    VtepKey { cidr: redactor.text(cidr), endpoint: redactor.text(endpoint) }
}

fn of_row(row: &Row, redactor: &mut Redactor) -> Row {
    let Row { vtep, names, nodes, verdicts } = row;
    let names = names.iter().map(|name| redactor.text(name)).collect();
    Row { vtep: of_vtep(vtep, redactor), names, nodes: *nodes, verdicts: *verdicts }
}

fn of_group(group: &Group, redactor: &mut Redactor) -> Group {
    let Group { vtep, name, verdict, cause, hint, hint_from, same_hint, runbook, .. } = group;
    let Group { first_since, last_since, nodes, folded: _, of, common, .. } = group;
    let nodes = texts(nodes, redactor);
    let of_common = |common: &Common| {
        let Common { attribute, value, others } = common;
        Common { attribute: *attribute, value: redactor.text(value), others: *others }
    };
    let common = common.iter().map(of_common).collect();
    Group {
        vtep: of_vtep(vtep, redactor),
        name: known(name.as_ref(), redactor),
        verdict: *verdict,
        cause: cause.clone(),
        hint: known(hint.as_ref(), redactor),
        hint_from: redactor.text(hint_from),
        same_hint: *same_hint,
        runbook: known(runbook.as_ref(), redactor),
        first_since: *first_since,
        last_since: *last_since,
        folded: folded(&nodes),
        nodes,
        of: *of,
        common,
    }
}

fn of_difference(difference: &Difference, redactor: &mut Redactor) -> Difference {
    let Difference { what, values } = difference;
    let of_value = |value: &Value| {
        let Value { value, nodes, folded: _ } = value;
        let nodes = texts(nodes, redactor);
        Value { value: known(value.as_ref(), redactor), folded: folded(&nodes), nodes }
    };
    Difference { what: *what, values: values.iter().map(of_value).collect() }
}

fn of_unanswered(unanswered: &Unanswered, redactor: &mut Redactor) -> Unanswered {
    let Unanswered { reason, nodes, folded: _ } = unanswered;
    let nodes = texts(nodes, redactor);
    Unanswered { reason: redactor.text(reason), folded: folded(&nodes), nodes }
}

fn of_node(row: &NodeRow, redactor: &mut Redactor) -> NodeRow {
    let NodeRow { node, pod, verdict, zone, kernel, cilium, version, mode, config_hash, vteps } = row;
    let of_vtep = |of: &NodeVtep| {
        let NodeVtep { vtep, verdict, cause, since } = of;
        NodeVtep { vtep: of_vtep(vtep, redactor), verdict: *verdict, cause: cause.clone(), since: *since }
    };
    let vteps = vteps.iter().map(of_vtep).collect();
    NodeRow {
        node: redactor.text(node),
        pod: redactor.text(pod),
        verdict: *verdict,
        zone: known(zone.as_ref(), redactor),
        kernel: kernel.clone(),
        cilium: cilium.clone(),
        version: version.clone(),
        mode: mode.clone(),
        config_hash: config_hash.clone(),
        vteps,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::fleet::{Member, report::Collected, status::AgentStatus};

    fn member(number: usize) -> Member {
        let node = format!("worker-{number}");
        let status = json!({
            "mode": if number == 1 { "observe" } else { "enforce" },
            "vteps": [{
                "cidr": "10.1.6.0/24", "endpoint": "10.169.72.34", "verdict": "unreachable", "cause": "tunnel-silent",
                "hint": format!("BIG-IP 10.169.72.34 lacks the record of {node} 0a:0a:0a:a9:48:ef"),
            }],
        });
        let status = AgentStatus::read(status.to_string().as_bytes()).expect("a status");
        let answer = if number == 9 { Err(format!("{node} at 10.169.72.9 does not answer")) } else { Ok(status) };
        Member { pod: format!("vtep-agent-{number}"), node, about: None, answer }
    }

    #[test]
    fn no_name_and_no_address_remains_and_it_still_fits_together() {
        let members: Vec<_> = (1..=9).map(member).collect();
        let names = members.iter().map(|member| (member.node.clone(), member.node.replace("worker", "node")));
        let mut redactor = Redactor::of_names(7, names.collect::<Vec<_>>());
        let cilium_nodes = Some(["worker-8".to_owned(), "worker-5".to_owned()].into());
        let collected =
            Collected { members, cilium_nodes, notes: vec!["worker-3 10.1.1.1".into()], ..Collected::default() };
        let report = Report::new(&collected, Timestamp::UNIX_EPOCH).redacted(&mut redactor);
        let json = serde_json::to_string(&report).expect("JSON");
        for word in ["worker", "10.1.", "10.169.", "0a:0a:0a"] {
            assert!(!json.contains(word), "{word}: {json}");
        }
        let json: Json = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json["trouble"][0]["folded"], "node-[1-8]");
        assert_eq!(json["trouble"][0]["endpoint"], json["vteps"][0]["endpoint"]);
        assert_eq!(json["nodes"][0]["vteps"][0]["cidr"], json["vteps"][0]["cidr"]);
        assert_eq!(json["without_agent"], json!(["node-5", "node-8"]));
        assert_eq!(json["differences"][0]["values"][0]["folded"], "node-[2-8]");
    }
}
