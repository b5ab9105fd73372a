//! Plays the role of Cilium's reconciler of custom resources, which knows what it did, not what the kernel has.

use std::collections::BTreeSet;

use anyhow::Result;
use ipnet::Ipv4Net;

use crate::{host::Host, host_routes, topology::Vtep, vtep_map::VtepMap};

/// What earlier reconciliations did.
#[derive(Debug, Default)]
pub(crate) struct Reconciler {
    /// The entries in the present map.
    entries: BTreeSet<Ipv4Net>,
    routes: BTreeSet<Ipv4Net>,
}

impl Reconciler {
    /// Forgets the entries, because the map is new. The routes are still there.
    pub(crate) fn restart(&mut self) {
        self.entries.clear();
    }

    /// Puts the entries of these VTEPs, and deletes its own that are no longer among them.
    pub(crate) fn entries(&mut self, vteps: &[Vtep]) -> Result<()> {
        let mut map = VtepMap::open()?;
        for vtep in vteps {
            map.put(vtep.cidr, vtep.value())?;
            self.entries.insert(vtep.cidr);
        }
        // Like Cilium, it deletes last, so that a network whose prefix length changes has an entry all the time.
        for cidr in gone(&self.entries, vteps) {
            // Another program may have deleted it.
            map.delete(cidr)?;
            self.entries.remove(&cidr);
        }
        Ok(())
    }

    /// Adds the host routes of these VTEPs that do not exist, and deletes its own of others.
    pub(crate) fn routes(&mut self, vteps: &[Vtep], node: &Host, mtu: u32) -> Result<()> {
        for vtep in vteps {
            if host_routes::add(node, vtep.cidr, mtu)? {
                self.routes.insert(vtep.cidr);
            }
        }
        for cidr in gone(&self.routes, vteps) {
            host_routes::delete(node, cidr);
            self.routes.remove(&cidr);
        }
        Ok(())
    }
}

fn gone(own: &BTreeSet<Ipv4Net>, vteps: &[Vtep]) -> BTreeSet<Ipv4Net> {
    own.iter().copied().filter(|cidr| vteps.iter().all(|vtep| vtep.cidr != *cidr)).collect()
}
