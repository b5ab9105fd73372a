//! Plays the role of the kubelet: the ConfigMap `cilium-config`, mounted as a directory and updated in the kubelet's way.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{mounts::CONFIG, topology::Vtep};

/// The mounted ConfigMap.
#[derive(Debug)]
pub struct Config {
    dir: PathBuf,
}

impl Config {
    pub(crate) fn new() -> Self {
        Self { dir: CONFIG.into() }
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The keys of F5's document, blanks included.
    #[must_use]
    pub fn seed_keys() -> BTreeMap<String, String> {
        [
            ("cluster-name", "default"),
            ("enable-ipv4", "true"),
            ("enable-ipv6", "false"),
            ("enable-l7-proxy", "false"),
            ("enable-policy", "never"),
            ("enable-vtep", "true"),
            ("ipam", "cluster-pool"),
            ("routing-mode", "tunnel"),
            ("tunnel-protocol", "vxlan"),
            ("vtep-cidr", "10.1.6.0/24         10.1.5.0/24"),
            ("vtep-endpoint", "10.169.72.34    10.169.72.36"),
            ("vtep-mac", "00:50:56:A0:7D:D8    00:50:56:86:6b:28"),
            ("vtep-mask", "255.255.255.0"),
        ]
        .map(|(key, value)| (key.into(), value.into()))
        .into()
    }

    /// The seed's keys, with these VTEPs.
    #[must_use]
    pub fn keys_for(vteps: &[Vtep]) -> BTreeMap<String, String> {
        let mut keys = Self::seed_keys();
        keys.insert("vtep-cidr".into(), list(vteps, |vtep| vtep.cidr.to_string()));
        keys.insert("vtep-endpoint".into(), list(vteps, |vtep| vtep.endpoint.to_string()));
        keys.insert("vtep-mac".into(), list(vteps, |vtep| vtep.mac.to_string()));
        keys
    }

    /// Replaces the keys in the directory at once: creates a new timestamped directory, and switches `..data` to it by a rename; each key
    /// is a link through `..data`.
    ///
    /// # Errors
    ///
    /// A file could not be written.
    pub fn write(&self, keys: &BTreeMap<String, String>) -> Result<()> {
        self.update(keys).with_context(|| format!("failed to update {}", self.dir.display()))
    }

    fn update(&self, keys: &BTreeMap<String, String>) -> io::Result<()> {
        let data = self.dir.join("..data");
        let previous = fs::read_link(&data).ok();
        let name = format!("..{}", jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%9N"));
        fs::create_dir(self.dir.join(&name))?;
        for (key, value) in keys {
            fs::write(self.dir.join(&name).join(key), value)?;
        }
        let switch = self.dir.join("..data_tmp");
        symlink(&name, &switch)?;
        fs::rename(&switch, &data)?;
        for key in keys.keys() {
            match symlink(Path::new("..data").join(key), self.dir.join(key)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        self.remove_links_without(keys)?;
        match previous {
            Some(previous) => fs::remove_dir_all(self.dir.join(previous)),
            None => Ok(()),
        }
    }

    fn remove_links_without(&self, keys: &BTreeMap<String, String>) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !name.starts_with("..") && !keys.contains_key(&name) {
                fs::remove_file(self.dir.join(name))?;
            }
        }
        Ok(())
    }
}

fn list(vteps: &[Vtep], item: impl Fn(&Vtep) -> String) -> String {
    vteps.iter().map(item).collect::<Vec<_>>().join(" ")
}
