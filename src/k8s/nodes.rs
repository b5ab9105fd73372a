//! The nodes of a cluster, for a command that a person starts outside of it.

use std::path::Path;

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, Config,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use vtep_core::bigip::{compare::ClusterNode, nodes};

/// The nodes in one answer, as kubectl asks for them.
const PAGE: u32 = 500;

/// Why the nodes are not known.
#[derive(Debug, thiserror::Error)]
pub enum NodesError {
    #[error("the kubeconfig cannot be used")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    #[error("there is no kubeconfig")]
    Config(#[from] kube::config::InferConfigError),
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
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = match (kubeconfig, context) {
        (Some(path), _) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?,
        (None, Some(_)) => Config::from_kubeconfig(&options).await?,
        (None, None) => Config::infer().await?,
    };
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
