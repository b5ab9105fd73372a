//! What a reader must know about the machine before believing a figure.

use std::{fs, thread};

use anyhow::Result;

/// The processor, its cores, the kernel, whether it is virtual, and what was built.
pub(crate) fn words() -> Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let field = |name: &str| {
        let line = cpu.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, value)| value.trim())
    };
    let model = field("model name").split_whitespace().collect::<Vec<_>>().join(" ");
    let hypervisor = field("flags").split(' ').any(|flag| flag == "hypervisor");
    let place = if hypervisor { "a virtual machine" } else { "no hypervisor" };
    let cores = thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    // They decide the cost of each call of a BPF helper.
    let mitigations = fs::read_to_string("/sys/devices/system/cpu/vulnerabilities/spectre_v2").unwrap_or_default();
    let mitigations = mitigations.split(';').next().unwrap_or_default();
    let build = if cfg!(debug_assertions) { "debug build" } else { "release build" };
    Ok(format!(
        "{model}, family {} model {}, {cores} cores, {place}, Linux {}, spectre_v2: {}, {build}",
        field("cpu family"),
        field("model\t"),
        kernel.trim(),
        mitigations.trim(),
    ))
}

/// Whether something else ran when the measurement began.
pub(crate) fn load() -> Result<String> {
    let load = fs::read_to_string("/proc/loadavg")?;
    Ok(format!("Load of the last minute: {}", load.split(' ').next().unwrap_or_default()))
}
