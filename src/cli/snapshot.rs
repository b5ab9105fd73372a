//! One snapshot of the configuration and the node, for commands without a loop: `plan`, `probe`, `run --once`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context;
use jiff::Timestamp;
use rtnetlink::Handle;
use vtep_core::{
    config::{
        finding::{Finding, Rule, Severity},
        view::{Observed, View},
    },
    node::facts::Facts,
};

use super::args::source::{Config, Source};
use crate::{
    kernel::netlink,
    tasks::{
        config::{around, recall},
        node::{facts, networks},
    },
};

#[derive(Clone)]
pub struct Snapshot {
    pub view: View,
    pub facts: Facts,
    pub netlink: Handle,
}

/// The configuration as it was seen once, whether it has VTEPs or not.
pub struct Sighting {
    pub observed: Observed,
    pub view: View,
    pub netlink: Handle,
}

/// The exit status if there is no usable configuration.
pub const NO_CONFIGURATION: u8 = 2;

impl Snapshot {
    /// Reads everything once. `None`, with a message on standard error, if no configuration is in effect: none is valid now, and none was
    /// saved before.
    ///
    /// # Errors
    ///
    /// The kernel cannot be read.
    pub async fn read(source: &Source) -> anyhow::Result<Option<Self>> {
        let config = match source.config().await {
            Ok(config) => config,
            Err(error) => {
                say(&format!("no usable configuration: {error:#}"))?;
                return Ok(None);
            }
        };
        let seen = Sighting::of(config, source).await?;
        if let Some(problem) = seen.problem() {
            say(&problem)?;
            return Ok(None);
        }
        if !is_there(&seen.view) {
            say(&format!("{}; using the last known configuration", errors(&seen.view).join("; ")))?;
        }
        seen.snapshot(source).await.map(Some)
    }
}

impl Sighting {
    /// Reads the source and the node's networks once.
    ///
    /// # Errors
    ///
    /// There are no credentials for the source, or there is no netlink socket.
    pub async fn read(source: &Source) -> anyhow::Result<Self> {
        Self::of(source.config().await?, source).await
    }

    async fn of(config: Config, source: &Source) -> anyhow::Result<Self> {
        let name = config.to_string();
        let netlink = netlink::connect().context("failed to open a netlink socket")?;
        let recalled = recall(&source.state.last_good());
        let given = source.given(&config).await;
        let observed = config.read().await;
        let networks = networks::read_once(&netlink, &source.own_tables()).await;
        let known = given.and(&networks);
        let signs = (source.signs_query())().await;
        let (around, unlooked) = around(&observed, &known, signs, recalled.as_ref(), &source.ipcache_query()).await;
        let view = View::next_on(&around, signs, &name, &observed, recalled.as_ref(), Timestamp::now());
        let view = View { unlooked, ..view };
        Ok(Self { observed, view, netlink })
    }

    /// Why no configuration is in effect, if none is.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.view.effective.is_none().then(|| format!("no usable configuration: {}", errors(&self.view).join("; ")))
    }

    /// Reads the facts of this node, too.
    ///
    /// # Errors
    ///
    /// The kernel cannot be read.
    pub async fn snapshot(self, source: &Source) -> anyhow::Result<Snapshot> {
        let Self { view, netlink, .. } = self;
        let agent = source.node.cilium_agent().read().await;
        let facts = facts::read(&netlink, &view, &source.node.cilium_run, agent).await;
        Ok(Snapshot { view, facts: facts.context("failed to read this node")?, netlink })
    }
}

/// The exit status of a command that used this view. A saved configuration never yields success, because a script must not mistake it for
/// the current one.
#[must_use]
pub fn exit(view: &View, is_well: bool) -> ExitCode {
    match is_well {
        _ if !is_there(view) => ExitCode::from(NO_CONFIGURATION),
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Whether the source answered and has a configuration.
fn is_there(view: &View) -> bool {
    view.source_error.is_none() && !view.findings.iter().any(|finding| finding.rule == Rule::ConfigmapMissing)
}

/// The configuration's errors, each once.
fn errors(view: &View) -> Vec<&str> {
    let is_error = |finding: &&Finding| finding.severity == Severity::Error;
    let findings = view.findings.iter().filter(is_error).map(|finding| finding.message.as_str());
    let mut errors: Vec<_> = view.source_error.as_deref().into_iter().chain(findings).collect();
    errors.dedup();
    errors
}

fn say(error: &str) -> io::Result<()> {
    writeln!(io::stderr(), "error: {error}")
}
