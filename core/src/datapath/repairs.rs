//! Distinguishes repairs, which undo a change by somebody else, from changes that the configuration requires.

use ipnet::Ipv4Net;

use super::{
    plan::{Op, Retain},
    state::State,
};

/// The desired state of the last pass, and the operations that it left undone.
#[derive(Debug, Default)]
pub struct Repairs {
    wanted: Option<(State, Retain)>,
    /// Applying these later is not a repair.
    unfinished: Vec<Op>,
}

impl Repairs {
    /// The repairs among `done`: the previous pass had the same desired state, and had not left these operations undone.
    pub fn among<'o>(&self, desired: &State, retain: &Retain, done: &'o [Op]) -> impl Iterator<Item = &'o Op> {
        let is_same = self.wanted.as_ref().is_some_and(|(state, retained)| (state, retained) == (desired, retain));
        done.iter().filter(move |op| is_same && !self.unfinished.contains(op))
    }

    /// The entries that the previous pass wanted to have another value.
    pub fn changed(&self, desired: &State) -> impl Iterator<Item = Ipv4Net> {
        let before = self.wanted.as_ref().map(|(state, _)| &state.entries);
        let is_other = move |cidr: &Ipv4Net, value| {
            before.and_then(|before| before.get(cidr)).is_some_and(|before| before != value)
        };
        desired.entries.iter().filter(move |(cidr, value)| is_other(cidr, *value)).map(|(cidr, _)| *cidr)
    }

    /// Call this at the end of a pass with this desired state, which had planned these operations, and applied `done`. What differs at the end
    /// and was not planned is a change by somebody else during the pass.
    pub fn on_pass(&mut self, desired: &State, retain: &Retain, planned: &[Op], done: &[Op]) {
        if self.wanted.as_ref().is_none_or(|(state, retained)| (state, retained) != (desired, retain)) {
            self.wanted = Some((desired.clone(), retain.clone()));
        }
        self.unfinished = planned.iter().filter(|op| !done.contains(op)).copied().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::abi::VtepValue;

    fn add(n: u8) -> Op {
        let cidr = format!("10.1.{n}.0/24").parse().expect("a CIDR");
        Op::AddEntry { cidr, value: VtepValue::new([2; 6].into(), [10, 169, 72, n].into()) }
    }

    fn wanting(n: u8) -> State {
        let Op::AddEntry { cidr, value } = add(n) else { return State::default() };
        State { entries: [(cidr, value)].into(), ..State::default() }
    }

    #[test]
    fn a_changed_entry_has_another_value_than_before() {
        let other = |n: u8| {
            let mut state = wanting(n);
            state
                .entries
                .values_mut()
                .for_each(|value| *value = VtepValue::new([2; 6].into(), [10, 169, 72, 99].into()));
            state
        };
        let mut repairs = Repairs::default();
        assert_eq!(repairs.changed(&wanting(6)).count(), 0, "the first pass");
        repairs.on_pass(&wanting(6), &Retain::default(), &[], &[]);
        assert_eq!(repairs.changed(&wanting(6)).count() + repairs.changed(&wanting(5)).count(), 0);
        assert_eq!(repairs.changed(&other(6)).collect::<Vec<_>>(), ["10.1.6.0/24".parse().expect("a CIDR")]);
    }

    #[test]
    fn a_repair_undoes_a_change_since_the_last_pass() {
        let retain = Retain::default();
        let count = |repairs: &Repairs, desired: &State| repairs.among(desired, &retain, &[add(6)]).count();
        let mut repairs = Repairs::default();
        assert_eq!(count(&repairs, &wanting(6)), 0, "the first pass repairs nothing");
        repairs.on_pass(&wanting(6), &retain, &[add(6)], &[add(6)]);
        assert_eq!(count(&repairs, &wanting(6)), 1, "it was done, and undone within the pass or later");
        assert_eq!(count(&repairs, &wanting(5)), 0, "another configuration");
        repairs.on_pass(&wanting(6), &retain, &[add(6)], &[]);
        assert_eq!(count(&repairs, &wanting(6)), 0, "it was left to do");
        repairs.on_pass(&wanting(6), &retain, &[add(5)], &[add(5)]);
        assert_eq!(count(&repairs, &wanting(6)), 1, "somebody did it, and it was undone");
    }
}
