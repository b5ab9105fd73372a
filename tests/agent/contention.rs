//! Another writer changes the same entries: Cilium's sync with the configuration of its start, and worse.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use vtep_core::{
    diagnosis::Cause,
    report::status::{EntryState, Status},
};
use vtep_lab::{Config, Lab, Vtep};

use crate::{
    configured_lab::{ConfiguredLab, Source, both, with_each_source},
    support::{Agent, HEALTHY_WITHIN, NOTICED_WITHIN, REPAIRED_WITHIN, bpftool, eventually, in_kernel},
};

with_each_source!(contention_is_reported_and_the_agent_backs_off, an_overwrite_is_counted_however_soon_it_comes);

/// The seed's VTEPs; the first has another MAC than in Cilium's running configuration.
fn edited(lab: &Lab) -> Result<Vec<Vtep>> {
    let mut vteps = lab.topology.vteps();
    vteps[0].mac = "00:50:56:a0:7d:d9".parse()?;
    Ok(vteps)
}

#[test]
fn over_ciliums_sync_the_configuration_wins() -> Result<()> {
    // Cilium syncs every minute; here every seven seconds.
    const SYNC: Duration = Duration::from_secs(7);
    const SYNCS: u32 = 4;
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let vteps = edited(&lab)?;
    lab.config.write(&Config::keys_for(&vteps))?;
    eventually("the edit is programmed", REPAIRED_WITHIN, || Ok(in_kernel(&lab, &vteps)?.then_some(())))?;

    let (mut samples, mut right) = (0_u32, 0_u32);
    for _ in 0..SYNCS {
        lab.cilium.sync()?;
        let synced = Instant::now();
        while synced.elapsed() < SYNC {
            samples += 1;
            right += u32::from(in_kernel(&lab, &vteps)?);
            thread::sleep(Duration::from_millis(1));
        }
    }
    let share = f64::from(right) / f64::from(samples);
    ensure!(share >= 0.97, "right in {right} of {samples} samples");
    let status = agent.wait_for("both are reported", NOTICED_WITHIN, |status| {
        status.cilium.restart_required && !status.datapath.contended.is_empty()
    })?;
    ensure!(status.datapath.contended == [vteps[0].cidr], "{:?}", status.datapath);
    let causes: Vec<_> = status.vteps[0].cause.into_iter().chain(status.vteps[0].also.iter().copied()).collect();
    ensure!(
        causes.contains(&Cause::DatapathContended) && causes.contains(&Cause::CiliumRestartRequired),
        "{:?}",
        status.vteps[0]
    );
    ensure!(agent.lines("keeps overwriting").is_empty(), "a sync is no fight: {}", agent.log().join("\n"));
    Ok(())
}

/// Cilium never deletes entries, so a writer that does is not Cilium.
#[test]
fn deletions_by_hand_are_not_ciliums() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let vteps = lab.topology.vteps();
    for _ in 0..4 {
        bpftool(&lab, "map delete pinned /sys/fs/bpf/tc/globals/cilium_vtep_map key 10 1 6 0")?;
        eventually("it is put right", REPAIRED_WITHIN, || Ok(in_kernel(&lab, &vteps)?.then_some(())))?;
    }
    let status = agent.wait_for("it is reported", NOTICED_WITHIN, |status| {
        status.vteps.first().is_some_and(|vtep| vtep.cause == Some(Cause::DatapathContended))
    })?;
    let hint = status.vteps[0].hint.as_deref().context("a hint")?;
    ensure!(hint.contains("not Cilium, which would write endpoint 10.169.72.34"), "{hint}");
    ensure!(!hint.contains("restart the cilium DaemonSet"), "{hint}");
    Ok(())
}

fn contention_is_reported_and_the_agent_backs_off(source: Source) -> Result<()> {
    let lab = ConfiguredLab::start(source)?;
    let agent = lab.healthy_agent()?;
    let [ours, other] = lab.topology.vteps()[..] else { anyhow::bail!("two VTEPs") };
    let theirs = Vtep { endpoint: [10, 169, 72, 99].into(), ..ours };
    let over = AtomicBool::new(false);
    let cilium = &lab.cilium;
    thread::scope(|scope| -> Result<()> {
        // The test overwrites once a second, for longer than the agent repairs.
        let fighter = scope.spawn(|| -> Result<()> {
            while !over.load(Ordering::Relaxed) {
                cilium.put_entry(theirs.cidr, theirs.value())?;
                thread::sleep(Duration::from_secs(1));
            }
            Ok(())
        });
        let named = agent.wait_for("the fight is named", NOTICED_WITHIN, |status| {
            both(status).is_some_and(|(vtep, _)| {
                vtep.cause == Some(Cause::DatapathContended) && vtep.datapath.state == EntryState::Contended
            })
        });
        let backed_off = named.and_then(|status| {
            let (vtep, untouched) = both(&status).context("both VTEPs")?;
            let hint = vtep.hint.as_deref().unwrap_or_default();
            ensure!(hint.contains("10.169.72.99"), "{hint}");
            ensure!(untouched.cause.is_none(), "the other is not concerned: {untouched:?}");
            // The agent still repairs the other entries.
            lab.delete_by_hand(&other)?;
            eventually("the other is still mended", lab.repaired_within(), || {
                Ok((lab.cilium.entries()?.get(&other.cidr) == Some(&other.value())).then_some(()))
            })?;
            let alone = Instant::now();
            let mut seen = false;
            while alone.elapsed() < Duration::from_secs(20) {
                let found = lab.cilium.entries()?.get(&theirs.cidr).copied();
                seen |= found == Some(theirs.value());
                ensure!(!seen || found == Some(theirs.value()), "touched within the minute: {found:?}");
                thread::sleep(Duration::from_millis(20));
            }
            ensure!(seen, "the other's value is there");
            Ok(())
        });
        over.store(true, Ordering::Relaxed);
        fighter.join().ok().context("the fighter ended")??;
        backed_off
    })?;
    ensure!(agent.lines("keeps overwriting").len() == 1, "said once: {}", agent.log().join("\n"));
    Ok(())
}

/// A writer that acts right after the repair, before the agent reads again: that counts as another repair, not as unfinished work.
fn an_overwrite_is_counted_however_soon_it_comes(source: Source) -> Result<()> {
    const TIMES: u64 = 8;
    let lab = ConfiguredLab::start(source)?;
    let agent = lab.healthy_agent()?;
    let ours = lab.topology.vteps()[0];
    let theirs = Vtep { endpoint: [10, 169, 72, 99].into(), ..ours };
    let deadline = Instant::now() + u32::try_from(TIMES)? * lab.repaired_within();
    for _ in 0..TIMES {
        lab.cilium.put_entry(theirs.cidr, theirs.value())?;
        // No pause: the next overwrite must come between the repair and the read after it.
        while lab.cilium.entries()?.get(&ours.cidr) != Some(&ours.value()) {
            ensure!(Instant::now() < deadline, "it is not mended");
        }
    }
    let counted = |status: &Status| both(status).map(|(vtep, _)| vtep.datapath.repairs);
    agent.wait_for("each is counted", HEALTHY_WITHIN, |status| counted(status) == Some(TIMES))?;
    Ok(())
}
