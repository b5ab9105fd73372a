//! The difference between two states, as an ordered list of operations.

use std::{collections::BTreeSet, fmt};

use ipnet::Ipv4Net;

use super::{
    abi::{VtepKey, VtepValue},
    state::{HostRoute, HostRule, State, Table},
};

/// Entries that `cilium_vtep_map` can hold (`VTEP_MAP_SIZE`).
pub const VTEP_MAP_CAPACITY: usize = crate::config::spec::MAX_VTEPS;

/// One change to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    ReplaceEntry { key: VtepKey, found: VtepValue, value: VtepValue },
    AddEntry { key: VtepKey, value: VtepValue },
    DeleteEntry { key: VtepKey, found: VtepValue },
    PutRoute { cidr: Ipv4Net, route: HostRoute },
    AddRule(HostRule),
    DeleteRule(HostRule),
    DeleteRoute { cidr: Ipv4Net, route: HostRoute },
}

impl Op {
    /// The VTEP entry that it is about, if it is about one.
    #[must_use]
    pub const fn entry_key(&self) -> Option<VtepKey> {
        match self {
            Self::ReplaceEntry { key, .. } | Self::AddEntry { key, .. } | Self::DeleteEntry { key, .. } => Some(*key),
            Self::PutRoute { .. } | Self::DeleteRoute { .. } | Self::AddRule(_) | Self::DeleteRule(_) => None,
        }
    }

    /// What the entry held before; `None` where there was none, or where it is about no entry.
    #[must_use]
    pub const fn found(&self) -> Option<VtepValue> {
        match self {
            Self::ReplaceEntry { found, .. } | Self::DeleteEntry { found, .. } => Some(*found),
            Self::AddEntry { .. }
            | Self::PutRoute { .. }
            | Self::DeleteRoute { .. }
            | Self::AddRule(_)
            | Self::DeleteRule(_) => None,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReplaceEntry { key, found, value } => {
                write!(f, "replace vtep entry {}: {value} (found {found})", key.network())
            }
            Self::AddEntry { key, value } => write!(f, "add vtep entry {}: {value}", key.network()),
            Self::DeleteEntry { key, found } => write!(f, "delete stale vtep entry {}: {found}", key.network()),
            Self::PutRoute { cidr, route } => {
                write!(f, "add route {cidr} dev #{} mtu {} table {}", route.device, route.mtu, Table::Ours.id())
            }
            Self::DeleteRoute { cidr, .. } => write!(f, "delete route {cidr} table {}", Table::Ours.id()),
            Self::AddRule(rule) => write!(f, "add rule {rule}"),
            Self::DeleteRule(rule) => write!(f, "delete rule {rule}"),
        }
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "priority {} to {} lookup {}", self.table.priority(), self.cidr, self.table.id())
    }
}

/// What is not stale although nothing in force wants it: left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    pub entries: BTreeSet<VtepKey>,
    /// CIDRs whose routes and rules stay.
    pub routes: BTreeSet<Ipv4Net>,
}

/// The operations that turn `actual` into `desired`, in an order that leaves no gap in traffic: replace in place, add, delete.
/// Only where the map would overflow do deletions come first.
#[must_use]
pub fn plan(actual: &State, desired: &State, keep: &Keep) -> Vec<Op> {
    let mut ops = entry_ops(actual, desired, &keep.entries);
    ops.extend(route_ops(actual, desired, &keep.routes));
    ops
}

fn entry_ops(actual: &State, desired: &State, keep: &BTreeSet<VtepKey>) -> Vec<Op> {
    let mut replace = Vec::new();
    let mut add = Vec::new();
    for (&key, &value) in &desired.entries {
        match actual.entries.get(&key) {
            Some(&found) if found == value => {}
            Some(&found) => replace.push(Op::ReplaceEntry { key, found, value }),
            None => add.push(Op::AddEntry { key, value }),
        }
    }
    let stale = actual.entries.iter().filter(|(key, _)| !desired.entries.contains_key(key) && !keep.contains(key));
    let delete = stale.map(|(&key, &found)| Op::DeleteEntry { key, found });
    let overflows = actual.entries.len() + add.len() > VTEP_MAP_CAPACITY;
    if overflows {
        replace.into_iter().chain(delete).chain(add).collect()
    } else {
        replace.into_iter().chain(add).chain(delete).collect()
    }
}

/// A rule is added after its route and removed before it: a rule whose table is empty is harmless, a route that no rule
/// reaches is, too, but in this order no packet meets a half-made path.
fn route_ops(actual: &State, desired: &State, keep: &BTreeSet<Ipv4Net>) -> Vec<Op> {
    let put = desired.routes.iter().filter(|(cidr, route)| actual.routes.get(cidr) != Some(route));
    let put = put.map(|(&cidr, &route)| Op::PutRoute { cidr, route });
    let add_rules = desired.rules.difference(&actual.rules).map(|&rule| Op::AddRule(rule));
    let is_stale = |rule: &&HostRule| rule.table == Table::Ours && !keep.contains(&rule.cidr);
    let delete_rules = actual.rules.difference(&desired.rules).filter(is_stale).map(|&rule| Op::DeleteRule(rule));
    let delete = actual.routes.iter().filter(|(cidr, _)| !desired.routes.contains_key(cidr) && !keep.contains(cidr));
    let delete = delete.map(|(&cidr, &route)| Op::DeleteRoute { cidr, route });
    put.chain(add_rules).chain(delete_rules).chain(delete).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// What a key may be, in the kernel and in the configuration.
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
    fn states(entries: &BTreeMap<u8, Case>, routes: &BTreeMap<u8, Case>) -> (State, State, Keep) {
        let (mut actual, mut desired, mut keep) = (State::default(), State::default(), Keep::default());
        for (&n, &case) in entries {
            let key = VtepKey::new(cidr(n));
            let (found, wanted) = match case {
                Case::OnlyActual | Case::Kept => (Some(value(n)), None),
                Case::OnlyDesired => (None, Some(value(n))),
                Case::Same => (Some(value(n)), Some(value(n))),
                Case::Differs => (Some(value(n.wrapping_add(1))), Some(value(n))),
            };
            actual.entries.extend(found.map(|value| (key, value)));
            desired.entries.extend(wanted.map(|value| (key, value)));
            if matches!(case, Case::Kept) {
                keep.entries.insert(key);
            }
        }
        for (&n, &case) in routes {
            let route = HostRoute { device: 4, mtu: 1450 };
            let rule = HostRule { cidr: cidr(n), table: if n % 2 == 0 { Table::Ours } else { Table::Cilium } };
            let (found, wanted) = match case {
                Case::OnlyActual | Case::Kept => (Some(route), None),
                Case::OnlyDesired => (None, Some(route)),
                Case::Same => (Some(route), Some(route)),
                Case::Differs => (Some(HostRoute { device: 4, mtu: 1500 }), Some(route)),
            };
            if matches!(case, Case::Kept) {
                keep.routes.insert(rule.cidr);
            }
            for (state, route) in [(&mut actual, found), (&mut desired, wanted)] {
                if let Some(route) = route {
                    state.rules.insert(rule);
                    if rule.table == Table::Ours {
                        state.routes.insert(rule.cidr, route);
                    }
                }
            }
        }
        (actual, desired, keep)
    }

    /// The kernel's part: fails as the kernel would.
    fn apply(state: &mut State, ops: &[Op]) {
        for op in ops {
            match *op {
                Op::ReplaceEntry { key, value, found } => assert_eq!(state.entries.insert(key, value), Some(found)),
                Op::AddEntry { key, value } => {
                    assert_eq!(state.entries.insert(key, value), None);
                    assert!(state.entries.len() <= VTEP_MAP_CAPACITY, "the map would overflow");
                }
                Op::DeleteEntry { key, found } => assert_eq!(state.entries.remove(&key), Some(found)),
                Op::PutRoute { cidr, route } => {
                    state.routes.insert(cidr, route);
                }
                Op::DeleteRoute { cidr, route } => assert_eq!(state.routes.remove(&cidr), Some(route)),
                Op::AddRule(rule) => assert!(state.rules.insert(rule)),
                Op::DeleteRule(rule) => {
                    assert_eq!(rule.table, Table::Ours, "Cilium's rules are not ours to delete");
                    assert!(state.rules.remove(&rule));
                }
            }
        }
    }

    /// At most eight entries before and after: the map can hold no more.
    fn entry_cases() -> impl Strategy<Value = BTreeMap<u8, Case>> {
        prop::collection::btree_map(any::<u8>(), case(), 0..16).prop_filter("eight entries on each side", |cases| {
            let count = |wanted: fn(&Case) -> bool| cases.values().filter(|case| wanted(case)).count();
            count(|case| !matches!(case, Case::OnlyDesired)) <= VTEP_MAP_CAPACITY
                && count(|case| !matches!(case, Case::OnlyActual)) <= VTEP_MAP_CAPACITY
        })
    }

    proptest! {
        #[test]
        fn applying_the_plan_gives_the_desired_state(
            entries in entry_cases(),
            routes in prop::collection::btree_map(any::<u8>(), case(), 0..8),
        ) {
            let (mut actual, desired, keep) = states(&entries, &routes);
            let mut expected = desired.clone();
            expected.entries.extend(actual.entries.iter().filter(|(key, _)| keep.entries.contains(key)).map(|(&k, &v)| (k, v)));
            expected.routes.extend(actual.routes.iter().filter(|(cidr, _)| keep.routes.contains(cidr)).map(|(&k, &v)| (k, v)));
            expected.rules.extend(actual.rules.iter().filter(|rule| rule.table == Table::Cilium || keep.routes.contains(&rule.cidr)));
            let fits = actual.entries.len() + expected.entries.keys().filter(|key| !actual.entries.contains_key(key)).count()
                <= VTEP_MAP_CAPACITY;

            let ops = plan(&actual, &desired, &keep);
            let first_delete = ops.iter().position(|op| matches!(op, Op::DeleteEntry { .. }));
            let last_add = ops.iter().rposition(|op| matches!(op, Op::AddEntry { .. }));
            if let (true, Some(delete), Some(add)) = (fits, first_delete, last_add) {
                prop_assert!(add < delete, "a deletion before an addition leaves a gap: {ops:?}");
            }
            apply(&mut actual, &ops);
            prop_assert_eq!(&actual, &expected);
            prop_assert_eq!(plan(&actual, &desired, &keep), vec![]);
        }
    }
}
