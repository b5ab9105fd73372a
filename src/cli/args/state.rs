//! The files in `--state-dir`.

use std::{collections::BTreeSet, path::PathBuf};

use vtep_core::{
    config::last_good::{self, LastGood},
    datapath::{ipcache::Owned, records::Records},
    tunnel::self_ip::Learned,
};

use crate::{
    state_file::StateFile,
    tasks::{
        prober::learned,
        reconcile::{
            Memory,
            ipcache_ledger::{self, Ledger},
            journal::{self, Journal},
        },
    },
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

    /// The tunnel self IPs that have answered.
    #[must_use]
    pub fn learned(&self) -> StateFile<Learned> {
        StateFile::new(self.state_dir.join(learned::FILE))
    }

    /// The ipcache entries that this agent wrote.
    #[must_use]
    pub fn owned(&self) -> StateFile<Owned> {
        StateFile::new(self.state_dir.join(ipcache_ledger::FILE))
    }

    /// The records of this agent's own entries, routes and rules, so that it removes no others.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let journal = Journal::load(self.journal(), || self.of_0_1_0());
        Memory { ledger: Ledger::load(self.owned()), journal }
    }

    /// Routing tables in which this agent has, or had, routes.
    #[must_use]
    pub fn route_tables(&self) -> BTreeSet<u32> {
        self.journal().load().ok().flatten().map(|records| records.tables()).unwrap_or_default()
    }

    fn journal(&self) -> StateFile<Records> {
        StateFile::new(self.state_dir.join(journal::FILE))
    }

    fn of_0_1_0(&self) -> Records {
        let good = self.last_good().load().ok().flatten();
        Records::of_0_1_0(good.iter().flat_map(|good| &good.spec.vteps).map(|vtep| vtep.cidr))
    }
}
