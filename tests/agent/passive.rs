//! Passive first: BIG-IP's own traffic takes the place of most probes, and hides no fault.

use std::time::Duration;

use anyhow::{Result, ensure};
use vtep_agent::{
    diagnose::Cause,
    status::{Status, VtepStatus},
};
use vtep_lab::{BIGIP_TUNNEL, Lab};

use crate::{
    far_end::{Chatter, filter, unfilter},
    support::{Agent, all_healthy},
};

/// Rounds that were left out, and that went out.
fn rounds(vtep: &VtepStatus) -> (u64, u64) {
    (vtep.probes.skipped, vtep.probes.icmp.sent)
}

#[test]
fn traffic_takes_the_place_of_nine_probes_in_ten_and_a_dead_way_back_is_found() -> Result<()> {
    let mut lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let _chatter = Chatter::start(&lab)?;
    let rests = |status: &Status| status.vteps.first().is_some_and(|vtep| vtep.probes.skipped > 0);
    let begin = agent.wait_for("the first is left out", Duration::from_secs(100), rests)?;
    let (skipped, sent) = rounds(&begin.vteps[0]);
    let later = |status: &Status| status.vteps[0].probes.skipped >= skipped + 18;
    let end = agent.wait_for("eighteen more", Duration::from_secs(250), later)?;
    let sent = rounds(&end.vteps[0]).1 - sent;
    // Two, where nothing is lost; a busy machine may delay an answer, which brings some back.
    ensure!((1..=12).contains(&sent), "{sent} went out beside 18 that did not: {:?}", end.vteps[0]);
    // It asks for a neighbour now and then.
    ensure!(rounds(&end.vteps[1]).0 < 9, "the other sends next to nothing by itself: {:?}", end.vteps[1]);

    // Promised: 15 s. BIG-IP's own traffic goes on.
    filter(&lab, "input", &format!("iifname {BIGIP_TUNNEL} icmp type echo-request drop"))?;
    let dead = |status: &Status| status.vteps[0].cause == Some(Cause::NoReturnPath);
    agent.wait_for("the dead way back is named", Duration::from_secs(150), dead)?;
    unfilter(&mut lab)?;
    agent.wait_for("both are healthy", Duration::from_secs(100), all_healthy)?;
    Ok(())
}
