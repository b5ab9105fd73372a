//! Compiles the eBPF programs (`ebpf/`) into `OUT_DIR`, where `kernel::tap` embeds the object, and records what is built (`src/build_info.rs`).

use std::{env, process::Command};

fn main() {
    ebpf_toolchain::compile("ebpf", "vtep-agent-ebpf", "tap");
    record_build();
}

/// Commit and time, from the environment or from git. A build for development asks no git, because it would be built anew at each commit.
/// The time is never that of the machine, so that the same sources give the same program.
fn record_build() {
    for variable in ["VTEP_AGENT_COMMIT", "SOURCE_DATE_EPOCH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let of_git = |format: &str| if is_release { git(&["log", "-1", &format!("--format={format}")]) } else { None };
    let given = |variable: &str| env::var(variable).ok().filter(|value| !value.is_empty());
    if is_release && let Some(head) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={head}");
    }
    let commit = given("VTEP_AGENT_COMMIT").or_else(|| of_git("%H"));
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let long = match &commit {
        Some(commit) => format!("{version} ({})", commit.get(..12).unwrap_or(commit)),
        None => version,
    };
    println!("cargo::rustc-env=VTEP_BUILD_VERSION={long}");
    println!("cargo::rustc-env=VTEP_BUILD_COMMIT={}", commit.unwrap_or_default());
    println!(
        "cargo::rustc-env=VTEP_BUILD_EPOCH={}",
        given("SOURCE_DATE_EPOCH").or_else(|| of_git("%ct")).unwrap_or_default()
    );
    println!("cargo::rustc-env=VTEP_BUILD_TARGET={}", env::var("TARGET").unwrap_or_default());
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}
