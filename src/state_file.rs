//! Files in the state directory: the agent's memory across restarts. Each write replaces a whole file. This module knows the envelope, not
//! the content.
//!
//! A file contains `{"format": 1, "sha256": "…", "content": …}`; the checksum covers the bytes of the content. Loading a damaged file, or
//! one of another format, is an error and never yields part of a value. Before such a file is replaced, it is renamed.
//!
//! Agents of all versions read each other's files, for upgrades and downgrades: a new field has a default for files without it, and readers
//! ignore unknown fields. The format number changes only if an older agent would misread the file.

use std::{
    fs,
    io::{self, Write},
    marker::PhantomData,
    path::PathBuf,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use vtep_core::types::digest;

use crate::bounded;

const FORMAT: u32 = 1;
/// Far larger than any state file becomes.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("failed to read {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is damaged: {reason}", .path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("failed to write {}", .path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// A file with one value of type `T`.
#[derive(Clone, Debug)]
pub struct StateFile<T> {
    path: PathBuf,
    content: PhantomData<T>,
}

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    format: u32,
    sha256: String,
    #[serde(borrow)]
    content: &'a RawValue,
}

impl<T> StateFile<T> {
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, content: PhantomData }
    }
}

impl<T: DeserializeOwned> StateFile<T> {
    /// Loads the value that was saved last; `None` if the file does not exist.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is damaged.
    pub fn load(&self) -> Result<Option<T>, StateError> {
        let fail = |source| StateError::Read { path: self.path.clone(), source };
        let bytes = match bounded::read_file(&self.path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Err(self.damaged(error)),
            Err(error) => return Err(fail(error)),
        };
        let envelope: Envelope<'_> = serde_json::from_slice(&bytes).map_err(|error| self.damaged(error))?;
        if envelope.format != FORMAT {
            return Err(self.damaged(format!("its format is {}, and this agent knows {FORMAT}", envelope.format)));
        }
        if envelope.sha256 != digest::hex(envelope.content.get()) {
            return Err(self.damaged("its checksum is wrong"));
        }
        serde_json::from_str(envelope.content.get()).map(Some).map_err(|error| self.damaged(error))
    }

    fn damaged(&self, reason: impl ToString) -> StateError {
        StateError::Damaged { path: self.path.clone(), reason: reason.to_string() }
    }
}

impl<T: DeserializeOwned + Serialize> StateFile<T> {
    /// Replaces the saved value atomically: after a crash, the file has either the old or the new value.
    ///
    /// # Errors
    ///
    /// The directory cannot be created or written to.
    pub fn save(&self, value: &T) -> Result<(), StateError> {
        self.replace(value).map_err(|source| StateError::Write { path: self.path.clone(), source })
    }

    fn replace(&self, value: &T) -> io::Result<()> {
        let content = serde_json::value::to_raw_value(value)?;
        let envelope = Envelope { format: FORMAT, sha256: digest::hex(content.get()), content: &content };
        let dir = self.path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        fs::create_dir_all(dir)?;
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        serde_json::to_writer(&mut file, &envelope)?;
        file.flush()?;
        file.as_file().sync_all()?;
        if matches!(self.load(), Err(StateError::Damaged { .. })) {
            // The file may be of a newer agent, or damaged; a person may still need it. A rename, unlike a copy, works for any length.
            fs::rename(&self.path, self.path.with_extension("json.unread"))?;
        }
        file.persist(&self.path)?;
        // Without a sync of the directory, a crash could lose the new name.
        fs::File::open(dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn file(dir: &Path) -> StateFile<Vec<String>> {
        StateFile::new(dir.join("state/file.json"))
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = file(dir.path());
        assert!(file.load().expect("no file is no error").is_none());
        for value in [vec!["a".to_owned()], vec![]] {
            file.save(&value).expect("saved");
            assert_eq!(file.load().expect("loaded"), Some(value));
        }
        let names: Vec<_> = fs::read_dir(dir.path().join("state")).expect("a directory").collect();
        assert_eq!(names.len(), 1, "nothing is left beside it: {names:?}");
    }

    #[test]
    fn damage_is_found_wherever_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = file(dir.path());
        file.save(&vec!["10.1.6.0/24".to_owned()]).expect("saved");
        let good = fs::read(&file.path).expect("read");
        let mut found = 0;
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x01;
            fs::write(&file.path, &bad).expect("written");
            found += usize::from(file.load().is_err());
        }
        assert_eq!(found, good.len(), "every flipped bit");
        for end in 0..good.len() {
            fs::write(&file.path, &good[..end]).expect("written");
            assert!(file.load().is_err(), "cut at {end}");
        }
        fs::write(&file.path, String::from_utf8(good).expect("text").replace("\"format\":1", "\"format\":2"))
            .expect("written");
        assert!(file.load().is_err_and(|error| error.to_string().contains("format is 2")));
        let bad = fs::read(&file.path).expect("read");
        file.save(&vec![]).expect("saved");
        assert_eq!(file.load().expect("loaded"), Some(vec![]));
        assert_eq!(fs::read(dir.path().join("state/file.json.unread")).expect("put aside"), bad);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_an_error() {
        let file = StateFile::new("/proc/nowhere/file.json".into());
        assert!(matches!(file.save(&vec![String::new()]), Err(StateError::Write { .. })));
    }
}
