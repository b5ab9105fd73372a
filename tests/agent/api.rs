//! The API server of a test, and an agent that uses it.

use std::{collections::BTreeMap, fs};

use anyhow::Result;
use vtep_apiserver::{ApiServer, Resource, objects};
use vtep_lab::{Config, Lab};

use crate::support::{AGENT, Agent, LISTEN};

pub(crate) const NAMESPACE: &str = "kube-system";
pub(crate) const NAME: &str = "cilium-config";
pub(crate) const NODE: &str = "worker-1";
/// The file with the API server's address for agents; only the lab sees it.
pub(crate) const KUBECONFIG: &str = "/mnt/kubeconfig";

/// The address that the API server publishes for itself, behind its Service.
pub(crate) const ENDPOINT: &str = "10.169.72.10";

/// An API server inside the node's network with this node, its own endpoints and the seed's configuration.
pub(crate) fn api_server(lab: &Lab) -> Result<ApiServer> {
    let server = lab.node.run(ApiServer::start)?;
    apply(&server, &Config::seed_keys())?;
    server.apply(Resource::Nodes, objects::node(NODE, [("zone", "dmz")], &["10.0.1.0/24"]))?;
    let addresses = [("InternalIP", "10.169.72.239"), ("CiliumInternalIP", "10.0.1.169")];
    server.apply(Resource::CiliumNodes, objects::cilium_node(NODE, &["10.0.1.0/24"], addresses))?;
    server.apply(Resource::EndpointSlices, objects::api_server_endpoints("kubernetes", &[ENDPOINT]))?;
    Ok(server)
}

pub(crate) fn apply(server: &ApiServer, keys: &BTreeMap<String, String>) -> Result<()> {
    let data = keys.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    server.apply(Resource::ConfigMaps, objects::config_map(NAMESPACE, NAME, data)).map(drop)
}

/// An agent that takes its configuration from this server.
pub(crate) fn start(lab: &Lab, server: &ApiServer, args: &[&str]) -> Result<Agent> {
    fs::write(KUBECONFIG, server.kubeconfig())?;
    let mut command = lab.node.command(AGENT);
    command.env("KUBECONFIG", KUBECONFIG).args(["run", "--config-source", "kube", "--node-name", NODE]);
    command.args(["--cilium-run", vtep_lab::CILIUM_RUN, "--listen", &LISTEN.to_string()]);
    command.args(["--probe-target", "10.1.6.0/24=10.1.6.34,10.1.5.0/24=10.1.5.36"]);
    command.args(args);
    Agent::spawn(lab, command)
}
