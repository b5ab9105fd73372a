//! Tests of the records across a restart.

use vtep_core::datapath::state::{HostRoute, HostRule, Table};

use super::*;

fn records() -> Records {
    Records::of_0_1_0(["10.1.1.0/24".parse().expect("a CIDR")])
}

/// The route to a network and its rule.
fn ops(cidr: &str) -> [Op; 2] {
    let cidr = cidr.parse().expect("a CIDR");
    let route = HostRoute { device: 4, mtu: 1450, table: 2021 };
    [Op::PutRoute { cidr, found: None, route }, Op::AddRule(HostRule { cidr, table: Table::Ours(2021) })]
}

/// The operations that take these back.
fn reverse(ops: [Op; 2]) -> [Op; 2] {
    ops.map(|op| match op {
        Op::PutRoute { cidr, route, .. } => Op::DeleteRoute { cidr, route },
        Op::AddRule(rule) => Op::DeleteRule(rule),
        other @ (Op::ReplaceEntry { .. }
        | Op::AddEntry { .. }
        | Op::DeleteEntry { .. }
        | Op::PutIpcache { .. }
        | Op::DeleteIpcache { .. }
        | Op::DeleteRoute { .. }
        | Op::DeleteRule(_)) => other,
    })
}

#[test]
fn what_was_added_is_known_after_a_restart_and_what_was_removed_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let load = || Journal::load(StateFile::new(dir.path().join(FILE)), records);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let mut expected = records();
    let mut journal = load();
    assert_eq!(journal.records(), &expected, "without a file");

    let (six, seven) = (ops("10.1.6.0/24"), ops("10.1.7.0/24"));
    six.iter().chain(&seven).for_each(|op| expected.claim(op));
    journal.claim(six.iter().chain(&seven));
    runtime.block_on(journal.save());
    let mut journal = load();
    assert_eq!(journal.records(), &expected);

    reverse(six).iter().for_each(|op| expected.release(op));
    journal.release(&reverse(six));
    runtime.block_on(journal.save());
    assert_eq!(load().records(), &expected);
    assert_ne!(expected, records(), "the other stays");
}

#[test]
fn a_damaged_file_owns_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join(FILE), "{\"format\":1").expect("a file");
    let journal = Journal::load(StateFile::new(dir.path().join(FILE)), records);
    assert_eq!(journal.records(), &Records::default());
}
