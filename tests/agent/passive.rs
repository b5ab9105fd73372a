//! Passive first: BIG-IP's own traffic replaces most probes, and hides no fault.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use vtep_core::{
    diagnosis::{Cause, Verdict},
    report::status::{Status, VtepStatus},
};
use vtep_lab::{BIGIP_TUNNEL, Lab};

use crate::{
    far_end::{Chatter, ask_for_node, bigip, filter, unfilter},
    support::{Agent, all_healthy, eventually},
};

/// The numbers of skipped and sent rounds.
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
    // Two rounds without a loss; a busy machine may delay an answer, which causes more rounds.
    ensure!((1..=12).contains(&sent), "{sent} went out beside 18 that did not: {:?}", end.vteps[0]);
    // The second BIG-IP sends an ARP request now and then.
    ensure!(rounds(&end.vteps[1]).0 < 9, "the other sends next to nothing by itself: {:?}", end.vteps[1]);

    // The documents promise 15 s. BIG-IP's own traffic continues.
    filter(&lab, "input", &format!("iifname {BIGIP_TUNNEL} icmp type echo-request drop"))?;
    let dead = |status: &Status| status.vteps[0].cause == Some(Cause::NoReturnPath);
    agent.wait_for("the dead way back is named", Duration::from_secs(150), dead)?;
    unfilter(&mut lab)?;
    agent.wait_for("both are healthy", Duration::from_secs(100), all_healthy)?;
    Ok(())
}

/// The tap sees BIG-IP's own traffic before the node drops it, including answers to echoes. Its arrival does not prove its delivery, and
/// the outage is complete.
#[test]
fn traffic_that_the_node_drops_makes_no_outage_a_partial_one() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let _chatter = Chatter::start(&lab)?;
    lab.node.nft("add table ip lab")?;
    lab.node.nft("add chain ip lab input { type filter hook input priority 0 ; }")?;
    lab.node.nft("add rule ip lab input udp dport 8472 drop")?;
    let dead = |status: &Status| status.vteps[0].cause == Some(Cause::DroppedOnNode);
    let begin = agent.wait_for("the node itself is named", Duration::from_secs(150), dead)?;
    let sent = |vtep: &VtepStatus| vtep.probes.icmp.sent + vtep.probes.arp.sent;
    let unasked = |vtep: &VtepStatus, before: &VtepStatus| {
        vtep.seen.packets.saturating_sub(before.seen.packets) > 5 + sent(vtep) - sent(before)
    };
    let status = agent.wait_for("more comes than was asked for", Duration::from_secs(100), |status| {
        unasked(&status.vteps[0], &begin.vteps[0])
    })?;
    ensure!(dead(&status) && status.vteps[0].verdict == Verdict::Misconfigured, "{:?}", status.vteps[0]);
    Ok(())
}

/// A firewall of the node's own also drops the ARP requests of BIG-IP, which then does not know where to send its answers: none is seen.
#[test]
fn arp_requests_that_the_node_drops_show_that_the_answers_are_lost_here() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let from = bigip(&lab).addresses.underlay_ip;
    filter(&lab, "output", "icmp type echo-reply drop")?;
    let cause = |status: &Status| status.vteps[0].cause;
    agent
        .wait_for("no answer is seen", Duration::from_secs(100), |status| cause(status) == Some(Cause::NoReturnPath))?;
    lab.node.nft("add table ip lab")?;
    lab.node.nft("add chain ip lab input { type filter hook input priority 0 ; }")?;
    lab.node.nft(&format!("add rule ip lab input ip saddr {from} udp dport 8472 drop"))?;
    let status = eventually("the node itself is named", Duration::from_secs(100), || {
        ask_for_node(&lab, &bigip(&lab).host)?;
        thread::sleep(Duration::from_millis(500));
        Ok(agent.status()?.filter(|status| cause(status) == Some(Cause::DroppedOnNode)))
    })?;
    let vtep = &status.vteps[0];
    let hint = vtep.hint.as_deref().unwrap_or_default();
    ensure!(hint.contains("asks for 10.0.0.126 by ARP again and again, its requests reach eth0"), "{hint}");
    ensure!(vtep.seen.kinds.arp_requests_for_node >= 3, "{:?}", vtep.seen);
    Ok(())
}
