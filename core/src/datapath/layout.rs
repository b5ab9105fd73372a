//! The layouts of Cilium's datapath that this agent distinguishes.

/// The layout of the pinned map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// `cilium_vtep_map` as a hash (Cilium 1.12 and newer).
    VtepHash,
    /// `cilium_vtep_map` as an LPM trie (cilium/cilium #46602).
    VtepLpm,
    /// No VTEP map: the ipcache contains the VTEPs (release candidates of Cilium 1.12, and older releases).
    Ipcache,
    /// Nothing is pinned.
    None,
    /// The kernel refuses to open or read it.
    Unreadable,
    /// A layout that this agent does not know: it writes nothing.
    Unsupported,
}

impl Layout {
    /// Whether the agent knows how to use this layout.
    #[must_use]
    pub const fn is_known(self) -> bool {
        match self {
            Self::VtepHash | Self::VtepLpm | Self::Ipcache => true,
            Self::None | Self::Unreadable | Self::Unsupported => false,
        }
    }
}
