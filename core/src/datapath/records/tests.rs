//! The owner of a route.

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
fn ours_is_what_has_the_mark_and_the_record() {
    let mut records = Records::default();
    put(6, 2021).iter().chain(&put(7, 2099)).for_each(|op| records.claim(op));
    let routes = [
        found(6, 2021, PROTOCOL),
        found(7, 2099, PROTOCOL),
        found(8, 2021, PROTOCOL),
        found(6, 2021, 4),
        Found { like_ours: false, ..found(6, 2021, PROTOCOL) },
        Found { route: HostRoute { device: 5, ..route(2021) }, ..found(6, 2021, PROTOCOL) },
        found(9, 202, 4),
    ];
    let rules = [
        (rule(6, 2021), PROTOCOL),
        (rule(7, 2099), PROTOCOL),
        (rule(8, 2021), PROTOCOL),
        (rule(5, 2021), 3),
        (HostRule { cidr: cidr(9), table: Table::Cilium }, 2),
    ];
    let owned = records.sort(&routes, &rules, 2021);
    assert_eq!(owned.routes, [(cidr(6), route(2021))].into());
    let stale = Op::DeleteRoute { cidr: cidr(7), route: route(2099) };
    assert_eq!(owned.elsewhere, [Op::DeleteRule(rule(7, 2099)), stale]);
    assert_eq!(owned.foreign_routes, [routes[2], routes[3], routes[4], routes[5]]);
    assert_eq!(owned.rules, [rules[0].0, rules[4].0].into());
    assert_eq!(owned.foreign_rules, [rules[2], rules[3]].into());
}
