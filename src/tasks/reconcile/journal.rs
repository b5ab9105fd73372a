//! The file of the agent's records of routes and rules. The core decides on their content; this module loads and saves them.

use std::time::{Duration, Instant};

use tokio::{task, time};
use tracing::warn;
use vtep_core::{
    datapath::{
        plan::Op,
        records::{Records, Refusal, Trial},
    },
    types::error_chain::chain,
};

use crate::state_file::StateFile;

/// The file's name in the state directory.
pub const FILE: &str = "routes.json";
/// The maximum time that a pass waits for the disk.
const SAVE_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause after a failed save.
const RETRY: Duration = Duration::from_secs(60);

/// [`Records`], and the file that contains them.
pub struct Journal {
    file: StateFile<Records>,
    records: Records,
    /// The content of the file.
    saved: Records,
    failing: bool,
    /// The time of the next attempt after a failure.
    retry_at: Option<Instant>,
}

impl Journal {
    /// Loads the file. Without a file, `inherited` provides the records of an agent that had no journal.
    #[must_use]
    pub fn load(file: StateFile<Records>, inherited: impl FnOnce() -> Records) -> Self {
        let loaded = match file.load() {
            Ok(loaded) => loaded,
            Err(error) => {
                warn!(error = %chain(&error), "route journal unreadable; existing routes and rules will not be removed");
                Some(Records::default())
            }
        };
        let saved = loaded.clone().unwrap_or_default();
        Self { file, records: loaded.unwrap_or_else(inherited), saved, failing: false, retry_at: None }
    }

    /// Loads the file again, because another agent may have written it. If that fails, the records remain unchanged.
    pub fn reload(&mut self) {
        if let Ok(Some(records)) = self.file.load() {
            (self.saved, self.records) = (records.clone(), records);
        }
    }

    #[must_use]
    pub fn records(&self) -> &Records {
        &self.records
    }

    pub fn claim<'o>(&mut self, ops: impl IntoIterator<Item = &'o Op>) {
        ops.into_iter().for_each(|op| self.records.claim(op));
    }

    pub fn release<'o>(&mut self, ops: impl IntoIterator<Item = &'o Op>) {
        ops.into_iter().for_each(|op| self.records.release(op));
    }

    pub fn refuse(&mut self, refusal: Option<Refusal>) {
        self.records.refusal = refusal;
    }

    pub fn try_out(&mut self, trial: Option<Trial>) {
        self.records.trial = trial;
    }

    /// Saves the records if they changed. If that fails, routes still work, but after a restart the agent does not recognize them, and
    /// leaves them in place.
    pub async fn save(&mut self) {
        let waits = self.retry_at.is_some_and(|at| Instant::now() < at);
        if self.records == self.saved || waits {
            return;
        }
        let (file, records) = (self.file.clone(), self.records.clone());
        let save = task::spawn_blocking(move || file.save(&records).map(|()| records));
        match time::timeout(SAVE_TIMEOUT, save).await {
            Ok(Ok(Ok(records))) => (self.saved, self.failing, self.retry_at) = (records, false, None),
            Ok(Ok(Err(error))) => self.on_failure(&chain(&error).to_string()),
            // The runtime shuts down.
            Ok(Err(_)) => {}
            Err(_) => self.on_failure("the disk does not answer"),
        }
    }

    fn on_failure(&mut self, error: &str) {
        self.retry_at = Some(Instant::now() + RETRY);
        if !std::mem::replace(&mut self.failing, true) {
            warn!(error, "cannot write the route journal; after a restart, current routes will not be removed");
        }
    }
}

#[cfg(test)]
mod tests;
