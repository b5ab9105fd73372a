//! Cilium's version, and the lines about tunnels in the files that it writes when it starts.

use std::{io, path::Path};

use anyhow::Context;
use serde_json::json;
use vtep_core::{
    bundle::{allowed, part::Outcome},
    node::{cilium_agent::AgentState, running::Running},
};

use crate::{
    bounded,
    cli::args::node,
    tasks::node::cilium_files::{CiliumFiles, HEADER, MAX_BYTES, RUNTIME_CONFIG},
};

pub(super) async fn version(node: &node::Flags) -> anyhow::Result<Vec<u8>> {
    let agent = node.cilium_agent().read().await;
    let state = match agent.state {
        AgentState::Unknown => "unknown: its socket is not there",
        AgentState::Running => "running",
        AgentState::NotRunning { .. } => "not running: nobody answers on its socket",
    };
    let CiliumFiles { running, problem } = CiliumFiles::read(&node.cilium_run);
    let started = match &running {
        Running::Known(config) => config.started,
        Running::Absent | Running::Unreadable => None,
    };
    let version = agent.version.map(|version| version.to_string());
    Ok(serde_json::to_vec_pretty(&json!({
        "version": version, "agent": state, "started_at": started, "problem": problem,
    }))?)
}

pub(super) fn running_config(cilium_run: &Path) -> Outcome {
    let select = |text: &str| {
        let allowed = allowed::running_config(text).context("it is not JSON")?;
        Ok(serde_json::to_vec_pretty(&allowed)?)
    };
    file(&cilium_run.join(RUNTIME_CONFIG), select)
}

/// Cilium 1.19 and newer compiles nothing on the node.
pub(super) fn header(cilium_run: &Path) -> Outcome {
    file(&cilium_run.join(HEADER), |text| Ok(allowed::header(text).into_bytes()))
}

/// A file that is not there is no lack of the bundle: releases of Cilium differ, and one that has not started has none.
fn file(path: &Path, select: impl FnOnce(&str) -> anyhow::Result<Vec<u8>>) -> Outcome {
    let text = match bounded::read_text(path, MAX_BYTES) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Outcome::LeftOut(format!("Cilium has not written {}", path.display()));
        }
        Err(error) => return Outcome::Missing(format!("cannot read {}: {error}", path.display())),
    };
    match select(&text) {
        Ok(bytes) => Outcome::Collected(bytes),
        Err(error) => Outcome::Missing(format!("cannot use {}: {error:#}", path.display())),
    }
}
