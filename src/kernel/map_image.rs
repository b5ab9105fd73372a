//! The raw bytes of all entries of a small map, to learn whether anything in it has changed. Reading them allocates nothing.
//!
//! One `BPF_MAP_LOOKUP_BATCH` reads the whole map (hash: Linux 5.6; LPM trie: 5.14). Older kernels need two calls for each entry.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::libc;

use super::bpf::{self, Errno, Sizes};

/// An image has room for fewer entries than this. Cilium's VTEP map has eight.
const MAX: usize = 64;
/// The largest key and value, in bytes: an LPM key with an IPv4 address; MAC, padding and endpoint.
const KEY: usize = 8;
const VALUE: usize = 16;

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
    sizes: Sizes,
    has_batch: bool,
}

impl Readable {
    /// Takes a copy of the descriptor. `None` if keys or values of this size do not fit into an image.
    ///
    /// # Errors
    ///
    /// The process has too many descriptors.
    pub fn new(map: BorrowedFd<'_>, sizes: Sizes) -> io::Result<Option<Self>> {
        if !(1..=KEY).contains(&sizes.key) || sizes.value != VALUE {
            return Ok(None);
        }
        Ok(Some(Self { map: map.try_clone_to_owned()?, sizes, has_batch: true }))
    }

    /// Reads all entries. Returns false if there are too many, or if they change just now.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn read(&mut self, image: &mut MapImage) -> io::Result<bool> {
        image.key_size = self.sizes.key;
        if self.has_batch {
            if let Ok(fits) = self.read_batch(image) {
                return Ok(fits);
            }
            // The kernel lacks the command, or lacks it for this type of map. If something else is wrong, the other way shows it.
            self.has_batch = false;
        }
        Ok(self.read_each(image)?)
    }

    fn read_batch(&self, image: &mut MapImage) -> Result<bool, Errno> {
        let keys = image.keys.get_mut(..MAX * self.sizes.key).unwrap_or_default();
        let (entries, result) = bpf::lookup_batch(self.map.as_fd(), self.sizes, keys, &mut image.values);
        image.entries = entries;
        match result {
            // At the end of the map, the kernel says so. A full image may lack entries.
            Ok(()) | Err(Errno(libc::ENOENT)) => Ok(entries < MAX),
            // A bucket of the hash has more entries than there is room for.
            Err(Errno(libc::ENOSPC)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn read_each(&self, image: &mut MapImage) -> Result<bool, Errno> {
        image.entries = 0;
        let (map, sizes) = (self.map.as_fd(), self.sizes);
        let keys = image.keys.chunks_exact_mut(sizes.key);
        let mut key: Option<&[u8]> = None;
        for (next, value) in keys.zip(image.values.chunks_exact_mut(VALUE)).take(MAX) {
            match bpf::next_key(map, sizes, key, next) {
                Ok(()) => {}
                Err(Errno(libc::ENOENT)) => return Ok(true),
                Err(error) => return Err(error),
            }
            match bpf::lookup(map, sizes, next, value) {
                Ok(()) => image.entries += 1,
                // An entry that was deleted in between shows a change.
                Err(Errno(libc::ENOENT)) => return Ok(false),
                Err(error) => return Err(error),
            }
            key = Some(next);
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd, path::Path};

    use anyhow::{Context, Result, ensure};
    use aya::maps::MapData;
    use nix::libc;
    use vtep_lab::Lab;

    use super::{MAX, MapImage, Readable, Sizes};

    /// The images of the map, read in both ways.
    fn images(pin: &Path) -> Result<[Option<MapImage>; 2]> {
        let data = MapData::from_pin(pin)?;
        let mut readable =
            Readable::new(data.fd().as_fd(), Sizes { key: 4, value: 16 })?.context("small keys and values")?;
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
        let mut readable =
            Readable::new(File::open("/dev/null")?.as_fd(), Sizes { key: 4, value: 16 })?.context("a descriptor")?;
        let error = readable.read(&mut MapImage::empty()).err().context("it is no map")?;
        ensure!(error.raw_os_error() == Some(libc::EINVAL), "{error}");
        Ok(())
    }
}
