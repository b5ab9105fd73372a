//! The scenario of `tests/agent/misbehaviour.rs`, with the faults between the agent and a real API server.

use std::fs;

use anyhow::Result;
use vtep_apiserver::{ApiServer, Resource, objects};
use vtep_lab::{Config, Lab};

use crate::{
    api::{self, NODE},
    control_plane::ControlPlane,
    misbehaviour,
};

/// Takes over 20 s: sixteen kinds of faults, after each of which the agent waits for its turn.
#[test]
fn each_misbehaviour_in_front_of_a_real_server_is_survived() -> Result<()> {
    let lab = Lab::builder().api_host(true).start()?;
    let control_plane = ControlPlane::start(&lab)?;
    let kubeconfig = fs::read_to_string(control_plane.kubeconfig("admin"))?;
    let server = lab.node.run(|| ApiServer::in_front_of(&kubeconfig))?;
    server.apply(Resource::Nodes, objects::node(NODE, [], &["10.0.1.0/24"]))?;
    api::apply(&server, &Config::seed_keys())?;
    misbehaviour::is_survived(&lab, &server)
}
