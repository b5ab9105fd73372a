//! The tunnel self IPs that have answered, saved for the next start: an agent that starts during an outage needs an address to probe.
//!
//! A record is for one CIDR at one endpoint. It is an address to probe, and no evidence: only a current answer makes a VTEP healthy.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    task,
};
use tracing::warn;
use vtep_core::{
    config::spec::Vtep,
    tunnel::{
        mac_learning::{LearnMacs, LearnedMacs, Record},
        self_ip::{Known, Learned, SelfIp},
        vtep_probes::VtepProbes,
    },
    types::error_chain::chain,
};

use crate::state_file::{StateError, StateFile};

/// Its name in the state directory.
pub const FILE: &str = "learned.json";
/// The minimum time between two writes that only update a MAC, because two units that answer in turn change it all the time. A failed
/// write is also tried again after this time.
const SAVE_AGAIN: Duration = Duration::from_secs(60);

/// The records that were written, or the reason why the write failed.
type Outcome = Result<Learned, StateError>;

/// The records, and the file that keeps them.
#[derive(Debug, Default)]
pub struct Memory {
    /// `None` if the records must not be written.
    file: Option<StateFile<Learned>>,
    learned: Learned,
    /// The records as the file has them.
    saved: Learned,
    /// A write whose end has not been handled yet.
    saving: Option<oneshot::Receiver<Outcome>>,
    save_after: Option<Instant>,
    failed: bool,
}

impl Memory {
    /// Loads the records, and writes new ones to the file.
    #[must_use]
    pub fn load(file: StateFile<Learned>) -> Self {
        Self { file: Some(file.clone()), ..Self::read_only(&file) }
    }

    /// Loads the records, and never writes. If the file is damaged, they are learned again.
    #[must_use]
    pub fn read_only(file: &StateFile<Learned>) -> Self {
        let mut learned = file.load().unwrap_or_else(|error| {
            warn!(error = %chain(&error), "ignoring the saved tunnel self IPs: they are learned again");
            None
        });
        // Another program may have written the file.
        learned.iter_mut().for_each(|learned| learned.retain(|cidr, of| cidr.contains(&of.known.self_ip)));
        let learned = learned.unwrap_or_default();
        Self { saved: learned.clone(), learned, ..Self::default() }
    }

    /// The record for this CIDR at this endpoint.
    #[must_use]
    pub fn recall(&self, vtep: &Vtep) -> Option<Known> {
        let of = self.learned.get(&vtep.cidr).filter(|of| of.endpoint == vtep.endpoint)?;
        Some(of.known)
    }

    /// The record of the MAC that the entry of this VTEP has.
    #[must_use]
    pub fn mac_record(&self, vtep: &Vtep) -> Record {
        let of = self.learned.get(&vtep.cidr).filter(|of| of.endpoint == vtep.endpoint);
        of.map(|of| of.entry_mac.clone()).unwrap_or_default()
    }

    /// The MACs that entries had before a restart: the first pass must not write the configured ones back.
    #[must_use]
    pub fn macs(&self, learn: &LearnMacs) -> LearnedMacs {
        let learned = self.learned.iter().filter(|(cidr, _)| learn.includes(**cidr));
        learned.filter_map(|(cidr, of)| Some((*cidr, of.entry_mac.learned?))).collect()
    }

    /// Records the self IPs that the probes know now, and drops the records of VTEPs that are no longer in effect.
    pub fn follow(&mut self, vteps: &BTreeMap<Ipv4Net, VtepProbes>, now: Instant, at: Timestamp) {
        // Before the first configuration there are none.
        if vteps.is_empty() {
            return;
        }
        self.learned.retain(|cidr, _| vteps.contains_key(cidr));
        for (&cidr, probes) in vteps {
            // An echo without an ARP reply proves nothing: an earlier endpoint may have answered before the map was written.
            let proven = |known: &Known| known.mac.is_some() || !probes.heard;
            let Some(known) = probes.known.filter(proven) else { continue };
            let entry_mac = probes.learning.record().clone();
            let of = SelfIp { endpoint: probes.vtep.endpoint, known, learned_at: at, entry_mac };
            let record = self.learned.entry(cidr).or_insert_with(|| of.clone());
            if (record.endpoint, record.known, &record.entry_mac) != (of.endpoint, of.known, &of.entry_mac) {
                *record = of;
            }
        }
        self.save(now);
    }

    /// Writes new records on another thread, so that a hanging disk delays no probe. There is one write at a time; the next one includes
    /// everything learned in the meantime.
    fn save(&mut self, now: Instant) {
        self.collect();
        let Some(file) = &self.file else { return };
        let is_early = self.save_after.is_some_and(|after| now < after);
        let is_known =
            self.learned == self.saved || (is_early && (self.failed || places(&self.learned) == places(&self.saved)));
        if is_known || self.saving.is_some() {
            return;
        }
        let (sender, outcome) = oneshot::channel();
        let (file, learned) = (file.clone(), self.learned.clone());
        // The write sends its outcome through the channel. When the agent ends, the receiver is gone, so an error of `send` is ignored.
        task::spawn_blocking(move || drop(sender.send(file.save(&learned).map(|()| learned))));
        (self.saving, self.save_after) = (Some(outcome), Some(now + SAVE_AGAIN));
    }

    /// Handles the outcome of the last write, if it has ended.
    fn collect(&mut self) {
        let Some(saving) = &mut self.saving else { return };
        match saving.try_recv() {
            Ok(outcome) => self.on_saved(outcome),
            // The write ended without an outcome: the records are not saved, so the next call writes them again.
            Err(TryRecvError::Closed) => self.saving = None,
            Err(TryRecvError::Empty) => {}
        }
    }

    fn on_saved(&mut self, outcome: Outcome) {
        self.saving = None;
        let had_failed = std::mem::replace(&mut self.failed, outcome.is_err());
        match outcome {
            Ok(saved) => self.saved = saved,
            Err(ref error) if !had_failed => {
                warn!(error = %chain(error), "cannot save the tunnel self IPs: a restart will have to learn them again");
            }
            Err(_) => {}
        }
    }
}

/// The records without the MACs that answer, which may change all the time.
fn places<'a>(learned: &'a Learned) -> Vec<(Ipv4Net, Ipv4Addr, Ipv4Addr, bool, &'a Record)> {
    let place =
        |(&cidr, of): (&Ipv4Net, &'a SelfIp)| (cidr, of.endpoint, of.known.self_ip, of.known.echo, &of.entry_mac);
    learned.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use vtep_core::tunnel::{vtep_probes::ProbeTiming, window::Thresholds};

    use super::*;

    const TIMING: ProbeTiming = ProbeTiming {
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        thresholds: Thresholds { raise: 3, clear: 3 },
    };

    fn vtep(endpoint: u8) -> Vtep {
        Vtep {
            cidr: "10.1.6.0/24".parse().expect("a CIDR"),
            endpoint: [10, 169, 72, endpoint].into(),
            mac: [0, 0x50, 0x56, 0xa0, 0x7d, 0xd8].into(),
        }
    }

    fn vteps(self_ip: u8, mac: u8) -> BTreeMap<Ipv4Net, VtepProbes> {
        let vtep = vtep(34);
        let mut probes = VtepProbes::new(vtep, None, TIMING, Instant::now());
        probes.known = Some(Known { self_ip: [10, 1, 6, self_ip].into(), mac: Some([mac; 6].into()), echo: true });
        [(vtep.cidr, probes)].into()
    }

    /// Waits for the current write.
    async fn saved(memory: &mut Memory) {
        if let Some(saving) = memory.saving.take() {
            memory.on_saved(saving.await.expect("an outcome"));
        }
    }

    #[tokio::test]
    async fn a_restart_knows_the_same_cidr_at_the_same_endpoint_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = || StateFile::new(dir.path().join(FILE));
        let now = Instant::now();
        let mut memory = Memory::load(file());
        assert_eq!(memory.recall(&vtep(34)), None);
        memory.follow(&BTreeMap::new(), now, Timestamp::UNIX_EPOCH);
        memory.follow(&vteps(34, 2), now, Timestamp::UNIX_EPOCH);
        saved(&mut memory).await;
        let again = Memory::load(file());
        let known = again.recall(&vtep(34)).expect("it is known");
        assert_eq!((known.self_ip, known.mac, known.echo), ([10, 1, 6, 34].into(), Some([2; 6].into()), true));
        assert_eq!(again.recall(&vtep(35)), None);
        // Without a configuration, the records remain.
        let mut again = again;
        again.follow(&BTreeMap::new(), now, Timestamp::UNIX_EPOCH);
        assert!(again.recall(&vtep(34)).is_some());
    }

    #[tokio::test]
    async fn a_mac_that_changes_all_the_time_is_written_once_a_minute() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = StateFile::new(dir.path().join(FILE));
        let start = Instant::now();
        let mut memory = Memory::load(file.clone());
        let steps = [
            (vteps(34, 2), 0, (34, 2), "the first at once"),
            (vteps(34, 4), 1, (34, 2), "another MAC later"),
            (vteps(35, 4), 2, (35, 4), "another address at once"),
            (vteps(35, 6), 62, (35, 6), "another MAC after a minute"),
        ];
        for (vteps, seconds, (self_ip, mac), what) in steps {
            memory.follow(&vteps, start + Duration::from_secs(seconds), Timestamp::UNIX_EPOCH);
            saved(&mut memory).await;
            let learned = file.load().expect("readable").expect("saved");
            let known = learned.values().next().map(|of| (of.known.self_ip, of.known.mac));
            assert_eq!(known, Some(([10, 1, 6, self_ip].into(), Some([mac; 6].into()))), "{what}");
        }
    }

    /// The only thread for blocking work hangs. Nobody waits for it, and no writes queue up behind it.
    #[test]
    fn a_disk_that_hangs_stops_nobody_and_has_the_newest_afterwards() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = StateFile::new(dir.path().join(FILE));
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().expect("a runtime");
        runtime.block_on(async {
            let (mends, hangs) = std::sync::mpsc::channel::<()>();
            let disk = task::spawn_blocking(move || hangs.recv());
            let mut memory = Memory::load(file.clone());
            let now = Instant::now();
            for self_ip in 34..44 {
                memory.follow(&vteps(self_ip, 2), now, Timestamp::UNIX_EPOCH);
                assert!(!dir.path().join(FILE).exists(), "it hangs");
            }
            drop(mends);
            disk.await.expect("it works again").expect_err("nothing was sent");
            let in_file = || {
                let learned = file.load().expect("readable").expect("saved");
                learned.values().next().map(|of| of.known.self_ip)
            };
            saved(&mut memory).await;
            assert_eq!(in_file(), Some([10, 1, 6, 34].into()), "the one that was under way");
            memory.follow(&vteps(43, 2), now, Timestamp::UNIX_EPOCH);
            saved(&mut memory).await;
            assert_eq!(in_file(), Some([10, 1, 6, 43].into()), "those in between never");
        });
    }

    #[test]
    fn records_by_another_program_are_checked() {
        let dir = tempfile::tempdir().expect("a directory");
        let file: StateFile<Learned> = StateFile::new(dir.path().join(FILE));
        let known = Known { self_ip: [192, 0, 2, 1].into(), mac: None, echo: false };
        let (learned_at, entry_mac) = (Timestamp::UNIX_EPOCH, Record::default());
        let of = SelfIp { endpoint: vtep(34).endpoint, known, learned_at, entry_mac };
        file.save(&[(vtep(34).cidr, of)].into()).expect("saved");
        assert_eq!(Memory::load(file.clone()).recall(&vtep(34)), None);
        std::fs::write(dir.path().join(FILE), "{").expect("written");
        assert_eq!(Memory::load(file).recall(&vtep(34)), None);
    }

    #[tokio::test]
    async fn a_read_only_memory_writes_nothing_and_a_full_disk_stops_nobody() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE);
        let now = Instant::now();
        let mut read_only = Memory::read_only(&StateFile::new(path.clone()));
        read_only.follow(&vteps(34, 2), now, Timestamp::UNIX_EPOCH);
        assert!(read_only.saving.is_none() && !path.exists());
        let mut memory = Memory::load(StateFile::new("/proc/nowhere/learned.json".into()));
        memory.follow(&vteps(34, 2), now, Timestamp::UNIX_EPOCH);
        saved(&mut memory).await;
        assert!(memory.failed && memory.recall(&vtep(34)).is_some());
        memory.follow(&vteps(35, 2), now, Timestamp::UNIX_EPOCH);
        assert!(memory.saving.is_none(), "it is tried again after a minute");
        memory.follow(&vteps(35, 2), now + SAVE_AGAIN, Timestamp::UNIX_EPOCH);
        assert!(memory.saving.is_some());
    }
}
