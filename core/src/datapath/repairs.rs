//! Tells a repair, of what somebody else changed, from a change that the configuration asks for.

use super::{
    plan::{Keep, Op},
    state::State,
};

/// What the last pass wanted, and what it left to do.
#[derive(Debug, Default)]
pub struct Repairs {
    wanted: Option<(State, Keep)>,
    /// To do these later is no repair.
    unfinished: Vec<Op>,
}

impl Repairs {
    /// Those of `done` that were repairs: the pass before wanted the same, and had not left them to do.
    pub fn among<'o>(&self, desired: &State, keep: &Keep, done: &'o [Op]) -> impl Iterator<Item = &'o Op> {
        let is_same = self.wanted.as_ref().is_some_and(|(state, kept)| (state, kept) == (desired, keep));
        done.iter().filter(move |op| is_same && !self.unfinished.contains(op))
    }

    /// At the end of a pass that wanted this, did `done`, and found `pending` afterwards.
    pub fn on_pass(&mut self, desired: &State, keep: &Keep, done: &[Op], pending: &[Op]) {
        if self.wanted.as_ref().is_none_or(|(state, kept)| (state, kept) != (desired, keep)) {
            self.wanted = Some((desired.clone(), keep.clone()));
        }
        // What was done and differs again already, somebody else has undone.
        let is_undone =
            |op: &&Op| done.iter().any(|done| done == *op || (op.entry().is_some() && done.entry() == op.entry()));
        self.unfinished = pending.iter().filter(|op| !is_undone(op)).copied().collect();
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
    fn a_repair_is_what_the_last_pass_had_and_somebody_undid() {
        let keep = Keep::default();
        let count = |repairs: &Repairs, desired: &State| repairs.among(desired, &keep, &[add(6)]).count();
        let mut repairs = Repairs::default();
        assert_eq!(count(&repairs, &wanting(6)), 0, "the first pass repairs nothing");
        repairs.on_pass(&wanting(6), &keep, &[add(6)], &[]);
        assert_eq!(count(&repairs, &wanting(6)), 1);
        assert_eq!(count(&repairs, &wanting(5)), 0, "another configuration");
        repairs.on_pass(&wanting(6), &keep, &[], &[add(6)]);
        assert_eq!(count(&repairs, &wanting(6)), 0, "it was left to do");
        repairs.on_pass(&wanting(6), &keep, &[add(6)], &[add(6)]);
        assert_eq!(count(&repairs, &wanting(6)), 1, "it was done, and undone within the pass");
    }
}
