//! Returns memory to the system that only the loading of eBPF programs needed.
//!
//! `aya::EbpfLoader::new` always reads the kernel's types (BTF), which takes some 20 MB in small pieces for a moment. glibc does not shrink
//! its memory afterwards if any later allocation is still in use.

/// Returns free memory to the system.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "a function of the C library without a safe wrapper")]
    // SAFETY: `malloc_trim` takes no pointer, and locks the heaps while it works.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
