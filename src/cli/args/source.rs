//! The source of the configuration, and the settings that `run`, `plan` and `probe` share.

use std::{collections::BTreeSet, fmt, path::PathBuf};

use anyhow::anyhow;
use ipnet::Ipv4Net;
use kube::Client;
use rtnetlink::Handle;
use tokio::{
    sync::{mpsc, watch},
    task,
};
use vtep_core::{
    config::{
        merge::Names,
        surroundings::Surroundings,
        truth::{Choice, Signs},
        view::Observed,
    },
    datapath::{layout::Layout, settings::Settings, state::ROUTE_TABLE},
    tunnel::mac_learning::{LearnMacs, LearnedMacs},
    types::error_chain::chain,
};

use super::{
    choices::{EntryMac, HostRoutes, IpcacheMode},
    cluster_networks::ClusterNetworks,
    node, state,
};
use crate::{
    k8s,
    kernel::vtep_map::VtepMap,
    tasks::{
        config::{IpcacheQuery, Needs, SignsQuery, dir},
        node::cilium_files::CiliumFiles,
        prober::learned,
        reconcile::{Lifeline, ipcache_search},
    },
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// The API server: in the cluster by the ServiceAccount, elsewhere by KUBECONFIG.
    Kube,
    /// A directory with one file per key: a mounted ConfigMap.
    Dir,
}

/// `--vtep-source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum VtepSource {
    /// Custom resources, where they have VTEPs for this node; both, by what Cilium and its map show.
    Auto,
    /// The lists in the ConfigMap.
    Configmap,
    /// CiliumVTEPConfig and CiliumVTEPNodeConfig.
    Crd,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Source {
    /// Where the configuration comes from: the API server, or a directory where the ConfigMap is mounted;
    /// without it `dir` where `--config-dir` is given, otherwise `kube`.
    #[arg(long, value_enum, env = "VTEP_AGENT_CONFIG_SOURCE")]
    config_source: Option<Kind>,
    /// The directory that the ConfigMap cilium-config is mounted at.
    #[arg(long, value_name = "DIR", env = "VTEP_AGENT_CONFIG_DIR", required_if_eq("config_source", "dir"))]
    config_dir: Option<PathBuf>,
    /// Which VTEPs count: those of the lists in the ConfigMap, or those of CiliumVTEPConfig objects.
    #[arg(long, value_enum, default_value = "auto", env = "VTEP_AGENT_VTEP_SOURCE")]
    vtep_source: VtepSource,
    /// Cilium's namespace.
    #[arg(long, value_name = "NAME", default_value = "kube-system", env = "VTEP_AGENT_NAMESPACE")]
    namespace: String,
    /// Cilium's ConfigMap.
    #[arg(long, value_name = "NAME", default_value = "cilium-config", env = "VTEP_AGENT_CONFIGMAP")]
    configmap: String,
    /// This node's name in Kubernetes.
    #[arg(long, value_name = "NAME", env = "NODE_NAME", default_value_t = hostname())]
    pub node_name: String,
    #[command(flatten)]
    surroundings: ClusterNetworks,
    #[command(flatten)]
    pub node: node::Flags,
    /// Add host routes to VTEPs that Cilium does not route, and restore Cilium's missing rules; `off` leaves all routes as they are.
    #[arg(long, value_enum, default_value = "auto", env = "VTEP_AGENT_HOST_ROUTES")]
    pub host_routes: HostRoutes,
    /// The routing table that this agent's host routes are in; choose another where somebody else has routes in this one.
    #[arg(long, value_name = "TABLE", default_value_t = ROUTE_TABLE, value_parser = route_table, env = "VTEP_AGENT_ROUTE_TABLE")]
    pub route_table: u32,
    /// A VTEP CIDR that may overlap a connected network of this node, or what Cilium's ipcache has, because you know better (a `docker0`
    /// that nobody uses); repeatable. Never a gateway or the API server.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', env = "VTEP_AGENT_ALLOW_OVERLAP")]
    allow_overlap: Vec<Ipv4Net>,
    /// Write VTEPs into Cilium's ipcache: `auto` only where Cilium has no VTEP map (before 1.12.0, and its release candidates); verified in any case.
    #[arg(long, value_enum, default_value = "auto", env = "VTEP_AGENT_IPCACHE")]
    pub ipcache: IpcacheMode,
    /// The MAC of an entry: as configured, or, after a failover, the one that BIG-IP's tunnel answers with. See SECURITY.md first.
    #[arg(long, value_enum, default_value = "configured", env = "VTEP_AGENT_MAC")]
    mac: EntryMac,
    /// A VTEP CIDR whose entry follows the MAC that BIG-IP's tunnel answers with, whatever `--mac` is; repeatable.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', env = "VTEP_AGENT_LEARN_MAC")]
    learn_mac: Vec<Ipv4Net>,
    #[command(flatten)]
    pub state: state::Flags,
}

/// A source that is ready to read.
pub enum Config {
    Dir { dir: PathBuf, surroundings: Surroundings },
    Kube(k8s::source::Source),
}

impl Source {
    /// # Errors
    ///
    /// There are no credentials for the API server, or a directory should have custom resources.
    pub async fn config(&self) -> anyhow::Result<Config> {
        self.config_with(watch::channel(()).1).await
    }

    /// The same; `recheck` asks to read the custom resources again.
    ///
    /// # Errors
    ///
    /// As [`Self::config`].
    pub async fn config_with(&self, recheck: watch::Receiver<()>) -> anyhow::Result<Config> {
        let surroundings = self.surroundings();
        match (self.config_source, &self.config_dir) {
            (Some(Kind::Dir) | None, Some(_)) if self.vtep_source == VtepSource::Crd => Err(anyhow!(
                "--vtep-source crd needs the API server, and --config-dir is a mounted ConfigMap: give --config-source kube"
            )),
            (Some(Kind::Dir) | None, Some(dir)) => Ok(Config::Dir { dir: dir.clone(), surroundings }),
            (Some(Kind::Kube | Kind::Dir) | None, _) => {
                let (client, server) = k8s::source::connect().await.map_err(|error| {
                    let reason = no_credentials(&error);
                    anyhow!(
                        "no API server credentials: run as a pod with a ServiceAccount, set KUBECONFIG, or give \
                         --config-dir ({reason})"
                    )
                })?;
                Ok(Config::Kube(k8s::source::Source { client, server, names: self.names(), surroundings, recheck }))
            }
        }
    }

    #[must_use]
    pub fn names(&self) -> Names {
        Names { namespace: self.namespace.clone(), configmap: self.configmap.clone(), node: self.node_name.clone() }
    }

    #[must_use]
    pub fn datapath(&self) -> Settings {
        Settings {
            bpffs: self.node.bpffs.clone(),
            host_routes: self.host_routes.into(),
            route_table: self.route_table,
            ipcache: self.ipcache.into(),
        }
    }

    /// The VTEPs whose entries follow the MAC that answers.
    #[must_use]
    pub fn learn_macs(&self) -> LearnMacs {
        LearnMacs { all: self.mac == EntryMac::Learned, cidrs: self.learn_mac.iter().map(Ipv4Net::trunc).collect() }
    }

    /// The MACs that entries have in the place of configured ones, as the agent left them.
    #[must_use]
    pub fn learned_macs(&self) -> LearnedMacs {
        learned::Memory::read_only(&self.state.learned()).macs(&self.learn_macs())
    }

    /// Routing tables of this agent. Their routes do not count as networks that the node needs.
    #[must_use]
    pub fn own_tables(&self) -> BTreeSet<u32> {
        let mut tables = self.state.route_tables();
        tables.insert(self.route_table);
        tables
    }

    /// The cluster's and the node's networks as given by flags.
    fn surroundings(&self) -> Surroundings {
        let allow_overlap = self.allow_overlap.iter().map(Ipv4Net::trunc).collect();
        Surroundings { allow_overlap, ..self.surroundings.surroundings() }
    }

    /// The inputs for the rules about networks that this node needs.
    pub fn needs(&self, config: &Config, networks: watch::Receiver<Option<Surroundings>>) -> Needs {
        let (given, ipcache, signs) = (Box::pin(self.given(config)), self.ipcache_query(), self.signs_query());
        Needs { given, networks, ipcache, signs }
    }

    /// Knowledge about the cluster that needs no answer of the API server: the flags, and the API server's own addresses.
    pub fn given(&self, config: &Config) -> impl Future<Output = Surroundings> + use<> {
        let surroundings = self.surroundings();
        let server = match config {
            Config::Kube(source) => Some(source.server.clone()),
            Config::Dir { .. } => None,
        };
        async move {
            let api_servers = match server {
                Some(server) => server.addresses().await,
                None => BTreeSet::new(),
            };
            Surroundings { api_servers, ..surroundings }
        }
    }

    /// Searches the ipcache on tokio's blocking pool.
    #[must_use]
    pub fn ipcache_query(&self) -> IpcacheQuery {
        let (bpffs, owned) = (self.node.bpffs.clone(), self.state.owned());
        Box::new(move |cidrs| {
            let (bpffs, owned) = (bpffs.clone(), owned.clone());
            Box::pin(async move {
                let query = move || {
                    ipcache_search::search_once(&bpffs, &cidrs, &owned.load().ok().flatten().unwrap_or_default())
                };
                match task::spawn_blocking(query).await {
                    Ok(found) => found.map_err(|error| chain(&error).to_string()),
                    Err(error) => Err(error.to_string()),
                }
            })
        })
    }

    /// Looks at the VTEP map and at Cilium's files, on tokio's blocking pool.
    #[must_use]
    pub fn signs_query(&self) -> SignsQuery {
        let (bpffs, cilium_run) = (self.node.bpffs.clone(), self.node.cilium_run.clone());
        let choice = match self.vtep_source {
            VtepSource::Auto => Choice::Auto,
            VtepSource::Configmap => Choice::Configmap,
            VtepSource::Crd => Choice::Crd,
        };
        Box::new(move || {
            let (bpffs, cilium_run) = (bpffs.clone(), cilium_run.clone());
            Box::pin(async move {
                let look = move || {
                    let map_is_trie = VtepMap::open(&bpffs).is_ok_and(|map| map.model() == Layout::VtepLpm);
                    let running = CiliumFiles::read(&cilium_run).running;
                    let runs_with_lists = running.config().is_some_and(|config| config.networks().next().is_some());
                    Signs { choice, map_is_trie, runs_with_lists }
                };
                task::spawn_blocking(look).await.unwrap_or(Signs { choice, ..Signs::default() })
            })
        })
    }

    /// The connection that no route may cut off.
    #[must_use]
    pub fn lifeline(&self, config: &Config, netlink: Handle) -> Lifeline {
        match config {
            Config::Dir { .. } => Lifeline::Gateway(netlink),
            Config::Kube(source) => Lifeline::ApiServer(source.server.clone()),
        }
    }
}

impl Config {
    /// A client for writing to the API server.
    ///
    /// # Errors
    ///
    /// There are no credentials.
    pub async fn client(&self) -> kube::Result<Client> {
        match self {
            Self::Dir { .. } => k8s::source::client().await,
            Self::Kube(source) => Ok(source.client.clone()),
        }
    }

    /// Reads the source once.
    pub async fn read(self) -> Observed {
        match self {
            Self::Dir { dir, surroundings } => dir::read(&dir, &surroundings),
            Self::Kube(source) => source.read().await,
        }
    }

    /// Sends the content of the source now and after each change.
    pub async fn follow(self, updates: mpsc::Sender<Observed>) {
        match self {
            Self::Dir { dir, surroundings } => dir::follow(dir, surroundings, updates).await,
            Self::Kube(source) => source.follow(updates).await,
        }
    }
}

/// The source's name in `/status`.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir { dir, .. } => write!(f, "dir:{}", dir.display()),
            Self::Kube(k8s::source::Source { names: Names { namespace, configmap, .. }, .. }) => {
                write!(f, "kube:{namespace}/{configmap}")
            }
        }
    }
}

/// Refuses the tables of the kernel and of Cilium.
fn route_table(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0 | 202 | 253..=255 | 2004 | 2005) => Err("it is the kernel's or Cilium's: choose another".to_owned()),
        Ok(table) => Ok(table),
        Err(_) => Err("write a number, e.g. 2021".to_owned()),
    }
}

/// Takes only the inner message, because the library's error chain repeats each cause.
fn no_credentials(error: &kube::Error) -> String {
    if let kube::Error::InferConfig(error) = error { error.to_string() } else { error.to_string() }
}

fn hostname() -> String {
    nix::unistd::gethostname().map_or_else(|_| "localhost".into(), |name| name.to_string_lossy().into_owned())
}
