//! Cilium's VTEP map in the kernel: opens the pin, checks its shape, reads and writes entries.
//!
//! The pin is opened on every pass: Cilium replaces it when it starts, and a descriptor kept over that writes into a map nobody
//! reads. Nothing here creates, pins or removes a map.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};

use aya::maps::{HashMap, Map, MapData, MapError as AyaError, MapType};

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::abi::{VtepKey, VtepValue};

/// Where Cilium pins the map, below the bpffs mount.
const VTEP_MAP_PIN: &str = "tc/globals/cilium_vtep_map";

/// A map's type and sizes in bytes: what a layout is recognised by. Flags are not part of it: they differ between releases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    pub map_type: String,
    pub key_size: u32,
    pub value_size: u32,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {}-byte keys and {}-byte values", self.map_type, self.key_size, self.value_size)
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
    #[error("not allowed to open {}: the agent needs CAP_BPF (CAP_SYS_ADMIN before Linux 5.8) and access to bpffs", .path.display())]
    NotAllowed { path: PathBuf, source: AyaError },
    #[error("cannot look into {}", .path.display())]
    Bpffs { path: PathBuf, source: io::Error },
    #[error("failed to open {}", .path.display())]
    Open { path: PathBuf, source: AyaError },
    #[error("failed to read the VTEP map")]
    Read { source: AyaError },
    #[error("failed to write VTEP entry {key:?}")]
    Write { key: VtepKey, source: AyaError },
    #[error("failed to delete VTEP entry {key:?}")]
    Delete { key: VtepKey, source: AyaError },
}

/// `cilium_vtep_map` as a hash from network to MAC and endpoint (Cilium 1.12 and newer).
pub struct VtepMap {
    map: HashMap<MapData, VtepKey, VtepValue>,
    /// The kernel's id: another id means Cilium created another map.
    pub id: u32,
}

impl VtepMap {
    /// Opens what is pinned now.
    ///
    /// # Errors
    ///
    /// When nothing is pinned, when the layout is not known, and when the kernel refuses.
    pub fn open(bpffs: &Path) -> Result<Self, MapError> {
        let path = bpffs.join(VTEP_MAP_PIN);
        let data = MapData::from_pin(&path).map_err(|source| open_error(bpffs, path.clone(), source))?;
        let info = data.info().map_err(|source| MapError::Open { path: path.clone(), source })?;
        let shape = Shape {
            map_type: info
                .map_type()
                .map_or_else(|_| "map of unknown type".into(), |map_type| format!("{map_type:?}").to_lowercase()),
            key_size: info.key_size(),
            value_size: info.value_size(),
        };
        let is_hash = matches!(info.map_type(), Ok(MapType::Hash));
        if !is_hash
            || info.key_size() as usize != size_of::<VtepKey>()
            || info.value_size() as usize != size_of::<VtepValue>()
        {
            return Err(MapError::UnknownLayout { path, shape });
        }
        let map = HashMap::try_from(Map::HashMap(data)).map_err(|source| MapError::Open { path, source })?;
        Ok(Self { map, id: info.id() })
    }

    /// Every entry.
    ///
    /// # Errors
    ///
    /// When the kernel fails a look-up. An entry deleted by somebody else during the walk is no error.
    pub fn read(&self) -> Result<BTreeMap<VtepKey, VtepValue>, MapError> {
        self.map.iter().collect::<Result<_, _>>().map_err(|source| MapError::Read { source })
    }

    /// Adds or replaces an entry.
    ///
    /// # Errors
    ///
    /// When the map is full or the kernel refuses.
    pub fn put(&mut self, key: VtepKey, value: VtepValue) -> Result<(), MapError> {
        self.map.insert(key, value, 0).map_err(|source| MapError::Write { key, source })
    }

    /// Deletes an entry; one that is gone already is success.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn delete(&mut self, key: VtepKey) -> Result<(), MapError> {
        match self.map.remove(&key) {
            Err(source) if !is_not_found(&source) => Err(MapError::Delete { key, source }),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Whether bpffs is mounted there, and this process may look into it.
///
/// # Errors
///
/// When it is not, or not allowed.
pub fn check_bpffs(path: &Path) -> Result<String, MapError> {
    match statfs(path) {
        Ok(found) if found.filesystem_type() == BPF_FS_MAGIC => {}
        Ok(_) | Err(_) => return Err(MapError::NoBpffs { path: path.to_owned() }),
    }
    // Its root is mode 1700 where Cilium or systemd mounted it.
    std::fs::read_dir(path).map_err(|source| MapError::Bpffs { path: path.to_owned(), source })?;
    Ok(path.display().to_string())
}

fn open_error(bpffs: &Path, path: PathBuf, source: AyaError) -> MapError {
    match io_kind(&source) {
        Some(io::ErrorKind::NotFound) => check_bpffs(bpffs).err().unwrap_or(MapError::Absent { path }),
        Some(io::ErrorKind::PermissionDenied) => MapError::NotAllowed { path, source },
        Some(_) | None => MapError::Open { path, source },
    }
}

fn is_not_found(error: &AyaError) -> bool {
    matches!(error, AyaError::KeyNotFound | AyaError::ElementNotFound)
        || io_kind(error) == Some(io::ErrorKind::NotFound)
}

fn io_kind(error: &AyaError) -> Option<io::ErrorKind> {
    if let AyaError::SyscallError(syscall) = error { Some(syscall.io_error.kind()) } else { None }
}
