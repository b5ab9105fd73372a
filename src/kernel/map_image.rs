//! The raw bytes of all entries of a small map, to learn whether anything in it has changed. Reading them allocates nothing.
//!
//! One `BPF_MAP_LOOKUP_BATCH` reads the whole map (hash: Linux 5.6; LPM trie: 5.14). Older kernels need two calls for each entry.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use nix::libc;

/// An image has room for fewer entries than this. Cilium's VTEP map has eight.
const MAX: usize = 64;
/// The largest key and value, in bytes: an LPM key with an IPv4 address; MAC, padding and endpoint.
const KEY: usize = 8;
const VALUE: usize = 16;

// Commands of bpf(2), from linux/bpf.h.
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_GET_NEXT_KEY: libc::c_long = 4;
const MAP_LOOKUP_BATCH: libc::c_long = 24;

/// The entries of a map, in the order of the kernel.
#[derive(Clone, Debug)]
pub struct MapImage {
    entries: usize,
    key_size: usize,
    /// What lies behind the last entry means nothing.
    keys: [u8; MAX * KEY],
    values: [u8; MAX * VALUE],
}

impl MapImage {
    #[must_use]
    pub const fn empty() -> Self {
        Self { entries: 0, key_size: 0, keys: [0; MAX * KEY], values: [0; MAX * VALUE] }
    }

    fn used(&self) -> (Option<&[u8]>, Option<&[u8]>) {
        (self.keys.get(..self.entries * self.key_size), self.values.get(..self.entries * VALUE))
    }
}

impl PartialEq for MapImage {
    fn eq(&self, other: &Self) -> bool {
        (self.entries, self.key_size, self.used()) == (other.entries, other.key_size, other.used())
    }
}

/// A kept descriptor of a map, only to read.
#[derive(Debug)]
pub struct Readable {
    map: OwnedFd,
    key_size: usize,
    has_batch: bool,
}

/// `union bpf_attr` for the batch commands.
#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: i32,
    elem_flags: u64,
    flags: u64,
}

/// `union bpf_attr` for the commands of one entry.
#[repr(C)]
struct Element {
    map: i32,
    _padding: u32,
    key: u64,
    /// The place for the value, or for the next key.
    to: u64,
    flags: u64,
}

impl Readable {
    /// Takes a copy of the descriptor. `None` if keys or values of this size do not fit into an image.
    ///
    /// # Errors
    ///
    /// The process has too many descriptors.
    pub fn new(map: BorrowedFd<'_>, key_size: usize, value_size: usize) -> io::Result<Option<Self>> {
        if key_size > KEY || value_size != VALUE {
            return Ok(None);
        }
        Ok(Some(Self { map: map.try_clone_to_owned()?, key_size, has_batch: true }))
    }

    /// Reads all entries. Returns false if there are too many, or if they change just now.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn read(&mut self, image: &mut MapImage) -> io::Result<bool> {
        image.key_size = self.key_size;
        if self.has_batch {
            if let Ok(fits) = self.read_batch(image) {
                return Ok(fits);
            }
            // The kernel lacks the command, or lacks it for this type of map. If something else is wrong, the other way shows it.
            self.has_batch = false;
        }
        self.read_each(image).map_err(|Errno(error)| io::Error::from_raw_os_error(error))
    }

    fn read_batch(&self, image: &mut MapImage) -> Result<bool, Errno> {
        // The kernel writes here where it stopped: four bytes for a hash, a key for a trie.
        let mut stopped = [0_u8; KEY];
        let mut attr = Batch {
            in_batch: 0,
            out_batch: (&raw mut stopped).expose_provenance() as u64,
            keys: (&raw mut image.keys).expose_provenance() as u64,
            values: (&raw mut image.values).expose_provenance() as u64,
            count: MAX as u32,
            map: self.map.as_raw_fd(),
            elem_flags: 0,
            flags: 0,
        };
        #[expect(unsafe_code, reason = "a system call without a safe wrapper")]
        // SAFETY: keys and values have room for `count` entries: `new` has checked their sizes.
        let result = unsafe { bpf(MAP_LOOKUP_BATCH, &raw mut attr) };
        image.entries = attr.count as usize;
        match result {
            // At the end of the map, the kernel says so. A full image may lack entries.
            Ok(()) | Err(Errno(libc::ENOENT)) => Ok(image.entries < MAX),
            // A bucket of the hash has more entries than there is room for.
            Err(Errno(libc::ENOSPC)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn read_each(&self, image: &mut MapImage) -> Result<bool, Errno> {
        image.entries = 0;
        let (mut keys, mut values) =
            (image.keys.chunks_exact_mut(self.key_size), image.values.as_chunks_mut::<VALUE>().0.iter_mut());
        let mut key = std::ptr::null::<u8>();
        while let (Some(next), Some(value)) = (keys.next(), values.next()) {
            let (next, value) = (next.as_mut_ptr(), value.as_mut_ptr());
            if self.element(MAP_GET_NEXT_KEY, key, next)? == Found::Nothing {
                return Ok(true);
            }
            // An entry that was deleted in between shows a change.
            if self.element(MAP_LOOKUP_ELEM, next, value)? == Found::Nothing {
                return Ok(false);
            }
            image.entries += 1;
            key = next;
        }
        Ok(false)
    }

    fn element(&self, command: libc::c_long, key: *const u8, to: *mut u8) -> Result<Found, Errno> {
        let mut attr = Element {
            map: self.map.as_raw_fd(),
            _padding: 0,
            key: key.expose_provenance() as u64,
            to: to.expose_provenance() as u64,
            flags: 0,
        };
        #[expect(unsafe_code, reason = "a system call without a safe wrapper")]
        // SAFETY: the callers pass a key, and room for a key or for a value; `new` has checked the sizes.
        match unsafe { bpf(command, &raw mut attr) } {
            Ok(()) => Ok(Found::Something),
            Err(Errno(libc::ENOENT)) => Ok(Found::Nothing),
            Err(error) => Err(error),
        }
    }
}

/// An error of the kernel, without the search for its name.
struct Errno(i32);

#[derive(PartialEq, Eq)]
enum Found {
    Something,
    Nothing,
}

/// # Safety
///
/// `attr` is the part of `union bpf_attr` for this command, and its pointers are valid.
#[expect(unsafe_code, reason = "a system call without a safe wrapper")]
unsafe fn bpf<T>(command: libc::c_long, attr: *mut T) -> Result<(), Errno> {
    // SAFETY: the caller's promise. The kernel takes missing fields for zeros.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<T>()) };
    if result < 0 { Err(Errno(nix::errno::Errno::last_raw())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd, path::Path};

    use anyhow::{Context, Result, ensure};
    use aya::maps::MapData;
    use nix::libc;
    use vtep_lab::Lab;

    use super::{MAX, MapImage, Readable};

    /// The images of the map, read in both ways.
    fn images(pin: &Path) -> Result<[Option<MapImage>; 2]> {
        let data = MapData::from_pin(pin)?;
        let mut readable = Readable::new(data.fd().as_fd(), 4, 16)?.context("small keys and values")?;
        let mut both = [None, None];
        for (image, has_batch) in both.iter_mut().zip([true, false]) {
            let mut read = MapImage::empty();
            readable.has_batch = has_batch;
            *image = readable.read(&mut read)?.then_some(read);
        }
        Ok(both)
    }

    #[test]
    fn both_ways_read_the_same_and_see_each_change() -> Result<()> {
        let lab = Lab::start()?;
        let pin = lab.cilium.vtep_pin();
        let [first, second] = lab.topology.vteps()[..] else { anyhow::bail!("two VTEPs") };
        let mut seen = Vec::new();
        let mut look = |change: Result<()>| -> Result<()> {
            change?;
            let [batch, each] = images(&pin)?;
            ensure!(batch.is_some() && batch == each, "{batch:?} {each:?}");
            ensure!(!seen.contains(&batch), "it sees this change");
            seen.push(batch);
            Ok(())
        };
        look(Ok(()))?;
        look(lab.cilium.put_vtep(first.key(), first.value()))?;
        look(lab.cilium.put_vtep(second.key(), second.value()))?;
        look(lab.cilium.put_vtep(second.key(), first.value()))?;
        look(lab.cilium.delete_vtep(first.key()))?;
        Ok(())
    }

    #[test]
    fn a_map_with_too_many_entries_has_no_image() -> Result<()> {
        let lab = Lab::start()?;
        let pin = Path::new(vtep_lab::BPF_FS).join("many");
        let create =
            ["map", "create", &pin.to_string_lossy(), "type", "hash", "key", "4", "value", "16", "entries", "128"];
        ensure!(lab.node.command("bpftool").args(create).args(["name", "many"]).status()?.success(), "bpftool");
        let data = aya::maps::Map::HashMap(MapData::from_pin(&pin)?);
        let mut map = aya::maps::HashMap::<_, [u8; 4], [u8; 16]>::try_from(data)?;
        for n in 0..u32::try_from(MAX)? {
            ensure!(n + 1 < MAX as u32 || images(&pin)?.iter().all(Option::is_some), "{n} entries fit");
            map.insert(n.to_ne_bytes(), [1; 16], 0)?;
        }
        ensure!(images(&pin)? == [None, None], "{MAX} do not");
        Ok(())
    }

    #[test]
    fn a_failure_is_no_empty_map() -> Result<()> {
        let mut readable = Readable::new(File::open("/dev/null")?.as_fd(), 4, 16)?.context("a descriptor")?;
        let error = readable.read(&mut MapImage::empty()).err().context("it is no map")?;
        ensure!(error.raw_os_error() == Some(libc::EINVAL), "{error}");
        Ok(())
    }
}
