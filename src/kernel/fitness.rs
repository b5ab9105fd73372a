//! Reads what decides whether this node and this process are fit: the kernel's release, capabilities and BPF features.

use std::{io, path::Path};

use vtep_core::{
    node::{
        capabilities::{self, Capability},
        fitness::Fitness,
    },
    types::error_chain::chain,
};

use super::features::{self, Feature};
use crate::bounded;

/// Bytes of `/proc/self/status`: some 1500.
const MAX_STATUS: u64 = 64 << 10;

/// Reads the kernel's release and this process's capabilities, and tries out what the kernel can do.
///
/// # Errors
///
/// When the capabilities cannot be read.
pub fn probe(ignore_release: bool) -> io::Result<Fitness> {
    let missing = missing_capabilities()?;
    // Without the capability, trying would show nothing but its absence.
    let may_try = !missing.contains(&capabilities::BPF);
    let lacking = if may_try { features::probe().iter().filter_map(lack).collect() } else { Vec::new() };
    Ok(Fitness { release: release(), ignore_release, missing, lacking })
}

/// The release of the running kernel; empty where the kernel does not say.
fn release() -> String {
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
        Err(error) => Some(format!("cannot tell whether the kernel has {}: {}", feature.name, chain(error))),
    }
}
