//! Entries of Cilium's ipcache: their layout, the entries inside a VTEP CIDR, and the entries that this agent wrote. Reading and writing
//! the map is not part of this module.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::abi::IpcacheEntry;

/// The layout of the pinned ipcache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// 12-byte values (up to Cilium 1.17).
    V1,
    /// 24-byte values (Cilium 1.18 and newer).
    V2,
}

/// An entry that lies inside a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Inside {
    pub prefix: Ipv4Net,
    pub entry: IpcacheEntry,
}

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.prefix, self.entry)
    }
}

/// The prefixes that this agent wrote, each with the endpoints that it wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned(BTreeMap<Ipv4Net, BTreeSet<Ipv4Addr>>);

impl Owned {
    pub fn prefixes(&self) -> impl Iterator<Item = Ipv4Net> {
        self.0.keys().copied()
    }

    /// Whether this agent wrote this endpoint for the prefix.
    #[must_use]
    pub fn has(&self, prefix: Ipv4Net, endpoint: Ipv4Addr) -> bool {
        self.0.get(&prefix).is_some_and(|endpoints| endpoints.contains(&endpoint))
    }

    /// The same with this endpoint for the prefix.
    #[must_use]
    pub fn with(&self, prefix: Ipv4Net, endpoint: Ipv4Addr) -> Self {
        let mut next = self.clone();
        next.0.entry(prefix).or_default().insert(endpoint);
        next
    }

    /// The same without the prefix.
    #[must_use]
    pub fn without(&self, prefix: Ipv4Net) -> Self {
        let mut next = self.clone();
        next.0.remove(&prefix);
        next
    }
}
