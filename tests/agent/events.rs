//! The reports for `kubectl`: Events, and the Node's condition. With an API server that is slow, and without one.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vtep_apiserver::{ApiServer, Fault, Matcher, Resource, Times, Verb};
use vtep_lab::{Config, Lab};

use crate::{
    api::{NAME, NAMESPACE, NODE, api_server, apply, start},
    far_end::bigip,
    support::{HEALTHY_WITHIN, NOTICED_WITHIN, REPAIRED_WITHIN, all_healthy, eventually, in_kernel},
};

/// The Events that the server was asked to create.
fn created(server: &ApiServer) -> Vec<Value> {
    let requests = server.requests().into_iter();
    requests.filter(|r| r.verb == Verb::Create && r.resource == "events").filter_map(|r| r.body).collect()
}

fn reasons(server: &ApiServer) -> Vec<String> {
    created(server).iter().filter_map(|event| event["reason"].as_str().map(str::to_owned)).collect()
}

fn wait_for_reason(server: &ApiServer, reason: &str) -> Result<Value> {
    let found = || Ok(created(server).into_iter().find(|event| event["reason"] == reason));
    eventually(&format!("an Event {reason}"), NOTICED_WITHIN, found)
}

#[test]
fn a_change_of_verdict_is_an_event_on_the_node() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    let agent = start(&lab, &server, &[])?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    ensure!(created(&server).is_empty(), "a healthy start reports nothing: {:?}", reasons(&server));

    bigip(&lab).down()?;
    let event = wait_for_reason(&server, "EndpointUnreachable")?;
    let of_node = serde_json::json!({ "apiVersion": "v1", "kind": "Node", "name": NODE, "uid": NODE });
    ensure!(event["regarding"] == of_node && event["metadata"]["namespace"] == "default", "{event:#}");
    ensure!(event["type"] == "Warning" && event["reportingController"] == "vtep-agent", "{event:#}");
    ensure!(event["eventTime"].is_string() && event["action"] == "Diagnose", "what the API requires: {event:#}");
    let note = event["note"].as_str().context("a note")?;
    ensure!(note.contains("10.1.6.0/24 is unreachable") && note.contains("10.169.72.34"), "{note}");
    ensure!(note.ends_with("(see docs/runbook.md#endpoint-unreachable)"), "{note}");

    bigip(&lab).up()?;
    let event = wait_for_reason(&server, "VtepHealthy")?;
    ensure!(event["type"] == "Normal", "{event:#}");
    agent.wait_for("both VTEPs are healthy again", NOTICED_WITHIN, all_healthy)?;

    // A repetition increases the count of the existing Event.
    bigip(&lab).down()?;
    agent.wait_for("it is noticed", NOTICED_WITHIN, |status| !all_healthy(status))?;
    bigip(&lab).up()?;
    let counted = || {
        let healthy = created(&server).into_iter().find(|event| event["reason"] == "VtepHealthy");
        let name = healthy.context("the Event")?["metadata"]["name"].as_str().context("a name")?.to_owned();
        let object = server.object(Resource::Events, "default", &name).context("the stored Event")?;
        Ok((object["series"]["count"] == 2).then_some(object))
    };
    let object = eventually("the second time is counted", NOTICED_WITHIN, counted)?;
    ensure!(object["series"]["lastObservedTime"].is_string(), "{object:#}");
    let status = agent.wait_for("it is counted here, too", NOTICED_WITHIN, |status| status.events.written >= 3)?;
    ensure!(status.events.enabled && status.events.dropped == 0, "{:?}", status.events);
    Ok(())
}

#[test]
fn a_finding_is_one_event_of_all_nodes() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    let mut keys = Config::seed_keys();
    let [first, _] = lab.topology.vteps()[..] else { anyhow::bail!("two VTEPs") };
    keys.insert("vtep-mac".into(), format!("{} zz", first.mac));
    apply(&server, &keys)?;
    let names = || -> Result<Vec<String>> {
        let mut events = created(&server).into_iter().filter(|event| event["regarding"]["kind"] == "ConfigMap");
        events.try_fold(Vec::new(), |mut names, event| {
            ensure!(event["metadata"]["namespace"] == NAMESPACE && event["regarding"]["name"] == NAME, "{event:#}");
            ensure!(event["regarding"]["uid"].is_string(), "`kubectl describe` looks for the uid: {event:#}");
            names.push(event["metadata"]["name"].as_str().context("a name")?.to_owned());
            Ok(names)
        })
    };
    let told = |count| {
        eventually("it is reported", NOTICED_WITHIN, || Ok(Some(names()?).filter(|names| names.len() == count)))
    };
    start(&lab, &server, &[])?.wait_for("it is reported", HEALTHY_WITHIN, |status| status.events.written == 1)?;
    let [first] = &told(1)?[..] else { anyhow::bail!("one Event") };
    // Another agent, or this one after a restart, finds that the Event exists.
    let agent = start(&lab, &server, &[])?;
    agent.wait_for("it is reported again", HEALTHY_WITHIN, |status| status.events.written == 1)?;
    ensure!(told(2)?.iter().all(|name| name == first), "{:?}", names()?);
    Ok(())
}

#[test]
fn events_can_be_off() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    let agent = start(&lab, &server, &["--events", "off"])?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    bigip(&lab).down()?;
    let status = agent.wait_for("it is noticed", NOTICED_WITHIN, |status| !all_healthy(status))?;
    ensure!(!status.events.enabled && created(&server).is_empty(), "{:?}", status.events);
    Ok(())
}

#[test]
fn refused_events_are_counted_and_said_once() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    server.misbehave(Matcher::all().resource("events"), Fault::Forbidden, Times::Always);
    let agent = start(&lab, &server, &[])?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    bigip(&lab).down()?;
    agent.wait_for("it is dropped", NOTICED_WITHIN, |status| status.events.dropped == 1)?;
    bigip(&lab).up()?;
    agent.wait_for("so is the next", NOTICED_WITHIN, |status| status.events.dropped == 2)?;
    let said = agent.log().iter().filter(|line| line.contains("cannot write Events")).count();
    ensure!(said == 1, "{:#?}", agent.log());
    Ok(())
}

#[test]
fn the_condition_follows_and_is_ours_alone() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    let agent = start(&lab, &server, &["--node-condition"])?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    let condition = |status: &str, reason: &str| {
        let found = || {
            let node = server.object(Resource::Nodes, "", NODE).context("the Node")?;
            let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
            Ok(conditions.into_iter().find(|c| c["status"] == status && c["reason"] == reason))
        };
        eventually(&format!("the condition is {status}"), NOTICED_WITHIN * 2, found)
    };
    condition("True", "TunnelsHealthy")?;
    bigip(&lab).down()?;
    let found = condition("False", "EndpointUnreachable")?;
    ensure!(found["type"] == "VtepTunnelsHealthy" && found["lastTransitionTime"].is_string(), "{found:#}");
    let message = found["message"].as_str().context("a message")?;
    ensure!(message == "10.1.6.0/24 is unreachable: endpoint-unreachable", "{message}");

    for request in server.requests().iter().filter(|request| request.verb == Verb::Patch) {
        ensure!(
            (request.resource.as_str(), request.subresource.as_str()) == ("nodes", "status")
                || request.resource == "events"
        );
        if request.resource == "nodes" {
            ensure!(request.content_type == "application/apply-patch+yaml", "{request:?}");
            let body = request.body.as_ref().context("a body")?;
            let conditions = body["status"]["conditions"].as_array().context("conditions")?;
            ensure!(conditions.len() == 1 && conditions[0]["type"] == "VtepTunnelsHealthy", "{body:#}");
            ensure!(body["spec"].is_null() && body["metadata"] == serde_json::json!({ "name": NODE }), "{body:#}");
        }
    }
    Ok(())
}

/// Probes and repairs do not wait for the API server: neither for one that takes five seconds for each answer, nor for one that is
/// unreachable.
#[test]
fn a_slow_server_and_none_hinder_nothing() -> Result<()> {
    type Trouble = fn(&ApiServer) -> Result<()>;
    let slow: Trouble = |server| {
        server.misbehave(Matcher::all(), Fault::Delay(Duration::from_secs(5)), Times::Always);
        Ok(())
    };
    let gone: Trouble = |server| server.stop();
    for (what, trouble) in [("slow", slow), ("gone", gone)] {
        let lab = Lab::start()?;
        let server = api_server(&lab)?;
        let agent = start(&lab, &server, &["--node-condition"])?;
        agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
        trouble(&server)?;
        // A third repair would count as contention.
        for _ in 0..2 {
            lab.cilium.delete_vtep(lab.topology.vteps()[0].key())?;
            eventually(
                "it is repaired",
                REPAIRED_WITHIN,
                || Ok(in_kernel(&lab, &lab.topology.vteps())?.then_some(())),
            )?;
            bigip(&lab).down()?;
            agent.wait_for("an outage is noticed", NOTICED_WITHIN, |status| !all_healthy(status))?;
            bigip(&lab).up()?;
            agent.wait_for("and its end", NOTICED_WITHIN, all_healthy)?;
        }
        if what == "gone" {
            server.resume()?;
            eventually("current changes are reported", NOTICED_WITHIN * 2, || {
                Ok(reasons(&server).contains(&"EndpointUnreachable".to_owned()).then_some(()))
            })?;
        }
    }
    Ok(())
}
