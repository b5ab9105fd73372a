//! The layouts of Cilium's datapath that this agent tells apart.

/// The layout that is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// `cilium_vtep_map` as a hash (Cilium 1.12 and newer).
    VtepHash,
    /// `cilium_vtep_map` as an LPM trie (cilium/cilium #46602).
    VtepLpm,
    /// No VTEP map: the ipcache has the VTEPs (candidates of Cilium 1.12, and what is older).
    Ipcache,
    /// Nothing is pinned.
    None,
    /// The kernel does not let us open or read it.
    Unreadable,
    /// Something that this agent does not know: it writes nothing.
    Unsupported,
}

impl Model {
    /// There is something to write to.
    #[must_use]
    pub const fn is_known(self) -> bool {
        match self {
            Self::VtepHash | Self::VtepLpm | Self::Ipcache => true,
            Self::None | Self::Unreadable | Self::Unsupported => false,
        }
    }
}
