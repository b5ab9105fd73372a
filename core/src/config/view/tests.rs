//! Sequences of documents and node facts: which VTEPs take effect, remain, and come back.

use super::*;
use crate::config::Keys;
use crate::config::{last_good::LastGood, surroundings::Fact};

const A: &str = "10.1.6.0/24 10.169.72.34 00:50:56:a0:7d:d8";
const B: &str = "10.1.5.0/24 10.169.72.36 00:50:56:86:6b:28";

fn keys(lines: &[&str]) -> Keys {
    let column = |n| lines.iter().filter_map(|line| line.split(' ').nth(n)).collect::<Vec<_>>().join(" ");
    let keys = [("vtep-cidr", column(0)), ("vtep-endpoint", column(1)), ("vtep-mac", column(2))];
    let keys = keys.into_iter().map(|(key, value)| (key.to_owned(), value));
    let others = [("enable-vtep", "true"), ("enable-policy", "never")];
    keys.chain(others.map(|(key, value)| (key.to_owned(), value.to_owned()))).collect()
}

fn with(keys: Keys, key: &str, value: Option<&str>) -> Keys {
    let mut keys = keys;
    match value {
        Some(value) => keys.insert(key.to_owned(), value.to_owned()),
        None => keys.remove(key),
    };
    keys
}

fn see(keys: Keys, surroundings: &Surroundings, previous: Option<&View>) -> View {
    let document = Document::of_keys(keys, surroundings.clone());
    View::next("test", &SourceState::Document(document).into(), previous, Timestamp::UNIX_EPOCH)
}

/// The view after a restart, restored from the state file.
fn restarted(view: &View) -> View {
    let json = serde_json::to_string(&LastGood::of(view).expect("something good")).expect("JSON");
    serde_json::from_str::<LastGood>(&json).expect("a last good configuration").recall().expect("sound")
}

fn cidrs(spec: Option<&Spec>) -> Vec<String> {
    spec.iter().flat_map(|spec| &spec.vteps).map(|vtep| vtep.cidr.to_string()).collect()
}

fn effective(view: &View) -> Vec<String> {
    cidrs(view.effective.as_ref())
}

fn net(text: &str) -> Ipv4Net {
    text.parse().expect("a network")
}

fn nets<const N: usize>(nets: [&str; N]) -> BTreeSet<Ipv4Net> {
    nets.into_iter().map(net).collect()
}

fn connected(network: &str) -> Surroundings {
    Surroundings { connected: [(net(network), "eth1".to_owned())].into(), ..Surroundings::default() }
}

fn unreadable(fact: Fact) -> Surroundings {
    Surroundings { unreadable: [(fact, "refused".to_owned())].into(), ..Surroundings::default() }
}

const NOWHERE: fn() -> Surroundings = Surroundings::default;
const BOTH: [&str; 2] = ["10.1.6.0/24", "10.1.5.0/24"];

/// A network becomes connected and goes away again, with a restart in between.
#[test]
fn a_network_that_becomes_connected_vetoes_and_its_end_brings_back() {
    let good = see(keys(&[A, B]), &NOWHERE(), None);
    assert_eq!((effective(&good), good.valid()), (BOTH.map(str::to_owned).to_vec(), true));
    let vetoed = see(keys(&[A, B]), &connected("10.1.5.0/25"), Some(&good));
    assert_eq!((effective(&vetoed), vetoed.valid(), vetoed.stale), (vec!["10.1.6.0/24".to_owned()], false, true));
    assert_eq!((&vetoed.vetoed, &vetoed.last_good), (&nets(["10.1.5.0/24"]), &good.last_good));

    let after = restarted(&vetoed);
    assert_eq!(
        (effective(&after), &after.vetoed, &after.last_good),
        (effective(&vetoed), &vetoed.vetoed, &good.last_good)
    );
    let away = View::next("test", &Observed::nothing("refused"), Some(&after), Timestamp::UNIX_EPOCH);
    assert_eq!((effective(&away), &away.vetoed), (effective(&vetoed), &vetoed.vetoed), "not without a document");
    // The unreadable fact was the reason for the veto: being unreadable does not end the veto.
    let blind = see(keys(&[A, B]), &unreadable(Fact::Networks), Some(&after));
    assert_eq!((effective(&blind), blind.vetoed.contains(&net("10.1.5.0/24"))), (effective(&vetoed), true));
    let still_blind = see(keys(&[A, B]), &unreadable(Fact::Networks), Some(&blind));
    assert_eq!(effective(&still_blind), effective(&vetoed));
    // The line is now in error: its last good value comes back.
    let back = see(keys(&[A, "10.1.5.0/24 10.169.72.36 x"]), &NOWHERE(), Some(&still_blind));
    assert_eq!((effective(&back), &back.vetoed), (BOTH.map(str::to_owned).to_vec(), &nets([])));
}

#[test]
fn every_cidr_that_clashes_is_vetoed() {
    let good = see(keys(&[A, B]), &NOWHERE(), None);
    let surroundings = Surroundings {
        gateways: [[10, 169, 72, 1].into()].into(),
        api_servers: [[10, 169, 73, 10].into()].into(),
        ..connected("10.169.72.0/24")
    };
    let document = keys(&[A, "10.169.73.0/24 10.169.72.36 00:50:56:00:00:02", "10.169.72.0/24 10.170.0.5 x"]);
    let view = see(document, &surroundings, Some(&good));
    assert_eq!(view.vetoed, nets(["10.169.72.0/24", "10.169.73.0/24"]));
    assert_eq!(effective(&view), BOTH, "their last good values remain");
    let off = view.findings.iter().map(|finding| (finding.rule, finding.index)).collect::<Vec<_>>();
    assert!(off.contains(&(Rule::VtepCidrContainsApiserver, Some(1))), "{off:?}");
    assert!(off.contains(&(Rule::VtepCidrContainsGateway, Some(2))), "{off:?}");
    // CIDRs are vetoed even if the lists differ in length.
    let view = see(with(keys(&[A]), "vtep-cidr", Some("10.1.6.0/24 10.169.73.0/24")), &surroundings, Some(&good));
    assert_eq!((&view.vetoed, effective(&view)), (&nets(["10.169.73.0/24"]), BOTH.map(str::to_owned).to_vec()));
}

#[test]
fn an_ipcache_entry_or_an_unreadable_fact_stops_only_new_vteps() {
    let ipcache = Surroundings {
        ipcache: BOTH.map(|cidr| (net(cidr), vec!["10.1.5.7/32 (identity 4711)".to_owned()])).into(),
        ..Surroundings::default()
    };
    for surroundings in [ipcache, unreadable(Fact::Networks), unreadable(Fact::Ipcache)] {
        let first = see(keys(&[A, B]), &surroundings, None);
        assert_eq!((effective(&first), first.valid()), (vec![], false), "{surroundings:?}");
        let one = see(keys(&[A]), &NOWHERE(), None);
        let two = see(keys(&[A, B]), &surroundings, Some(&one));
        assert_eq!((effective(&two), two.valid()), (vec!["10.1.6.0/24".to_owned()], false), "{surroundings:?}");
        assert!(two.findings.iter().all(|finding| finding.index == Some(1)), "{:?}", two.findings);
        let now_known = see(keys(&[A, B]), &NOWHERE(), Some(&two));
        assert_eq!((effective(&now_known), now_known.valid()), (BOTH.map(str::to_owned).to_vec(), true));
    }
    // An unreadable fact vetoes nothing: existing routes remain.
    let blind = see(keys(&[A, B]), &unreadable(Fact::Networks), None);
    assert_eq!(blind.vetoed, nets([]));
}

#[test]
fn a_value_at_which_cilium_exits_changes_nothing() {
    let good = see(keys(&[A, B]), &NOWHERE(), None);
    for value in ["ture", "yes", "on", ""] {
        let view = see(with(keys(&[A]), "enable-vtep", Some(value)), &NOWHERE(), Some(&good));
        assert_eq!((&view.effective, view.valid(), view.stale), (&good.effective, false, true), "{value}");
    }
    let view = see(with(keys(&[A]), "enable-wireguard", Some("ture")), &NOWHERE(), Some(&good));
    assert_eq!((effective(&view), view.valid(), view.stale), (vec!["10.1.6.0/24".to_owned()], false, false));
    let off = see(with(keys(&[A]), "enable-vtep", Some("false")), &NOWHERE(), Some(&good));
    assert_eq!((effective(&off), off.valid()), (vec![], true), "switching VTEP off is a decision");
}

#[test]
fn lists_that_are_gone_leave_the_truth_to_somebody_else() {
    let good = see(keys(&[A, B]), &NOWHERE(), None);
    let lists = ["vtep-cidr", "vtep-endpoint", "vtep-mac"];
    let gone = lists.iter().fold(keys(&[]), |keys, key| with(keys, key, None));
    let view = see(gone.clone(), &NOWHERE(), Some(&good));
    assert_eq!((view.truth, view.valid(), view.stale, &view.findings), (Truth::None, true, false, &vec![]));
    assert_eq!((effective(&view), view.effective.as_ref().map(|spec| spec.enabled)), (vec![], Some(true)));
    assert_eq!((&view.last_good, &view.mentioned), (&good.last_good, &good.mentioned));
    // Another error changes nothing: the last good lists never take effect if they do not decide.
    for (key, value) in [("vtep-mask", ""), ("routing-mode", "native"), ("enable-vtep", "ture")] {
        let view = see(with(gone.clone(), key, Some(value)), &NOWHERE(), Some(&view));
        assert_eq!((view.truth, effective(&view), &view.last_good), (Truth::None, vec![], &good.last_good), "{key}");
    }
    let after = restarted(&view);
    assert_eq!((after.truth, effective(&after), &after.last_good), (Truth::None, vec![], &good.last_good));
    let away = View::next("test", &Observed::nothing("refused"), Some(&after), Timestamp::UNIX_EPOCH);
    assert_eq!((away.truth, effective(&away)), (Truth::None, vec![]));
    let missing =
        View::next("test", &SourceState::Missing("gone".to_owned()).into(), Some(&view), Timestamp::UNIX_EPOCH);
    assert_eq!((missing.truth, effective(&missing)), (Truth::None, vec![]));

    // A list in error does not change who decides: in one case nothing is in effect, in the other the lists are.
    let in_error = with(gone.clone(), "vtep-cidr", Some(""));
    let empty = see(in_error.clone(), &NOWHERE(), Some(&after));
    assert_eq!((empty.truth, effective(&empty), &empty.last_good), (Truth::None, vec![], &good.last_good));
    for document in [in_error, with(gone, "enable-vtep", Some("ture"))] {
        let held = see(document, &NOWHERE(), Some(&good));
        assert_eq!((held.truth, &held.effective, held.valid()), (Truth::Configmap, &good.effective, false));
    }
    assert_eq!(empty.findings[0].rule, Rule::VtepListEmpty);
    let back = see(keys(&[A]), &NOWHERE(), Some(&after));
    assert_eq!((back.truth, effective(&back), back.valid()), (Truth::Configmap, vec!["10.1.6.0/24".to_owned()], true));
    let first =
        see(with(with(with(keys(&[]), "vtep-cidr", None), "vtep-endpoint", None), "vtep-mac", None), &NOWHERE(), None);
    assert_eq!((first.truth, &first.last_good, effective(&first)), (Truth::None, &None, vec![]));
}

#[test]
fn the_needs_of_the_node_hold_without_a_document() {
    let good = see(keys(&[A, B]), &NOWHERE(), None);
    let node = connected("10.1.5.0/24");
    for state in [SourceState::Missing("gone".to_owned()), SourceState::Nothing] {
        let mut previous = good.clone();
        for _ in 0..2 {
            let observed = Observed::from(state.clone());
            previous =
                View::next_on(&node, Signs::default(), "test", &observed, Some(&previous), Timestamp::UNIX_EPOCH);
            assert_eq!(effective(&previous), ["10.1.6.0/24"], "{state:?}");
            assert_eq!((&previous.vetoed, &previous.last_good), (&nets(["10.1.5.0/24"]), &good.last_good), "{state:?}");
            let reported = previous.findings.iter().filter(|f| f.rule == Rule::VtepCidrOverlapsConnected);
            assert_eq!(reported.count(), 1, "{state:?}");
        }
    }
}
