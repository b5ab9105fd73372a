//! Watches one directory by inotify, even after another directory has replaced it under the same name.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// Sends `()` for each change in a directory. It has a channel with room for one notice: a full channel means that one is waiting already.
pub struct DirWatch {
    dir: PathBuf,
    notices: mpsc::Sender<()>,
    watching: Option<(Identity, RecommendedWatcher)>,
}

/// Device and inode: another file or directory with the same name has others.
pub type Identity = (u64, u64);

impl DirWatch {
    /// Watches nothing before [`Self::renew`].
    #[must_use]
    pub fn new(dir: PathBuf, notices: mpsc::Sender<()>) -> Self {
        Self { dir, notices, watching: None }
    }

    /// Watches the directory that has the name now. Returns false if it was watched already, or if there was none before and is none now.
    pub fn renew(&mut self) -> bool {
        // The identity is read first: if the directory is replaced in between, the next call notices.
        let found = identity(&self.dir).ok();
        if self.watching.as_ref().map(|(identity, _)| *identity) == found {
            return false;
        }
        self.watching = found.zip(start(&self.dir, self.notices.clone()).ok());
        true
    }

    #[must_use]
    pub fn is_active(&self) -> bool {
        self.watching.is_some()
    }

    pub fn stop(&mut self) {
        self.watching = None;
    }
}

fn start(dir: &Path, notices: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // The agent's own reads are accesses, and each notice leads to a read: without this, it would never end.
        if event.is_ok_and(|event| event.kind.is_access()) {
            return;
        }
        // A full channel has a notice already, and a closed one has no reader.
        let _ = notices.try_send(());
    })?;
    watcher.watch(dir, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// # Errors
///
/// Nothing has this name, or it cannot be read.
pub fn identity(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn another_directory_of_the_same_name_is_watched_after_renew() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let dir = parent.path().join("dir");
        let (sender, mut notices) = mpsc::channel(1);
        let mut watch = DirWatch::new(dir.clone(), sender);
        assert!(!watch.renew() && !watch.is_active(), "there is no directory");

        fs::create_dir(&dir).expect("a directory");
        assert!(watch.renew() && watch.is_active());
        assert!(!watch.renew(), "it is watched already");
        fs::write(dir.join("key"), "value").expect("a file");
        timeout(Duration::from_secs(10), notices.recv()).await.expect("a notice").expect("the watch holds the sender");

        fs::rename(&dir, parent.path().join("old")).expect("renamed");
        fs::create_dir(&dir).expect("another directory");
        assert!(watch.renew(), "the identity differs");
        while notices.try_recv().is_ok() {}
        fs::write(dir.join("key"), "value").expect("a file");
        timeout(Duration::from_secs(10), notices.recv()).await.expect("a notice").expect("the watch holds the sender");

        fs::remove_dir_all(&dir).expect("removed");
        assert!(watch.renew() && !watch.is_active() && !watch.renew());
    }
}
