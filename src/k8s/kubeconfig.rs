//! The API server and the user of a kubeconfig, for commands that a person starts outside of the cluster.

use std::path::Path;

use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// Why no API server is known.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    #[error("the kubeconfig cannot be used")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    #[error("there is no kubeconfig")]
    Config(#[from] kube::config::InferConfigError),
}

/// Without a file and a context, the kubeconfig is that of kubectl.
///
/// # Errors
///
/// The kubeconfig is missing, cannot be read, or does not have the context.
pub async fn config(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Config, KubeconfigError> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    Ok(match (kubeconfig, context) {
        (Some(path), _) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?,
        (None, Some(_)) => Config::from_kubeconfig(&options).await?,
        (None, None) => Config::infer().await?,
    })
}
