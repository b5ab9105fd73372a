//! Sequences of verdicts: a simulated far end breaks and is repaired, and every verdict that is reported is recorded.

use super::*;
use crate::tunnel::flow::Sender;
use crate::{
    diagnosis::{
        diagnose,
        tests::{Case, TIMING},
    },
    types::mac::Mac,
};

/// The step to what is due already.
const MOMENT: Duration = Duration::from_millis(1);
/// How long a fault may be named after its repair.
const ENDS_WITHIN: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    EndpointDown,
    TunnelDown,
    /// The tunnel is down, and this share of the pings beside it is lost: by a limit, or by chance.
    TunnelDownAndLoss(f64),
    OtherMac,
    NoEcho,
    EntryMissing,
    /// This share of all packets is lost.
    Loss(f64),
}

impl Fault {
    const ALL: [Self; 7] = [
        Self::EndpointDown,
        Self::TunnelDown,
        Self::TunnelDownAndLoss(0.3),
        Self::OtherMac,
        Self::NoEcho,
        Self::EntryMissing,
        Self::Loss(0.25),
    ];

    fn cause(self) -> Cause {
        match self {
            Self::EndpointDown => Cause::EndpointUnreachable,
            Self::TunnelDown | Self::TunnelDownAndLoss(_) => Cause::TunnelSilent,
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
        // The reconciler tells about an entry at once.
        self.report();
    }

    /// Lets time pass. `each` sees every state.
    fn run(&mut self, time: Duration, mut each: impl FnMut(&Self)) {
        let end = self.now + time;
        while self.now < end {
            let probes = &self.case.probes;
            let timeouts = [&probes.underlay, &probes.arp, &probes.icmp].map(ProbeWindow::deadline);
            let wakes = timeouts.into_iter().chain([Some(probes.due), self.hold.deadline(self.now)]);
            let next = wakes.flatten().filter(|wake| *wake > self.now).min().unwrap_or(end);
            // New probes are due at once.
            let next = if probes.due <= self.now { self.now + MOMENT } else { next };
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
        let mut passes_at = |share: f64| self.random.f64() >= share;
        let endpoint = fault != Some(Fault::EndpointDown);
        let tunnel = endpoint && !matches!(fault, Some(Fault::TunnelDown | Fault::TunnelDownAndLoss(_)));
        let beside = if let Some(Fault::TunnelDownAndLoss(share)) = fault { share } else { share };
        let is_right = !matches!(fault, Some(Fault::OtherMac | Fault::NoEcho | Fault::EntryMissing));
        let mac =
            if fault == Some(Fault::OtherMac) { Mac::new([0, 0x50, 0x56, 0, 0, 0x99]) } else { self.case.vtep.mac };
        let probes = &mut self.case.probes;
        probes.underlay.on_sent(sequence, now);
        if endpoint && passes_at(beside) {
            probes.underlay.on_reply(sequence, now);
        }
        probes.icmp.on_sent(sequence, now);
        if tunnel && is_right && passes_at(share) {
            probes.on_echo(sequence, now);
        }
        probes.arp.on_sent(sequence, now);
        if tunnel && passes_at(share) {
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

/// Half of the pings beside it may be lost, six in a row now and then.
#[test]
fn a_silent_tunnel_is_named_although_pings_beside_it_are_lost() {
    for seed in 0..100 {
        let mut simulation = Simulation::new(seed);
        simulation.set(Some(Fault::TunnelDownAndLoss(0.5)));
        simulation.run(Duration::from_secs(20), |_| ());
        assert_eq!(simulation.shown.verdict, Verdict::Unreachable, "seed {seed}");
        simulation.run(Duration::from_secs(40), |_| ());
        assert_eq!(simulation.shown.cause, Some(Cause::TunnelSilent), "seed {seed}: {:?}", simulation.changes);
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

/// Each of them is repaired before the next one begins.
#[test]
fn faults_of_different_kinds_are_no_flapping() {
    let mut simulation = Simulation::new(5);
    let faults = [Fault::EndpointDown, Fault::TunnelDown, Fault::NoEcho, Fault::EndpointDown, Fault::TunnelDown];
    for fault in faults {
        simulation.set(Some(fault));
        simulation.run(Duration::from_secs(15), |simulation| assert_eq!(simulation.shown.flapping, None, "{fault:?}"));
        simulation.set(None);
        simulation.run(Duration::from_secs(15), |_| ());
        assert_eq!(simulation.shown.verdict, Verdict::Healthy, "{fault:?}");
    }
}

/// The probes that an outage has cost are no packet loss after it.
#[test]
fn outages_that_were_named_are_no_loss() {
    for n in 0..20 {
        let mut simulation = Simulation::new(n);
        for _ in 0..2 {
            simulation.set(Some(Fault::EntryMissing));
            simulation.run(Duration::from_millis(1200 + 10 * n), |_| ());
            simulation.set(None);
            simulation.run(Duration::from_secs(5), |_| ());
            assert_eq!(simulation.shown.verdict, Verdict::Healthy, "seed {n}: its losses do not count any more");
        }
        simulation.run(Duration::from_secs(60), |_| ());
        let expected = [Some(Cause::DatapathMissing), None].repeat(2);
        assert_eq!(simulation.causes(), expected, "seed {n}");
    }
}

/// While ping passes, one right answer to ARP would end a cause that three wrong ones have shown.
#[test]
fn health_needs_three_answers_after_the_last_evidence_of_a_fault() {
    let mut simulation = Simulation::new(3);
    let wrong = Mac::new([0, 0x50, 0x56, 0, 0, 0x99]);
    for _ in 0..20 {
        let now = simulation.now;
        simulation.case.answer_arp_at(wrong, now);
        simulation.now += Duration::from_millis(100);
        simulation.report();
    }
    assert_eq!(simulation.shown.cause, Some(Cause::VtepMacMismatch));
    let mut answers = 0;
    while simulation.shown.cause.is_some() {
        let before = simulation.case.probes.icmp.received;
        simulation.run(Duration::from_millis(50), |_| ());
        answers += simulation.case.probes.icmp.received - before;
    }
    assert!((3..=4).contains(&answers), "{answers}");
}

/// Three lost in a row may be chance, however slowly the next probes come.
#[test]
fn an_outage_needs_more_losses_and_not_only_time() {
    let mut simulation = Simulation::new(4);
    let lose = |simulation: &mut Simulation, times: usize| {
        for _ in 0..times {
            simulation.now += Duration::from_secs(3);
            let lost = std::io::Error::other("lost");
            simulation.case.probes.icmp.on_send_error(&lost, simulation.now);
            simulation.report();
        }
    };
    lose(&mut simulation, 3);
    assert_eq!((simulation.case.probes.icmp_state(), simulation.shown.cause), (ProbeState::Failed, None));
    lose(&mut simulation, 2);
    assert_eq!(simulation.shown.cause, None);
    lose(&mut simulation, 1);
    assert_eq!(simulation.shown.cause, Some(Cause::NoReturnPath));
}

/// The prober begins anew, and nothing is known for a while.
#[test]
fn a_cause_that_nothing_replaces_ends_after_a_minute() {
    let mut simulation = Simulation::new(6);
    simulation.set(Some(Fault::TunnelDown));
    simulation.run(Duration::from_secs(20), |_| ());
    let (vtep, target) = (simulation.case.vtep, simulation.case.probes.target.map(|target| target.address));
    simulation.case.probes = VtepProbes::new(vtep, target, TIMING, simulation.now);
    let start = simulation.now;
    for seconds in [0, 30, 59, 61] {
        simulation.now = start + Duration::from_secs(seconds);
        simulation.report();
        let expected = (seconds < 60).then_some(Cause::TunnelSilent);
        assert_eq!(simulation.shown.cause, expected, "after {seconds} s");
    }
}

/// What the agent corrects by itself is known at once at a new place, and the outage there only later.
#[test]
fn a_corrected_fault_waits_for_the_probes_of_a_new_place() {
    let mut simulation = Simulation::new(8);
    simulation.case.vtep.mac = Mac::new([0, 0x50, 0x56, 0, 0, 0x99]);
    let target = simulation.case.probes.target.map(|target| target.address);
    simulation.case.probes = VtepProbes::new(simulation.case.vtep, target, TIMING, simulation.now);
    simulation.case.contend(None);
    simulation.set(Some(Fault::EndpointDown));
    simulation.run(Duration::from_secs(20), |_| ());
    assert_eq!(simulation.causes(), [None, Some(Cause::EndpointUnreachable)]);
}

#[test]
fn what_is_lost_in_the_first_ten_seconds_of_cilium_is_no_fault() {
    for (age, expected) in [(5, None), (11, Some(Cause::TunnelSilent))] {
        let mut simulation = Simulation::new(9);
        simulation.case.start_cilium(Timestamp::UNIX_EPOCH - Duration::from_secs(age));
        simulation.set(Some(Fault::TunnelDown));
        simulation.run(Duration::from_secs(8), |_| ());
        assert_eq!(simulation.shown.cause, expected, "{age} s old");
        assert!(simulation.has_failed());
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

/// Ping passes by the detour, and so it cannot prove that BIG-IP has no record for this node. The frames do.
#[test]
fn frames_that_another_node_forwards_need_no_lost_ping() {
    let mut simulation = Simulation::new(10);
    for _ in 0..50 {
        simulation.case.stray([10, 169, 72, 233].into(), Sender::Node);
        let now = simulation.now;
        simulation.case.probes.forwarded.iter_mut().for_each(|frame| frame.last_seen = now);
        simulation.run(Duration::from_millis(100), |_| ());
    }
    assert_eq!(simulation.causes(), [Some(Cause::NoReturnPath)]);
}
