//! Opens Cilium's pinned maps and reads their shape. This module never creates, pins or removes a map.
//!
//! The agent opens the pins on every pass: Cilium replaces its maps when it starts, and writes through an old descriptor would go to a map
//! that nobody reads.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use aya::maps::{MapData, MapError as AyaError, MapType, lpm_trie::Key};
use ipnet::Ipv4Net;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use vtep_core::datapath::abi::LpmKey;

use crate::bounded;

/// The directory of Cilium's pins, below the bpffs mount.
pub const PINS: &str = "tc/globals";

/// A map's type and sizes in bytes, by which the agent recognizes a layout. Flags are not part of it, because they differ between releases.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// `None` for a type that this agent does not know.
    pub map_type: Option<MapType>,
    pub key_size: usize,
    pub value_size: usize,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.map_type {
            Some(map_type) => write!(f, "{}", format!("{map_type:?}").to_lowercase())?,
            None => f.write_str("map of unknown type")?,
        }
        write!(f, " with {}-byte keys and {}-byte values", self.key_size, self.value_size)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum MapError {
    #[error("no map is pinned at {}: Cilium has not created it", .path.display())]
    Absent { path: PathBuf },
    #[error("no bpffs is mounted at {}: mount the node's there (hostPath /sys/fs/bpf), or name its place with --bpffs", .path.display())]
    NoBpffs { path: PathBuf },
    #[error("the map at {} is a {shape}, a layout this agent does not know: it writes nothing", .path.display())]
    UnknownLayout { path: PathBuf, shape: Shape },
    #[error("{} is {found}, not a map: remove it, and restart this node's Cilium, which pins its map there", .path.display())]
    NotAMap { path: PathBuf, found: &'static str },
    #[error("not allowed to open {}: the agent needs CAP_BPF (CAP_SYS_ADMIN before Linux 5.8) and access to bpffs", .path.display())]
    NotAllowed { path: PathBuf, source: AyaError },
    #[error("cannot look into {}", .path.display())]
    Bpffs { path: PathBuf, source: io::Error },
    #[error("failed to open {}", .path.display())]
    Open { path: PathBuf, source: AyaError },
    #[error("failed to read {map}")]
    Read { map: &'static str, source: AyaError },
    #[error("failed to write the entry {cidr} of {map}")]
    Write { map: &'static str, cidr: Ipv4Net, source: AyaError },
    #[error("failed to delete the entry {cidr} of {map}")]
    Delete { map: &'static str, cidr: Ipv4Net, source: AyaError },
}

/// A map that was opened through its pin.
pub(super) struct Pinned {
    pub path: PathBuf,
    pub data: MapData,
    pub shape: Shape,
    /// The kernel's id: another id means Cilium created another map.
    pub id: u32,
    pub max_entries: u32,
}

/// Opens the map that is pinned under this name now.
pub(super) fn open(bpffs: &Path, name: &str) -> Result<Pinned, MapError> {
    let path = bpffs.join(PINS).join(name);
    let data = MapData::from_pin(&path).map_err(|source| open_error(bpffs, path.clone(), source))?;
    let info = data.info().map_err(|source| MapError::Open { path: path.clone(), source })?;
    let shape = Shape {
        map_type: info.map_type().ok(),
        key_size: info.key_size() as usize,
        value_size: info.value_size() as usize,
    };
    Ok(Pinned { path, data, shape, id: info.id(), max_entries: info.max_entries() })
}

/// Checks that bpffs is mounted at this path, and that this process may read it.
///
/// # Errors
///
/// bpffs is not mounted there, or this process may not read it.
pub fn check_bpffs(path: &Path) -> Result<String, MapError> {
    match statfs(path) {
        Ok(found) if found.filesystem_type() == BPF_FS_MAGIC => {}
        Ok(_) | Err(_) => return Err(MapError::NoBpffs { path: path.to_owned() }),
    }
    // Cilium and systemd mount bpffs with mode 1700 of its root, so another user cannot list it.
    fs::read_dir(path).map_err(|source| MapError::Bpffs { path: path.to_owned(), source })?;
    Ok(path.display().to_string())
}

fn open_error(bpffs: &Path, path: PathBuf, source: AyaError) -> MapError {
    // The kernel denies permission both if a right is missing and if the file is not a map, so check for the latter first.
    if let Some(found) = not_a_map(&path) {
        return check_bpffs(bpffs).err().unwrap_or(MapError::NotAMap { path, found });
    }
    match io_kind(&source) {
        Some(io::ErrorKind::NotFound) => check_bpffs(bpffs).err().unwrap_or(MapError::Absent { path }),
        Some(io::ErrorKind::PermissionDenied) => MapError::NotAllowed { path, source },
        Some(_) | None => MapError::Open { path, source },
    }
}

/// The type of a file that cannot be a pinned map: a pin is a regular file in bpffs.
fn not_a_map(path: &Path) -> Option<&'static str> {
    let metadata = fs::metadata(path).ok()?;
    let in_bpffs = statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC);
    (!metadata.is_file() || !in_bpffs).then(|| bounded::kind(&metadata))
}

/// Converts a key for the map API.
pub(super) fn to_trie<const N: usize>(LpmKey { prefix_len, data }: LpmKey<N>) -> Key<[u8; N]> {
    Key::new(prefix_len, data)
}

/// Converts a key of the map API.
pub(super) fn from_trie<const N: usize>(key: Key<[u8; N]>) -> LpmKey<N> {
    LpmKey { prefix_len: key.prefix_len(), data: key.data() }
}

pub(super) fn is_not_found(error: &AyaError) -> bool {
    matches!(error, AyaError::KeyNotFound | AyaError::ElementNotFound)
        || io_kind(error) == Some(io::ErrorKind::NotFound)
}

fn io_kind(error: &AyaError) -> Option<io::ErrorKind> {
    if let AyaError::SyscallError(syscall) = error { Some(syscall.io_error.kind()) } else { None }
}
