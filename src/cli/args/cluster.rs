//! Flags that name a cluster and a namespace in it, as kubectl's, for commands that a person starts outside of it.

use std::path::PathBuf;

use anyhow::Context;
use kube::Client;

use crate::k8s::kubeconfig;

#[derive(Clone, Debug, clap::Args)]
#[group(id = "cluster")]
pub struct Cluster {
    /// The kubeconfig; without it, that of kubectl (KUBECONFIG, or ~/.kube/config).
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace of the agent.
    #[arg(short, long, value_name = "NAME", default_value = "kube-system")]
    pub namespace: String,
}

impl Cluster {
    /// A client with the person's own rights.
    ///
    /// # Errors
    ///
    /// The kubeconfig cannot be used.
    pub async fn client(&self) -> anyhow::Result<Client> {
        let config = kubeconfig::config(self.kubeconfig.as_deref(), self.context.as_deref()).await?;
        Client::try_from(config).context("the kubeconfig cannot be used")
    }
}
