use super::*;
use crate::config::{
    document::Document,
    last_good::LastGood,
    surroundings::Surroundings,
    view::{Observed, SourceState, View},
};

/// Seconds after a moment on this day.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + seconds).expect("a time")
}

/// The seed's first VTEP with this last octet of its endpoint; two without a MAC are in error.
fn keys(endpoint: u8) -> Keys {
    let keys = [
        ("enable-vtep", "true".to_owned()),
        ("vtep-endpoint", format!("10.169.72.{endpoint}")),
        ("vtep-cidr", "10.1.6.0/24".to_owned()),
        ("vtep-mac", "00:50:56:a0:7d:d8".to_owned()),
    ];
    keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn in_error() -> Keys {
    let mut keys = keys(1);
    keys.insert("vtep-endpoint".into(), "10.169.72.1 10.169.72.2".into());
    keys
}

/// What happens to a record, at a second.
#[derive(Clone, Copy)]
enum Event {
    /// The lists with this endpoint are seen.
    See(u8),
    /// The same, and the API server has the time of their last change.
    Dated(u8, i64),
    /// The source warns that what it shows may be out of date.
    Doubt(u8),
    /// Lists of different lengths are seen.
    Err,
    /// The source has no document.
    Lose,
    /// The agent starts again.
    Restart,
}

use Event::{Dated, Doubt, Err, Lose, Restart, See};

fn record(events: &[(i64, Event)]) -> ListRecord {
    events.iter().fold(ListRecord::default(), |record, &(second, event)| {
        let now = at(second);
        let see = |keys: Keys, changed, current| Some((keys, changed, current));
        let seen = match event {
            See(endpoint) => see(keys(endpoint), None, true),
            Dated(endpoint, changed) => see(keys(endpoint), Some(at(changed)), true),
            Doubt(endpoint) => see(keys(endpoint), None, false),
            Err => see(in_error(), None, true),
            Lose => None,
            Restart => return ListRecord::recall(record.periods().to_vec()),
        };
        let sight = seen.as_ref().map(|(keys, changed, current)| Sight { keys, changed: *changed, current: *current });
        record.next(sight, now)
    })
}

/// The last octets of the endpoints that a Cilium with this start may have read.
fn endpoints(record: &ListRecord, start: i64) -> Option<Vec<u8>> {
    let endpoint = |listed: &&Listed| {
        let values = listed.values().next().expect("one VTEP");
        values.endpoint.expect("an endpoint").octets()[3]
    };
    record.at(at(start)).map(|lists| lists.iter().map(endpoint).collect())
}

#[test]
fn the_lists_at_a_start_are_known_where_the_record_covers_it() {
    type Events<'e> = &'e [(i64, Event)];
    type Expected<'e> = &'e [(i64, Option<&'e [u8]>)];
    let cases: [(&str, Events<'_>, Expected<'_>); 14] = [
        ("nothing seen", &[], &[(0, None)]),
        ("seen once", &[(0, See(1))], &[(-1, None), (9, None), (10, Some(&[1])), (9999, Some(&[1]))]),
        ("unchanged since a day", &[(0, Dated(1, -86400))], &[(-86391, None), (-86390, Some(&[1])), (0, Some(&[1]))]),
        ("dated later", &[(0, See(1)), (1, Dated(1, -100))], &[(-91, None), (-90, Some(&[1]))]),
        (
            "an edit, by the API server's time",
            &[(0, See(1)), (1000, Dated(2, 999))],
            &[(100, Some(&[1])), (988, Some(&[1])), (989, Some(&[1, 2])), (1009, Some(&[1, 2])), (1010, Some(&[2]))],
        ),
        (
            "an edit at an unknown time of the last two minutes",
            &[(0, See(1)), (1000, See(2))],
            &[(869, Some(&[1])), (870, Some(&[1, 2])), (1010, Some(&[1, 2])), (1011, Some(&[2]))],
        ),
        (
            "the API server's time is of an earlier change",
            &[(0, See(1)), (1000, Dated(2, -500))],
            &[(869, Some(&[1])), (870, Some(&[1, 2])), (1011, Some(&[2]))],
        ),
        (
            "an edit while the source was away",
            &[(0, See(1)), (500, Doubt(1)), (1000, See(2))],
            &[(369, Some(&[1])), (370, Some(&[1, 2])), (1010, Some(&[1, 2])), (1011, Some(&[2]))],
        ),
        (
            "an edit while it was away, dated",
            &[(0, See(1)), (500, Lose), (1000, Dated(2, 600))],
            &[(369, Some(&[1])), (370, Some(&[1, 2])), (610, Some(&[1, 2])), (611, Some(&[2]))],
        ),
        ("the same after it was away", &[(0, See(1)), (500, Lose), (1000, See(1))], &[(600, Some(&[1]))]),
        (
            "the agent's restart",
            &[(0, See(1)), (1000, Dated(2, 1000)), (2000, Restart), (2010, Dated(2, 1000))],
            &[(500, Some(&[1])), (2005, Some(&[2]))],
        ),
        (
            "an edit while the agent did not run",
            &[(0, See(1)), (1000, Restart), (2000, See(2))],
            &[(10, Some(&[1, 2])), (1500, Some(&[1, 2])), (2011, Some(&[2]))],
        ),
        (
            "lists in error",
            &[(0, See(1)), (1000, Err), (2000, See(3))],
            &[(500, Some(&[1])), (1500, None), (2011, Some(&[3]))],
        ),
        ("a clock that goes back", &[(1000, See(1)), (0, See(2)), (1, See(3))], &[(2000, Some(&[3]))]),
    ];
    for (name, events, expected) in cases {
        let record = record(events);
        for (start, expected) in expected {
            assert_eq!(endpoints(&record, *start).as_deref(), *expected, "{name}: a start at {start} s");
        }
    }
}

#[test]
fn it_is_bounded_and_forgets_the_oldest() {
    let events: Vec<_> = (0..40_u8).map(|n| (i64::from(n) * 1000, See(n + 1))).collect();
    let record = record(&events);
    assert_eq!(record.periods().len(), MOST);
    assert_eq!(endpoints(&record, 23_500), None);
    assert_eq!(endpoints(&record, 24_500), Some(vec![25]));
    let long = record.periods().iter().cycle().take(100).cloned().collect();
    assert_eq!(ListRecord::recall(long).periods().len(), MOST);
}

#[test]
fn only_the_lists_make_a_period() {
    let mut other = keys(1);
    other.insert("debug".into(), "true".into());
    other.insert("vtep-endpoint".into(), "  10.169.72.1\n".into());
    let see = |record: ListRecord, keys: &Keys| record.next(Some(Sight { keys, changed: None, current: true }), at(0));
    let record = see(see(ListRecord::default(), &keys(1)), &other);
    assert_eq!(record.periods().len(), 1);
    let value = |n: u8| VtepValue::new([0, 0x50, 0x56, 0xa0, 0x7d, 0xd8].into(), [10, 169, 72, n].into());
    let record = see(record, &keys(2));
    assert!([1, 2].iter().all(|n| record.had([10, 1, 6, 0].into(), value(*n))));
    assert!(!record.had([10, 1, 6, 0].into(), value(3)) && !record.had([10, 1, 5, 0].into(), value(1)));
}

#[test]
fn the_size_of_a_period_is_bounded() {
    let many = |enabled: &str| {
        let list = |value: &dyn Fn(usize) -> String| (0..2000).map(value).collect::<Vec<_>>().join(" ");
        let mut keys = keys(1);
        keys.insert("enable-vtep".into(), enabled.into());
        keys.insert("vtep-cidr".into(), list(&|n| format!("10.{}.{}.0/24", n / 250, n % 250)));
        keys.insert("vtep-endpoint".into(), list(&|_| "10.169.72.1".into()));
        keys.insert("vtep-mac".into(), list(&|_| "00:50:56:a0:7d:d8".into()));
        keys
    };
    for enabled in ["true", "false"] {
        let sight = Sight { keys: &many(enabled), changed: None, current: true };
        assert_eq!(ListRecord::default().next(Some(sight), at(0)).periods()[0].listed, None, "{enabled}");
    }
}

/// The state file has the record, also of lists that never took effect.
#[test]
fn the_record_outlives_the_agent() {
    let see = |keys: Keys, previous: Option<&View>, now| {
        let document = Document::of_keys(keys, Surroundings::default());
        View::next("test", &SourceState::Document(document).into(), previous, now)
    };
    let view = see(keys(1), None, at(0));
    let view = see(in_error(), Some(&view), at(1000));
    let json = serde_json::to_string(&LastGood::of(&view).expect("in force")).expect("JSON");
    let saved: LastGood = serde_json::from_str(&json).expect("a last good configuration");
    let recalled = saved.recall().expect("sound");
    assert_eq!(recalled.record.periods(), view.record.periods());
    let nothing = View::next("test", &Observed::nothing("away"), Some(&recalled), at(2000));
    let view = see(keys(3), Some(&nothing), at(3000));
    assert_eq!(endpoints(&view.record, 500), Some(vec![1]));
    assert_eq!(
        view.record.periods().iter().map(|period| period.listed.is_some()).collect::<Vec<_>>(),
        [true, false, true]
    );

    let mut older: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    older.as_object_mut().expect("an object").remove("lists");
    let older: LastGood = serde_json::from_value(older).expect("a file of an older release");
    assert_eq!(older.recall().expect("sound").record, ListRecord::default());
}
