//! The configuration from the API server: a real watch over real HTTP, with a server that injects faults on demand.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use vtep_apiserver::{ApiServer, CiliumVersions, Fault, Matcher, Resource, Times, objects};
use vtep_core::config::finding::Severity;
use vtep_lab::{Config, Lab, Vtep};

use crate::{
    api::{NAME, NAMESPACE, NODE, api_server, apply, start},
    misbehaviour,
    support::{HEALTHY_WITHIN, NOTICED_WITHIN, all_healthy, eventually, in_kernel, timeout_factor},
};

/// Sets one key for the nodes of a zone.
fn override_key(server: &ApiServer, name: &str, zone: &str, key: &str, value: &str) -> Result<()> {
    let object = objects::cilium_node_config(NAMESPACE, name, [("zone", zone)], [(key, value)]);
    server.apply(Resource::CiliumNodeConfigs, object).map(drop)
}

/// The seed's VTEPs, the second with another endpoint.
fn moved(lab: &Lab) -> Result<[Vtep; 2]> {
    let [first, second] = lab.topology.vteps()[..] else { anyhow::bail!("two VTEPs") };
    Ok([first, Vtep { endpoint: [10, 169, 72, 77].into(), ..second }])
}

#[test]
fn each_object_is_followed_by_one_watch() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    let agent = start(&lab, &server, &["--events", "off"])?;
    let status = agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    ensure!(status.config.source == "kube:kube-system/cilium-config" && status.config.valid, "{:?}", status.config);

    let moved = moved(&lab)?;
    apply(&server, &Config::keys_for(&moved))?;
    eventually("the edit is programmed", HEALTHY_WITHIN, || Ok(in_kernel(&lab, &moved)?.then_some(())))?;
    let asked: Vec<_> =
        server.requests().iter().map(|r| format!("{} {} {}/{}", r.verb, r.resource, r.namespace, r.name)).collect();
    let expected = [
        "get configmaps kube-system/cilium-config",
        "watch configmaps kube-system/cilium-config",
        "list ciliumnodeconfigs kube-system/",
        "watch ciliumnodeconfigs kube-system/",
        // Neither version of the objects with VTEPs is served.
        "list ciliumvtepconfigs /",
        "list ciliumvtepconfigs /",
        "get ciliumvtepnodeconfigs /worker-1",
        "get nodes /worker-1",
        "watch nodes /worker-1",
        "get ciliumnodes /worker-1",
        "watch ciliumnodes /worker-1",
        "list endpointslices default/",
        "watch endpointslices default/",
    ];
    ensure!(asked == expected, "one look and one watch of each, and nothing more: {asked:#?}");
    Ok(())
}

#[test]
fn a_node_config_overrides_the_configmap_for_its_nodes() -> Result<()> {
    for versions in [CiliumVersions::V2, CiliumVersions::V2Alpha1] {
        let lab = Lab::start()?;
        let server = api_server(&lab)?;
        server.serve(versions);
        let vteps = moved(&lab)?;
        let endpoints = format!("{} {}", vteps[0].endpoint, vteps[1].endpoint);
        override_key(&server, "dmz", "dmz", "vtep-endpoint", &endpoints)?;
        override_key(&server, "lan", "lan", "vtep-endpoint", "10.169.72.99 10.169.72.98")?;
        let agent = start(&lab, &server, &[])?;
        eventually(
            "the overridden value is programmed",
            HEALTHY_WITHIN,
            || Ok(in_kernel(&lab, &vteps)?.then_some(())),
        )?;
        let status = agent.wait_for("its origin is reported", HEALTHY_WITHIN, |status| status.datapath.in_sync)?;
        let origin = [("vtep-endpoint".to_owned(), "CiliumNodeConfig dmz".to_owned())].into();
        ensure!(status.config.overrides == origin, "{versions:?}: {:?}", status.config);

        // An error in an override: the finding names the object that set the key, and the last good value remains in effect.
        override_key(&server, "dmz", "dmz", "vtep-endpoint", "10.169.72.34 10.169.72")?;
        let status = agent.wait_for("the finding is reported", HEALTHY_WITHIN, |status| !status.config.valid)?;
        let finding = &status.config.findings[0];
        ensure!(finding.origin.as_deref() == Some("CiliumNodeConfig dmz"), "{finding:?}");
        ensure!(finding.message.contains("set by CiliumNodeConfig dmz"), "{finding:?}");
        ensure!(in_kernel(&lab, &vteps)?, "{:?}", lab.cilium.vtep_entries()?);

        // Without the override, and for a node of another zone.
        ensure!(server.delete(Resource::CiliumNodeConfigs, NAMESPACE, "dmz"));
        eventually("the ConfigMap's value is programmed", HEALTHY_WITHIN, || {
            Ok(in_kernel(&lab, &lab.topology.vteps())?.then_some(()))
        })?;
        server.apply(Resource::Nodes, objects::node(NODE, [("zone", "lan")], &["10.0.1.0/24"]))?;
        agent.wait_for("the node's new labels count", HEALTHY_WITHIN, |status| {
            status.config.overrides.values().any(|origin| origin == "CiliumNodeConfig lan")
        })?;
    }
    Ok(())
}

#[test]
fn without_the_crd_there_are_no_overrides() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    server.serve(CiliumVersions::Absent);
    let agent = start(&lab, &server, &[])?;
    let status = agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    ensure!(status.config.source_error.is_none() && status.config.overrides.is_empty(), "{:?}", status.config);
    Ok(())
}

#[test]
fn the_nodes_own_pod_network_is_kept_clear() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    let agent = start(&lab, &server, &[])?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    server.apply(Resource::Nodes, objects::node(NODE, [], &["10.1.6.0/25"]))?;
    let status = agent.wait_for("the clash is reported", HEALTHY_WITHIN, |status| !status.config.valid)?;
    let found = status.config.findings.iter().find(|finding| finding.severity == Severity::Error);
    let found = found.map(|finding| (finding.rule.id(), finding.index));
    ensure!(found == Some(("vtep-cidr-overlaps-pod-cidr", Some(0))), "{:?}", status.config);
    ensure!(in_kernel(&lab, &lab.topology.vteps())?, "the last good value stays: {:?}", lab.cilium.vtep_entries()?);
    Ok(())
}

/// With cluster-pool IPAM, Cilium does not use the Node's podCIDRs.
#[test]
fn the_cilium_nodes_pod_network_and_addresses_are_kept_clear() -> Result<()> {
    for (pod_cidr, router, rule) in [
        ("10.1.6.0/25", "10.0.1.169", "vtep-cidr-overlaps-pod-cidr"),
        ("10.0.1.0/24", "10.1.6.169", "vtep-cidr-contains-node"),
    ] {
        let lab = Lab::start()?;
        let server = api_server(&lab)?;
        let agent = start(&lab, &server, &[])?;
        agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
        let object = objects::cilium_node(NODE, &[pod_cidr], [("CiliumInternalIP", router)]);
        server.apply(Resource::CiliumNodes, object)?;
        let status = agent.wait_for("the clash is reported", HEALTHY_WITHIN, |status| !status.config.valid)?;
        let found = status.config.findings.iter().find(|finding| finding.severity == Severity::Error);
        let found = found.map(|finding| (finding.rule.id(), finding.index));
        ensure!(found == Some((rule, Some(0))), "{:?}", status.config);
    }
    Ok(())
}

#[test]
fn without_a_right_that_it_can_do_without_it_says_so_once_and_goes_on() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    for resource in ["ciliumnodes", "endpointslices"] {
        server.misbehave(Matcher::all().resource(resource), Fault::Forbidden, Times::Always);
    }
    let agent = start(&lab, &server, &[])?;
    let status = agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    ensure!(status.config.source_error.is_none() && status.config.valid, "{:?}", status.config);
    let lines = agent.lines("continuing without optional data from the API server");
    ensure!(lines.len() == 2 && lines.iter().all(|line| line.contains(" WARN ")), "{lines:#?}");
    for words in [
        "forbids to get ciliumnodes.cilium.io \\\"worker-1\\\": give this agent's ServiceAccount a ClusterRole",
        "forbids to list endpointslices.discovery.k8s.io in namespace \\\"default\\\": give this agent's ServiceAccount a Role",
    ] {
        ensure!(lines.iter().any(|line| line.contains(words)), "no {words} in {lines:#?}");
    }
    let asked = |resource: &str| server.requests().iter().filter(|request| request.resource == resource).count();
    ensure!((asked("ciliumnodes"), asked("endpointslices")) == (1, 1), "not asked again for minutes");
    Ok(())
}

#[test]
fn a_server_that_is_away_at_the_start_leaves_the_last_good() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    let mut agent = start(&lab, &server, &[])?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    ensure!(agent.terminate()?.success());
    server.stop()?;
    // A node after boot: its map is empty.
    for vtep in lab.topology.vteps() {
        lab.cilium.delete_vtep(vtep.key())?;
    }
    let agent = start(&lab, &server, &[])?;
    let status = agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    ensure!(status.config.stale && status.config.source_error.is_some(), "{:?}", status.config);
    ensure!(agent.code("/readyz")? == 200, "ready");
    ensure!(agent.lines("the last one read remains in effect").len() == 1, "{:?}", agent.log());
    server.resume()?;
    agent.wait_for("the server is found", NOTICED_WITHIN, |status| {
        status.config.source_error.is_none() && !status.config.stale && status.config.valid
    })?;
    Ok(())
}

#[test]
fn a_server_that_is_away_is_asked_once_a_second_at_most() -> Result<()> {
    // Each fault has an agent of its own, because pauses grow with each failure.
    for fault in [Fault::Close, Fault::End] {
        let lab = Lab::start()?;
        let server = api_server(&lab)?;
        let agent = start(&lab, &server, &[])?;
        agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
        server.clear_requests();
        server.misbehave(Matcher::all(), fault.clone(), Times::Always);
        server.interrupt(&Matcher::all(), &Fault::Reset);
        server.wait_seen(&Matcher::all(), 3, NOTICED_WITHIN * timeout_factor())?;
        let times: Vec<_> = server.requests().iter().map(|request| request.instant).collect();
        // A regular end follows a read and a watch in one attempt.
        let shortest = times.windows(3).map(|three| three[2] - three[0]).min().context("three attempts")?;
        ensure!(shortest > Duration::from_millis(990), "{fault:?}: two attempts within {shortest:?}");
        let whole = *times.last().context("attempts")? - times[0];
        ensure!(whole > Duration::from_secs(2), "{fault:?}: 3 requests within {whole:?}");
        server.behave();
        agent.wait_for("it has recovered", NOTICED_WITHIN, |status| status.config.source_error.is_none())?;
        ensure!(in_kernel(&lab, &lab.topology.vteps())?, "{:?}", lab.cilium.vtep_entries()?);
    }
    Ok(())
}

#[test]
fn a_server_that_goes_changes_nothing_and_is_found_again() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    let agent = start(&lab, &server, &[])?;
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
        Ok((said("cannot read the configuration; ") == 1 && said("the configuration can be read again") == 1)
            .then_some(()))
    })
}

/// The number of failed connections from the node so far, counted by its kernel (RFC 4022, `tcpAttemptFails`).
fn refused_connections(lab: &Lab) -> Result<u64> {
    let counters = lab.node.run(|| Ok(fs::read_to_string("/proc/thread-self/net/snmp")?))?;
    let mut tcp = counters.lines().filter(|line| line.starts_with("Tcp:")).map(str::split_whitespace);
    let (names, values) = (tcp.next().context("names")?, tcp.next().context("values")?);
    let count = names.zip(values).find_map(|(name, value)| (name == "AttemptFails").then_some(value));
    Ok(count.context("the counter")?.parse()?)
}

/// For each absence the log has one line at its begin and one at its end, in plain words: none of a library's, and no debug output.
#[test]
fn an_absence_is_two_lines_in_plain_words() -> Result<()> {
    // Cilium adds the routes itself here, so the agent adds none, and uses the API server only for reading.
    let lab = Lab::builder().l7_proxy(true).fill_map(true).start()?;
    let server = api_server(&lab)?;
    let agent = start(&lab, &server, &["--events", "off"])?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    server.wait_watching(5, HEALTHY_WITHIN * timeout_factor())?;

    let gone = Instant::now();
    server.stop()?;
    let status = agent.wait_for("it is reported", NOTICED_WITHIN, |status| status.config.stale)?;
    ensure!(gone.elapsed() < Duration::from_secs(3) * timeout_factor(), "told after {:?}", gone.elapsed());
    let reason = format!("the API server at {} cannot be reached: connection refused", server.address());
    ensure!(status.config.source_error.as_ref() == Some(&reason), "{:?}", status.config);
    // Attempts fail meanwhile, and each could cause another line. A server that starts answers that it is not ready.
    let before = refused_connections(&lab)?;
    let enough = || Ok((refused_connections(&lab)? >= before + 2).then_some(()));
    eventually("it was asked in vain", NOTICED_WITHIN, enough)?;
    let answers = agent.get("/status")?.context("a status")?.1;
    server.misbehave(Matcher::all(), Fault::Unavailable, Times::Next(1));
    server.resume()?;
    let back = Instant::now();
    agent.wait_for("it is found", NOTICED_WITHIN, |status| !status.config.stale)?;
    // One attempt fails, and the next follows a cycle later.
    ensure!(back.elapsed() < Duration::from_secs(17) * timeout_factor(), "found after {:?}", back.elapsed());
    agent.wait_for("all is as before", HEALTHY_WITHIN, all_healthy)?;

    let log = agent.log();
    let absence = |line: &&String| line.contains("read the configuration;") || line.contains("the configuration can");
    let lines: Vec<_> = log.iter().filter(absence).collect();
    ensure!(lines.len() == 2 && lines[0].contains(&reason), "{lines:#?}");
    ensure!(lines[1].contains("the configuration can be read again"), "{lines:#?}");
    for word in ["Custom {", "Os {", "kind:", "failed with", "in poll", "ServiceError", "HyperError", "os error"] {
        let found = log.iter().chain([&answers]).find(|text| text.contains(word));
        ensure!(found.is_none(), "{word} in {found:?}");
    }
    Ok(())
}

#[test]
fn a_forbidden_watch_names_what_is_missing() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    server.misbehave(Matcher::all(), Fault::Forbidden, Times::Always);
    let agent = start(&lab, &server, &[])?;
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
    let agent = start(&lab, &server, &[])?;
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
    misbehaviour::is_survived(&lab, &server)
}
