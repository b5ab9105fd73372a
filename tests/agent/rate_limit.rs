//! BIG-IP limits its answers to ping: that is no fault of the tunnel, and the agent keeps to the limit.

use std::time::Duration;

use anyhow::{Result, ensure};
use vtep_core::{
    diagnosis::{Cause, Verdict},
    report::status::Status,
};
use vtep_lab::{BIGIP_TUNNEL, Lab};

use crate::{
    far_end::{filter, on_bigip},
    history,
    support::{Agent, NOTICED_WITHIN},
};

/// A suspicion takes twenty pings, and so does the proof at the lower pace: twenty pings of one round in two or four.
const PROVED_WITHIN: Duration = Duration::from_secs(240);

/// Takes over 20 s: see above.
#[test]
fn a_limit_of_icmp_is_no_fault_and_the_agent_keeps_to_it() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let before = history::changes_to_health(&agent)?.len();
    filter(&lab, "output", "icmp type echo-reply limit rate over 1/second burst 1 packets drop")?;
    let remark = |status: &Status| status.vteps[0].also == [Cause::IcmpRateLimited];
    let status = agent.wait_for("the limit is proved", PROVED_WITHIN, remark)?;
    let vtep = &status.vteps[0];
    ensure!(vtep.verdict == Verdict::Healthy && vtep.probes.echo_every > 1, "{vtep:?}");
    ensure!(status.vteps[1].also.is_empty() && status.vteps[1].probes.echo_every == 1, "{:?}", status.vteps[1]);
    let after = history::changes_to_health(&agent)?;
    ensure!(after.len() == before, "nothing else was said: {after:#?}\n{:#?}", agent.log());

    // An outage is found as fast as otherwise.
    on_bigip(&lab, &format!("link set {BIGIP_TUNNEL} down"))?;
    agent.wait_for("the silence is named", NOTICED_WITHIN, |status| {
        status.vteps[0].cause == Some(Cause::TunnelSilent)
    })?;
    Ok(())
}
