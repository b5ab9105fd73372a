//! A `cilium-config` that a person hands over: what `check` and `bigip` read.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use crate::config::{
    Keys,
    manifest::{self, MAX_BYTES},
};

#[derive(Clone, Debug, clap::Args)]
#[group(id = "input_args")]
pub struct Input {
    /// YAML or JSON, a directory as a ConfigMap is mounted, or `-` (also the default) for standard input.
    #[arg(value_name = "FILE|DIR|-")]
    input: Option<PathBuf>,
}

impl Input {
    /// # Errors
    ///
    /// When it cannot be read, or holds no `cilium-config`.
    pub fn read(&self) -> anyhow::Result<Keys> {
        read(self.input.as_deref().filter(|path| *path != Path::new("-")))
    }
}

fn read(input: Option<&Path>) -> anyhow::Result<Keys> {
    let Some(path) = input else {
        return read_text(io::stdin()).context("failed to read standard input");
    };
    let is_dir = fs::metadata(path).with_context(|| format!("failed to open {}", path.display()))?.is_dir();
    if !is_dir {
        let file = File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
        return read_text(file).with_context(|| format!("failed to read {}", path.display()));
    }
    let keys = manifest::read_dir(path).with_context(|| format!("failed to read the directory {}", path.display()))?;
    ensure!(!keys.is_empty(), "the directory {} holds no keys", path.display());
    Ok(keys)
}

fn read_text(source: impl Read) -> anyhow::Result<Keys> {
    let mut bytes = Vec::new();
    source.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).context("the input is not text in UTF-8")?;
    Ok(manifest::read_documents(&text)?)
}
