//! Where a command's binary output goes: to a new file, or to standard output. A file appears whole or not at all.

use std::{
    convert::Infallible,
    fmt,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use tempfile::NamedTempFile;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `-`
    Stdout,
    File(PathBuf),
}

impl FromStr for Destination {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "-" { Self::Stdout } else { Self::File(text.into()) })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Destination {
    /// A file in the working directory, with the node and the time in its name.
    #[must_use]
    pub fn named(command: &str, node: &str, now: Timestamp, extension: &str) -> Self {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        let node: String = node.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
        let time = now.strftime("%Y%m%dT%H%M%SZ");
        Self::File(format!("vtep-{command}-{node}-{time}.{extension}").into())
    }

    /// Finds out before the work whether its result could be written.
    ///
    /// # Errors
    ///
    /// The file exists, its directory cannot be written to, or standard output is a terminal.
    pub fn check(&self) -> anyhow::Result<()> {
        match self {
            Self::Stdout => ensure!(
                !io::stdout().is_terminal(),
                "standard output is a terminal: redirect it to a file, or name one with --output"
            ),
            Self::File(path) => {
                if path.symlink_metadata().is_ok() {
                    bail!("{} exists: name another file with --output", path.display());
                }
                // It has no name, so nothing of it can remain.
                tempfile::tempfile_in(directory(path)).with_context(|| {
                    format!(
                        "cannot write to {}: name a file elsewhere with --output, or - for standard output",
                        path.display()
                    )
                })?;
            }
        }
        Ok(())
    }

    /// Writes everything. A file gets its name when it is complete; only its owner can read it.
    ///
    /// # Errors
    ///
    /// The destination takes no more, or the file exists by now.
    pub fn write(&self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush()).context("failed to write to standard output")
            }
            Self::File(path) => {
                self.write_file(path, bytes).with_context(|| format!("failed to write {}", path.display()))
            }
        }
    }

    fn write_file(&self, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        let mut file = NamedTempFile::new_in(directory(path))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path)?;
        Ok(())
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_file_is_whole_and_replaces_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("capture");
        let destination: Destination = path.to_string_lossy().parse().expect("infallible");
        destination.check().expect("it can be written");
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0, "the check leaves nothing");
        destination.write(b"whole").expect("written");
        assert_eq!(fs::read(&path).expect("a file"), b"whole");
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert!(destination.check().is_err() && destination.write(b"other").is_err());
        assert_eq!(fs::read(&path).expect("a file"), b"whole");
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1, "nothing beside it");
        assert!(Destination::File(dir.path().join("no/capture")).check().is_err());
    }

    #[test]
    fn a_name_has_no_path_in_it() {
        let now = "2026-11-27T12:00:00.5Z".parse().expect("a time");
        let named = Destination::named("capture", "../worker 1", now, "pcapng");
        assert_eq!(named, Destination::File("vtep-capture-.._worker_1-20261127T120000Z.pcapng".into()));
        assert_eq!("-".parse(), Ok(Destination::Stdout));
    }
}
