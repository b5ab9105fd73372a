//! A lab whose VTEPs come from one of the sources that Cilium has, for tests that must hold whatever the source is.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use vtep_apiserver::{
    ApiServer, Resource, VtepVersions,
    objects::{self, VtepEndpoint},
};
use vtep_core::{
    datapath::grace_period::GRACE_PERIOD,
    report::status::{Status, VtepStatus},
};
use vtep_lab::{Builder, Cilium, Config, Lab, Vtep, VtepModel};

use crate::{
    api::{self, NODE},
    support::{Agent, HEALTHY_WITHIN, REPAIRED_WITHIN, all_healthy, bpftool},
};

/// The name of the CiliumVTEPConfig, and the names of its endpoints in the order of the VTEPs.
pub(crate) const OBJECT: &str = "gateways";
pub(crate) const NAMES: [&str; 3] = ["vpc-gateway", "dmz-gateway", "third-gateway"];

const PIN: &str = "/sys/fs/bpf/tc/globals/cilium_vtep_map";

/// Where the VTEPs come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The lists of `cilium-config`, with a hash as the VTEP map.
    Lists,
    /// A CiliumVTEPConfig `cilium.io/v2`, with a hash as the VTEP map.
    V2,
    /// A CiliumVTEPConfig `cilium.io/v2alpha1` and what Cilium's operator makes of it for this node, with a trie as the VTEP map.
    V2alpha1,
}

impl Source {
    pub(crate) fn is_lists(self) -> bool {
        self == Self::Lists
    }

    pub(crate) fn model(self) -> VtepModel {
        match self {
            Self::Lists | Self::V2 => VtepModel::Hash,
            Self::V2alpha1 => VtepModel::Trie,
        }
    }

    pub(crate) fn versions(self) -> VtepVersions {
        match self {
            Self::Lists => VtepVersions::Absent,
            Self::V2 => VtepVersions::V2,
            Self::V2alpha1 => VtepVersions::V2alpha1,
        }
    }

    /// The objects of these VTEPs in the API server, synced. No VTEP, no object.
    pub(crate) fn apply(self, server: &ApiServer, vteps: &[Vtep]) -> Result<()> {
        if vteps.is_empty() {
            server.delete(Resource::CiliumVtepConfigs, "", OBJECT);
            server.delete(Resource::CiliumVtepNodeConfigs, "", NODE);
            return Ok(());
        }
        ensure!(vteps.len() <= NAMES.len(), "{} names are not enough", NAMES.len());
        let words: Vec<_> =
            vteps.iter().map(|of| [of.endpoint.to_string(), of.cidr.to_string(), of.mac.to_string()]).collect();
        let named = words.iter().zip(NAMES);
        let endpoints: Vec<_> = named
            .map(|([tunnel_endpoint, cidr, mac], name)| VtepEndpoint { name, tunnel_endpoint, cidr, mac })
            .collect();
        let synced = |object| endpoints.iter().fold(object, |object, of| objects::synced(object, of.name, None));
        match self {
            Self::Lists => {}
            Self::V2 => {
                let object = objects::vtep_config_v2(OBJECT, None, &endpoints);
                server.apply(Resource::CiliumVtepConfigs, objects::ready(synced(object), true, ""))?;
            }
            Self::V2alpha1 => {
                let selector = json!({ "matchLabels": { "zone": "dmz" } });
                let object = objects::vtep_config_v2alpha1(OBJECT, Some(selector), &endpoints);
                server.apply(Resource::CiliumVtepConfigs, objects::ready(object, true, ""))?;
                let object = synced(objects::vtep_node_config(NODE, &endpoints));
                server.apply(Resource::CiliumVtepNodeConfigs, object)?;
            }
        }
        Ok(())
    }
}

/// A test for each of these functions with each source.
macro_rules! with_each_source {
    ($($test:ident),+ $(,)?) => {
        mod with_lists {
            $(#[test] fn $test() -> anyhow::Result<()> { super::$test(crate::configured_lab::Source::Lists) })+
        }
        mod with_objects_v2 {
            $(#[test] fn $test() -> anyhow::Result<()> { super::$test(crate::configured_lab::Source::V2) })+
        }
        mod with_objects_v2alpha1 {
            $(#[test] fn $test() -> anyhow::Result<()> { super::$test(crate::configured_lab::Source::V2alpha1) })+
        }
    };
}
pub(crate) use with_each_source;

/// The keys of `cilium-config` where the VTEPs come from objects.
pub(crate) fn keys_without_lists() -> BTreeMap<String, String> {
    let mut keys = Config::seed_keys();
    keys.retain(|key, _| !["vtep-endpoint", "vtep-cidr", "vtep-mac", "vtep-mask"].contains(&key.as_str()));
    keys
}

/// The status of the topology's first VTEP, and of its second. Lists and objects have them in another order.
pub(crate) fn both(status: &Status) -> Option<(&VtepStatus, &VtepStatus)> {
    let of = |cidr: &str| status.vteps.iter().find(|vtep| vtep.cidr.to_string() == cidr);
    of("10.1.6.0/24").zip(of("10.1.5.0/24"))
}

/// The lab, and its source of VTEPs. With objects, the lab also plays Cilium's reconciler of them.
pub(crate) struct ConfiguredLab {
    lab: Lab,
    pub(crate) source: Source,
    server: Option<ApiServer>,
    vteps: Vec<Vtep>,
}

impl ConfiguredLab {
    /// The VTEPs of the topology are configured.
    pub(crate) fn start(source: Source) -> Result<Self> {
        Self::with(source, Lab::builder())
    }

    pub(crate) fn with(source: Source, builder: Builder) -> Result<Self> {
        let lab = builder.vtep_model(source.model()).vtep_lists(source.is_lists()).start()?;
        let server = if source.is_lists() {
            None
        } else {
            let server = api::api_server(&lab)?;
            api::apply(&server, &keys_without_lists())?;
            server.serve_vtep(source.versions());
            Some(server)
        };
        let vteps = lab.topology.vteps();
        let mut this = Self { lab, source, server, vteps: Vec::new() };
        this.configure(&vteps)?;
        Ok(this)
    }

    /// The API server with the objects.
    pub(crate) fn server(&self) -> Result<&ApiServer> {
        self.server.as_ref().context("lists come from a directory here")
    }

    /// The agent, once both VTEPs are healthy.
    pub(crate) fn healthy_agent(&self) -> Result<Agent> {
        let agent = match &self.server {
            Some(server) => api::start(&self.lab, server, &[])?,
            None => Agent::start(&self.lab)?,
        };
        agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
        Ok(agent)
    }

    /// Configures these VTEPs at the source.
    pub(crate) fn configure(&mut self, vteps: &[Vtep]) -> Result<()> {
        self.vteps = vteps.to_vec();
        match &self.server {
            Some(server) => self.source.apply(server, vteps)?,
            None => self.lab.config.write(&Config::keys_for(vteps))?,
        }
        self.reconcile()
    }

    /// Changes the first VTEP.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Vtep)) -> Result<()> {
        let mut vteps = self.lab.topology.vteps();
        change(&mut vteps[0]);
        self.configure(&vteps)
    }

    /// Configures the VTEPs of the topology again.
    pub(crate) fn undo_edit(&mut self) -> Result<()> {
        let vteps = self.lab.topology.vteps();
        self.configure(&vteps)
    }

    pub(crate) fn restart_cilium(&mut self, change: impl FnOnce(&mut Cilium)) -> Result<()> {
        change(&mut self.lab.cilium);
        self.lab.cilium.start()?;
        self.reconcile()
    }

    /// How long a repair may take: Cilium's own reconciler comes first.
    pub(crate) fn repaired_within(&self) -> Duration {
        if self.source.is_lists() { REPAIRED_WITHIN } else { 10 * GRACE_PERIOD }
    }

    /// The VTEP map has exactly the entries of these VTEPs.
    pub(crate) fn has_in_kernel(&self, vteps: &[Vtep]) -> Result<bool> {
        let wanted = vteps.iter().map(|vtep| (vtep.cidr, vtep.value())).collect();
        Ok(self.lab.cilium.entries()? == wanted)
    }

    /// Deletes an entry as a person does.
    pub(crate) fn delete_by_hand(&self, vtep: &Vtep) -> Result<()> {
        bpftool(&self.lab, &format!("map delete pinned {PIN} key {}", self.key(vtep))).map(drop)
    }

    /// Writes an entry as a person does; the value is in bpftool's form.
    pub(crate) fn write_by_hand(&self, vtep: &Vtep, value: &str) -> Result<()> {
        bpftool(&self.lab, &format!("map update pinned {PIN} key {} value {value}", self.key(vtep))).map(drop)
    }

    /// The key in bpftool's form.
    fn key(&self, vtep: &Vtep) -> String {
        let [a, b, c, d] = vtep.cidr.network().octets();
        let prefix = match self.source.model() {
            VtepModel::Hash => String::new(),
            // `struct bpf_lpm_trie_key` begins with the prefix length in the order of the machine.
            VtepModel::Trie => u32::from(vtep.cidr.prefix_len()).to_ne_bytes().map(|byte| format!("{byte} ")).concat(),
        };
        format!("{prefix}{a} {b} {c} {d}")
    }

    fn reconcile(&mut self) -> Result<()> {
        if self.server.is_some() && self.lab.cilium.running.enable_vtep {
            self.lab.cilium.reconcile(&self.vteps)?;
        }
        Ok(())
    }
}

impl Deref for ConfiguredLab {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

impl DerefMut for ConfiguredLab {
    fn deref_mut(&mut self) -> &mut Lab {
        &mut self.lab
    }
}
