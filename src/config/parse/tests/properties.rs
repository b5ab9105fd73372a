//! What holds for any document, and for any sequence of them.

use proptest::prelude::*;

use crate::config::{Keys, in_force::in_force, parse::parse};

/// Documents near the ones people write, right and wrong.
fn document() -> impl Strategy<Value = Keys> {
    let one_of = |values: &'static [&'static str]| prop::sample::select(values).prop_map(str::to_owned);
    let cidr = prop_oneof![
        4 => (0..4_u8, 0..3_u8).prop_map(|(net, host)| format!("10.1.{net}.{host}/24")),
        1 => (0..4_u8, 0..=33_u8).prop_map(|(net, length)| format!("10.1.{net}.0/{length}")),
        1 => one_of(&["10.1.1.0", "2001:db8::/64", "\"10.1.2.0/24\"", "x"]),
    ];
    let endpoint = prop_oneof![
        4 => (0..5_u8).prop_map(|host| format!("192.0.2.{host}")),
        1 => one_of(&["10.1.1.1", "127.0.0.1", "::1", "x"]),
    ];
    let mac = prop_oneof![
        4 => (0..5_u8).prop_map(|octet| format!("00:50:56:00:00:{octet:02x}")),
        1 => one_of(&["01:00:00:00:00:01", "00:00:00:00:00:00", "0050.5600.0001", "x"]),
    ];
    let list = |value: BoxedStrategy<String>| prop::collection::vec(value, 1..5);
    let lists = (list(cidr.boxed()), list(endpoint.boxed()), list(mac.boxed()), any::<bool>());
    let mask = prop_oneof![
        6 => Just(None),
        2 => one_of(&["255.255.255.0", "255.255.0.0", "255.255.255.128", "255.255.255.255"]).prop_map(Some),
        1 => one_of(&["", "24", "0.0.0.0"]).prop_map(Some),
    ];
    let junk =
        prop::collection::btree_map("[a-z-]{0,6}vtep[a-z-]{0,4}|tunnel|tunnel-port|enable-ipv4", ".{0,12}", 0..2);
    (lists, mask, junk, prop::sample::select(&["true", "true", "true", "false"][..])).prop_map(
        |((cidrs, endpoints, macs, equal), mask, junk, enabled)| {
            let length = cidrs.len().min(endpoints.len()).min(macs.len());
            let join = |mut values: Vec<String>| {
                values.truncate(if equal { length } else { values.len() });
                values.join("  ")
            };
            let mut keys: Keys = junk;
            keys.insert("enable-vtep".to_owned(), enabled.to_owned());
            keys.insert("vtep-cidr".to_owned(), join(cidrs));
            keys.insert("vtep-endpoint".to_owned(), join(endpoints));
            keys.insert("vtep-mac".to_owned(), join(macs));
            keys.extend(mask.map(|mask| ("vtep-mask".to_owned(), mask)));
            keys
        },
    )
}

proptest! {
    #[test]
    fn any_text_is_read(keys in prop::collection::btree_map(
        prop_oneof![
            prop::sample::select(&[
                "enable-vtep", "vtep-endpoint", "vtep-cidr", "vtep-mask", "vtep-mac", "routing-mode", "tunnel",
                "tunnel-protocol", "tunnel-port", "ipam", "cluster-pool-ipv4-cidr", "enable-ipv4",
            ][..]).prop_map(str::to_owned),
            any::<String>(),
        ],
        prop_oneof![any::<String>(), "[0-9./: ,\"truea-f]{0,40}"],
        0..12,
    )) {
        let parsed = parse(&keys);
        let text = crate::cli::style::colourless(&crate::cli::check::render(&keys, &parsed));
        prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
    }

    #[test]
    fn what_is_in_force_is_sound(history in prop::collection::vec(document(), 1..5)) {
        let mut last_good = None;
        for keys in history {
            let parsed = parse(&keys);
            let Some(now) = in_force(&parsed, last_good.as_ref()) else { continue };
            prop_assert_eq!(now.stale, parsed.enabled && parsed.errors().next().is_some());
            if parsed.enabled && !parsed.list_error() {
                for vtep in parsed.lines.iter().filter_map(|line| line.vtep) {
                    prop_assert!(now.spec.vteps.contains(&vtep));
                }
            }
            prop_assert_eq!(now.spec.check(), Ok(()), "the planner takes it");
            last_good = Some(now.spec);
        }
    }
}
