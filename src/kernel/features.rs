//! Tests the kernel's BPF features by using them. The release is no proof, because vendors backport features to older kernels, and remove
//! some from newer ones.

use std::io;

use aya::{
    maps::MapType,
    programs::{ProgramError, ProgramType},
    sys::{SyscallError, is_map_supported, is_program_supported},
};

use super::bpf;

/// One feature, and the result of its test.
#[derive(Debug)]
pub struct Feature {
    pub name: &'static str,
    /// Whether the kernel has it.
    pub found: Result<bool, FeatureError>,
}

/// The test itself failed, so its result is unknown.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    #[error(transparent)]
    Syscall(#[from] SyscallError),
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error("the kernel refused the program")]
    Refused(#[from] io::Error),
}

/// Tests the features that VTEPs and this agent need. Test maps and programs are dropped at once.
#[must_use]
pub fn probe() -> [Feature; 4] {
    let feature = |name, found| Feature { name, found };
    [
        feature("hash maps", is_map_supported(MapType::Hash).map_err(FeatureError::from)),
        feature("LPM trie maps", is_map_supported(MapType::LpmTrie).map_err(FeatureError::from)),
        feature("socket filters", is_program_supported(ProgramType::SocketFilter).map_err(FeatureError::from)),
        feature("programs of more than 4096 instructions", loads_large_program()),
    ]
}

/// Tests whether the kernel accepts more instructions than kernels before 5.2 (`BPF_MAXINSNS`, 4096). Cilium's programs with VTEP support are
/// larger than that.
fn loads_large_program() -> Result<bool, FeatureError> {
    // From linux/bpf.h: `r0 = 0`, and `exit`.
    const CLEAR: [u8; 8] = [0xb7, 0, 0, 0, 0, 0, 0, 0];
    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];
    let mut instructions = vec![CLEAR; 4200];
    instructions.push(EXIT);
    match bpf::load_socket_filter(&instructions) {
        Ok(_) => Ok(true),
        Err(error) if is_too_large(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Kernels before 5.2 return `E2BIG` (`bpf_prog_load` in `kernel/bpf/syscall.c`); those before 4.19 return `EINVAL`.
fn is_too_large(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::E2BIG | nix::libc::EINVAL))
}
