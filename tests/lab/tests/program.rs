//! The program `vtep-lab`: its demonstration, and its message without root.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Command,
};

use anyhow::Result;

const PROGRAM: &str = env!("CARGO_BIN_EXE_vtep-lab");
const STUB: &str = env!("CARGO_BIN_EXE_vtep-lab-stub");
const NOBODY: u32 = 65_534;

#[test]
fn a_demonstration_ends_when_all_is_healthy() -> Result<()> {
    let output = Command::new(PROGRAM).args(["demo", "--once", "--agent", STUB]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let url = text.lines().find(|line| line.starts_with("http://127.0.0.1:")).unwrap_or_default();
    assert!(text.contains(&format!("stub: status --url {url}\n")), "{text}");
    let run = "stub: run --config-source dir --config-dir /mnt/config --cilium-run /mnt/cilium \
               --state-dir /mnt/state --node-name worker-1 --listen 127.0.0.1:9808 \
               --probe-target 10.1.6.0/24=10.1.6.34 --probe-target 10.1.5.0/24=10.1.5.36\n";
    assert!(text.contains(run), "{text}");
    Ok(())
}

#[test]
fn an_agent_that_ends_ends_the_demonstration() -> Result<()> {
    let output = Command::new(PROGRAM).args(["demo", "--once", "--agent", "/bin/false"]).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(errors.contains("the agent ended by itself: exit status: 1"), "{errors}");
    Ok(())
}

#[test]
fn without_root_it_says_so() -> Result<()> {
    // The user `nobody` may not be able to read the build directory, and could then not even start the program: copy it.
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let program = dir.path().join("vtep-lab");
    fs::copy(PROGRAM, &program)?;
    let output = Command::new(&program).arg("up").uid(NOBODY).gid(NOBODY).current_dir("/").output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(errors.contains("the lab needs root"), "{errors}");
    Ok(())
}
