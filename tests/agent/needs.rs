//! No network that the node needs is ever routed into a tunnel, whatever the configuration contains.
//!
//! Each node here has its API server behind its default gateway, and a second network of its own; its configuration comes from that API
//! server. An agent that cut it off would never receive the correction.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use vtep_apiserver::{ApiServer, Resource, objects};
use vtep_core::{config::finding::Severity, report::status::Status};
use vtep_lab::{Config, Host, Lab, Vtep, ping};

use crate::{
    api::{NODE, apply, start},
    support::{Agent, HEALTHY_WITHIN, NOTICED_WITHIN, all_healthy, bpftool, eventually, in_kernel},
};

const IPCACHE: &str = "/sys/fs/bpf/tc/globals/cilium_ipcache_v2";
/// The address in the kubeconfig; the node itself forwards it elsewhere, and no fact about the node shows where.
const ALIAS: Ipv4Addr = Ipv4Addr::new(10, 169, 75, 10);

/// The location of a test's API server.
#[derive(Clone, Copy)]
enum Place {
    BehindTheGateway,
    OnTheSecondNetwork,
}

/// A third VTEP that overlaps a network that the node needs.
struct Case {
    cidr: &'static str,
    /// The finding has one of these rules; any error if the list is empty.
    rules: &'static [&'static str],
    api: Place,
    args: &'static [&'static str],
    prepare: fn(&Lab) -> Result<()>,
}

const CASE: Case = Case { cidr: "", rules: &[], api: Place::BehindTheGateway, args: &[], prepare: |_| Ok(()) };
const CONNECTED: &[&str] = &["vtep-cidr-overlaps-connected"];
const APISERVER: &[&str] = &["vtep-cidr-contains-apiserver"];
const RESERVED: &[&str] = &["vtep-cidr-reserved"];
const UNDERLAY: &[&str] = &["vtep-cidr-contains-gateway", "vtep-cidr-overlaps-connected"];

/// A lab whose node has networks to lose.
struct Site {
    lab: Lab,
    server: ApiServer,
}

impl Site {
    fn new(api: Place) -> Result<Self> {
        let lab = Lab::builder().api_host(true).second(true).start()?;
        let (host, address) = match api {
            Place::BehindTheGateway => (&lab.api_host, lab.topology.api.addr()),
            Place::OnTheSecondNetwork => (&lab.second, lab.topology.second.addr()),
        };
        let server = host.as_ref().context("the lab has it")?.run(|| ApiServer::start_at(address))?;
        // With cluster-pool IPAM, Cilium does not use the Node's own podCIDRs.
        server.apply(Resource::Nodes, objects::node(NODE, [], &["10.0.9.0/24"]))?;
        // Every API server publishes its endpoint; without one, no new VTEP takes effect.
        let endpoint = address.to_string();
        server.apply(Resource::EndpointSlices, objects::api_server_endpoints("kubernetes", &[&endpoint]))?;
        Ok(Self { lab, server })
    }

    fn configure(&self, vteps: &[Vtep]) -> Result<()> {
        apply(&self.server, &keys_for(vteps))
    }

    /// The API server at [`ALIAS`], with its kubeconfig: the node itself forwards this address, as a load balancer on the node would.
    fn alias(&self) -> Result<(SocketAddr, String)> {
        let Self { lab, server } = self;
        let api = server.address().ip();
        lab.node.nft("add table ip lab")?;
        lab.node.nft("add chain ip lab output { type nat hook output priority -100 ; }")?;
        lab.node.nft(&format!("add rule ip lab output ip daddr {ALIAS} dnat to {api}"))?;
        let alias = SocketAddr::from((ALIAS, server.address().port()));
        reach(&lab.node, alias).context("before")?;
        let endpoint = ALIAS.to_string();
        server.apply(Resource::EndpointSlices, objects::api_server_endpoints("kubernetes", &[&endpoint]))?;
        Ok((alias, server.kubeconfig().replace(&api.to_string(), &ALIAS.to_string())))
    }

    /// The node reaches its API server, the network behind its gateway, and its second network.
    fn is_whole(&self) -> Result<()> {
        let (api, second) = (self.lab.topology.api.addr(), self.lab.topology.second.addr());
        reach(&self.lab.node, self.server.address())?;
        reach(&self.lab.node, SocketAddr::from((api, 1)))?;
        reach(&self.lab.node, SocketAddr::from((second, 1)))
    }

    /// Waits until exactly these are in effect. `refused` never appears in the kernel, and the node loses nothing on the way.
    fn wait_effective(&self, agent: &Agent, vteps: &[Vtep], refused: &str) -> Result<()> {
        eventually("the good VTEPs are in force", NOTICED_WITHIN, || {
            untouched(&self.lab, refused)?;
            self.is_whole()?;
            let routed =
                vteps.iter().map(|vtep| routed(&self.lab, &vtep.cidr.to_string())).collect::<Result<Vec<_>>>()?;
            Ok((in_kernel(&self.lab, vteps)? && routed.iter().all(|routed| *routed)).then_some(()))
        })
        .with_context(|| agent.log().join("\n"))
    }
}

/// Whether the server answers: a connection or its refusal.
fn reach(from: &Host, to: SocketAddr) -> Result<()> {
    from.run(|| match TcpStream::connect_timeout(&to, Duration::from_secs(5)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => bail!("the node does not reach {to}: {error}"),
    })
}

/// The seed's keys, with these VTEPs and a mask that fits them.
fn keys_for(vteps: &[Vtep]) -> std::collections::BTreeMap<String, String> {
    let mut keys = Config::keys_for(vteps);
    if let Some(vtep) = vteps.first() {
        keys.insert("vtep-mask".into(), vtep.cidr.netmask().to_string());
    }
    keys
}

/// A third VTEP, correct except perhaps its CIDR.
fn third(cidr: &str) -> Result<Vtep> {
    Ok(Vtep { endpoint: [10, 169, 72, 77].into(), cidr: cidr.parse()?, mac: "00:50:56:01:02:03".parse()? })
}

/// The seed's two VTEPs, with CIDRs of the same length.
fn good(lab: &Lab, cidr: &str) -> Result<Vec<Vtep>> {
    let length = third(cidr)?.cidr.prefix_len();
    let of = |vtep: Vtep| Ok(Vtep { cidr: ipnet::Ipv4Net::new(vtep.cidr.network(), length)?, ..vtep });
    lab.topology.vteps().into_iter().map(of).collect()
}

fn with(vteps: &[Vtep], more: Vtep) -> Vec<Vtep> {
    vteps.iter().copied().chain([more]).collect()
}

/// The agent's routes and rules, one per line.
fn ours(lab: &Lab) -> Result<Vec<String>> {
    let lines = lab.node.ip("rule show\nroute show table all")?;
    Ok(lines
        .lines()
        .filter(|line| line.contains("lookup 2021") || line.contains("table 2021"))
        .map(str::to_owned)
        .collect())
}

/// Whether the route and the rule of a CIDR exist.
fn routed(lab: &Lab, cidr: &str) -> Result<bool> {
    Ok(ours(lab)?.iter().filter(|line| line.contains(cidr)).count() == 2)
}

/// There is neither a route nor a rule.
fn unrouted(lab: &Lab, cidr: &str) -> Result<bool> {
    Ok(!ours(lab)?.iter().any(|line| line.contains(cidr)))
}

/// The agent does not add it again, but still repairs other routes.
fn stays_unrouted(lab: &Lab, cidr: &str) -> Result<()> {
    lab.node.ip("rule del priority 113 to 10.1.6.0/24 lookup 2021")?;
    eventually("a pass over the rules", NOTICED_WITHIN, || Ok(routed(lab, "10.1.6.0/24")?.then_some(())))?;
    ensure!(unrouted(lab, cidr)?, "{cidr} is routed: {:?}", ours(lab)?);
    Ok(())
}

/// There is no entry either.
fn untouched(lab: &Lab, cidr: &str) -> Result<()> {
    let lines = ours(lab)?;
    ensure!(!lines.iter().any(|line| line.contains(cidr)), "{cidr} is routed: {lines:?}");
    ensure!(!has_entry(lab, cidr)?, "{cidr} has an entry");
    Ok(())
}

fn has_entry(lab: &Lab, cidr: &str) -> Result<bool> {
    Ok(lab.cilium.vtep_entries()?.contains_key(&third(cidr)?.key()))
}

/// The finding about this CIDR, with its severity.
fn found(status: &Status, rules: &[&str], cidr: &str, severity: Severity) -> bool {
    let cidr = |value: &Option<String>| value.as_deref() == Some(cidr);
    status.config.findings.iter().any(|finding| {
        (rules.is_empty() || rules.contains(&finding.rule.id())) && finding.severity == severity && cidr(&finding.value)
    })
}

/// A pod of another node, as Cilium records it.
fn plant_pod(lab: &Lab) -> Result<()> {
    let key = format!("{} 0 0 0 0 0 0 1 10 0 1 77 0 0 0 0 0 0 0 0 0 0 0 0", 32 + 32);
    let [low, high] = 4711_u16.to_le_bytes();
    let value = format!("{low} {high} 0 0 10 169 72 233 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 2");
    bpftool(lab, &format!("map update pinned {IPCACHE} key {key} value {value}")).map(drop)
}

/// The VTEP is refused and reported, and the node keeps its connections: at the start, over a restart, and until the correction.
fn is_refused(case: &Case) -> Result<()> {
    let site = Site::new(case.api)?;
    let Site { lab, server } = &site;
    (case.prepare)(lab)?;
    let good = good(lab, case.cidr)?;
    site.configure(&with(&good, third(case.cidr)?))?;

    for round in ["first start", "restart"] {
        let mut agent = start(lab, server, case.args)?;
        site.wait_effective(&agent, &good, case.cidr).context(round)?;
        let said = |status: &Status| found(status, case.rules, case.cidr, Severity::Error);
        let status = agent.wait_for("the finding", HEALTHY_WITHIN, said).context(round)?;
        let blamed: Vec<_> = status.config.findings.iter().filter(|f| f.severity == Severity::Error).collect();
        ensure!(blamed.iter().all(|finding| finding.index == Some(2)), "{round}: {blamed:#?}");
        ensure!(status.config.source_error.is_none() && status.vteps.len() == 2, "{round}: {status:#?}");
        // This also finds a moment that no poll saw.
        let written = agent.lines("kernel changed").into_iter().filter(|line| line.contains(case.cidr));
        ensure!(written.count() == 0, "{round}: {}", agent.log().join("\n"));
        ensure!(agent.terminate()?.success(), "a clean end");
        untouched(lab, case.cidr)?;
    }

    let agent = start(lab, server, case.args)?;
    let third = third(case.cidr)?;
    let free = ipnet::Ipv4Net::new([10, 1, 7, 0].into(), third.cidr.prefix_len())?;
    let corrected = with(&good, Vtep { cidr: free, ..third });
    site.configure(&corrected)?;
    site.wait_effective(&agent, &corrected, case.cidr).context("the correction arrives")?;
    agent.wait_for("no error is left", HEALTHY_WITHIN, |status| status.config.valid)?;
    Ok(())
}

#[test]
fn the_network_of_the_api_server_is_refused() -> Result<()> {
    is_refused(&Case { cidr: "10.169.73.0/24", rules: APISERVER, ..CASE })
}

#[test]
fn no_overlap_is_allowed_with_the_api_server() -> Result<()> {
    let args = &["--allow-overlap", "10.169.73.0/24"];
    is_refused(&Case { cidr: "10.169.73.0/24", rules: APISERVER, args, ..CASE })
}

#[test]
fn the_network_of_the_gateway_is_refused() -> Result<()> {
    is_refused(&Case { cidr: "10.169.72.0/24", rules: UNDERLAY, ..CASE })
}

#[test]
fn half_the_network_of_the_gateway_is_refused() -> Result<()> {
    is_refused(&Case { cidr: "10.169.72.0/25", rules: UNDERLAY, ..CASE })
}

#[test]
fn a_second_network_is_refused() -> Result<()> {
    is_refused(&Case { cidr: "10.169.74.0/24", rules: CONNECTED, ..CASE })
}

#[test]
fn a_second_network_with_the_api_server_is_refused() -> Result<()> {
    let rules = &["vtep-cidr-overlaps-connected", "vtep-cidr-contains-apiserver"];
    is_refused(&Case { cidr: "10.169.74.0/24", rules, api: Place::OnTheSecondNetwork, ..CASE })
}

#[test]
fn a_network_of_another_nodes_pods_is_refused() -> Result<()> {
    is_refused(&Case { cidr: "10.0.1.0/24", rules: &["vtep-cidr-overlaps-ipcache"], prepare: plant_pod, ..CASE })
}

#[test]
fn the_network_of_its_own_pods_is_refused() -> Result<()> {
    is_refused(&Case { cidr: "10.0.0.0/24", ..CASE })
}

#[test]
fn the_pod_network_that_kubernetes_names_is_refused() -> Result<()> {
    is_refused(&Case { cidr: "10.0.9.0/24", rules: &["vtep-cidr-overlaps-pod-cidr"], ..CASE })
}

#[test]
fn a_network_of_the_loopback_is_refused() -> Result<()> {
    is_refused(&Case { cidr: "127.0.0.0/24", rules: RESERVED, ..CASE })
}

#[test]
fn a_link_local_network_is_refused() -> Result<()> {
    is_refused(&Case { cidr: "169.254.10.0/24", rules: RESERVED, ..CASE })
}

/// Without the API server, the node's own facts suffice.
#[test]
fn with_a_directory_the_gateways_network_is_refused() -> Result<()> {
    let site = Site::new(Place::BehindTheGateway)?;
    let lab = &site.lab;
    let (good, cidr) = (lab.topology.vteps(), "10.169.72.0/24");
    lab.config.write(&keys_for(&with(&good, third(cidr)?)))?;
    let agent = Agent::start(lab)?;
    site.wait_effective(&agent, &good, cidr)?;
    agent.wait_for("the finding", HEALTHY_WITHIN, |status| found(status, UNDERLAY, cidr, Severity::Error))?;
    lab.config.write(&keys_for(&with(&good, third("10.1.7.0/24")?)))?;
    site.wait_effective(&agent, &with(&good, third("10.1.7.0/24")?), cidr)
}

/// A wrong edit of a healthy configuration: the VTEPs in effect remain.
#[test]
fn an_edit_to_the_api_servers_network_changes_nothing() -> Result<()> {
    let site = Site::new(Place::BehindTheGateway)?;
    let (good, cidr) = (site.lab.topology.vteps(), "10.169.73.0/24");
    site.configure(&good)?;
    let agent = start(&site.lab, &site.server, &[])?;
    site.wait_effective(&agent, &good, cidr)?;
    site.configure(&with(&good, third(cidr)?))?;
    let said = |status: &Status| found(status, APISERVER, cidr, Severity::Error) && status.datapath.in_sync;
    agent.wait_for("the finding, and a pass after it", HEALTHY_WITHIN, said)?;
    site.wait_effective(&agent, &good, cidr)
}

/// The kernel and the state of an agent that had less information. With a directory, no flag gives the API server's address. It is
/// unreachable at the start because of the route, but its address is still known.
#[test]
fn earlier_vteps_do_not_hide_the_api_server() -> Result<()> {
    let site = Site::new(Place::BehindTheGateway)?;
    let lab = &site.lab;
    let (good, cidr) = (lab.topology.vteps(), "10.169.73.0/24");
    let all = with(&good, third(cidr)?);
    lab.config.write(&keys_for(&all))?;
    let mut before = Agent::start(lab)?;
    eventually("it is routed", NOTICED_WITHIN, || Ok((in_kernel(lab, &all)? && routed(lab, cidr)?).then_some(())))?;
    before.wait_for("it is in the state", HEALTHY_WITHIN, |status| status.datapath.in_sync)?;
    ensure!(before.terminate()?.success(), "a clean end");
    ensure!(reach(&lab.node, site.server.address()).is_err(), "the way to the API server is gone");

    site.configure(&all)?;
    let agent = start(lab, &site.server, &[])?;
    eventually("it is withdrawn", NOTICED_WITHIN, || Ok(unrouted(lab, cidr)?.then_some(())))
        .with_context(|| agent.log().join("\n"))?;
    reach(&lab.node, site.server.address())?;
    agent.wait_for("the finding", NOTICED_WITHIN, |status| found(status, APISERVER, cidr, Severity::Error))?;
    for vtep in &good {
        ensure!(routed(lab, &vtep.cidr.to_string())?, "the good ones stay: {:?}", ours(lab)?);
    }
    let corrected = with(&good, third("10.1.7.0/24")?);
    site.configure(&corrected)?;
    let arrived = || Ok((in_kernel(lab, &corrected)? && routed(lab, "10.1.7.0/24")?).then_some(()));
    eventually("the correction arrives", NOTICED_WITHIN, arrived)
}

/// `--allow-overlap` permits one CIDR.
#[test]
fn an_overlap_with_a_connected_network_can_be_allowed() -> Result<()> {
    let site = Site::new(Place::BehindTheGateway)?;
    let lab = &site.lab;
    let cidr = "10.169.74.0/24";
    let all = with(&lab.topology.vteps(), third(cidr)?);
    site.configure(&all)?;
    let agent = start(lab, &site.server, &["--allow-overlap", cidr])?;
    agent.wait_for("it is a warning", HEALTHY_WITHIN, |status| found(status, CONNECTED, cidr, Severity::Warning))?;
    eventually("it is in force", NOTICED_WITHIN, || Ok((in_kernel(lab, &all)? && routed(lab, cidr)?).then_some(())))?;
    reach(&lab.node, site.server.address())?;
    agent.wait_for("no error", HEALTHY_WITHIN, |status| status.config.valid && status.vteps.len() == 3)?;
    Ok(())
}

/// The agent's route takes precedence over the kernel's own, so the agent must remove it; Cilium's map is not the agent's to empty.
#[test]
fn a_network_that_becomes_connected_is_no_longer_routed() -> Result<()> {
    let site = Site::new(Place::BehindTheGateway)?;
    let lab = &site.lab;
    let (good, cidr) = (lab.topology.vteps(), "10.1.5.0/24");
    site.configure(&good)?;
    let agent = start(lab, &site.server, &[])?;
    site.wait_effective(&agent, &good, "10.1.7.0/24")?;

    lab.node.ip("address add 10.1.5.77/24 dev eth1")?;
    eventually("it is withdrawn", NOTICED_WITHIN, || Ok(unrouted(lab, cidr)?.then_some(())))?;
    let said = |status: &Status| status.config.findings.iter().any(|f| f.rule.id() == CONNECTED[0]);
    agent.wait_for("it is said", HEALTHY_WITHIN, said)?;
    ensure!(in_kernel(lab, &good)? && routed(lab, "10.1.6.0/24")?, "the entry stays, and the other is as it was");
    stays_unrouted(lab, cidr)?;
    ensure!(in_kernel(lab, &good)?, "the entry stays: {:?}", lab.cilium.vtep_entries()?);

    lab.node.ip("address del 10.1.5.77/24 dev eth1")?;
    site.wait_effective(&agent, &good, "10.1.7.0/24").context("it comes back")?;
    agent.wait_for("it is no longer said", HEALTHY_WITHIN, |status| !said(status))?;
    Ok(())
}

/// Only the API server itself publishes its address, in its EndpointSlices.
#[test]
fn the_endpoints_of_the_api_server_alone_are_a_veto() -> Result<()> {
    let site = Site::new(Place::BehindTheGateway)?;
    let Site { lab, server } = &site;
    let (alias, by_alias) = site.alias()?;
    let api = lab.topology.api.addr().to_string();
    server.apply(Resource::EndpointSlices, objects::api_server_endpoints("kubernetes", &[&api]))?;
    let (good, cidr) = (lab.topology.vteps(), "10.169.73.0/24");
    site.configure(&with(&good, third(cidr)?))?;
    let agent = start_by(&site, &by_alias)?;
    site.wait_effective(&agent, &good, cidr)?;
    let status = agent.wait_for("the finding", HEALTHY_WITHIN, |s| found(s, APISERVER, cidr, Severity::Error))?;
    ensure!(status.vteps.len() == 2 && status.config.source_error.is_none(), "{status:#?}");
    site.wait_effective(&agent, &good, cidr)?;
    let written = agent.lines("kernel changed").into_iter().filter(|line| line.contains(cidr));
    ensure!(written.count() == 0, "{}", agent.log().join("\n"));
    reach(&lab.node, alias)
}

/// The API server has another address than in the client's configuration, and publishes only that one. The test takes up to 40 s, because
/// the agent watches for 30 s after a change.
#[test]
fn a_change_that_costs_the_api_server_is_taken_back() -> Result<()> {
    let site = Site::new(Place::BehindTheGateway)?;
    let Site { lab, server } = &site;
    let (alias, by_alias) = site.alias()?;

    let (good, cidr) = (lab.topology.vteps(), "10.169.73.0/24");
    site.configure(&good)?;
    let mut agent = start_by(&site, &by_alias)?;
    site.wait_effective(&agent, &good, cidr)?;
    // The first change was good and is no longer on trial: the agent withdraws only this one.
    site.configure(&with(&good, third(cidr)?))?;
    eventually("it is routed: nothing speaks against it", NOTICED_WITHIN, || Ok(routed(lab, cidr)?.then_some(())))?;
    ensure!(reach(&lab.node, alias).is_err(), "the way to the API server is gone");

    let watched = Duration::from_secs(90);
    eventually("it is taken back", watched, || Ok(unrouted(lab, cidr)?.then_some(())))
        .with_context(|| agent.log().join("\n"))?;
    eventually("the node reaches its API server", HEALTHY_WITHIN, || Ok(reach(&lab.node, alias).ok()))?;
    for vtep in &good {
        ensure!(routed(lab, &vtep.cidr.to_string())?, "what was there before stays: {:?}", ours(lab)?);
    }
    let names = |text: &String| text.contains(cidr);
    let refused = |status: &Status| status.datapath.problems.iter().any(names);
    agent.wait_for("/status says so", HEALTHY_WITHIN, refused)?;
    let told = agent.lines(cidr).into_iter().filter(|line| line.contains("WARN") && line.contains("API server"));
    ensure!(told.count() >= 1, "{}", agent.log().join("\n"));

    // The agent does not add it again while the VTEPs of the configuration are the same.
    stays_unrouted(lab, cidr).context("the same configuration")?;
    let hash = agent.wait_for("a status", HEALTHY_WITHIN, refused)?.config.hash;
    let mut keys = keys_for(&with(&good, third(cidr)?));
    keys.insert("debug".into(), "true".into());
    apply(server, &keys)?;
    agent.wait_for("an edit of another key", Duration::from_secs(90), |status| status.config.hash != hash)?;
    stays_unrouted(lab, cidr).context("after an edit of another key")?;
    agent.wait_for("it is still said", HEALTHY_WITHIN, refused)?;
    ensure!(agent.terminate()?.success(), "a clean end");
    let mut agent = start_by(&site, &by_alias)?;
    agent.wait_for("it is still said after a restart", HEALTHY_WITHIN, refused)?;
    stays_unrouted(lab, cidr).context("after a restart")?;
    reach(&lab.node, alias).context("after a restart")?;
    let corrected = with(&good, third("10.1.7.0/24")?);
    site.configure(&corrected)?;
    eventually("the correction arrives", Duration::from_secs(90), || {
        Ok((in_kernel(lab, &corrected)? && routed(lab, "10.1.7.0/24")?).then_some(()))
    })
    .with_context(|| agent.log().join("\n"))?;
    let cured = |status: &Status| !status.datapath.problems.iter().any(names);
    agent.wait_for("/status is cured", HEALTHY_WITHIN, cured)?;
    ensure!(agent.terminate()?.success(), "a clean end");
    Ok(())
}

/// With a directory, the agent tests the default gateway. This takes some 20 s: the kernel trusts a neighbour for a while (here one
/// second instead of up to 45), waits a second more, and sends three requests, a second apart. Then the agent requires three losses in a
/// row.
#[test]
fn a_change_that_costs_the_default_gateway_is_taken_back() -> Result<()> {
    let site = Site::new(Place::BehindTheGateway)?;
    let lab = &site.lab;
    let (good, cidr) = (lab.topology.vteps(), "10.1.7.0/24");
    let gateway = lab.topology.underlay;
    for (setting, value) in [("base_reachable_time_ms", "1000"), ("delay_first_probe_time", "1")] {
        lab.node.sysctl(&format!("ipv4/neigh/eth0/{setting}"), value)?;
    }
    lab.config.write(&keys_for(&good))?;
    let agent = Agent::start(lab)?;
    site.wait_effective(&agent, &good, cidr)?;
    agent.wait_for("the others are healthy", HEALTHY_WITHIN, all_healthy)?;
    let asked = || ping(&lab.node, None, gateway.addr(), 1, Duration::from_secs(1));
    ensure!(asked()?.is_complete(), "the gateway is there before");

    let changed = Instant::now();
    lab.config.write(&keys_for(&with(&good, third(cidr)?)))?;
    eventually("the third is routed", NOTICED_WITHIN, || Ok(routed(lab, cidr)?.then_some(())))?;
    lab.underlay.ip(&format!("address del {gateway} dev br0"))?;
    eventually("nobody answers for the gateway", Duration::from_secs(25), || {
        ensure!(asked()?.received == 0, "it answers without its address");
        let entry = lab.node.ip(&format!("neigh show {} dev eth0", gateway.addr()))?;
        Ok(entry.contains("FAILED").then_some(()))
    })?;
    ensure!(changed.elapsed() < Duration::from_secs(28), "the agent watches for 30 s: {:?}", changed.elapsed());

    eventually("it is taken back", NOTICED_WITHIN, || Ok(unrouted(lab, cidr)?.then_some(())))
        .with_context(|| agent.log().join("\n"))?;
    let said = |text: &String| text.contains(cidr) && text.contains("default gateway");
    agent.wait_for("/status says so", HEALTHY_WITHIN, |status| status.datapath.problems.iter().any(said))?;
    for vtep in &good {
        ensure!(routed(lab, &vtep.cidr.to_string())?, "what was there before stays: {:?}", ours(lab)?);
    }
    stays_unrouted(lab, cidr)
}

/// An agent with another kubeconfig than the server's own.
fn start_by(site: &Site, kubeconfig: &str) -> Result<Agent> {
    const PATH: &str = "/mnt/kubeconfig-by-alias";
    fs::write(PATH, kubeconfig)?;
    let mut command = site.lab.node.command(crate::support::AGENT);
    command.env("KUBECONFIG", PATH).args(["run", "--config-source", "kube", "--node-name", NODE]);
    command.args(["--cilium-run", vtep_lab::CILIUM_RUN, "--listen", &crate::support::LISTEN.to_string()]);
    Agent::spawn(&site.lab, command)
}
