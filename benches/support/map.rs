//! The VTEP map of the lab: what another program does to it, and when it is right again.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use ipnet::Ipv4Net;
use vtep_lab::{BigIpAddresses, Lab, Topology, Vtep};

const TIMEOUT: Duration = Duration::from_secs(30);
/// The share of deletions among the disturbances, as one in so many.
const DELETIONS: usize = 25;

/// The time at which the map had exactly these entries.
pub(crate) fn wait_for(lab: &Lab, vteps: &[Vtep]) -> Result<Instant> {
    let wanted = vteps.iter().map(|vtep| (vtep.key(), vtep.value())).collect();
    let begin = Instant::now();
    while lab.cilium.vtep_entries()? != wanted {
        ensure!(begin.elapsed() < TIMEOUT, "the map does not come to hold {wanted:?}");
        thread::sleep(Duration::from_micros(100));
    }
    Ok(Instant::now())
}

/// Changes the map so many times, at moments that are independent of the agent's tick, and returns the milliseconds until each repair.
///
/// The agent backs off from a key after more than ten repairs in a minute. So most disturbances are a stale entry of a key that no other
/// disturbance of this call has, and one in 25 is the deletion of one of the two entries.
pub(crate) fn disturb(lab: &Lab, times: u8) -> Result<Vec<f64>> {
    let vteps = lab.topology.vteps();
    let [first, second] = vteps[..] else { bail!("two VTEPs") };
    let mut repairs = Vec::new();
    for n in 0..times {
        thread::sleep(Duration::from_micros(u64::from(n) * 9973 % 100_000));
        let begin = Instant::now();
        match usize::from(n) % (2 * DELETIONS) {
            0 => lab.cilium.delete_vtep(first.key())?,
            DELETIONS => lab.cilium.delete_vtep(second.key())?,
            _ => {
                let stale = Vtep { cidr: Ipv4Net::new([10, 9, n, 0].into(), 24)?, ..first };
                lab.cilium.put_vtep(stale.key(), stale.value())?;
            }
        }
        repairs.push((wait_for(lab, &vteps)? - begin).as_secs_f64() * 1e3);
    }
    Ok(repairs)
}

/// As many BIG-IPs as Cilium's map has places.
pub(crate) fn eight_bigips() -> Result<Topology> {
    let of = |n: u8| -> Result<BigIpAddresses> {
        Ok(BigIpAddresses {
            underlay_ip: [10, 169, 72, 40 + n].into(),
            self_ip: Ipv4Net::new([10, 1, 10 + n, 34].into(), 24)?,
            mac: [0, 0x50, 0x56, 0xa0, 0x7d, n].into(),
            vni: 2,
        })
    };
    Ok(Topology { bigips: (0..8).map(of).collect::<Result<_>>()?, ..Topology::default() })
}
