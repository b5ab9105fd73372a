//! The programs of a cluster: what `scripts/setup-cluster` and `scripts/setup-tools` installed in `target/tools`.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};

/// The minor release of Kubernetes, by default the newest that `scripts/setup-cluster` knows.
const MINOR: &str = "1.35";

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The minor release of Kubernetes that the tests run.
pub(crate) fn minor() -> String {
    env::var("KUBERNETES").ok().filter(|minor| !minor.is_empty()).unwrap_or_else(|| MINOR.into())
}

/// kube-apiserver, kube-controller-manager, kube-scheduler or kubelet.
pub(crate) fn server(name: &str) -> Result<PathBuf> {
    existing(root().join("target/tools/cluster").join(minor()).join(name))
}

/// helm or kubectl.
pub(crate) fn client(name: &str) -> Result<PathBuf> {
    existing(root().join("target/tools/bin").join(name))
}

/// The archives of the images: the pause program's, and the agent's from `make image`.
pub(crate) fn images() -> Result<[PathBuf; 2]> {
    Ok([existing(root().join("target/tools/cluster/pause.tar"))?, existing(root().join("target/image.tar"))?])
}

/// The tag that `make image` gave to the agent's image.
pub(crate) fn image_tag() -> Result<String> {
    Ok(fs::read_to_string(existing(root().join("target/image.tag"))?)?.trim().to_owned())
}

fn existing(path: PathBuf) -> Result<PathBuf> {
    ensure!(path.exists(), "no {}: run `make test-cluster`, which brings it", path.display());
    Ok(path)
}
