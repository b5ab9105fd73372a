//! Properties of any document, and of any sequence of documents.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use proptest::prelude::*;

use crate::config::{
    Keys,
    document::Document,
    effective::effective,
    last_good::LastGood,
    parse::parse,
    spec::{MAX_VTEPS, Spec, Vtep, overlaps},
    surroundings::{Fact, Surroundings},
    truth::{Signs, Truth},
    view::{Observed, SourceState, View},
};

/// Documents similar to those that people write, right and wrong.
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
    let enabled = prop::sample::select(&["true", "true", "true", "true", "true", "true", "false", "ture"][..]);
    (lists, mask, junk, enabled, prop::bool::weighted(0.05)).prop_map(
        |((cidrs, endpoints, macs, equal), mask, junk, enabled, gone)| {
            let length = cidrs.len().min(endpoints.len()).min(macs.len());
            let join = |mut values: Vec<String>| {
                values.truncate(if equal { length } else { values.len() });
                values.join("  ")
            };
            let mut keys: Keys = junk;
            keys.insert("enable-vtep".to_owned(), enabled.to_owned());
            if !gone {
                keys.insert("vtep-cidr".to_owned(), join(cidrs));
                keys.insert("vtep-endpoint".to_owned(), join(endpoints));
                keys.insert("vtep-mac".to_owned(), join(macs));
            }
            keys.extend(mask.map(|mask| ("vtep-mask".to_owned(), mask)));
            keys
        },
    )
}

/// A last good configuration from a release that may have had fewer rules.
fn last_good() -> impl Strategy<Value = Spec> {
    let vtep = (
        0..6_u8,
        prop_oneof![4 => (0..6_u8).prop_map(|host| Ipv4Addr::new(192, 0, 2, host)), 1 => Just(Ipv4Addr::new(10, 1, 1, 1))],
        1..6_u8,
    );
    let vtep = vtep.prop_map(|(net, endpoint, octet)| Vtep {
        cidr: Ipv4Net::new_assert(Ipv4Addr::new(10, 1, net, 0), 24),
        endpoint,
        mac: [0, 0x50, 0x56, 0, 0, octet].into(),
    });
    prop::collection::vec(vtep, 0..7).prop_map(|mut vteps| {
        let mut seen = BTreeSet::new();
        vteps.retain(|vtep| seen.insert(vtep.cidr));
        Spec { enabled: true, vteps, mask: Some(Ipv4Addr::new(255, 255, 255, 0)), tunnel: Default::default() }
    })
}

/// A node and a cluster whose networks may overlap those of the documents.
fn surroundings() -> impl Strategy<Value = Surroundings> {
    let net = || {
        (0..6_u8, 20..=32_u8)
            .prop_map(|(net, length)| Ipv4Net::new_assert(Ipv4Addr::new(10, 1, net, 0), length).trunc())
    };
    let nets = || prop::collection::btree_set(net(), 0..2);
    let addresses = || prop::collection::btree_set((0..40_u8).prop_map(|net| Ipv4Addr::new(10, 1, net, 1)), 0..2);
    let cidr = (0..6_u8).prop_map(|net| Ipv4Net::new_assert(Ipv4Addr::new(10, 1, net, 0), 24));
    let ipcache = prop::collection::btree_map(cidr, Just(vec!["a pod".to_owned()]), 0..2);
    let fact = prop::sample::select(&[Fact::Networks, Fact::Ipcache, Fact::ApiServer, Fact::PodNetworks][..]);
    let unreadable = prop::collection::btree_map(fact, Just("refused".to_owned()), 0..2);
    (nets(), nets(), addresses(), addresses(), addresses(), ipcache, unreadable, nets()).prop_map(
        |(pod_cidrs, connected, gateways, api_servers, node_addresses, ipcache, unreadable, allow_overlap)| {
            Surroundings {
                pod_cidrs,
                service_cidrs: BTreeSet::new(),
                node_addresses,
                api_servers,
                connected: connected.into_iter().map(|net| (net, "eth0".to_owned())).collect(),
                gateways,
                ipcache,
                unreadable,
                allow_overlap,
            }
        },
    )
}

/// Checks the invariants of every view, whatever came before.
fn is_sound(view: &View, around: &Surroundings) -> Result<(), TestCaseError> {
    let vteps = view.effective.iter().flat_map(|spec| &spec.vteps).collect::<Vec<_>>();
    for spec in view.effective.iter().chain(&view.last_good) {
        prop_assert_eq!(spec.check(), Ok(()), "the planner takes it");
    }
    for vtep in &vteps {
        prop_assert!(!view.vetoed.contains(&vtep.cidr), "{} is vetoed", vtep.cidr);
        prop_assert!(view.last_good.iter().any(|spec| spec.vteps.contains(vtep)), "{} is not kept", vtep.cidr);
        for other in &vteps {
            prop_assert!(!vtep.cidr.contains(&other.endpoint), "{} has {}", vtep.cidr, other.endpoint);
        }
        let is_allowed = around.allow_overlap.iter().any(|allowed| allowed.contains(&vtep.cidr));
        prop_assert!(is_allowed || !around.connected.keys().any(|net| overlaps(*net, vtep.cidr)));
        prop_assert!(!around.pod_cidrs.iter().any(|net| overlaps(*net, vtep.cidr)));
        for needed in around.gateways.iter().chain(&around.api_servers).chain(&around.node_addresses) {
            prop_assert!(!vtep.cidr.contains(needed), "{} has {needed}", vtep.cidr);
        }
    }
    Ok(())
}

/// Whether a VTEP that was in effect may be absent now.
fn may_be_gone(before: &Vtep, keys: &Keys, view: &View) -> bool {
    let parsed = parse(keys);
    let good = || parsed.lines.iter().filter_map(|line| line.vtep);
    let in_error = parsed.lines.len() - good().count();
    let kept = view.last_good.as_ref().map_or(&[][..], |spec| &spec.vteps);
    let held = kept.iter().filter(|kept| !good().any(|good| good == **kept)).count();
    let switched_off = !parsed.enabled || view.truth == Truth::None;
    // Because of facts about the node, more lines may be in error than by parsing alone. Their own last good values replace them.
    let removed = !parsed.list_error() && held >= in_error;
    let overlapped = good().any(|good| overlaps(good.cidr, before.cidr));
    let fits = view.effective.as_ref().is_some_and(|spec| spec.mask == Some(Ipv4Addr::new(255, 255, 255, 0)));
    let remasked = !fits && in_error == 0;
    switched_off || removed || overlapped || view.vetoed.contains(&before.cidr) || remasked || kept.len() == MAX_VTEPS
}

proptest! {
    #[test]
    fn nothing_is_lost_by_a_bad_edit(spec in last_good(), keys in document(), around in surroundings()) {
        let (hash, mentioned) = (String::new(), BTreeSet::new());
        let observed_at = Timestamp::UNIX_EPOCH;
        let (truth, vetoed, unlooked) = (Truth::Configmap, BTreeSet::new(), BTreeSet::new());
        let (names, covered, lists) = (BTreeMap::new(), None, Vec::new());
        let saved = LastGood { observed_at, hash, spec, mentioned, truth, vetoed, unlooked, names, covered, lists };
        let before = saved.recall().expect("sound");
        is_sound(&before, &Surroundings::default())?;
        let document = Document::of_keys(keys.clone(), around.clone());
        let after = View::next("test", &SourceState::Document(document).into(), Some(&before), observed_at);
        is_sound(&after, &around)?;
        let left: BTreeSet<_> = after.effective.iter().flat_map(|spec| &spec.vteps).map(|vtep| vtep.cidr).collect();
        for vtep in before.effective.iter().flat_map(|spec| &spec.vteps).filter(|vtep| !left.contains(&vtep.cidr)) {
            prop_assert!(may_be_gone(vtep, &keys, &after), "{} is lost: {:#?}", vtep.cidr, after);
        }
        // The needs of the node apply even when the document is gone.
        let missing = Observed::from(SourceState::Missing("gone".to_owned()));
        is_sound(&View::next_on(&around, Signs::default(), "test", &missing, Some(&before), observed_at), &around)?;
        is_sound(&View::next_on(&around, Signs::default(), "test", &Observed::nothing("refused"), Some(&before), observed_at), &around)?;
    }

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
        for finding in &parsed.findings {
            prop_assert!(!finding.message.chars().any(char::is_control), "{}", finding.message);
        }
    }

    #[test]
    fn the_effective_configuration_is_sound(history in prop::collection::vec(document(), 1..5)) {
        let mut last_good = None;
        for keys in history {
            let parsed = parse(&keys);
            let Some(now) = effective(&parsed, last_good.as_ref()) else { continue };
            prop_assert_eq!(now.stale, parsed.enabled && parsed.holds_back());
            // A new mask takes effect once no line is in error.
            if parsed.enabled && !parsed.list_error() && (now.spec.mask == Some(parsed.mask) || !parsed.holds_back()) {
                for vtep in parsed.lines.iter().filter_map(|line| line.vtep) {
                    prop_assert!(now.spec.vteps.contains(&vtep));
                }
            }
            prop_assert_eq!(now.spec.check(), Ok(()), "the planner takes it");
            last_good = Some(now.last_good);
        }
    }
}
