//! The nodes of a cluster, for a command that a person starts outside of it.

use std::path::Path;

use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, api::ListParams};
use vtep_core::bigip::{compare::ClusterNode, nodes};

use super::kubeconfig::{self, KubeconfigError};

/// The nodes in one answer, as kubectl asks for them.
const PAGE: u32 = 500;

/// Why the nodes are not known.
#[derive(Debug, thiserror::Error)]
pub enum NodesError {
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    #[error("the API server does not list the nodes")]
    Api(#[from] kube::Error),
    #[error("the API server's list of nodes cannot be used")]
    List(#[from] nodes::NodesError),
}

/// Asks the API server. Without a file and a context, the kubeconfig is that of kubectl.
///
/// # Errors
///
/// The API server cannot be asked, or refuses, or has no node.
pub async fn list(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Vec<ClusterNode>, NodesError> {
    let config = kubeconfig::config(kubeconfig, context).await?;
    let api: Api<Node> = Api::all(Client::try_from(config)?);
    let mut parameters = ListParams::default().limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = api.list(&parameters).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => break,
        }
    }
    let list = serde_json::json!({ "items": all });
    Ok(nodes::read(&list.to_string())?)
}
