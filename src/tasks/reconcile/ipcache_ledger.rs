//! The file of the ipcache prefixes that this agent wrote. The agent deletes no others, also after a restart.
//!
//! The agent saves a prefix before it writes the entry to the kernel. A crash between the two leaves a superfluous prefix in the file,
//! which is harmless, and never an entry without a prefix in the file.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use tracing::warn;
use vtep_core::{datapath::ipcache::Owned, types::error_chain::chain};

use crate::state_file::{StateError, StateFile};

/// The file's name in the state directory.
pub const FILE: &str = "ipcache.json";

/// [`Owned`], and the file that contains it.
pub struct Ledger {
    file: StateFile<Owned>,
    owned: Owned,
}

impl Ledger {
    /// Loads the file. If it is damaged, the agent owns nothing: entries of an earlier configuration remain, because the agent deletes
    /// nothing on a guess.
    #[must_use]
    pub fn load(file: StateFile<Owned>) -> Self {
        let owned = file.load().unwrap_or_else(|error| {
            warn!(error = %chain(&error), "ipcache ownership file unreadable; existing entries will not be removed");
            None
        });
        Self { file, owned: owned.unwrap_or_default() }
    }

    #[must_use]
    pub fn owned(&self) -> &Owned {
        &self.owned
    }

    /// Records a prefix with its endpoint; call this before writing the entry to the kernel.
    ///
    /// # Errors
    ///
    /// The file cannot be written. The caller must not write the entry then.
    pub fn claim(&mut self, prefix: Ipv4Net, endpoint: Ipv4Addr) -> Result<(), StateError> {
        if self.owned.has(prefix, endpoint) {
            return Ok(());
        }
        self.save(self.owned.with(prefix, endpoint))
    }

    /// Removes a prefix from the record; call this after deleting the entry.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn release(&mut self, prefix: Ipv4Net) -> Result<(), StateError> {
        let next = self.owned.without(prefix);
        if next == self.owned { Ok(()) } else { self.save(next) }
    }

    fn save(&mut self, next: Owned) -> Result<(), StateError> {
        self.file.save(&next)?;
        self.owned = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_claimed_is_known_after_a_restart() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let load = || Ledger::load(StateFile::new(dir.path().join(FILE)));
        let prefix = "10.1.6.0/24".parse().expect("a prefix");
        let (first, second) = ([10, 169, 72, 34].into(), [10, 169, 72, 35].into());
        let mut ledger = load();
        ledger.claim(prefix, first).expect("saved");
        ledger.claim(prefix, second).expect("saved");
        let mut ledger = load();
        assert!(ledger.owned().has(prefix, first) && ledger.owned().has(prefix, second));
        assert!(!ledger.owned().has(prefix, [10, 169, 72, 36].into()));
        ledger.release(prefix).expect("saved");
        assert_eq!(load().owned(), &Owned::default());
    }

    /// The file never changes: it is what an update from 0.1.0 finds.
    #[test]
    fn what_0_1_0_claimed_is_known() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/state-0.1.0/ipcache.json");
        let ledger = Ledger::load(StateFile::new(file.into()));
        let prefix = "10.1.6.0/24".parse().expect("a prefix");
        assert_eq!(ledger.owned().prefixes().count(), 2);
        assert!([34, 35].iter().all(|&n| ledger.owned().has(prefix, [10, 169, 72, n].into())));
    }

    #[test]
    fn a_damaged_file_claims_nothing() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join(FILE), "{\"format\":1").expect("a file");
        assert_eq!(Ledger::load(StateFile::new(dir.path().join(FILE))).owned(), &Owned::default());
    }

    #[test]
    fn what_cannot_be_written_down_is_not_claimed() {
        let mut ledger = Ledger::load(StateFile::new("/proc/nowhere/ipcache.json".into()));
        let prefix = "10.1.6.0/24".parse().expect("a prefix");
        assert!(ledger.claim(prefix, [10, 169, 72, 34].into()).is_err());
        assert_eq!(ledger.owned(), &Owned::default());
    }
}
