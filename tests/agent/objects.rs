//! VTEPs from custom resources: which of them count, and what the agent leaves alone.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vtep_apiserver::{
    ApiServer, Fault, Matcher, Resource, Times, VtepVersions,
    objects::{self, VtepEndpoint},
};
use vtep_core::{
    config::truth::Truth, datapath::grace_period::GRACE_PERIOD, diagnosis::Verdict, report::status::Status,
};
use vtep_lab::{BIGIP_TUNNEL, Lab, VtepModel};

use crate::{
    api::{self, api_server, start},
    configured_lab::{ConfiguredLab, NAMES, OBJECT, Source, both, keys_without_lists},
    support::{Agent, HEALTHY_WITHIN, NOTICED_WITHIN, all_healthy, eventually},
};

/// Time in which an agent that writes would have written.
const SETTLED: Duration = GRACE_PERIOD.saturating_add(Duration::from_secs(1));

/// The message of this rule's finding.
fn finding<'a>(status: &'a Status, rule: &str) -> Option<&'a str> {
    let found = status.config.findings.iter().find(|finding| finding.rule.id() == rule);
    found.map(|finding| finding.message.as_str())
}

fn has(rule: &str) -> impl Fn(&Status) -> bool {
    move |status| finding(status, rule).is_some()
}

/// The map has only what Cilium put there, also after the time in which the agent repairs.
fn stays(lab: &Lab, agent: &Agent) -> Result<()> {
    let before = lab.cilium.entries()?;
    thread::sleep(SETTLED);
    let after = lab.cilium.entries()?;
    ensure!(before == after, "{before:?} became {after:?}\nlog:\n{}", agent.log().join("\n"));
    Ok(())
}

/// A Cilium that reads objects, and a server that serves them and has no lists.
fn without_objects(versions: VtepVersions) -> Result<(Lab, ApiServer)> {
    let model = if versions == VtepVersions::V2alpha1 { VtepModel::Trie } else { VtepModel::Hash };
    let lab = Lab::builder().vtep_lists(false).vtep_model(model).start()?;
    let server = api_server(&lab)?;
    api::apply(&server, &keys_without_lists())?;
    server.serve_vtep(versions);
    Ok((lab, server))
}

/// Cilium is replaced by a release with custom resources while the agent runs.
#[test]
fn a_crd_that_appears_later_is_found() -> Result<()> {
    for source in [Source::V2, Source::V2alpha1] {
        let mut lab = Lab::start()?;
        let server = api_server(&lab)?;
        let agent = start(&lab, &server, &[])?;
        agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
        server.serve_vtep(source.versions());
        let vteps = lab.topology.vteps();
        source.apply(&server, &vteps)?;
        lab.cilium.running.vtep_lists = false;
        lab.cilium.model = source.model();
        lab.cilium.start_reconciled(&vteps)?;
        agent.wait_for("the objects count", HEALTHY_WITHIN, |status| {
            status.config.truth == Truth::Crd && all_healthy(status)
        })?;
    }
    Ok(())
}

#[test]
fn without_the_right_the_lists_count() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    server.serve_vtep(VtepVersions::V2);
    Source::V2.apply(&server, &lab.topology.vteps()[..1])?;
    server.misbehave(Matcher::all().resource("ciliumvtepconfigs"), Fault::Forbidden, Times::Always);
    let agent = start(&lab, &server, &[])?;
    let status = agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    ensure!(status.config.truth == Truth::Configmap && status.config.valid, "{:?}", status.config);
    let lines = agent.lines("continuing without optional data from the API server");
    let words = "forbids to list ciliumvtepconfigs.cilium.io: give this agent's ServiceAccount a ClusterRole";
    ensure!(lines.iter().any(|line| line.contains(words)), "{lines:#?}");
    Ok(())
}

#[test]
fn the_choice_of_a_person_wins() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    server.serve_vtep(VtepVersions::V2);
    // Neither lists nor objects leave a doubt here: Cilium was started with the lists.
    Source::V2.apply(&server, &lab.topology.vteps()[..1])?;
    let mut agent = start(&lab, &server, &["--vtep-source", "crd"])?;
    let status = agent.wait_for("the objects count", HEALTHY_WITHIN, |status| status.vteps.len() == 1)?;
    ensure!(status.config.truth == Truth::Crd && status.vteps[0].name.as_deref() == Some(NAMES[0]), "{status:?}");
    ensure!(agent.terminate()?.success(), "a clean end");
    let agent = start(&lab, &server, &["--vtep-source", "configmap"])?;
    let status = agent.wait_for("the lists count", HEALTHY_WITHIN, all_healthy)?;
    ensure!(status.config.truth == Truth::Configmap && has("vtep-sources-both")(&status), "{:?}", status.config);
    Ok(())
}

/// A third schema: its fields have other names, or other types.
#[test]
fn an_unknown_schema_writes_nothing() -> Result<()> {
    let specs = [
        json!({ "tunnels": [{ "name": "a", "gateway": "10.169.72.34", "networks": ["10.1.6.0/24"] }] }),
        json!({ "endpoints": [{ "name": "a", "tunnelEndpoint": ["10.169.72.34"], "cidr": "10.1.6.0/24" }] }),
        json!({ "endpoints": { "a": { "tunnelEndpoint": "10.169.72.34", "cidr": "10.1.6.0/24" } } }),
        json!("10.169.72.34 10.1.6.0/24"),
        Value::Null,
    ];
    for versions in [VtepVersions::V2, VtepVersions::V2alpha1] {
        let (lab, server) = without_objects(versions)?;
        let agent = start(&lab, &server, &[])?;
        let version = if versions == VtepVersions::V2 { "v2" } else { "v2alpha1" };
        for spec in &specs {
            let object = json!({
                "apiVersion": format!("cilium.io/{version}"), "kind": "CiliumVTEPConfig",
                "metadata": { "name": OBJECT }, "spec": spec,
            });
            server.apply(Resource::CiliumVtepConfigs, object)?;
            let status = agent
                .wait_for(&format!("a finding about {spec}"), HEALTHY_WITHIN, |status| {
                    status.config.hash.is_some() && !status.config.valid
                })
                .with_context(|| format!("{versions:?}"))?;
            let named = status.config.findings.iter().any(|finding| finding.message.contains(OBJECT));
            ensure!(named && status.vteps.is_empty(), "{spec}: {:?}", status.config);
            server.delete(Resource::CiliumVtepConfigs, "", OBJECT);
            agent.wait_for("it is gone", HEALTHY_WITHIN, |status| status.config.objects.is_empty())?;
        }
        stays(&lab, &agent)?;
        ensure!(lab.cilium.entries()?.is_empty(), "{:?}", lab.cilium.entries()?);
    }
    Ok(())
}

#[test]
fn of_two_objects_for_one_cidr_neither_counts() -> Result<()> {
    let lab = ConfiguredLab::start(Source::V2)?;
    let agent = lab.healthy_agent()?;
    let rival =
        VtepEndpoint { name: "rival", tunnel_endpoint: "10.169.72.99", cidr: "10.1.6.0/24", mac: "02:00:00:00:00:01" };
    lab.server()?.apply(Resource::CiliumVtepConfigs, objects::vtep_config_v2("rivals", None, &[rival]))?;
    let status = agent.wait_for("the conflict is told", HEALTHY_WITHIN, has("vtep-config-conflict"))?;
    let message = finding(&status, "vtep-config-conflict").unwrap_or_default();
    ensure!(message.contains(OBJECT) && message.contains("rivals"), "{message}");
    let cidrs: Vec<_> = status.vteps.iter().map(|vtep| vtep.cidr.to_string()).collect();
    ensure!(cidrs == ["10.1.5.0/24"], "{cidrs:?}");
    stays(&lab, &agent)?;
    // The entry is nobody's now, so the agent repairs nothing there.
    lab.delete_by_hand(&lab.topology.vteps()[0])?;
    stays(&lab, &agent)
}

#[test]
fn objects_that_are_gone_leave_their_vteps_under_observation() -> Result<()> {
    for source in [Source::V2, Source::V2alpha1] {
        let lab = ConfiguredLab::start(source)?;
        let agent = lab.healthy_agent()?;
        // Cilium keeps its entries for now: it may be that only the API server lost the objects.
        source.apply(lab.server()?, &[])?;
        let status = agent.wait_for("it is told", HEALTHY_WITHIN, has("vtep-config-gone"))?;
        ensure!(all_healthy(&status) && status.config.truth == Truth::Crd, "still probed: {status:?}");
        stays(&lab, &agent)?;
        lab.delete_by_hand(&lab.topology.vteps()[0])?;
        let lost = |status: &Status| both(status).is_some_and(|(vtep, _)| vtep.verdict != Verdict::Healthy);
        agent.wait_for("the loss is seen", NOTICED_WITHIN, lost)?;
        stays(&lab, &agent)?;
        // The object comes back, and with it the repair.
        source.apply(lab.server()?, &lab.topology.vteps())?;
        let vteps = lab.topology.vteps();
        eventually("the entry is back", lab.repaired_within(), || Ok(lab.has_in_kernel(&vteps)?.then_some(())))?;
    }
    Ok(())
}

/// The other gateway takes the first one's network over.
#[test]
fn a_failover_of_a_gateway_is_followed_at_once() -> Result<()> {
    let mut lab = ConfiguredLab::start(Source::V2alpha1)?;
    let agent = lab.healthy_agent()?;
    lab.bigips[0].down()?;
    let second = &lab.bigips[1];
    second.host.ip(&format!("address add {} dev {BIGIP_TUNNEL}", lab.bigips[0].addresses.self_ip))?;
    let (endpoint, mac) = (second.addresses.underlay_ip, second.addresses.mac);
    lab.edit(|vtep| (vtep.endpoint, vtep.mac) = (endpoint, mac))?;
    let status = agent.wait_for("both are healthy at their places", HEALTHY_WITHIN, |status| {
        all_healthy(status) && both(status).is_some_and(|(vtep, _)| vtep.endpoint == endpoint)
    })?;
    ensure!(status.datapath.repairs_total == 0, "Cilium did it: {:?}", status.datapath);
    let moved = || {
        let history: Value = serde_json::from_str(&agent.get("/history")?.context("an answer")?.1)?;
        let changes = history["changes"].as_array().context("changes")?.clone();
        Ok(changes.into_iter().find(|change| !change["moved"].is_null()))
    };
    let change = eventually("the history has the move", HEALTHY_WITHIN, moved)?;
    ensure!(change["moved"]["to"]["endpoint"] == endpoint.to_string() && change["cidr"] == "10.1.6.0/24", "{change}");
    Ok(())
}
