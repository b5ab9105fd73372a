//! The resources of the server: their kinds, groups and versions.

/// A resource that the server stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// `ciliumnodeconfigs.cilium.io`, namespaced.
    CiliumNodeConfigs,
    /// `ciliumnodes.cilium.io/v2`, cluster-wide; served unless the CRDs are absent.
    CiliumNodes,
    /// `ciliumvtepconfigs.cilium.io`, cluster-wide.
    CiliumVtepConfigs,
    /// `ciliumvtepnodeconfigs.cilium.io/v2alpha1`, cluster-wide.
    CiliumVtepNodeConfigs,
    /// `configmaps`, namespaced.
    ConfigMaps,
    /// `endpointslices.discovery.k8s.io`, namespaced.
    EndpointSlices,
    /// `events.events.k8s.io`, namespaced.
    Events,
    /// `nodes`, cluster-wide, with the subresource `status`.
    Nodes,
    /// `pods`, namespaced, with the subresources `portforward` and `exec`.
    Pods,
}

/// The served versions of `ciliumnodeconfigs.cilium.io`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CiliumVersions {
    /// The CRDs are absent, `ciliumnodes` too: without the CRDs for VTEPs, the group answers 404.
    Absent,
    /// Only `v2`.
    V2,
    /// Only `v2alpha1`, as before Cilium 1.16.
    V2Alpha1,
    /// Both, `v2` preferred.
    #[default]
    Both,
}

/// The served versions of the CRDs for VTEPs, independently of [`CiliumVersions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VtepVersions {
    /// The CRDs are absent: Cilium has its VTEPs from `cilium-config`.
    #[default]
    Absent,
    /// Only `ciliumvtepconfigs`, in `v2`, as EKS's builds of Cilium have it.
    V2,
    /// `ciliumvtepconfigs` and `ciliumvtepnodeconfigs` in `v2alpha1`, as upstream Cilium has them.
    V2alpha1,
}

/// What the server serves of Cilium's group.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Served {
    pub(crate) cilium: CiliumVersions,
    pub(crate) vtep: VtepVersions,
}

impl CiliumVersions {
    /// The version names, preferred first.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Absent => &[],
            Self::V2 => &["v2"],
            Self::V2Alpha1 => &["v2alpha1"],
            Self::Both => &["v2", "v2alpha1"],
        }
    }
}

impl VtepVersions {
    fn of_configs(self) -> &'static [&'static str] {
        match self {
            Self::Absent => &[],
            Self::V2 => &["v2"],
            Self::V2alpha1 => &["v2alpha1"],
        }
    }

    fn of_node_configs(self) -> &'static [&'static str] {
        match self {
            Self::Absent | Self::V2 => &[],
            Self::V2alpha1 => &["v2alpha1"],
        }
    }
}

impl Resource {
    pub(crate) const ALL: [Self; 9] = [
        Self::CiliumNodeConfigs,
        Self::CiliumNodes,
        Self::CiliumVtepConfigs,
        Self::CiliumVtepNodeConfigs,
        Self::ConfigMaps,
        Self::EndpointSlices,
        Self::Events,
        Self::Nodes,
        Self::Pods,
    ];

    /// The resource of a request, if the server serves that group and version.
    /// The resource with this plural name.
    pub(crate) fn named(plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| resource.plural() == plural)
    }

    pub(crate) fn find(group: &str, version: &str, plural: &str, served: Served) -> Option<Self> {
        let named = |resource: &Self| resource.plural() == plural && resource.group() == group;
        let resource = Self::ALL.into_iter().find(named)?;
        resource.versions(served).contains(&version).then_some(resource)
    }

    /// The served versions, preferred first.
    pub(crate) fn versions(self, served: Served) -> &'static [&'static str] {
        match self {
            Self::CiliumNodeConfigs => served.cilium.names(),
            Self::CiliumNodes if served.cilium == CiliumVersions::Absent => &[],
            Self::CiliumNodes => &["v2"],
            Self::CiliumVtepConfigs => served.vtep.of_configs(),
            Self::CiliumVtepNodeConfigs => served.vtep.of_node_configs(),
            Self::ConfigMaps | Self::EndpointSlices | Self::Events | Self::Nodes | Self::Pods => &["v1"],
        }
    }

    /// The name in paths and RBAC rules.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::CiliumNodeConfigs => "ciliumnodeconfigs",
            Self::CiliumNodes => "ciliumnodes",
            Self::CiliumVtepConfigs => "ciliumvtepconfigs",
            Self::CiliumVtepNodeConfigs => "ciliumvtepnodeconfigs",
            Self::ConfigMaps => "configmaps",
            Self::EndpointSlices => "endpointslices",
            Self::Events => "events",
            Self::Nodes => "nodes",
            Self::Pods => "pods",
        }
    }

    /// The API group; empty for the core group.
    #[must_use]
    pub fn group(self) -> &'static str {
        match self {
            Self::CiliumNodeConfigs | Self::CiliumNodes | Self::CiliumVtepConfigs | Self::CiliumVtepNodeConfigs => {
                "cilium.io"
            }
            Self::EndpointSlices => "discovery.k8s.io",
            Self::ConfigMaps | Self::Nodes | Self::Pods => "",
            Self::Events => "events.k8s.io",
        }
    }

    /// The `kind` of its objects.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::CiliumNodeConfigs => "CiliumNodeConfig",
            Self::CiliumNodes => "CiliumNode",
            Self::CiliumVtepConfigs => "CiliumVTEPConfig",
            Self::CiliumVtepNodeConfigs => "CiliumVTEPNodeConfig",
            Self::ConfigMaps => "ConfigMap",
            Self::EndpointSlices => "EndpointSlice",
            Self::Events => "Event",
            Self::Nodes => "Node",
            Self::Pods => "Pod",
        }
    }

    /// Whether its objects have a namespace.
    #[must_use]
    pub fn namespaced(self) -> bool {
        match self {
            Self::CiliumNodeConfigs | Self::ConfigMaps | Self::EndpointSlices | Self::Events | Self::Pods => true,
            Self::CiliumNodes | Self::CiliumVtepConfigs | Self::CiliumVtepNodeConfigs | Self::Nodes => false,
        }
    }

    /// The `apiVersion` of its objects in a request for `version`.
    pub(crate) fn api_version(self, version: &str) -> String {
        match self.group() {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        }
    }
}
