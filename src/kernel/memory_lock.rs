//! `RLIMIT_MEMLOCK` (getrlimit(2)). Before Linux 5.11, the kernel counts BPF maps against it and refuses them with `EPERM`; many container
//! runtimes set it to 64 kB, which is too little for the tap.

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
pub fn explains(refusal: Option<i32>) -> Option<u64> {
    let is_possible = refusal == Some(Errno::EPERM as i32) && kernel::locks_memory(&fitness::release());
    let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK).ok().filter(|_| is_possible)?;
    (limit != RLIM_INFINITY).then_some(limit)
}
