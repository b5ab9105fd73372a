use super::*;
use crate::tunnel::owners::Owner;

const ROW: Duration = Duration::from_millis(1500);
const CONFIGURED: u8 = 1;

fn mac(n: u8) -> Mac {
    [0x02, 0, 0, 0, 0, n].into()
}

fn vtep() -> Vtep {
    let cidr = "10.1.6.0/24".parse().expect("a CIDR");
    Vtep { cidr, endpoint: [10, 169, 72, 34].into(), mac: mac(CONFIGURED) }
}

/// A VTEP, the claims of its self IP, and a clock.
struct Run {
    learning: MacLearning,
    claims: Owners,
    start: Instant,
    elapsed: Duration,
}

impl Run {
    fn new() -> Self {
        let learning = MacLearning::new(vtep(), true, Record::default());
        Self { learning, claims: Owners::default(), start: Instant::now(), elapsed: Duration::ZERO }
    }

    fn now(&self) -> Instant {
        self.start + self.elapsed
    }

    fn at(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::try_from(self.elapsed).expect("short")
    }

    fn wait(&mut self, time: Duration) {
        self.elapsed += time;
        let now = self.now();
        self.claims.on_time(now);
    }

    /// A probe is answered, a quarter of a second after the one before.
    fn answer(&mut self, mac: Mac) {
        self.wait(Duration::from_millis(250));
        let (now, source) = (self.now(), vtep().endpoint);
        self.claims.on_claim(Owner { mac, source }, now);
        self.learning.on_answer(mac, ROW, now);
        let at = self.at();
        self.learning.decide(&[mac_of_node()].into(), &self.claims, at);
    }

    fn answers(&mut self, macs: &[u8]) {
        macs.iter().for_each(|n| self.answer(mac(*n)));
    }
}

fn mac_of_node() -> Mac {
    mac(200)
}

#[test]
fn three_answers_in_a_row_are_learned_and_the_configured_mac_wins() {
    let mut run = Run::new();
    run.answers(&[1, 1, 2, 2]);
    assert_eq!(run.learning.mac(), mac(CONFIGURED), "two are not enough");
    run.answers(&[2]);
    assert_eq!((run.learning.mac(), run.learning.refusal()), (mac(2), None));
    run.answers(&[2, 2, 2]);
    assert_eq!(run.learning.record().changes.len(), 1, "it is no change any more");
    run.answers(&[1]);
    assert_eq!(run.learning.mac(), mac(CONFIGURED), "its first answer");
}

#[test]
fn a_probe_lost_in_between_breaks_the_row() {
    let mut run = Run::new();
    run.answers(&[1]);
    for _ in 0..20 {
        run.wait(ROW);
        run.answers(&[2]);
    }
    assert_eq!(run.learning.mac(), mac(CONFIGURED));
    for _ in 0..20 {
        run.wait(Duration::from_secs(3600));
        run.answers(&[2]);
    }
    assert_eq!(run.learning.mac(), mac(CONFIGURED), "a MAC that answers once an hour");
}

/// Each condition alone fails.
#[test]
fn what_contradicts_is_not_learned() {
    type Contradict = fn(&mut Run);
    let group: Mac = [0x03, 0, 0, 0, 0, 1].into();
    let other_source = |run: &mut Run| {
        run.answers(&[2]);
        let now = run.now() + Duration::from_millis(1);
        run.claims.on_claim(Owner { mac: mac(9), source: [192, 0, 2, 1].into() }, now);
        run.answers(&[2, 2]);
    };
    let flood_after_other_source = |run: &mut Run| {
        run.answers(&[2]);
        let now = run.now() + Duration::from_millis(1);
        run.claims.on_claim(Owner { mac: mac(CONFIGURED), source: vtep().endpoint }, now);
        (0..100).for_each(|n| run.claims.on_claim(Owner { mac: mac(2), source: [192, 0, 2, n].into() }, now));
        run.answers(&[2, 2]);
    };
    let other_frames = |run: &mut Run| {
        run.answers(&[2, 2]);
        let now = run.now();
        run.learning.on_frames(mac(7), now);
        run.answers(&[2]);
    };
    let in_turn = |run: &mut Run| (0..20).for_each(|_| run.answers(&[2, 3]));
    let cases: [(&str, Contradict, Option<Refusal>); 9] = [
        ("one answer", |run| run.answers(&[2]), None),
        ("two answers", |run| run.answers(&[2, 2]), None),
        ("in turn", in_turn, None),
        ("in turn with the configured one", |run| (0..20).for_each(|_| run.answers(&[2, 2, 1])), None),
        ("a MAC of this node", |run| run.answers(&[200; 3]), Some(Refusal::Ours(mac_of_node()))),
        (
            "a group MAC",
            |run| (0..3).for_each(|_| run.answer([0x03, 0, 0, 0, 0, 1].into())),
            Some(Refusal::NotUnicast(group)),
        ),
        ("somebody else claims", other_source, Some(Refusal::Claimed(mac(2)))),
        ("a flood hides that claim", flood_after_other_source, Some(Refusal::Claimed(mac(2)))),
        ("other frames", other_frames, Some(Refusal::OtherFrames { answered: mac(2), seen: mac(7) })),
    ];
    for (name, contradict, refusal) in cases {
        let mut run = Run::new();
        run.answers(&[1, 1]);
        contradict(&mut run);
        assert_eq!((run.learning.mac(), run.learning.refusal()), (mac(CONFIGURED), refusal), "{name}");
        assert_eq!(run.learning.record(), &Record::default(), "{name}");
    }
}

#[test]
fn frames_from_before_the_first_answer_contradict_nothing() {
    let mut run = Run::new();
    run.answers(&[1]);
    let before = run.now();
    run.answers(&[2]);
    run.learning.on_frames(mac(1), before);
    run.learning.on_frames(mac(2), run.now());
    run.answers(&[2, 2]);
    assert_eq!(run.learning.mac(), mac(2));
}

#[test]
fn changes_are_limited() {
    let mut run = Run::new();
    run.answers(&[2, 2, 2]);
    run.answers(&[3, 3, 3]);
    assert_eq!((run.learning.mac(), run.learning.refusal()), (mac(2), Some(Refusal::TooSoon(mac(3)))));
    run.wait(Duration::from_secs(10));
    run.answers(&[3, 3, 3]);
    assert_eq!((run.learning.mac(), run.learning.refusal()), (mac(3), None));
    for n in 4..8 {
        run.wait(Duration::from_secs(60));
        run.answers(&[n, n, n]);
        assert_eq!(run.learning.mac(), mac(n));
    }
    run.wait(Duration::from_secs(60));
    run.answers(&[8, 8, 8]);
    assert_eq!((run.learning.mac(), run.learning.refusal()), (mac(7), Some(Refusal::TooOften(mac(8)))));
    run.answers(&[1]);
    assert_eq!(run.learning.mac(), mac(CONFIGURED), "the configured MAC needs no permission");
    run.wait(Duration::from_secs(3600));
    run.answers(&[8, 8, 8]);
    assert_eq!(run.learning.mac(), mac(8));
}

#[test]
fn a_restart_knows_the_mac_and_the_limits_of_the_same_vtep() {
    let mut run = Run::new();
    run.answers(&[2, 2, 2]);
    let record = run.learning.record().clone();
    let json = serde_json::to_string(&record).expect("JSON");
    let again: Record = serde_json::from_str(&json).expect("a record");
    assert_eq!(again, record);
    let of = |vtep, enabled| MacLearning::new(vtep, enabled, record.clone()).mac();
    assert_eq!(of(vtep(), true), mac(2));
    assert_eq!(of(vtep(), false), mac(CONFIGURED), "without --mac learned");
    assert_eq!(of(Vtep { mac: mac(2), ..vtep() }, true), mac(2));
    assert_eq!(of(Vtep { mac: mac(5), ..vtep() }, true), mac(5), "the configuration has another MAC now");
    assert_eq!(of(Vtep { endpoint: [10, 169, 72, 99].into(), ..vtep() }, true), mac(CONFIGURED));
    run.learning = MacLearning::new(vtep(), true, record);
    run.answers(&[3, 3, 3]);
    assert_eq!(run.learning.refusal(), Some(Refusal::TooSoon(mac(3))));
}

#[test]
fn with_the_default_nothing_is_learned() {
    let mut run = Run::new();
    run.learning = MacLearning::new(vtep(), false, Record::default());
    run.answers(&[2; 20]);
    assert_eq!((run.learning.mac(), run.learning.refusal()), (mac(CONFIGURED), None));
}

#[test]
fn the_learned_mac_applies_to_the_vtep_that_it_was_learned_for() {
    let learned =
        LearnedMac { endpoint: vtep().endpoint, configured: mac(1), mac: mac(2), since: Timestamp::UNIX_EPOCH };
    let macs: LearnedMacs = [(vtep().cidr, learned)].into();
    assert_eq!(mac_of(&vtep(), &macs), mac(2));
    assert_eq!(mac_of(&Vtep { mac: mac(5), ..vtep() }, &macs), mac(5));
    assert_eq!(mac_of(&vtep(), &LearnedMacs::new()), mac(1));
}
