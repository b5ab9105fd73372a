//! Tests the kernel's BPF features by using them. The release is no proof, because vendors backport features to older kernels, and remove
//! some from newer ones.

use aya::{
    EbpfError, EbpfLoader, include_bytes_aligned,
    maps::MapType,
    programs::{ProgramError, ProgramType, SocketFilter},
    sys::{SyscallError, is_map_supported, is_program_supported},
};

use super::malloc;

static LARGE_PROGRAM: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/large"));

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
    #[error("the eBPF object does not load")]
    Object(#[from] EbpfError),
    #[error("the eBPF object lacks its program")]
    Incomplete,
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

fn loads_large_program() -> Result<bool, FeatureError> {
    // The program uses no types of the kernel, so it needs no BTF.
    let mut ebpf = EbpfLoader::new().btf(None).load(LARGE_PROGRAM)?;
    malloc::trim();
    let program: &mut SocketFilter = ebpf.program_mut("large").ok_or(FeatureError::Incomplete)?.try_into()?;
    match program.load() {
        Ok(()) => Ok(true),
        Err(ProgramError::LoadError { io_error, .. }) if is_too_large(&io_error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Kernels before 5.2 return `E2BIG` (`bpf_prog_load` in `kernel/bpf/syscall.c`); those before 4.19 return `EINVAL`.
fn is_too_large(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::E2BIG | nix::libc::EINVAL))
}
