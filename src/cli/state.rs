//! Where the agent keeps what it must know after a restart.

use std::path::PathBuf;

use crate::{
    config::last_good::{self, LastGood},
    datapath::owned::{self, Ledger},
    state_file::StateFile,
};

#[derive(Clone, Debug, clap::Args)]
#[group(id = "state")]
pub struct Flags {
    /// Where to remember what the agent must know after a restart.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vtep-agent", env = "VTEP_AGENT_STATE_DIR")]
    state_dir: PathBuf,
}

impl Flags {
    #[must_use]
    pub fn last_good(&self) -> StateFile<LastGood> {
        StateFile::new(self.state_dir.join(last_good::FILE))
    }

    /// What this agent put into the ipcache.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        Ledger::load(StateFile::new(self.state_dir.join(owned::FILE)))
    }
}
