//! `RLIMIT_MEMLOCK` (getrlimit(2)). Before Linux 5.11, the kernel counts all BPF maps of a user against it, Cilium's as well, and refuses new ones
//! with `EPERM`; many container runtimes set it to 64 kB. Maps that exist can be read and written all the same.

use std::{error::Error, io, iter};

use nix::{
    errno::Errno,
    sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit},
};
use vtep_core::node::kernel;

use super::fitness;

/// Raises the limit as far as this process may: without `CAP_SYS_RESOURCE`, to the hard limit.
pub fn raise() {
    if setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).is_err()
        && let Ok((_, most)) = getrlimit(Resource::RLIMIT_MEMLOCK)
    {
        // If this fails, the kernel may refuse a map, and that is reported.
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, most, most);
    }
}

/// The limit in bytes, if it may be the reason for this refusal of a map or a program.
#[must_use]
pub fn explains(refusal: &(dyn Error + 'static)) -> Option<u64> {
    let mut errors = iter::successors(Some(refusal), |error| (*error).source());
    let code = errors.find_map(|error| error.downcast_ref::<io::Error>()?.raw_os_error());
    let is_possible = code == Some(Errno::EPERM as i32) && kernel::locks_memory(&fitness::release());
    let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK).ok().filter(|_| is_possible)?;
    (limit != RLIM_INFINITY).then_some(limit)
}
