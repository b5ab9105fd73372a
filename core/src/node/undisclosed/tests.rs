use super::*;
use crate::{
    config::{Keys, list_record::Sight, spec::Tunnel},
    datapath::abi::VtepValue,
    types::mac::Mac,
};

const MAC: Mac = Mac::new([0, 0x50, 0x56, 0, 0, 1]);
/// Cilium's start, in seconds.
const START: i64 = 10_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + seconds).expect("a time")
}

/// VTEPs: the third octet of the network, and the last one of the endpoint.
type Vteps<'v> = &'v [(u8, u8)];

fn spec(vteps: Vteps<'_>) -> Spec {
    let vtep = |&(network, endpoint): &(u8, u8)| Vtep {
        cidr: Ipv4Net::new_assert([10, 1, network, 0].into(), 24),
        endpoint: [10, 169, 72, endpoint].into(),
        mac: MAC,
    };
    Spec {
        enabled: true,
        vteps: vteps.iter().map(vtep).collect(),
        mask: Some([255, 255, 255, 0].into()),
        tunnel: Tunnel::default(),
    }
}

fn keys(vteps: Vteps<'_>) -> Keys {
    let list = |of: &dyn Fn(&Vtep) -> String| spec(vteps).vteps.iter().map(of).collect::<Vec<_>>().join(" ");
    let keys = [
        ("enable-vtep", "true".to_owned()),
        ("vtep-endpoint", list(&|vtep| vtep.endpoint.to_string())),
        ("vtep-cidr", list(&|vtep| vtep.cidr.to_string())),
        ("vtep-mac", list(&|vtep| vtep.mac.to_string())),
    ];
    keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Lists, each with the second from which on it was seen.
type Seen<'v> = &'v [(i64, Vteps<'v>)];

fn record(seen: Seen<'_>) -> ListRecord {
    seen.iter().fold(ListRecord::default(), |record, (second, vteps)| {
        let keys = keys(vteps);
        record.next(Some(Sight { keys: &keys, changed: Some(at(*second)), current: true }), at(*second))
    })
}

fn running() -> RunningConfig {
    RunningConfig { started: Some(at(START)), vtep_enabled: Some(true), ..RunningConfig::default() }
}

/// Somebody writes this endpoint for 10.1.1.0/24, each minute; since so many seconds before now.
fn contended(endpoint: u8, age: u64, now: Instant) -> BTreeMap<Ipv4Net, Contended> {
    let found = Some(VtepValue::new(MAC, [10, 169, 72, endpoint].into()));
    let minutely_since = now.checked_sub(Duration::from_secs(age));
    [(Ipv4Net::new_assert([10, 1, 1, 0].into(), 24), Contended { found, repaired: now, minutely_since })].into()
}

const RECORD: &str = ", by this agent's record of the lists at Cilium's start (2026-11-18T13:53:20Z)";

#[test]
fn the_record_stands_in_for_lists_that_cilium_does_not_disclose() {
    const BEFORE: Vteps<'_> = &[(1, 1), (2, 2)];
    let cases: [(&str, Seen<'_>, Vteps<'_>, &[&str]); 9] = [
        ("no record", &[], BEFORE, &[]),
        ("no edit", &[(0, BEFORE)], BEFORE, &[]),
        (
            "an edit after the start",
            &[(0, BEFORE), (20_000, &[(1, 9), (2, 2)])],
            &[(1, 9), (2, 2)],
            &["vtep-endpoint: Cilium runs with 10.169.72.1 for 10.1.1.0/24, the configuration says 10.169.72.9"],
        ),
        ("an edit before the start", &[(0, BEFORE), (9000, &[(1, 9)])], &[(1, 9)], &[]),
        ("an edit at about the start", &[(0, BEFORE), (START - 5, &[(1, 9)])], &[(1, 9)], &[]),
        ("the record begins after the start", &[(11_000, BEFORE), (20_000, &[(1, 9)])], &[(1, 9)], &[]),
        (
            "one added and one removed",
            &[(0, BEFORE), (20_000, &[(1, 1), (3, 3)])],
            &[(1, 1), (3, 3)],
            &[
                "vtep-cidr: Cilium does not know 10.1.3.0/24",
                "vtep-cidr: Cilium runs with 10.1.2.0, which the configuration does not list",
            ],
        ),
        ("an edit and back", &[(0, BEFORE), (20_000, &[(1, 9)]), (30_000, BEFORE)], BEFORE, &[]),
        ("a VTEP that is vetoed", &[(0, BEFORE)], &[(1, 1)], &[]),
    ];
    let (now, contended) = (Instant::now(), BTreeMap::new());
    for (name, seen, effective, expected) in cases {
        let record = record(seen);
        let traces = Traces { truth: Truth::Configmap, record: &record, contended: &contended, now, at: at(40_000) };
        let found = |running: &RunningConfig| -> Vec<String> {
            undisclosed(&spec(effective), running, &traces).iter().map(ToString::to_string).collect()
        };
        let expected: Vec<_> = expected.iter().map(|words| format!("{words}{RECORD}")).collect();
        assert_eq!(found(&running()), expected, "{name}");
        let disclosed = RunningConfig { vteps: Some(BTreeMap::new()), ..running() };
        for other in [RunningConfig::default(), RunningConfig { vtep_enabled: Some(false), ..running() }, disclosed] {
            assert!(found(&other).is_empty(), "{name}: {other:?}");
        }
    }
}

#[test]
fn what_comes_back_every_minute_is_taken_for_ciliums() {
    const WORDS: &str = "vtep-endpoint: something writes 10.169.72.1 for 10.1.1.0/24 back every minute, as Cilium's sync does, the \
                         configuration says 10.169.72.9";
    const EARLIER: &str = "; the lists had this value earlier";
    let now = Instant::now();
    let known = |words: &str| Some(format!("{WORDS}{words}"));
    type Case<'c> = (&'c str, Seen<'c>, Option<i64>, u64, Option<String>);
    let runs = "vtep-endpoint: Cilium runs with 10.169.72.1 for 10.1.1.0/24, the configuration says 10.169.72.9";
    let cases: [Case<'_>; 7] = [
        ("no record", &[], Some(START), 180, known("")),
        ("no start", &[(0, &[(1, 9)])], None, 180, known("")),
        ("the record begins later", &[(11_000, &[(1, 9)])], Some(START), 180, known("")),
        ("the record says otherwise", &[(0, &[(1, 9)])], Some(START), 180, None),
        (
            "the record says so",
            &[(0, &[(1, 1)]), (20_000, &[(1, 9)])],
            Some(START),
            180,
            Some(format!("{runs}{RECORD}")),
        ),
        // The container was restarted, and its pod was not.
        ("an earlier value", &[(0, &[(1, 1)]), (9000, &[(1, 9)])], Some(START), 180, known(EARLIER)),
        ("from before the start", &[(0, &[(1, 1)]), (9000, &[(1, 9)])], Some(39_900), 180, None),
    ];
    for (name, seen, started, age, expected) in cases {
        let (record, contended) = (record(seen), contended(1, age, now));
        let traces = Traces { truth: Truth::Configmap, record: &record, contended: &contended, now, at: at(40_000) };
        let running = RunningConfig { started: started.map(at), ..running() };
        let found = undisclosed(&spec(&[(1, 9)]), &running, &traces);
        let words: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(words, expected.into_iter().collect::<Vec<_>>(), "{name}");
        assert!(found.iter().all(|found| found.effect == Effect::Overwrites([10, 1, 1, 0].into())), "{name}");
    }
    // A writer that does not keep the sync's pace.
    let (record, mut quick) = (ListRecord::default(), contended(1, 180, now));
    quick.values_mut().for_each(|of| of.minutely_since = None);
    let traces = Traces { truth: Truth::Configmap, record: &record, contended: &quick, now, at: at(40_000) };
    assert_eq!(undisclosed(&spec(&[(1, 9)]), &running(), &traces), []);
}
