//! Makes the tap listen, and passes on what it has recorded.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use tracing::warn;
use vtep_core::types::error_chain::chain;

use super::Prober;
use crate::kernel::tap::{Asker, Clocks};

impl Prober {
    /// Makes the tap listen on the current devices, and reads its counters. Logs each new error once.
    pub(super) fn tend_tap(&mut self, now: Instant) {
        let endpoints: BTreeSet<_> = self.vteps.values().map(|probes| probes.vtep.endpoint).collect();
        let networks: BTreeMap<_, _> = self.vteps.iter().map(|(cidr, probes)| (*cidr, probes.vtep.endpoint)).collect();
        let (suspect, replies) = (self.suspect, &self.replies.0);
        let asker = Asker { address: self.sockets.arp_address(), echo_id: self.echo_id };
        let tended = match &mut self.tap {
            // A socket ends when its device goes down. Each call tries to open it again.
            Some(tap) => tap.look_at(&endpoints, &networks, asker).and_then(|()| {
                let failed = tap.listen_on(&self.underlay, &self.answers.0).into_iter().next();
                failed.map_or(Ok(()), Err)?;
                tap.watch_replies(suspect, replies)?;
                let clocks = Clocks::read();
                let mut counts = Vec::new();
                for &endpoint in &endpoints {
                    let neighbours = tap.neighbours(endpoint, clocks)?;
                    counts.extend(tap.counts(endpoint, clocks)?.map(|counts| (counts, neighbours)));
                }
                Ok((counts, tap.strays(clocks)?, tap.unexpected_sources(clocks)?, tap.counters()?))
            }),
            None => Ok((Vec::new(), Vec::new(), Vec::new(), self.tap_counters)),
        };
        let (read, error) = match tended {
            Ok(read) => (Some(read), self.tap_load_error.clone()),
            Err(error) => (None, Some(chain(&error).to_string())),
        };
        if let Some((counts, strays, mut unexpected_sources, counters)) = read {
            self.nodes.name(&mut unexpected_sources, &self.settings.bpffs, now);
            self.tap_counters = counters;
            self.strays.on_flows(strays, now);
            for probes in self.vteps.values_mut() {
                let endpoint = probes.vtep.endpoint;
                for (counts, neighbours) in counts.iter().filter(|(counts, _)| counts.source == endpoint) {
                    probes.on_counts(counts, self.tunnel, now);
                    probes.on_neighbours(neighbours);
                }
                let (listed, others) = self.strays.of(endpoint);
                probes.on_strays(listed, others, self.tunnel);
                probes.on_unexpected_sources(&unexpected_sources);
            }
        }
        if let (Some(error), true) = (&error, error != self.tap_error) {
            warn!(%error, "eBPF tap unavailable; ARP probes and passive diagnosis are off");
        }
        let heard = self.tap.is_some() && error.is_none();
        self.vteps.values_mut().for_each(|probes| probes.heard = heard);
        self.tap_error = error;
    }
}
