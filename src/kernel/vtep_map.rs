//! Reads and writes entries of `cilium_vtep_map` in either of its layouts.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use aya::maps::{HashMap, LpmTrie, Map, MapData, MapType};
use ipnet::Ipv4Net;
use vtep_core::datapath::{
    abi::{VtepKey, VtepLpmKey, VtepValue, vtep_lpm_key, vtep_of_lpm_key},
    layout::Layout,
};

use super::{
    bpf::Sizes,
    map_image::{MapImage, Readable},
    maps::{self, MapError, PINS, Pinned, from_trie, is_not_found, to_trie},
};
use crate::watch_dir::{Identity, identity};

/// The name of the map and of its pin.
pub const NAME: &str = "cilium_vtep_map";

/// The opened map.
pub struct VtepMap {
    handle: Handle,
    /// A copy of the descriptor, to look at the entries without an allocation.
    readable: Option<Readable>,
    pin: Pin,
    /// The kernel's id: another id means Cilium created another map.
    pub id: u32,
    /// The maximum number of entries.
    pub capacity: usize,
}

/// The pin of the map.
#[derive(Clone, Debug)]
pub struct Pin {
    path: PathBuf,
    /// As it was before the map was opened. A pin that is made anew has another identity.
    identity: Option<Identity>,
}

impl Pin {
    fn of(bpffs: &Path) -> Self {
        let path = bpffs.join(PINS).join(NAME);
        Self { identity: identity(&path).ok(), path }
    }

    /// Whether the map may still be the one that is pinned.
    #[must_use]
    pub fn is_current(&self) -> bool {
        identity(&self.path).ok() == self.identity
    }
}

enum Handle {
    /// Network address → MAC and endpoint (Cilium 1.12 and newer).
    Hash(HashMap<MapData, [u8; 4], [u8; 16]>),
    /// Prefix → MAC and endpoint (the redesign of cilium/cilium #46602).
    Lpm(LpmTrie<MapData, [u8; 4], [u8; 16]>),
}

impl VtepMap {
    /// Opens the map that is pinned now.
    ///
    /// # Errors
    ///
    /// No map is pinned, its layout is unknown, or the kernel refuses.
    pub fn open(bpffs: &Path) -> Result<Self, MapError> {
        let pin = Pin::of(bpffs);
        let Pinned { path, data, shape, id, max_entries } = maps::open(bpffs, NAME)?;
        let sizes = (shape.key_size, shape.value_size);
        let known = |key: usize| sizes == (key, size_of::<VtepValue>());
        // Without a copy, the agent compares the map less often.
        let readable =
            Readable::new(data.fd().as_fd(), Sizes { key: shape.key_size, value: shape.value_size }).ok().flatten();
        let handle = match shape.map_type {
            Some(MapType::Hash) if known(size_of::<VtepKey>()) => {
                HashMap::try_from(Map::HashMap(data)).map(Handle::Hash)
            }
            Some(MapType::LpmTrie) if known(VtepLpmKey::SIZE) => LpmTrie::try_from(Map::LpmTrie(data)).map(Handle::Lpm),
            Some(_) | None => return Err(MapError::UnknownLayout { path, shape }),
        };
        let handle = handle.map_err(|source| MapError::Open { path, source })?;
        Ok(Self { handle, readable, pin, id, capacity: max_entries as usize })
    }

    #[must_use]
    pub fn model(&self) -> Layout {
        match self.handle {
            Handle::Hash(_) => Layout::VtepHash,
            Handle::Lpm(_) => Layout::VtepLpm,
        }
    }

    /// Reads every entry. The keys of a hash have no prefix length: `prefix_len` gives it for a network address.
    ///
    /// # Errors
    ///
    /// A look-up fails. If another process deletes an entry during the walk, that is not an error.
    pub fn read(&self, prefix_len: impl Fn(Ipv4Addr) -> u8) -> Result<BTreeMap<Ipv4Net, VtepValue>, MapError> {
        let entries: Result<_, _> = match &self.handle {
            Handle::Hash(map) => map
                .iter()
                .map(|entry| entry.map(|(key, value)| (with_length(key.into(), &prefix_len), value.into())))
                .collect(),
            Handle::Lpm(map) => map
                .iter()
                .filter_map(|entry| {
                    entry
                        .map(|(key, value)| vtep_of_lpm_key(from_trie(key)).map(|cidr| (cidr, value.into())))
                        .transpose()
                })
                .collect(),
        };
        entries.map_err(|source| MapError::Read { map: NAME, source })
    }

    /// The map as it is now, for [`super::map_image`]; `None` if it cannot be read so, or has too many entries.
    #[must_use]
    pub fn look(&mut self) -> Option<Look> {
        let mut readable = self.readable.take()?;
        let mut image = MapImage::empty();
        let fits = readable.read(&mut image).unwrap_or(false);
        fits.then(|| Look { readable, image, pin: self.pin.clone() })
    }

    /// Adds or replaces an entry.
    ///
    /// # Errors
    ///
    /// The map is full, or the kernel refuses.
    pub fn put(&mut self, cidr: Ipv4Net, value: VtepValue) -> Result<(), MapError> {
        let put = match &mut self.handle {
            Handle::Hash(map) => map.insert(<[u8; 4]>::from(VtepKey::new(cidr)), <[u8; 16]>::from(value), 0),
            Handle::Lpm(map) => map.insert(&to_trie(vtep_lpm_key(cidr)), <[u8; 16]>::from(value), 0),
        };
        put.map_err(|source| MapError::Write { map: NAME, cidr, source })
    }

    /// Deletes an entry. An entry that no longer exists counts as success.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn delete(&mut self, cidr: Ipv4Net) -> Result<(), MapError> {
        let deleted = match &mut self.handle {
            Handle::Hash(map) => map.remove(&VtepKey::new(cidr).into()),
            Handle::Lpm(map) => map.remove(&to_trie(vtep_lpm_key(cidr))),
        };
        match deleted {
            Err(source) if !is_not_found(&source) => Err(MapError::Delete { map: NAME, cidr, source }),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// A map with its content at one moment, for comparisons that allocate nothing.
#[derive(Debug)]
pub struct Look {
    readable: Readable,
    image: MapImage,
    pin: Pin,
}

impl Look {
    /// Whether every byte of the map is as it was; `None` if it cannot be read. `buffer` is overwritten.
    #[must_use]
    pub fn is_unchanged(&mut self, buffer: &mut MapImage) -> Option<bool> {
        let fits = self.readable.read(buffer).ok()?;
        Some(fits && *buffer == self.image)
    }

    /// Whether the map may still be the one that is pinned.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.pin.is_current()
    }
}

/// An invalid length yields the prefix of the single address.
fn with_length(key: VtepKey, prefix_len: impl Fn(Ipv4Addr) -> u8) -> Ipv4Net {
    let address = key.address();
    Ipv4Net::new(address, prefix_len(address)).unwrap_or_else(|_| address.into())
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, Result, ensure};
    use vtep_lab::{BPF_FS, Lab};

    use super::*;

    #[test]
    fn a_replaced_pin_is_noticed_though_the_old_map_is_unchanged() -> Result<()> {
        let mut lab = Lab::start()?;
        let look = || VtepMap::open(Path::new(BPF_FS))?.look().context("a look");
        let (mut before, mut buffer) = (look()?, MapImage::empty());
        ensure!(before.is_pinned() && before.is_unchanged(&mut buffer) == Some(true));
        lab.cilium.replace_pin()?;
        ensure!(!before.is_pinned() && before.is_unchanged(&mut buffer) == Some(true));
        ensure!(look()?.is_pinned());
        lab.cilium.remove_pin()?;
        ensure!(!before.is_pinned());
        Ok(())
    }
}
