//! Gives memory back to the system that only the start needed.
//!
//! `aya::EbpfLoader::new` reads the kernel's own types (BTF), whether they are wanted or not: some 20 MB of small pieces for a moment. glibc keeps
//! the heap that they made as large as it was, if anything that stays was allocated behind them.

/// Returns what is free to the system.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "a function of the C library without a safe wrapper")]
    // SAFETY: it takes no pointer, and locks the heaps while it works.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
