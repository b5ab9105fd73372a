//! The mounted ConfigMap changes in the kubelet's way.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use vtep_lab::{CONFIG, Config, Lab};

#[test]
fn an_update_switches_all_keys_at_once() -> Result<()> {
    let lab = Lab::builder().cilium_running(false).start()?;
    let dir = lab.config.dir();
    let mut keys = Config::seed_keys();
    lab.config.write(&keys)?;
    assert_eq!(fs::read_to_string(dir.join("vtep-endpoint"))?, "10.169.72.34    10.169.72.36");
    assert_eq!(fs::read_link(dir.join("vtep-mac"))?, Path::new("..data/vtep-mac"));
    let first = fs::read_link(dir.join("..data"))?;

    keys.remove("vtep-mask");
    keys.insert("enable-vtep".into(), "false".into());
    lab.config.write(&keys)?;
    assert_ne!(fs::read_link(dir.join("..data"))?, first);
    assert!(!dir.join(first).exists(), "the old data is removed");
    assert_eq!(fs::read_to_string(dir.join("enable-vtep"))?, "false");
    let mut names: Vec<_> = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    names.retain(|path| !path.starts_with(Path::new(CONFIG).join("..data")) && fs::read_link(path).is_ok());
    names.sort();
    let expected: Vec<PathBuf> = keys.keys().map(|key| dir.join(key)).collect();
    assert_eq!(names, expected, "keys that are gone have no link");
    Ok(())
}

#[test]
fn keys_can_name_any_vteps() -> Result<()> {
    let lab = Lab::builder().cilium_running(false).start()?;
    let keys = Config::keys_for(&lab.topology.vteps()[..1]);
    assert_eq!(keys["vtep-cidr"], "10.1.6.0/24");
    assert_eq!(keys["vtep-mac"], "00:50:56:A0:7D:D8");
    Ok(())
}
