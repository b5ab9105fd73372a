use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const CAPACITY: usize = 8;

/// The state of a key in the kernel and in the configuration.
#[derive(Clone, Copy, Debug)]
enum Case {
    OnlyActual,
    OnlyDesired,
    Same,
    Differs,
    Kept,
}

fn case() -> impl Strategy<Value = Case> {
    prop_oneof![
        Just(Case::OnlyActual),
        Just(Case::OnlyDesired),
        Just(Case::Same),
        Just(Case::Differs),
        Just(Case::Kept)
    ]
}

fn cidr(n: u8) -> Ipv4Net {
    Ipv4Net::new([10, 1, n, 0].into(), 24).expect("24 is a prefix length")
}

fn value(n: u8) -> VtepValue {
    VtepValue::new([0, 0x50, 0x56, 0, 0, n].into(), [10, 169, 72, n].into())
}

/// Both states and the keys to keep, one case per key.
fn states(
    entries: &BTreeMap<u8, Case>,
    ipcache: &BTreeMap<u8, Case>,
    routes: &BTreeMap<u8, Case>,
) -> (State, State, Retain) {
    let (mut actual, mut desired, mut cidrs) = (State::default(), State::default(), BTreeSet::new());
    let mut retained = BTreeSet::new();
    for (&n, &case) in entries {
        let key = cidr(n);
        let (found, wanted) = match case {
            Case::OnlyActual | Case::Kept => (Some(value(n)), None),
            Case::OnlyDesired => (None, Some(value(n))),
            Case::Same => (Some(value(n)), Some(value(n))),
            Case::Differs => (Some(value(n.wrapping_add(1))), Some(value(n))),
        };
        actual.entries.extend(found.map(|value| (key, value)));
        desired.entries.extend(wanted.map(|value| (key, value)));
        if matches!(case, Case::Kept) {
            retained.insert(key.addr());
        }
    }
    for (&n, &case) in ipcache {
        let endpoint = |n: u8| Ipv4Addr::new(10, 169, 72, n);
        let (found, wanted) = match case {
            Case::OnlyActual | Case::Kept => (Some(endpoint(n)), None),
            Case::OnlyDesired => (None, Some(endpoint(n))),
            Case::Same => (Some(endpoint(n)), Some(endpoint(n))),
            Case::Differs => (Some(endpoint(n.wrapping_add(1))), Some(endpoint(n))),
        };
        actual.ipcache.extend(found.map(|endpoint| (cidr(n), endpoint)));
        desired.ipcache.extend(wanted.map(|endpoint| (cidr(n), endpoint)));
        if matches!(case, Case::Kept) {
            cidrs.insert(cidr(n));
        }
    }
    for (&n, &case) in routes {
        let route = HostRoute { device: 4, mtu: 1450, table: 2021 };
        let rule = HostRule { cidr: cidr(n), table: if n % 2 == 0 { Table::Ours(2021) } else { Table::Cilium } };
        let (found, wanted) = match case {
            Case::OnlyActual | Case::Kept => (Some(route), None),
            Case::OnlyDesired => (None, Some(route)),
            Case::Same => (Some(route), Some(route)),
            Case::Differs => (Some(HostRoute { device: 4, mtu: 1500, table: 2021 }), Some(route)),
        };
        if matches!(case, Case::Kept) {
            cidrs.insert(rule.cidr);
        }
        for (state, route) in [(&mut actual, found), (&mut desired, wanted)] {
            if let Some(route) = route {
                state.rules.insert(rule);
                if rule.table == Table::Ours(2021) {
                    state.routes.insert(rule.cidr, route);
                }
            }
        }
    }
    (actual, desired, Retain { entries: RetainEntries::Networks(retained), cidrs })
}

/// Applies operations like the kernel, and fails as the kernel would.
fn apply(state: &mut State, ops: &[Op]) {
    for op in ops {
        match *op {
            Op::ReplaceEntry { cidr, value, found } => assert_eq!(state.entries.insert(cidr, value), Some(found)),
            Op::AddEntry { cidr, value } => {
                assert_eq!(state.entries.insert(cidr, value), None);
                assert!(state.entries.len() <= CAPACITY, "the map would overflow");
            }
            Op::DeleteEntry { cidr, found } => assert_eq!(state.entries.remove(&cidr), Some(found)),
            Op::PutIpcache { cidr, found, endpoint } => assert_eq!(state.ipcache.insert(cidr, endpoint), found),
            Op::DeleteIpcache { cidr, found } => assert_eq!(state.ipcache.remove(&cidr), Some(found)),
            Op::PutRoute { cidr, found, route } => {
                assert_eq!(found, state.routes.get(&cidr).copied(), "what is replaced is ours");
                state.routes.insert(cidr, route);
            }
            Op::DeleteRoute { cidr, route } => assert_eq!(state.routes.remove(&cidr), Some(route)),
            Op::AddRule(rule) => assert!(state.rules.insert(rule)),
            Op::DeleteRule(rule) => {
                assert_eq!(rule.table, Table::Ours(2021), "Cilium's rules are not ours to delete");
                assert!(state.rules.remove(&rule));
            }
        }
    }
}

/// At most eight entries before and after: the map can hold no more.
fn entry_cases() -> impl Strategy<Value = BTreeMap<u8, Case>> {
    prop::collection::btree_map(any::<u8>(), case(), 0..16).prop_filter("eight entries on each side", |cases| {
        let count = |wanted: fn(&Case) -> bool| cases.values().filter(|case| wanted(case)).count();
        count(|case| !matches!(case, Case::OnlyDesired)) <= CAPACITY
            && count(|case| !matches!(case, Case::OnlyActual)) <= CAPACITY
    })
}

proptest! {
    #[test]
    fn applying_the_plan_gives_the_desired_state(
        entries in entry_cases(),
        ipcache in prop::collection::btree_map(any::<u8>(), case(), 0..8),
        routes in prop::collection::btree_map(any::<u8>(), case(), 0..8),
    ) {
        let (mut actual, desired, retain) = states(&entries, &ipcache, &routes);
        let mut expected = desired.clone();
        let retained = actual.entries.iter().filter(|(key, _)| retain.entries.contains(**key));
        expected.entries.extend(retained.map(|(&k, &v)| (k, v)));
        let is_retained = |cidr: &Ipv4Net| retain.cidrs.contains(cidr);
        let retained = actual.ipcache.iter().filter(|(cidr, _)| is_retained(cidr) && !desired.ipcache.contains_key(cidr));
        expected.ipcache.extend(retained.map(|(&k, &v)| (k, v)));
        let retained = actual.routes.iter().filter(|(cidr, _)| is_retained(cidr) && !desired.routes.contains_key(cidr));
        expected.routes.extend(retained.map(|(&k, &v)| (k, v)));
        let retained = actual.rules.iter().filter(|rule| rule.table == Table::Cilium || is_retained(&rule.cidr));
        expected.rules.extend(retained);
        let fits = actual.entries.len() + expected.entries.keys().filter(|key| !actual.entries.contains_key(key)).count()
            <= CAPACITY;

        let ops = plan(&actual, &desired, &retain, CAPACITY);
        let first_delete = ops.iter().position(|op| matches!(op, Op::DeleteEntry { .. }));
        let last_add = ops.iter().rposition(|op| matches!(op, Op::AddEntry { .. }));
        if let (true, Some(delete), Some(add)) = (fits, first_delete, last_add) {
            prop_assert!(add < delete, "a deletion before an addition leaves a gap: {ops:?}");
        }
        let first_delete = ops.iter().position(|op| matches!(op, Op::DeleteIpcache { .. }));
        let last_put = ops.iter().rposition(|op| matches!(op, Op::PutIpcache { .. }));
        if let (Some(delete), Some(put)) = (first_delete, last_put) {
            prop_assert!(put < delete, "the ipcache has room: {ops:?}");
        }
        apply(&mut actual, &ops);
        prop_assert_eq!(&actual, &expected);
        prop_assert_eq!(plan(&actual, &desired, &retain, CAPACITY), vec![]);
    }
}
