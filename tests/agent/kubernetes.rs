//! The configuration from the API server: a real watch over real HTTP, on a server that misbehaves on command.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, ensure};
use vtep_apiserver::{ApiServer, Fault, Matcher, Resource, Times, Verb, objects};
use vtep_lab::{Config, Lab, Vtep};

use crate::support::{AGENT, Agent, HEALTHY_WITHIN, LISTEN, NOTICED_WITHIN, all_healthy, eventually, in_kernel};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "cilium-config";

/// An API server inside the node's network.
fn api_server(lab: &Lab) -> Result<ApiServer> {
    lab.node.run(ApiServer::start)
}

fn apply(server: &ApiServer, keys: &BTreeMap<String, String>) -> Result<()> {
    let data = keys.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    server.apply(Resource::ConfigMaps, objects::config_map(NAMESPACE, NAME, data)).map(drop)
}

fn start(lab: &Lab, server: &ApiServer) -> Result<Agent> {
    let kubeconfig = Path::new("/mnt/kubeconfig");
    fs::write(kubeconfig, server.kubeconfig())?;
    let mut command = lab.node.command(AGENT);
    command.env("KUBECONFIG", kubeconfig).args([
        "run",
        "--config-source",
        "kube",
        "--cilium-run",
        vtep_lab::CILIUM_RUN,
    ]);
    command.args(["--listen", &LISTEN.to_string(), "--probe-target", "10.1.6.0/24=10.1.6.34,10.1.5.0/24=10.1.5.36"]);
    Agent::spawn(lab, command)
}

/// The seed's VTEPs with the second at another endpoint.
fn moved(lab: &Lab) -> Result<[Vtep; 2]> {
    let [first, second] = lab.topology.vteps()[..] else { anyhow::bail!("two VTEPs") };
    Ok([first, Vtep { endpoint: [10, 169, 72, 77].into(), ..second }])
}

#[test]
fn the_configmap_is_followed_by_one_watch() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    apply(&server, &Config::seed_keys())?;
    let agent = start(&lab, &server)?;
    let status = agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    ensure!(status.config.source == "kube:kube-system/cilium-config", "{:?}", status.config);

    let moved = moved(&lab)?;
    apply(&server, &Config::keys_for(&moved))?;
    eventually("the edit is programmed", HEALTHY_WITHIN, || Ok(in_kernel(&lab, &moved)?.then_some(())))?;
    let asked: Vec<_> = server.requests().into_iter().map(|r| (r.verb, r.resource, r.namespace, r.name)).collect();
    let one = |verb| (verb, "configmaps".to_owned(), NAMESPACE.to_owned(), NAME.to_owned());
    ensure!(asked == [one(Verb::Get), one(Verb::Watch)], "one look, one watch, of one object: {asked:?}");
    Ok(())
}

#[test]
fn a_server_that_goes_changes_nothing_and_is_found_again() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    apply(&server, &Config::seed_keys())?;
    let agent = start(&lab, &server)?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;

    server.stop()?;
    let status = agent.wait_for("it is reported", NOTICED_WITHIN, |status| status.config.source_error.is_some())?;
    ensure!(status.config.stale && status.config.valid && all_healthy(&status), "{:?}", status.config);
    ensure!(in_kernel(&lab, &lab.topology.vteps())?, "{:?}", lab.cilium.vtep_entries()?);
    ensure!(agent.code("/readyz")? == 200 && agent.code("/livez")? == 200, "no reason to be restarted");
    let moved = moved(&lab)?;
    apply(&server, &Config::keys_for(&moved))?;

    server.resume()?;
    eventually("the edit is programmed", NOTICED_WITHIN, || Ok(in_kernel(&lab, &moved)?.then_some(())))?;
    agent.wait_for("it is no longer reported", HEALTHY_WITHIN, |status| {
        status.config.source_error.is_none() && !status.config.stale
    })?;
    let said = |text: &str| agent.lines(text).len();
    eventually("both are said once", HEALTHY_WITHIN, || {
        Ok((said("the configuration cannot be read: ") == 1 && said("the configuration can be read again") == 1)
            .then_some(()))
    })
}

#[test]
fn a_forbidden_watch_names_what_is_missing() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    apply(&server, &Config::seed_keys())?;
    server.misbehave(Matcher::all(), Fault::Forbidden, Times::Always);
    let agent = start(&lab, &server)?;
    let (code, body) = eventually("it says why it is not ready", HEALTHY_WITHIN, || {
        Ok(agent.get("/readyz")?.filter(|(_, body)| body.contains("forbids")))
    })?;
    for word in ["get", "configmaps", "\"cilium-config\"", "\"kube-system\""] {
        ensure!(code == 503 && body.contains(word), "no {word} in {body}");
    }
    ensure!(agent.code("/livez")? == 200, "alive");
    server.behave();
    agent.wait_for("both VTEPs are healthy", NOTICED_WITHIN, all_healthy)?;
    Ok(())
}

#[test]
fn a_deleted_configmap_empties_nothing() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    apply(&server, &Config::seed_keys())?;
    let agent = start(&lab, &server)?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    ensure!(server.delete(Resource::ConfigMaps, NAMESPACE, NAME));
    let status = agent.wait_for("it is reported", HEALTHY_WITHIN, |status| {
        status.config.findings.iter().any(|finding| finding.rule.id() == "configmap-missing")
    })?;
    ensure!(status.config.stale && status.vteps.len() == 2 && in_kernel(&lab, &lab.topology.vteps())?, "{status:?}");
    apply(&server, &Config::seed_keys())?;
    agent.wait_for("it is valid again", HEALTHY_WITHIN, |status| status.config.valid && !status.config.stale)?;
    Ok(())
}

#[test]
fn each_misbehaviour_is_survived() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    apply(&server, &Config::seed_keys())?;
    let agent = start(&lab, &server)?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    let [first, second] = lab.topology.vteps()[..] else { anyhow::bail!("two VTEPs") };
    let faults = [
        Fault::Unauthorized,
        Fault::NotFound,
        Fault::Gone,
        Fault::TooManyRequests(1),
        Fault::InternalError,
        Fault::HalfLine(vtep_apiserver::After::Close),
        Fault::Reset,
        Fault::WrongShape,
        Fault::Garbage,
        Fault::Close,
    ];
    for (n, fault) in (100..).zip(faults) {
        // In the open watch, and in the first answer after it.
        server.misbehave(Matcher::all(), fault.clone(), Times::Next(1));
        server.interrupt(&Matcher::all(), &fault);
        let before = lab.cilium.vtep_entries()?;
        server.wait_seen(&Matcher::all(), 1, NOTICED_WITHIN).with_context(|| format!("after {fault:?}"))?;
        ensure!(lab.cilium.vtep_entries()? == before, "{fault:?} changed the kernel");
        let moved = Vtep { endpoint: [10, 169, 72, n].into(), ..second };
        apply(&server, &Config::keys_for(&[first, moved]))?;
        eventually("the next edit is programmed", NOTICED_WITHIN, || {
            Ok(in_kernel(&lab, &[first, moved])?.then_some(()))
        })
        .with_context(|| format!("after {fault:?}"))?;
    }
    Ok(())
}
