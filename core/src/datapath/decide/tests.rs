//! For any node and any configuration: the plan never overlaps a need of the node, never removes a route that is not on record, and never
//! leaves an effective VTEP without its entry.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    config::{
        Keys,
        document::Document,
        parse::parse_within,
        spec::overlaps,
        surroundings::{Around, Surroundings},
        truth::{Choice, Signs, Truth},
        view::{Observed, SourceState},
        vtep_config::{Kind, Objects, VtepConfig},
    },
    datapath::{
        abi::VtepValue,
        ipcache::Owned,
        layout::Layout,
        plan::Op,
        records::{PROTOCOL, Records},
        routes::{Found, HostRoutes as FoundRoutes},
        settings::{HostRoutes, IpcacheMode},
        state::{CiliumRoutes, HostRoute, HostRule, ROUTE_TABLE, Table},
    },
    node::{
        devices::{CiliumDevices, Device},
        running::RunningConfig,
    },
    tunnel::mac_learning::LearnedMac,
};

/// Networks that VTEPs, nodes and pods may have. There are few of them, so that they often overlap.
const NETWORKS: [&str; 9] = [
    "10.1.1.0/24",
    "10.1.2.0/24",
    "10.1.3.0/24",
    "10.1.4.0/24",
    "10.169.72.0/24",
    "10.169.73.0/24",
    "10.0.1.0/24",
    "127.0.0.0/24",
    "169.254.1.0/24",
];
const ENDPOINTS: [&str; 6] = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "10.169.72.34", "10.1.1.34", "oops"];
const MACS: [&str; 4] = ["00:50:56:00:00:01", "00:50:56:00:00:02", "00:00:00:00:00:00", "00:50:56"];

fn net(text: &str) -> Ipv4Net {
    text.parse().expect("a network")
}

fn network() -> impl Strategy<Value = Ipv4Net> {
    prop::sample::select(&NETWORKS[..]).prop_map(net)
}

fn address() -> impl Strategy<Value = Ipv4Addr> {
    (network(), 1_u8..255).prop_map(|(net, host)| (u32::from(net.network()) + u32::from(host)).into())
}

/// The keys of a document, right or wrong in any way.
fn keys() -> impl Strategy<Value = Keys> {
    let value = |of: &'static [&'static str]| prop::sample::select(of);
    let line = (value(&NETWORKS), value(&ENDPOINTS), value(&MACS));
    let switch = prop_oneof![8 => Just("true"), 1 => Just("false"), 1 => Just("ture")];
    let cidrs = prop_oneof![9 => Just(true), 1 => Just(false)];
    (prop::collection::vec(line, 0..5), switch, cidrs).prop_map(|(lines, switch, with_lists)| {
        let column = |n: usize| lines.iter().map(|line| [line.0, line.1, line.2][n]).collect::<Vec<_>>().join(" ");
        let mut keys = vec![("enable-vtep", switch.to_owned())];
        if with_lists {
            keys.extend([("vtep-cidr", column(0)), ("vtep-endpoint", column(1)), ("vtep-mac", column(2))]);
        }
        keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    })
}

/// The needs of a node.
fn needs() -> impl Strategy<Value = Surroundings> {
    (
        prop::collection::btree_set(network(), 0..3),
        prop::collection::btree_set(address(), 0..3),
        prop::collection::btree_set(address(), 0..2),
        prop::collection::btree_set(network(), 0..2),
        prop::collection::btree_set(network(), 0..2),
    )
        .prop_map(|(connected, gateways, api_servers, pod_cidrs, in_ipcache)| Surroundings {
            connected: connected.into_iter().map(|net| (net, "eth0".to_owned())).collect(),
            gateways,
            api_servers,
            pod_cidrs,
            ipcache: in_ipcache.into_iter().map(|net| (net, vec!["a pod".to_owned()])).collect(),
            ..Surroundings::default()
        })
}

/// Routes and rules in the kernel: each is ours, foreign, or ours without a record.
#[derive(Clone, Debug)]
struct Routes {
    found: FoundRoutes,
    records: Records,
    on_record: BTreeSet<Ipv4Net>,
}

fn found_routes() -> impl Strategy<Value = Routes> {
    let protocol = || prop::sample::select(&[PROTOCOL, 4, 2][..]);
    let one = (network(), protocol(), protocol(), any::<bool>(), any::<bool>(), any::<bool>());
    prop::collection::vec(one, 0..6).prop_map(|all| {
        let (mut found, mut records, mut recorded) = (FoundRoutes::default(), Records::default(), BTreeSet::new());
        for (cidr, route_protocol, rule_protocol, on_record, like_ours, in_the_way) in all {
            let route = HostRoute { device: 4, mtu: 1450, table: ROUTE_TABLE };
            let rule = HostRule { cidr, table: Table::Ours(ROUTE_TABLE) };
            if found.routes.iter().any(|found: &Found| found.cidr == cidr) {
                continue;
            }
            let in_the_way = in_the_way || like_ours;
            found.routes.push(Found { cidr, route, protocol: route_protocol, like_ours, in_the_way });
            found.rules.push((rule, rule_protocol));
            if on_record {
                recorded.insert(cidr);
                records.claim(&Op::PutRoute { cidr, found: None, route });
                records.claim(&Op::AddRule(rule));
            }
        }
        found.cilium = CiliumRoutes::default();
        Routes { found, records, on_record: recorded }
    })
}

#[derive(Clone, Debug)]
struct Case {
    before: Keys,
    needs_before: Surroundings,
    now: Keys,
    needs: Surroundings,
    routes: Routes,
    entries: BTreeSet<Ipv4Net>,
    running: BTreeSet<Ipv4Net>,
}

fn case() -> impl Strategy<Value = Case> {
    (
        keys(),
        needs(),
        keys(),
        needs(),
        found_routes(),
        prop::collection::btree_set(network(), 0..6),
        prop::collection::btree_set(network(), 0..3),
    )
        .prop_map(|(before, needs_before, now, needs, routes, entries, running)| Case {
            before,
            needs_before,
            now,
            needs,
            routes,
            entries,
            running,
        })
}

fn view(keys: &Keys, needs: &Surroundings, previous: Option<&View>) -> View {
    let document = Document::of_keys(keys.clone(), Surroundings::default());
    let observed = Observed::from(SourceState::Document(document));
    View::next_on(needs, Signs::default(), "test", &observed, previous, Timestamp::UNIX_EPOCH)
}

fn facts(running: &BTreeSet<Ipv4Net>) -> Facts {
    let host = Device { index: 4, name: "cilium_host".into(), mac: Default::default(), mtu: 1500, up: true };
    let vteps = running.iter().map(|cidr| (cidr.network(), Default::default())).collect();
    Facts {
        cilium: CiliumDevices { tunnel: None, host: Some(host), router: None },
        running: Running::Known(RunningConfig { vteps: Some(vteps), ..RunningConfig::default() }),
        ..Facts::default()
    }
}

/// Whether routes to this CIDR would harm the node.
fn hurts(cidr: Ipv4Net, Surroundings { connected, gateways, api_servers, pod_cidrs, .. }: &Surroundings) -> bool {
    let reserved = ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"].map(net);
    let networks = connected.keys().chain(pod_cidrs).chain(&reserved);
    networks.into_iter().any(|other| overlaps(*other, cidr))
        || gateways.iter().chain(api_servers).any(|address| cidr.contains(address))
}

/// The CIDR that an operation writes.
fn written(op: &Op) -> Option<Ipv4Net> {
    match op {
        Op::ReplaceEntry { cidr, .. } | Op::AddEntry { cidr, .. } | Op::PutIpcache { cidr, .. } => Some(*cidr),
        Op::PutRoute { cidr, .. } | Op::AddRule(HostRule { cidr, .. }) => Some(*cidr),
        Op::DeleteEntry { .. } | Op::DeleteIpcache { .. } | Op::DeleteRoute { .. } | Op::DeleteRule(_) => None,
    }
}

fn vteps(spec: Option<&crate::config::spec::Spec>) -> BTreeSet<Ipv4Net> {
    spec.into_iter().flat_map(|spec| &spec.vteps).map(|vtep| vtep.cidr).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn no_plan_does_harm(case in case()) {
        let before = view(&case.before, &case.needs_before, None);
        let now = view(&case.now, &case.needs, Some(&before));
        let settings = Settings {
            bpffs: "/".into(),
            ipcache: IpcacheMode::Auto,
            host_routes: HostRoutes::Auto,
            route_table: ROUTE_TABLE,
        };
        let facts = facts(&case.running);
        let value = VtepValue::new([2, 0, 0, 0, 0, 9].into(), [192, 0, 2, 9].into());
        let found = maps::Maps {
            model: Layout::VtepHash,
            capacity: 16,
            entries: case.entries.iter().map(|cidr| (*cidr, value)).collect(),
            ipcache: Some(maps::IpcacheFound::default()),
            ipcache_denied: false,
        };
        let (owned, refused) = (Owned::default(), BTreeSet::new());
        let records = &case.routes.records;
        let macs = LearnedMacs::new();
        let inputs = Inputs { settings: &settings, view: &now, facts: &facts, macs: &macs };
        let past = routes::Past { records, refused: &refused };
        let mut plan = maps::decide(inputs, &owned, &found).plan;
        plan.extend(routes::decide(inputs, past, &case.routes.found, found.has_ipcache()).plan);
        let stood = vteps(before.effective.as_ref());

        for op in &plan {
            // The plan writes nothing that overlaps a need of the node, nor an ipcache entry, unless the VTEP took effect first.
            if let Some(cidr) = written(op) {
                prop_assert!(!hurts(cidr, &case.needs), "{op}");
                let conflicts = case.needs.ipcache.keys().any(|other| overlaps(*other, cidr));
                prop_assert!(!conflicts || stood.contains(&cidr), "{op}");
                let endpoints = now.effective.iter().flat_map(|spec| &spec.vteps).map(|vtep| vtep.endpoint);
                prop_assert!(!endpoints.into_iter().any(|endpoint| cidr.contains(&endpoint)), "{op}");
            }
            // The plan removes nothing that is not on record with the protocol that it carries.
            match op {
                Op::DeleteRoute { cidr, .. } => {
                    let ours = |found: &&Found| found.cidr == *cidr && found.like_ours && found.protocol == PROTOCOL;
                    prop_assert!(case.routes.on_record.contains(cidr), "{op}");
                    prop_assert!(case.routes.found.routes.iter().any(|found| ours(&found)), "{op}");
                }
                Op::DeleteRule(rule) => {
                    prop_assert!(case.routes.on_record.contains(&rule.cidr), "{op}");
                    prop_assert!(case.routes.found.rules.contains(&(*rule, PROTOCOL)), "{op}");
                }
                Op::PutRoute { cidr, found: Some(_), .. } => {
                    prop_assert!(case.routes.on_record.contains(cidr), "{op}");
                }
                Op::DeleteEntry { cidr, .. } => {
                    prop_assert!(!case.running.contains(cidr) && !now.mentioned.contains(cidr), "{op}");
                    prop_assert!(!now.vetoed.contains(cidr), "{op}");
                    prop_assert!(!stood.contains(cidr) || is_removed(*cidr, &case, &before, &now), "{op}");
                }
                Op::ReplaceEntry { .. }
                | Op::AddEntry { .. }
                | Op::PutIpcache { .. }
                | Op::DeleteIpcache { .. }
                | Op::PutRoute { found: None, .. }
                | Op::AddRule(_) => {}
            }
        }
        // A VTEP that was in effect and is not removed has its entry afterwards, unless a need of the node rules that out.
        let deleted = |cidr: &Ipv4Net| plan.iter().any(|op| matches!(op, Op::DeleteEntry { cidr: of, .. } if of == cidr));
        let added = |cidr: &Ipv4Net| plan.iter().any(|op| matches!(op, Op::AddEntry { cidr: of, .. } if of == cidr));
        for cidr in stood.iter().filter(|cidr| !is_removed(**cidr, &case, &before, &now)) {
            let has_entry = (case.entries.contains(cidr) && !deleted(cidr)) || added(cidr);
            let is_elsewhere = now.truth == Truth::None;
            prop_assert!(has_entry || is_elsewhere || now.vetoed.contains(cidr), "{cidr} has no entry");
        }
        // If the node now needs a network, our route to it is removed.
        let keeps = |cidr: Ipv4Net| plan.iter().all(|op| !matches!(op, Op::DeleteRule(rule) if rule.cidr == cidr));
        let ours = records.sort(&case.routes.found.routes, &case.routes.found.rules, ROUTE_TABLE);
        for rule in ours.rules.iter().filter(|rule| now.vetoed.contains(&rule.cidr) && hurts(rule.cidr, &case.needs)) {
            prop_assert!(now.effective.is_none() || !keeps(rule.cidr), "{rule} stays");
        }
    }
}

/// Objects of either schema, for this node or another one, right or wrong.
fn objects() -> impl Strategy<Value = Vec<(Kind, Value)>> {
    let value = |of: &'static [&'static str]| prop::sample::select(of);
    let endpoint = (value(&NETWORKS), value(&ENDPOINTS), value(&MACS), 0..4_u8).prop_map(|(cidr, endpoint, mac, n)| {
        json!({ "name": format!("e{n}"), "cidr": cidr, "tunnelEndpoint": endpoint, "mac": mac })
    });
    let object = (0..5_usize, prop::collection::vec(endpoint, 0..4), 0..3_u8, any::<bool>());
    prop::collection::vec(object, 0..3).prop_map(|all| {
        let object = |(n, (kind, endpoints, name, ready)): (usize, (usize, Vec<Value>, u8, bool))| {
            let list = ["endpoints", "vtepEndpoints", "vtepEndpoints", "vtepEndpoints", "peers"][kind];
            let selector =
                [Value::Null, Value::Null, json!({ "matchLabels": { "zone": "lan" } }), Value::Null][kind % 4].clone();
            let name = if kind == 3 {
                ["worker-1", "worker-2", "worker-1"][usize::from(name)].to_owned()
            } else {
                format!("o{n}")
            };
            let ready = if ready { "True" } else { "False" };
            let object = json!({
                "metadata": { "name": name },
                "spec": { list: endpoints, "nodeSelector": selector },
                "status": { "conditions": [{ "type": "Ready", "status": ready }] },
            });
            (if kind == 3 { Kind::NodeConfig } else { Kind::Config }, object)
        };
        all.into_iter().enumerate().map(object).collect()
    })
}

fn signs() -> impl Strategy<Value = Signs> {
    let choice = prop::sample::select(&[Choice::Auto, Choice::Auto, Choice::Configmap, Choice::Crd][..]);
    (choice, any::<bool>(), any::<bool>()).prop_map(|(choice, map_is_trie, runs_with_lists)| Signs {
        choice,
        map_is_trie,
        runs_with_lists,
    })
}

/// A step of a migration: the keys, the objects, and what the node shows.
type Step = (Keys, Vec<(Kind, Value)>, Signs);

fn step() -> impl Strategy<Value = Step> {
    (keys(), objects(), signs())
}

fn next((keys, objects, signs): &Step, previous: Option<&View>) -> View {
    let all = objects.iter().map(|(kind, object)| VtepConfig::read(*kind, object)).collect();
    let objects = Objects { all, node: "worker-1".to_owned(), labels: Default::default(), delivered: None };
    let document = Document { objects: Some(objects), ..Document::of_keys(keys.clone(), Surroundings::default()) };
    let observed = Observed::from(SourceState::Document(document));
    View::next_on(&Surroundings::default(), *signs, "test", &observed, previous, Timestamp::UNIX_EPOCH)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    /// Whatever lists and objects a node has had, no entry is deleted that only somebody else can have written, and none is written that
    /// the other source has differently.
    #[test]
    fn no_plan_fights_a_controller(
        steps in prop::collection::vec(step(), 1..4),
        entries in prop::collection::btree_set(network(), 0..6),
        is_trie in any::<bool>(),
    ) {
        let (mut history, mut previous): (Vec<View>, Option<View>) = (Vec::new(), None);
        for step in &steps {
            let view = next(step, previous.as_ref());
            history.push(view.clone());
            previous = Some(view);
        }
        let Some(now) = previous.filter(|view| view.effective.is_some()) else { return Ok(()) };
        let settings = Settings {
            bpffs: "/".into(),
            ipcache: IpcacheMode::Auto,
            host_routes: HostRoutes::Auto,
            route_table: ROUTE_TABLE,
        };
        let value = VtepValue::new([2, 0, 0, 0, 0, 9].into(), [192, 0, 2, 9].into());
        let found = maps::Maps {
            model: if is_trie { Layout::VtepLpm } else { Layout::VtepHash },
            capacity: 16,
            entries: entries.iter().map(|cidr| (*cidr, value)).collect(),
            ipcache: None,
            ipcache_denied: false,
        };
        let facts = facts(&BTreeSet::new());
        // Each far end answers with another MAC than its configured one.
        let learned = now.effective.iter().flat_map(|spec| &spec.vteps).map(|&Vtep { cidr, endpoint, mac: configured }| {
            let mac = [0x02, 0, 0, 0, 0, 0x77].into();
            (cidr, LearnedMac { endpoint, configured, mac, since: Timestamp::UNIX_EPOCH })
        });
        let macs: LearnedMacs = learned.collect();
        let inputs = Inputs { settings: &settings, view: &now, facts: &facts, macs: &macs };
        let decision = maps::decide(inputs, &Owned::default(), &found);
        let were_listed = |cidr: &Ipv4Net| {
            history.iter().any(|view| view.truth == Truth::Configmap && vteps(view.effective.as_ref()).contains(cidr))
        };
        let no_object_was_seen = steps.iter().all(|(_, objects, signs)| objects.is_empty() && signs.choice != Choice::Crd);
        for op in decision.plan.iter().filter(|op| !decision.withholds(op)) {
            prop_assert!(now.truth != Truth::None, "{op}");
            prop_assert!(!is_trie || now.truth == Truth::Crd, "a trie is not the lists': {op}");
            match op {
                Op::DeleteEntry { cidr, .. } => {
                    prop_assert_eq!(now.truth, Truth::Configmap, "{}", op);
                    prop_assert!(no_object_was_seen || were_listed(cidr), "{op}");
                    prop_assert!(!now.mentioned.contains(cidr), "{op}");
                }
                Op::AddEntry { cidr, value } | Op::ReplaceEntry { cidr, value, .. } => {
                    let (_, objects, _) = steps.last().expect("a step");
                    let all = objects.iter().map(|(kind, object)| VtepConfig::read(*kind, object)).collect();
                    let objects =
                        Objects { all, node: "worker-1".to_owned(), labels: Default::default(), delivered: None };
                    let (surroundings, standing) = (Surroundings::default(), BTreeSet::new());
                    let of_objects = objects.resolve(Around { surroundings: &surroundings, standing: &standing }).vteps;
                    let theirs = of_objects.iter().map(|named| named.vtep).find(|vtep| vtep.cidr == *cidr);
                    let differs = theirs.is_some_and(|vtep| VtepValue::new(vtep.mac, vtep.endpoint) != *value);
                    prop_assert!(!differs, "{op}: the objects have {theirs:?}");
                    prop_assert!(now.truth != Truth::Crd || theirs.is_some(), "{op}: no object has it");
                }
                Op::PutIpcache { .. }
                | Op::DeleteIpcache { .. }
                | Op::PutRoute { .. }
                | Op::DeleteRoute { .. }
                | Op::AddRule(_)
                | Op::DeleteRule(_) => prop_assert!(false, "{op}"),
            }
        }
    }
}

/// The CIDRs of the document's good lines.
fn good(keys: &Keys, needs: &Surroundings) -> BTreeSet<Ipv4Net> {
    parse_within(keys, needs).lines.iter().filter_map(|line| line.vtep).map(|vtep| vtep.cidr).collect()
}

/// Whether a document may end the effect of a VTEP: it switches VTEPs off, or lists others and has no line in error that may belong to it.
/// This is computed from the documents and the views, never from the plan.
fn is_removed(cidr: Ipv4Net, case: &Case, before: &View, now: &View) -> bool {
    let parsed = parse_within(&case.now, &case.needs);
    if parsed.list_error() || now.truth == Truth::None {
        return false;
    }
    let good = good(&case.now, &case.needs);
    let in_error = parsed.lines.iter().filter(|line| line.vtep.is_none()).count();
    // Each line in error retains at most one last good VTEP.
    let held = (&vteps(before.last_good.as_ref()) & &vteps(now.last_good.as_ref())).difference(&good).count();
    !parsed.enabled || (!good.contains(&cidr) && in_error <= held)
}
