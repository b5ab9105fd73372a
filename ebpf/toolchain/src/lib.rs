//! Compiles an eBPF crate of this workspace from a build script.
//!
//! Two toolchains can do that: Debian's `rustc-web`, which has a compiled `core` for BPF, and rustup's nightly with `rust-src`. The build
//! uses the first one that is installed. Both link with `bpf-linker`. Git has no compiled programs.

#![expect(clippy::print_stdout, reason = "a build script gives instructions to cargo on its standard output")]

use std::{
    env,
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// Debian's `rustc-web` and `libstd-rust-web-dev-bpf` install the compiler and `core` for BPF here.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_RUSTLIB: &str = "/usr/lib/rustlib";

const WHAT_TO_INSTALL: &str = "the eBPF programs need a compiler for BPF: run `make setup`, or install Debian's `rustc-web` and \
     `libstd-rust-web-dev-bpf`, or `rustup toolchain install nightly --component rust-src`; and `cargo install bpf-linker`";

/// Compiles the program `bin` of the workspace package `package` and copies it to `$OUT_DIR/<bin>`.
///
/// `dir` is the package's folder, relative to the calling package; cargo runs the build script again after a change in it. If no BPF
/// compiler or linker is installed, or the program does not compile, the function ends the build script with a message that names the next
/// step.
pub fn compile(dir: &str, package: &str, bin: &str) {
    if let Err(error) = try_compile(dir, package, bin) {
        // Cargo prints only this line. After a panic or a returned error it would also print a backtrace.
        println!("cargo::error={error:#}");
        std::process::exit(1);
    }
}

fn try_compile(dir: &str, package: &str, bin: &str) -> Result<()> {
    println!("cargo::rerun-if-changed={dir}");
    println!("cargo::rerun-if-env-changed=PATH");
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is set by cargo")?);
    let target = target_for_host()?;
    // Use a separate target directory, because the outer cargo holds the lock on the usual one.
    let target_dir = out_dir.join("ebpf-target");

    let mut cargo = Toolchain::find(target)?.cargo();
    cargo
        .args(["--release", "--features", "program", "--target", target])
        .args(["--package", package, "--bin", bin])
        .arg("--target-dir")
        .arg(&target_dir);
    let status = cargo.status().with_context(|| format!("failed to start cargo for the eBPF program {bin}"))?;
    if !status.success() {
        bail!("the eBPF program {bin} did not compile: see the compiler's messages above");
    }
    let built = target_dir.join(target).join("release").join(bin);
    std::fs::copy(&built, out_dir.join(bin)).with_context(|| format!("failed to copy {}", built.display()))?;
    Ok(())
}

/// BPF programs have the byte order of the machine that runs them.
fn target_for_host() -> Result<&'static str> {
    match env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() {
        Ok("little") => Ok("bpfel-unknown-none"),
        Ok("big") => Ok("bpfeb-unknown-none"),
        other => bail!("CARGO_CFG_TARGET_ENDIAN is {other:?}, neither little nor big"),
    }
}

/// Variables that the outer cargo (or clippy) sets for its own compiler, and that must not reach the inner one.
fn inherited_from_outer_cargo() -> impl Iterator<Item = OsString> {
    const NAMES: [&str; 6] = [
        "RUSTC",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_ENCODED_RUSTFLAGS",
    ];
    let profile_overrides = env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| name.to_string_lossy().starts_with("CARGO_PROFILE_") || name == "CARGO_BUILD_TARGET");
    NAMES.into_iter().map(OsString::from).chain(profile_overrides)
}

enum Toolchain {
    Debian { linker: PathBuf },
    Nightly { linker: PathBuf },
}

impl Toolchain {
    fn find(target: &str) -> Result<Self> {
        let linker = bpf_linker().or_else(awaited_bpf_linker).context(WHAT_TO_INSTALL)?;
        if Path::new(DEBIAN_RUSTC).exists() && Path::new(DEBIAN_RUSTLIB).join(target).exists() {
            return Ok(Self::Debian { linker });
        }
        let nightly =
            Command::new("rustup").args(["component", "list", "--toolchain", "nightly", "--installed"]).output();
        match nightly {
            Ok(output) if String::from_utf8_lossy(&output.stdout).contains("rust-src") => Ok(Self::Nightly { linker }),
            Ok(_) | Err(_) => bail!(WHAT_TO_INSTALL),
        }
    }

    /// A cargo that compiles for BPF, without the variables that the outer cargo sets for its own compiler.
    fn cargo(self) -> Command {
        let (mut cargo, linker) = match self {
            Self::Debian { linker } => {
                let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
                clear_outer_settings(&mut cargo);
                // aya-ebpf needs unstable features. RUSTC_BOOTSTRAP enables them in Debian's release compiler.
                cargo.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                cargo.arg("build");
                (cargo, linker)
            }
            Self::Nightly { linker } => {
                let mut cargo = Command::new("rustup");
                clear_outer_settings(&mut cargo);
                cargo.args(["run", "nightly", "cargo", "build", "-Zbuild-std=core"]);
                (cargo, linker)
            }
        };
        let mut flags = vec![format!("-Clinker={}", linker.display()), "-Clink-arg=--btf".to_owned()];
        flags.extend(without_paths());
        // Separate flags with 0x1f, so that a path with a space is one flag.
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        cargo
    }
}

/// BTF has the path of each source. The agent contains it, and should be the same whoever builds it in whatever folder. No machine may have
/// the new paths: LLVM also stores the text of each line in BTF if it can read the file, and would do so only there.
fn without_paths() -> impl Iterator<Item = String> {
    let workspace = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).and_then(|package| {
        let is_root = |dir: &&Path| dir.join("Cargo.lock").exists();
        package.ancestors().find(is_root).map(Path::to_owned)
    });
    let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let cargo = env::var_os("CARGO_HOME").map(PathBuf::from).or(home);
    let places = [(workspace, "/nonexistent/src"), (cargo, "/nonexistent/cargo")];
    places.into_iter().filter_map(|(from, to)| Some(format!("--remap-path-prefix={}={to}", from?.display())))
}

fn clear_outer_settings(cargo: &mut Command) {
    for variable in inherited_from_outer_cargo() {
        cargo.env_remove(variable);
    }
    // The agent is built for size. These programs are not: an instruction on the stack costs a barrier, and old kernels refuse some of them.
    cargo.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3");
}

/// Waits for `scripts/setup`, which builds `bpf-linker` in the background while it holds the lock on this file.
fn awaited_bpf_linker() -> Option<PathBuf> {
    let lock = File::open(env::var_os("BPF_LINKER_LOCK")?).ok()?;
    lock.lock_shared().ok()?;
    bpf_linker()
}

fn bpf_linker() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join("bpf-linker")).find(|candidate| candidate.exists())
}
