//! The configuration and the node at one moment, for commands that look once: `plan`, `run --once`.

use std::io::Write;

use anyhow::Context;
use jiff::Timestamp;
use rtnetlink::Handle;

use super::source::Source;
use crate::{
    config::{
        follow::{around, recall},
        view::View,
    },
    node::{facts::Facts, netlink, networks},
};

pub struct Moment {
    pub view: View,
    pub facts: Facts,
    pub netlink: Handle,
}

impl Moment {
    /// `None`, and said on standard error, where nothing is in force: no valid configuration was seen, now or before.
    ///
    /// # Errors
    ///
    /// When the configuration's source or the kernel cannot be reached.
    pub async fn look(source: &Source) -> anyhow::Result<Option<Self>> {
        let config = source.config().await?;
        let name = config.to_string();
        let netlink = netlink::connect().context("failed to open a netlink socket")?;
        let recalled = recall(&source.state.last_good());
        let observed = config.read().await;
        let networks = networks::look(&netlink, &source.own_tables()).await;
        let known = source.surroundings().and(&networks);
        let around = around(&observed, &known, recalled.as_ref(), &source.ipcache_look()).await;
        let view = View::next_on(&around, &name, &observed, recalled.as_ref(), Timestamp::now());
        if view.in_force.is_none() {
            let findings = view.findings.iter().map(|finding| finding.message.as_str());
            let errors: Vec<_> = view.source_error.as_deref().into_iter().chain(findings).collect();
            writeln!(std::io::stderr(), "error: no valid configuration: {}", errors.join("; "))?;
            return Ok(None);
        }
        let version = source.node.version().read().await;
        let facts = Facts::read(&netlink, &view, &source.node.cilium_run, version).await;
        Ok(Some(Self { view, facts: facts.context("failed to read this node")?, netlink }))
    }
}
