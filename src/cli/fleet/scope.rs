//! The flags that `fleet` and `fleet bundle` share: which cluster, which agents, which of them.

use std::time::Duration;

use vtep_core::fleet::selection::Selection;

use crate::{
    cli::args::{cluster::Cluster, run::between},
    fleet::collect::{Fleet, Place},
};

/// The labels of the agents' pods as the chart sets them: the component is the same whatever `nameOverride` is, and releases before 0.2 have
/// only the name.
const SELECTORS: [&str; 2] = ["app.kubernetes.io/name=vtep-agent", "app.kubernetes.io/component=vtep-agent"];

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Scope {
    #[command(flatten)]
    cluster: Cluster,
    /// The labels of the agents' pods; if repeated, any of them.
    #[arg(short = 'l', long, value_name = "LABELS", default_values = SELECTORS)]
    selector: Vec<String>,
    /// Only nodes with this name, in which * stands for any text; repeatable.
    #[arg(long, value_name = "NAME")]
    pub(super) node: Vec<String>,
    /// Only VTEPs with this CIDR, endpoint or name; repeatable.
    #[arg(long, value_name = "CIDR|IP|NAME")]
    vtep: Vec<String>,
    /// Only VTEPs with this cause; repeatable.
    #[arg(long, value_name = "ID")]
    cause: Vec<String>,
    /// How long each agent may take for its answer, 100ms to 5m.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = timeout)]
    timeout: Duration,
}

fn timeout(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_millis(100), Duration::from_secs(300))
}

impl Scope {
    /// # Errors
    ///
    /// The kubeconfig cannot be used.
    pub(super) async fn fleet(&self) -> anyhow::Result<Fleet> {
        let Self { cluster, selector, timeout, .. } = self;
        let place = Place { namespace: cluster.namespace.clone(), selectors: selector.clone(), deadline: *timeout };
        Ok(Fleet::new(cluster.client().await?, place))
    }

    pub(super) fn selection(&self) -> Selection {
        let Self { node, vtep, cause, .. } = self;
        Selection { nodes: node.clone(), vteps: vtep.clone(), causes: cause.clone() }
    }
}
