//! Reads the kernel's release, this process's capabilities, and the kernel's BPF features. The core judges from them whether the agent may
//! write on this node.

use std::{io, path::Path};

use vtep_core::{
    node::{
        capabilities::{self, Capability},
        fitness::Fitness,
    },
    types::error_chain::chain,
};

use super::{
    features::{self, Feature},
    memory_lock,
};
use crate::bounded;

/// The maximum length of `/proc/self/status` in bytes; it usually has some 1500.
const MAX_STATUS: u64 = 64 << 10;

/// Reads the kernel's release and this process's capabilities, and tests the kernel's features.
///
/// # Errors
///
/// The capabilities cannot be read.
pub fn probe(ignore_release: bool) -> io::Result<Fitness> {
    let missing = missing_capabilities()?;
    memory_lock::raise();
    // Without CAP_BPF, every test would fail for that reason alone.
    let features = if missing.contains(&capabilities::BPF) { Vec::new() } else { features::probe().into() };
    let mut refusals = features.iter().filter_map(|feature| feature.found.as_ref().err());
    let memory_lock = refusals.find_map(|error| memory_lock::explains(error));
    // Nor do tests show anything if the limit may be the reason.
    let lacking = if memory_lock.is_none() { features.iter().filter_map(lack).collect() } else { Vec::new() };
    Ok(Fitness { release: release(), ignore_release, missing, lacking, memory_lock })
}

/// The release of the running kernel; empty if `uname` fails.
#[must_use]
pub fn release() -> String {
    nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default()
}

fn missing_capabilities() -> io::Result<Vec<Capability>> {
    let status = bounded::read_text(Path::new("/proc/self/status"), MAX_STATUS)?;
    let no_line = || io::Error::new(io::ErrorKind::InvalidData, "no CapEff line in /proc/self/status");
    capabilities::missing(&status).ok_or_else(no_line)
}

fn lack(feature: &Feature) -> Option<String> {
    match &feature.found {
        Ok(true) => None,
        Ok(false) => Some(format!("the kernel has no {}", feature.name)),
        Err(error) => Some(format!("cannot test whether the kernel has {}: {}", feature.name, chain(error))),
    }
}
