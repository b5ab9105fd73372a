//! The bytes of a pinned map, whatever its layout: for people who must find out why the agent does not know it.

use std::{io, os::fd::AsFd, path::Path};

use aya::maps::MapType;
use nix::libc;
use serde::Serialize;

use super::{
    bpf::{self, Errno, Sizes},
    maps::{self, MapError, Pinned},
};

/// The largest key or value that is read, in bytes. Cilium's are far smaller.
const LARGEST: usize = 512;

/// A map with its first entries.
#[derive(Debug, Serialize)]
pub struct Dump {
    pub name: String,
    pub id: u32,
    /// Type and sizes in words.
    pub shape: String,
    pub max_entries: u32,
    /// Key and value in hexadecimal, in the order of the kernel.
    pub entries: Vec<[String; 2]>,
    /// There are more entries than these, or they were not read.
    pub is_cut: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    #[error(transparent)]
    Map(#[from] MapError),
    #[error("failed to read an entry")]
    Read(#[source] io::Error),
}

/// Reads at most `most` entries of the map that is pinned under this name.
///
/// # Errors
///
/// The map cannot be opened, or an entry cannot be read.
pub fn dump(bpffs: &Path, name: &str, most: usize) -> Result<Dump, DumpError> {
    let Pinned { data, shape, id, max_entries, .. } = maps::open(bpffs, name)?;
    let mut dump =
        Dump { name: name.to_owned(), id, shape: shape.to_string(), max_entries, entries: Vec::new(), is_cut: true };
    // The kernel writes more than one value for each key of a map that has one for each processor.
    let is_plain = matches!(shape.map_type, Some(MapType::Hash | MapType::LruHash | MapType::LpmTrie));
    if !is_plain || shape.key_size > LARGEST || shape.value_size > LARGEST {
        return Ok(dump);
    }
    let sizes = Sizes { key: shape.key_size, value: shape.value_size };
    let (mut next, mut value) = (vec![0; sizes.key], vec![0; sizes.value]);
    let mut key: Option<Vec<u8>> = None;
    let map = data.fd().as_fd();
    while dump.entries.len() < most {
        match bpf::next_key(map, sizes, key.as_deref(), &mut next) {
            Ok(()) => {}
            Err(Errno(libc::ENOENT)) => {
                dump.is_cut = false;
                return Ok(dump);
            }
            Err(error) => return Err(DumpError::Read(error.into())),
        }
        match bpf::lookup(map, sizes, &next, &mut value) {
            Ok(()) => dump.entries.push([hex(&next), hex(&value)]),
            // It was deleted meanwhile.
            Err(Errno(libc::ENOENT)) => {}
            Err(error) => return Err(DumpError::Read(error.into())),
        }
        key = Some(next.clone());
    }
    Ok(dump)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
