//! Makes the tap listen, and passes on what it has recorded.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Instant,
};

use tracing::warn;
use vtep_core::{
    tunnel::flow::{EndpointCounts, Flow, UnexpectedSource},
    types::{error_chain::chain, mac::Mac},
};

use super::Prober;
use crate::kernel::tap::{Asker, Clocks, Tap, TapError};

/// What the tap has recorded.
#[derive(Default)]
struct Recorded {
    /// What came from each endpoint, and the hosts on the underlay that sent it.
    endpoints: Vec<(EndpointCounts, Vec<(Mac, Instant)>)>,
    strays: Vec<Flow>,
    unexpected_sources: Vec<UnexpectedSource>,
    counters: [u64; vtep_agent_ebpf::COUNTERS as usize],
}

impl Prober {
    /// Makes the tap listen on the current devices, and reads what it has recorded. Logs each new error once.
    pub(super) fn tend_tap(&mut self, now: Instant) {
        let error = match self.listen_and_read() {
            Ok(recorded) => {
                self.on_recorded(recorded, now);
                self.tap_load_error.clone()
            }
            Err(error) => Some(chain(&error).to_string()),
        };
        if let (Some(error), true) = (&error, error != self.tap_error) {
            warn!(%error, "eBPF tap unavailable; ARP probes and passive diagnosis are off");
        }
        let heard = self.tap.is_some() && error.is_none();
        self.vteps.values_mut().for_each(|probes| probes.heard = heard);
        self.tap_error = error;
    }

    fn listen_and_read(&mut self) -> Result<Recorded, TapError> {
        let Some(tap) = &mut self.tap else {
            // The counters of a tap that was unloaded remain in the report.
            return Ok(Recorded { counters: self.tap_counters, ..Recorded::default() });
        };
        let endpoints: BTreeSet<_> = self.vteps.values().map(|probes| probes.vtep.endpoint).collect();
        let networks: BTreeMap<_, _> = self.vteps.iter().map(|(cidr, probes)| (*cidr, probes.vtep.endpoint)).collect();
        let asker = Asker { address: self.sockets.arp_address(), echo_id: self.echo_id };
        tap.look_at(&endpoints, &networks, asker)?;
        // A socket ends when its device goes down. Each call tries to open it again.
        let failed = tap.listen_on(&self.underlay, &self.answers.0).into_iter().next();
        failed.map_or(Ok(()), Err)?;
        tap.watch_replies(self.suspect, &self.replies.0)?;
        read(tap, &endpoints)
    }

    fn on_recorded(&mut self, recorded: Recorded, now: Instant) {
        let Recorded { endpoints, strays, mut unexpected_sources, counters } = recorded;
        self.nodes.name(&mut unexpected_sources, &self.settings.bpffs, now);
        self.tap_counters = counters;
        self.strays.on_flows(strays, now);
        for probes in self.vteps.values_mut() {
            let endpoint = probes.vtep.endpoint;
            for (counts, neighbours) in endpoints.iter().filter(|(counts, _)| counts.source == endpoint) {
                probes.on_counts(counts, self.tunnel, now);
                probes.on_neighbours(neighbours, now);
            }
            let (listed, others) = self.strays.of(endpoint);
            probes.on_strays(listed, others, self.tunnel);
            probes.on_unexpected_sources(&unexpected_sources);
        }
    }
}

fn read(tap: &Tap, endpoints: &BTreeSet<Ipv4Addr>) -> Result<Recorded, TapError> {
    let clocks = Clocks::read();
    let mut counts = Vec::new();
    for &endpoint in endpoints {
        let neighbours = tap.neighbours(endpoint, clocks)?;
        counts.extend(tap.counts(endpoint, clocks)?.map(|counts| (counts, neighbours)));
    }
    Ok(Recorded {
        endpoints: counts,
        strays: tap.strays(clocks)?,
        unexpected_sources: tap.unexpected_sources(clocks)?,
        counters: tap.counters()?,
    })
}
