//! Flags that describe the far end: what BIG-IPs have, and the nodes that they must know.

use std::path::PathBuf;

use super::bigip::BigIpAddress;

#[derive(Clone, Debug, clap::Args)]
#[group(id = "far_end")]
pub struct FarEnd {
    /// A BIG-IP's configuration to compare with: output of `tmsh list net` and `tmsh show net`, bigip.conf and bigip_base.conf, an SCF, a UCS
    /// archive, a qkview, or answers of iControl REST as JSON; repeatable.
    #[arg(long, visible_alias = "compare", value_name = "FILE")]
    pub bigip: Vec<PathBuf>,
    #[command(flatten)]
    pub address: BigIpAddress,
    /// The nodes that BIG-IP's FDB must have: a file with the output of `kubectl get nodes -o json`, or `cluster` to ask the API server.
    #[arg(long, value_name = "FILE|cluster")]
    pub nodes: Option<PathBuf>,
    /// The kubeconfig for `--nodes cluster`; without it, that of kubectl.
    #[arg(long, value_name = "FILE", requires = "nodes")]
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig.
    #[arg(long, value_name = "NAME", requires = "nodes")]
    pub context: Option<String>,
}
