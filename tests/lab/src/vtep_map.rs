//! Cilium's VTEP map in either of its types.

use std::{
    borrow::{Borrow, BorrowMut},
    collections::BTreeMap,
    io,
    net::Ipv4Addr,
};

use anyhow::{Context, Error, Result};
use aya::maps::{HashMap, LpmTrie, Map, MapData, MapError, lpm_trie::Key};
use ipnet::Ipv4Net;
use vtep_lab_ebpf::{VtepKey, VtepValue};

use crate::datapath::{VTEP_MAP, pin};

/// The type of Cilium's VTEP map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VtepModel {
    /// A hash with the network address as its key, and one mask for all entries.
    #[default]
    Hash,
    /// A trie of CIDRs, as in builds that read VTEPs from custom resources: the longest prefix wins, and there is no mask.
    Trie,
}

/// The entries of the pinned VTEP map, of either type; those of a hash have the prefix length of this mask. For a thread that looks at the map
/// while another one changes Cilium.
///
/// # Errors
///
/// The map does not exist, or has another layout; the mask is none.
pub fn vtep_entries(mask: Ipv4Addr) -> Result<BTreeMap<Ipv4Net, VtepValue>> {
    VtepMap::open()?.entries(mask)
}

/// An open VTEP map.
pub(crate) enum VtepMap<T> {
    Hash(HashMap<T, VtepKey, VtepValue>),
    Trie(LpmTrie<T, VtepKey, VtepValue>),
}

impl VtepMap<MapData> {
    /// Opens the pinned map, of whatever type it is.
    pub(crate) fn open() -> Result<Self> {
        let data = MapData::from_pin(pin(VTEP_MAP)).context("failed to open the pinned VTEP map")?;
        let map = Map::from_map_data(data)?;
        let known = if matches!(map, Map::LpmTrie(_)) {
            map.try_into().map(Self::Trie)
        } else {
            map.try_into().map(Self::Hash)
        };
        known.context("the pinned VTEP map has another layout")
    }
}

impl<'a> TryFrom<&'a mut Map> for VtepMap<&'a mut MapData> {
    type Error = Error;

    fn try_from(map: &'a mut Map) -> Result<Self> {
        Ok(if matches!(map, Map::LpmTrie(_)) { Self::Trie(map.try_into()?) } else { Self::Hash(map.try_into()?) })
    }
}

impl<T: Borrow<MapData>> VtepMap<T> {
    /// The entries; those of a hash have the prefix length of this mask.
    pub(crate) fn entries(&self, mask: Ipv4Addr) -> Result<BTreeMap<Ipv4Net, VtepValue>> {
        let of_hash = |entry: Result<(VtepKey, VtepValue), MapError>| {
            let (key, value) = entry?;
            Ok((Ipv4Net::with_netmask(key.into(), mask)?, value))
        };
        let of_trie = |entry: Result<(Key<VtepKey>, VtepValue), MapError>| {
            let (key, value) = entry?;
            Ok((Ipv4Net::new(key.data().into(), key.prefix_len().try_into()?)?, value))
        };
        let entries: Result<_> = match self {
            Self::Hash(map) => map.iter().map(of_hash).collect(),
            Self::Trie(map) => map.iter().map(of_trie).collect(),
        };
        entries.context("failed to read the VTEP map")
    }
}

impl<T: BorrowMut<MapData>> VtepMap<T> {
    pub(crate) fn put(&mut self, cidr: Ipv4Net, value: VtepValue) -> Result<()> {
        let put = match self {
            Self::Hash(map) => map.insert(cidr.network().octets(), value, 0),
            Self::Trie(map) => map.insert(&key(cidr), value, 0),
        };
        put.with_context(|| format!("failed to write the VTEP entry {cidr}"))
    }

    /// Returns whether the entry existed.
    pub(crate) fn delete(&mut self, cidr: Ipv4Net) -> Result<bool> {
        let deleted = match self {
            Self::Hash(map) => map.remove(&cidr.network().octets()),
            Self::Trie(map) => map.remove(&key(cidr)),
        };
        match deleted {
            Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(false),
            deleted => deleted.map(|()| true).with_context(|| format!("failed to delete the VTEP entry {cidr}")),
        }
    }
}

fn key(cidr: Ipv4Net) -> Key<VtepKey> {
    Key::new(cidr.prefix_len().into(), cidr.network().octets())
}
