//! The calls of bpf(2) that aya does not offer: reading a map without an allocation, and loading a program without an object file.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use nix::libc;

// Commands, from linux/bpf.h.
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_GET_NEXT_KEY: libc::c_long = 4;
const PROG_LOAD: libc::c_long = 5;
const MAP_LOOKUP_BATCH: libc::c_long = 24;

const PROG_TYPE_SOCKET_FILTER: u32 = 1;

/// An error of the kernel as a number, without the search for its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl From<Errno> for io::Error {
    fn from(Errno(error): Errno) -> Self {
        Self::from_raw_os_error(error)
    }
}

/// `union bpf_attr` for `BPF_MAP_LOOKUP_BATCH`.
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

/// The first fields of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Program {
    kind: u32,
    instructions: u32,
    text: u64,
    license: u64,
}

/// The sizes of a map, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub key: usize,
    pub value: usize,
}

/// Reads entries from the start of a map, as many as `keys` and `values` have room for. Returns their number, and an error if there is
/// another reason to stop: `ENOENT` at the end of the map.
pub fn lookup_batch(
    map: BorrowedFd<'_>,
    sizes: Sizes,
    keys: &mut [u8],
    values: &mut [u8],
) -> (usize, Result<(), Errno>) {
    let room = keys.len() / sizes.key.max(1);
    let room = room.min(values.len() / sizes.value.max(1));
    // The kernel writes here where it stopped: four bytes for a hash, a key for a trie.
    let mut stopped = [0_u8; 64];
    if sizes.key > stopped.len() {
        return (0, Err(Errno(libc::EINVAL)));
    }
    let mut attr = Batch {
        in_batch: 0,
        out_batch: (&raw mut stopped).expose_provenance() as u64,
        keys: keys.as_mut_ptr().expose_provenance() as u64,
        values: values.as_mut_ptr().expose_provenance() as u64,
        count: u32::try_from(room).unwrap_or(u32::MAX),
        map: map.as_raw_fd(),
        elem_flags: 0,
        flags: 0,
    };
    #[expect(unsafe_code, reason = "a system call without a safe wrapper")]
    // SAFETY: `count` entries of these sizes fit into both places.
    let result = unsafe { bpf(MAP_LOOKUP_BATCH, &raw mut attr) };
    (attr.count as usize, result.map(drop))
}

/// Writes the key that follows this one, or the first key, to `next`.
pub fn next_key(map: BorrowedFd<'_>, sizes: Sizes, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
    if key.is_some_and(|key| key.len() < sizes.key) || next.len() < sizes.key {
        return Err(Errno(libc::EINVAL));
    }
    element(MAP_GET_NEXT_KEY, map, key.map_or(std::ptr::null(), <[u8]>::as_ptr), next.as_mut_ptr())
}

/// Writes the value of this key to `value`.
pub fn lookup(map: BorrowedFd<'_>, sizes: Sizes, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
    if key.len() < sizes.key || value.len() < sizes.value {
        return Err(Errno(libc::EINVAL));
    }
    element(MAP_LOOKUP_ELEM, map, key.as_ptr(), value.as_mut_ptr())
}

fn element(command: libc::c_long, map: BorrowedFd<'_>, key: *const u8, to: *mut u8) -> Result<(), Errno> {
    let mut attr = Element {
        map: map.as_raw_fd(),
        _padding: 0,
        key: key.expose_provenance() as u64,
        to: to.expose_provenance() as u64,
        flags: 0,
    };
    #[expect(unsafe_code, reason = "a system call without a safe wrapper")]
    // SAFETY: the callers have checked that a key, and a key or a value, fit there.
    unsafe { bpf(command, &raw mut attr) }.map(drop)
}

/// Loads a socket filter of these instructions, eight bytes each, without maps and helpers.
///
/// # Errors
///
/// The kernel refuses the program.
pub fn load_socket_filter(instructions: &[[u8; 8]]) -> io::Result<OwnedFd> {
    let license = c"Dual MIT/GPL";
    let mut attr = Program {
        kind: PROG_TYPE_SOCKET_FILTER,
        instructions: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        text: instructions.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
    };
    #[expect(unsafe_code, reason = "a system call without a safe wrapper")]
    // SAFETY: the instructions are as many as it says, and the descriptor is new and ours.
    unsafe {
        let program = bpf(PROG_LOAD, &raw mut attr)?;
        Ok(OwnedFd::from_raw_fd(program))
    }
}

/// # Safety
///
/// `attr` is the part of `union bpf_attr` for this command, and its pointers are valid.
#[expect(unsafe_code, reason = "a system call without a safe wrapper")]
unsafe fn bpf<T>(command: libc::c_long, attr: *mut T) -> Result<i32, Errno> {
    // SAFETY: the caller's promise. The kernel takes missing fields for zeros.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<T>()) };
    i32::try_from(result).ok().filter(|result| *result >= 0).ok_or_else(|| Errno(nix::errno::Errno::last_raw()))
}
