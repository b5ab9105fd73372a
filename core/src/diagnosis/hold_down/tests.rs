//! Sequences of verdicts: a simulated far end breaks and is repaired, and every verdict that is reported is recorded.

use super::*;
use crate::{
    diagnosis::{
        diagnose,
        tests::{Case, TIMING},
    },
    types::mac::Mac,
};

/// How long a fault may be named after its repair.
const ENDS_WITHIN: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    EndpointDown,
    TunnelDown,
    OtherMac,
    NoEcho,
    EntryMissing,
    /// This share of all packets is lost.
    Loss(f64),
}

impl Fault {
    const ALL: [Self; 6] =
        [Self::EndpointDown, Self::TunnelDown, Self::OtherMac, Self::NoEcho, Self::EntryMissing, Self::Loss(0.2)];

    fn cause(self) -> Cause {
        match self {
            Self::EndpointDown => Cause::EndpointUnreachable,
            Self::TunnelDown => Cause::TunnelSilent,
            Self::OtherMac => Cause::VtepMacMismatch,
            Self::NoEcho => Cause::NoReturnPath,
            Self::EntryMissing => Cause::DatapathMissing,
            Self::Loss(_) => Cause::PacketLoss,
        }
    }
}

/// One VTEP, its far end, and what is reported of it.
struct Simulation {
    case: Case,
    fault: Option<Fault>,
    hold: HoldDown,
    start: Instant,
    now: Instant,
    sequence: u16,
    random: fastrand::Rng,
    shown: Diagnosis,
    /// Each change of verdict or cause, with its time since the start.
    changes: Vec<(Duration, Verdict, Option<Cause>)>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let case = Case::healthy();
        let now = case.probes.began.max(Instant::now());
        let shown = case.diagnose_at(now);
        let random = fastrand::Rng::with_seed(seed);
        let (hold, changes) = (HoldDown::default(), Vec::new());
        let mut this = Self { case, fault: None, hold, start: now, now, sequence: 0, random, shown, changes };
        this.run(Duration::from_secs(40), |_| ());
        this.changes.clear();
        this
    }

    fn set(&mut self, fault: Option<Fault>) {
        self.fault = fault;
        self.case.lack_entry(fault == Some(Fault::EntryMissing));
    }

    /// Lets time pass. `each` sees every state.
    fn run(&mut self, time: Duration, mut each: impl FnMut(&Self)) {
        let end = self.now + time;
        while self.now < end {
            let probes = &self.case.probes;
            let timeouts = [&probes.underlay, &probes.arp, &probes.icmp].map(ProbeWindow::deadline);
            let wakes = timeouts.into_iter().chain([Some(probes.due), self.hold.deadline(self.now)]);
            let next = wakes.flatten().filter(|wake| *wake > self.now).min().unwrap_or(end);
            self.now = next.min(end);
            self.probe();
            self.report();
            each(self);
        }
    }

    fn probe(&mut self) {
        let now = self.now;
        self.case.probes.on_time(now);
        if now < self.case.probes.due {
            return;
        }
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let fault = self.fault;
        let share = if let Some(Fault::Loss(share)) = fault { share } else { 0.0 };
        let mut passes = || self.random.f64() >= share;
        let endpoint = fault != Some(Fault::EndpointDown);
        let tunnel = endpoint && fault != Some(Fault::TunnelDown);
        let is_right = !matches!(fault, Some(Fault::OtherMac | Fault::NoEcho | Fault::EntryMissing));
        let mac =
            if fault == Some(Fault::OtherMac) { Mac::new([0, 0x50, 0x56, 0, 0, 0x99]) } else { self.case.vtep.mac };
        let probes = &mut self.case.probes;
        probes.underlay.on_sent(sequence, now);
        if endpoint && passes() {
            probes.underlay.on_reply(sequence, now);
        }
        probes.icmp.on_sent(sequence, now);
        if tunnel && is_right && passes() {
            probes.on_echo(sequence, now);
        }
        probes.arp.on_sent(sequence, now);
        if tunnel && passes() {
            self.case.answer_arp_at(mac, now);
        }
        let jitter = self.random.f64();
        self.case.probes.schedule(TIMING, now, jitter);
    }

    fn report(&mut self) {
        let (now, at) = (self.now, Timestamp::UNIX_EPOCH);
        let recovered = self.hold.recovered();
        let next =
            self.case.with_evidence(recovered, |evidence| self.hold.next(diagnose(evidence, now, at), evidence, now));
        if !next.same_as(&self.shown) {
            self.changes.push((now.duration_since(self.start), next.verdict, next.cause));
        }
        self.shown = next;
    }

    fn causes(&self) -> Vec<Option<Cause>> {
        self.changes.iter().map(|(_, _, cause)| *cause).collect()
    }

    /// Whether a probe has failed.
    fn has_failed(&self) -> bool {
        let probes = &self.case.probes;
        [probes.underlay_state(), probes.arp_state(), probes.icmp_state()].contains(&ProbeState::Failed)
    }
}

#[test]
fn a_fault_and_its_repair_are_two_changes() {
    for fault in Fault::ALL {
        // Repairs at any moment of the probes' rhythm.
        for n in 0..40 {
            let mut simulation = Simulation::new(n);
            simulation.set(Some(fault));
            simulation.run(
                Duration::from_secs(30) + n.try_into().map_or(Duration::ZERO, |n: u32| Duration::from_millis(50) * n),
                |_| (),
            );
            assert_eq!(simulation.causes(), [Some(fault.cause())], "{fault:?}, seed {n}");
            simulation.set(None);
            simulation.run(Duration::from_secs(40), |_| ());
            assert_eq!(simulation.causes(), [Some(fault.cause()), None], "{fault:?}, seed {n}");
            assert_eq!(simulation.shown.verdict, Verdict::Healthy);
        }
    }
}

/// Shorter than what it takes to name it for sure: it may be named, and then rightly.
#[test]
fn a_short_fault_is_named_rightly_or_not_at_all() {
    for fault in Fault::ALL {
        for n in 0..40 {
            let mut simulation = Simulation::new(n);
            simulation.set(Some(fault));
            simulation.run(Duration::from_millis(100 * (n + 1)), |_| ());
            simulation.set(None);
            simulation.run(Duration::from_secs(60), |_| ());
            let causes = simulation.causes();
            assert!(causes.is_empty() || causes == [Some(fault.cause()), None], "{fault:?}, seed {n}: {causes:?}");
        }
    }
}

#[test]
fn a_second_fault_takes_the_place_of_the_first() {
    for (first, second) in [
        (Fault::OtherMac, Fault::TunnelDown),
        (Fault::EndpointDown, Fault::TunnelDown),
        (Fault::TunnelDown, Fault::NoEcho),
        (Fault::NoEcho, Fault::EntryMissing),
    ] {
        let mut simulation = Simulation::new(7);
        simulation.set(Some(first));
        simulation.run(Duration::from_secs(20), |_| ());
        simulation.set(Some(second));
        simulation.run(Duration::from_secs(20), |_| ());
        assert_eq!(simulation.causes(), [first, second].map(|fault| Some(fault.cause())), "{first:?}, then {second:?}");
    }
}

/// A link that goes up and down: the cause of its outages, how often and since when, in few changes.
#[test]
fn a_flapping_link_is_named_and_said_to_flap() {
    for period in [1700, 2900, 5000, 20_000] {
        let mut simulation = Simulation::new(period);
        let half = Duration::from_millis(period);
        let times = u32::try_from(3_600_000 / period / 2).unwrap_or_default();
        for _ in 0..times {
            simulation.set(Some(Fault::EndpointDown));
            simulation.run(half, |_| ());
            simulation.set(None);
            simulation.run(half, |_| ());
        }
        let causes = simulation.causes();
        assert!(causes.len() <= 8, "every {period} ms: {causes:?}");
        assert_eq!(simulation.shown.cause, Some(Cause::EndpointUnreachable), "every {period} ms: {causes:?}");
        let flapping = simulation.shown.flapping.unwrap_or_else(|| panic!("every {period} ms: it flaps"));
        assert!(flapping.outages >= u64::from(times) * 6 / 10, "every {period} ms: {flapping:?} of {times}");
        let hint = simulation.shown.hint.clone().unwrap_or_default();
        assert!(hint.ends_with(&format!("; it flaps: {flapping}")), "{hint}");
        simulation.run(QUIET_PERIOD + Duration::from_secs(10), |_| ());
        assert_eq!((simulation.shown.verdict, simulation.shown.flapping), (Verdict::Healthy, None), "it is quiet");
    }
}

/// A day of faults and repairs at random, in simulated time.
#[test]
fn a_day_of_random_faults() {
    for seed in [1, 2026, 11_26] {
        let mut simulation = Simulation::new(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let end = simulation.start + Duration::from_secs(24 * 3600);
        let mut faults: Vec<(Fault, Instant)> = Vec::new();
        while simulation.now < end {
            let known = |fault: Option<Fault>, faults: &[(Fault, Instant)], now: Instant| {
                let is_near = |at: Instant| now.duration_since(at) < ENDS_WITHIN + FLAP_WINDOW + QUIET_PERIOD;
                let near = faults.iter().rev().take_while(|(_, at)| is_near(*at)).map(|(fault, _)| *fault);
                near.chain(fault).map(Fault::cause).collect::<Vec<_>>()
            };
            let check = |simulation: &Simulation, fault: Option<Fault>, faults: &[(Fault, Instant)]| {
                let Simulation { shown, now, .. } = simulation;
                let Diagnosis { verdict, cause, hint, .. } = shown;
                assert!(*verdict != Verdict::Unknown || !simulation.has_failed(), "seed {seed}: {shown:?}");
                assert_eq!(cause.is_some(), hint.is_some(), "seed {seed}: {shown:?}");
                let known = known(fault, faults, *now);
                assert!(cause.is_none_or(|cause| known.contains(&cause)), "seed {seed}: {cause:?}, not {known:?}");
            };
            let quiet = Duration::from_millis(random.u64(1000..300_000));
            simulation.run(quiet, |simulation| check(simulation, None, &faults));
            let fault = Fault::ALL[random.usize(0..Fault::ALL.len())];
            let time = Duration::from_millis(random.u64(200..120_000));
            simulation.set(Some(fault));
            let mut is_named = false;
            simulation.run(time, |simulation| {
                check(simulation, Some(fault), &faults);
                is_named |= simulation.shown.cause == Some(fault.cause());
            });
            assert!(is_named || time < Duration::from_secs(60), "seed {seed}: {fault:?} for {time:?}");
            simulation.set(None);
            faults.push((fault, simulation.now));
        }
        let faults = faults.len();
        let changes = simulation.changes.len();
        assert!(changes <= 2 * faults, "seed {seed}: {changes} changes for {faults} faults");
    }
}
