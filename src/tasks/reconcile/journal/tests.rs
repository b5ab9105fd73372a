//! Tests of the records across a restart.

use ipnet::Ipv4Net;
use vtep_core::datapath::{
    records::PROTOCOL,
    routes::Found,
    state::{HostRoute, HostRule, Table},
};

use super::*;

fn cidr(n: u8) -> Ipv4Net {
    Ipv4Net::new([10, 1, n, 0].into(), 24).expect("24 is a prefix length")
}

fn route(table: u32) -> HostRoute {
    HostRoute { device: 4, mtu: 1450, table }
}

fn rule(n: u8, table: u32) -> HostRule {
    HostRule { cidr: cidr(n), table: Table::Ours(table) }
}

fn found(n: u8, table: u32, protocol: u8) -> Found {
    Found { cidr: cidr(n), route: route(table), protocol, like_ours: true, in_the_way: true }
}

fn put(n: u8, table: u32) -> [Op; 2] {
    [Op::PutRoute { cidr: cidr(n), found: None, route: route(table) }, Op::AddRule(rule(n, table))]
}

#[test]
fn what_was_added_is_known_after_a_restart_and_what_was_removed_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let load = || Journal::load(StateFile::new(dir.path().join(FILE)), || Records::of_0_1_0([cidr(1)]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let mut journal = load();
    assert!(journal.records().has_route(&found(1, 2021, 4)) && journal.records().has_rule(rule(1, 2021), 0));
    journal.claim(&put(6, 2021));
    journal.claim(&put(7, 2021));
    runtime.block_on(journal.save());
    let mut journal = load();
    assert!([6, 7].iter().all(|&n| journal.records().has_route(&found(n, 2021, PROTOCOL))));
    journal.release(&[Op::DeleteRoute { cidr: cidr(6), route: route(2021) }, Op::DeleteRule(rule(6, 2021))]);
    runtime.block_on(journal.save());
    let journal = load();
    assert!(!journal.records().has_route(&found(6, 2021, PROTOCOL)));
    assert!(!journal.records().has_rule(rule(6, 2021), PROTOCOL));
    assert!(journal.records().has_rule(rule(7, 2021), PROTOCOL));
}

#[test]
fn a_damaged_file_owns_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join(FILE), "{\"format\":1").expect("a file");
    let journal = Journal::load(StateFile::new(dir.path().join(FILE)), || Records::of_0_1_0([cidr(1)]));
    assert_eq!(journal.records(), &Records::default());
}
