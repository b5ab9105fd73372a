//! The resources of the server: their kinds, groups and versions.

/// A resource that the server stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// `ciliumnodeconfigs.cilium.io`, namespaced.
    CiliumNodeConfigs,
    /// `ciliumnodes.cilium.io/v2`, cluster-wide; served unless the CRDs are absent.
    CiliumNodes,
    /// `configmaps`, namespaced.
    ConfigMaps,
    /// `endpointslices.discovery.k8s.io`, namespaced.
    EndpointSlices,
    /// `events.events.k8s.io`, namespaced.
    Events,
    /// `nodes`, cluster-wide, with the subresource `status`.
    Nodes,
}

/// The served versions of `ciliumnodeconfigs.cilium.io`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CiliumVersions {
    /// The CRDs are absent, `ciliumnodes` too: the group answers 404.
    Absent,
    /// Only `v2`.
    V2,
    /// Only `v2alpha1`, as before Cilium 1.16.
    V2Alpha1,
    /// Both, `v2` preferred.
    #[default]
    Both,
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

impl Resource {
    pub(crate) const ALL: [Self; 6] =
        [Self::CiliumNodeConfigs, Self::CiliumNodes, Self::ConfigMaps, Self::EndpointSlices, Self::Events, Self::Nodes];

    /// The resource of a request, if the server serves that group and version.
    pub(crate) fn find(group: &str, version: &str, plural: &str, cilium: CiliumVersions) -> Option<Self> {
        let served = |resource: &Self| resource.plural() == plural && resource.group() == group;
        let resource = Self::ALL.into_iter().find(served)?;
        resource.versions(cilium).contains(&version).then_some(resource)
    }

    /// The served versions, preferred first.
    pub(crate) fn versions(self, cilium: CiliumVersions) -> &'static [&'static str] {
        match self {
            Self::CiliumNodeConfigs => cilium.names(),
            Self::CiliumNodes if cilium == CiliumVersions::Absent => &[],
            Self::CiliumNodes => &["v2"],
            Self::ConfigMaps | Self::EndpointSlices | Self::Events | Self::Nodes => &["v1"],
        }
    }

    /// The name in paths and RBAC rules.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::CiliumNodeConfigs => "ciliumnodeconfigs",
            Self::CiliumNodes => "ciliumnodes",
            Self::ConfigMaps => "configmaps",
            Self::EndpointSlices => "endpointslices",
            Self::Events => "events",
            Self::Nodes => "nodes",
        }
    }

    /// The API group; empty for the core group.
    #[must_use]
    pub fn group(self) -> &'static str {
        match self {
            Self::CiliumNodeConfigs | Self::CiliumNodes => "cilium.io",
            Self::EndpointSlices => "discovery.k8s.io",
            Self::ConfigMaps | Self::Nodes => "",
            Self::Events => "events.k8s.io",
        }
    }

    /// The `kind` of its objects.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::CiliumNodeConfigs => "CiliumNodeConfig",
            Self::CiliumNodes => "CiliumNode",
            Self::ConfigMaps => "ConfigMap",
            Self::EndpointSlices => "EndpointSlice",
            Self::Events => "Event",
            Self::Nodes => "Node",
        }
    }

    /// Whether its objects have a namespace.
    #[must_use]
    pub fn namespaced(self) -> bool {
        match self {
            Self::CiliumNodeConfigs | Self::ConfigMaps | Self::EndpointSlices | Self::Events => true,
            Self::CiliumNodes | Self::Nodes => false,
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
