//! The ipcache prefixes that this agent put there, remembered over its restart: it deletes no others.
//!
//! A prefix is written down before it is written to the kernel, so that a crash in between leaves one too many in the file, which costs
//! nothing, and never one too few.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use tracing::warn;
use vtep_core::{datapath::ipcache::Owned, types::error_chain::chain};

use crate::state_file::{StateError, StateFile};

/// Its name in the state directory.
pub const FILE: &str = "ipcache.json";

/// [`Owned`], and the file that remembers it.
pub struct Ledger {
    file: StateFile<Owned>,
    owned: Owned,
}

impl Ledger {
    /// Without what a damaged file says, entries of an earlier configuration stay: nothing is deleted on a guess.
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

    /// Before the prefix is given this endpoint.
    ///
    /// # Errors
    ///
    /// When that cannot be written down: then it must not be done.
    pub fn claim(&mut self, prefix: Ipv4Net, endpoint: Ipv4Addr) -> Result<(), StateError> {
        if self.owned.has(prefix, endpoint) {
            return Ok(());
        }
        self.save(self.owned.with(prefix, endpoint))
    }

    /// After the prefix was deleted.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
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
