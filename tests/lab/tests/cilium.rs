//! Compares the lab's Cilium with captures of a real one, and tests the effect of its restarts on maps and traffic.

use std::{collections::BTreeMap, fs, path::Path, thread, time::Duration};

use anyhow::{Context, Result};
use aya::maps::{LpmTrie, Map, MapData, MapInfo, MapType};
use ipnet::Ipv4Net;
use serde_json::Value;
use vtep_lab::{CILIUM_RUN, Lab, PINS, PingResult, Vtep, VtepModel, ping};

#[test]
fn maps_have_ciliums_shape() -> Result<()> {
    let _lab = Lab::start()?;
    for (map, fixture) in [
        ("cilium_vtep_map", include_str!("fixtures/map-show-vtep.json")),
        ("cilium_ipcache_v2", include_str!("fixtures/map-show-ipcache-v2.json")),
    ] {
        let info = MapInfo::from_pin(Path::new(PINS).join(map))?;
        let expected: Value = serde_json::from_str(fixture)?;
        assert_eq!(info.name_as_str(), expected["name"].as_str());
        let kind = format!("{:?}", info.map_type()?).to_lowercase();
        assert_eq!(Some(kind), expected["type"].as_str().map(|kind| kind.replace('_', "")));
        let numbers = [info.key_size(), info.value_size(), info.max_entries(), info.map_flags()];
        let expected = ["bytes_key", "bytes_value", "max_entries", "flags"].map(|key| expected[key].as_u64());
        assert_eq!(numbers.map(|number| Some(u64::from(number))), expected, "{map}");
    }
    Ok(())
}

#[test]
fn vtep_entries_have_ciliums_bytes() -> Result<()> {
    let lab = Lab::builder().fill_map(true).start()?;
    let entries: BTreeMap<_, _> =
        lab.cilium.vtep_entries()?.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    assert_eq!(entries, dump(include_str!("fixtures/map-dump-vtep.json"))?);
    Ok(())
}

#[test]
fn a_trie_has_the_hashs_name_and_values() -> Result<()> {
    let lab = Lab::builder().vtep_model(VtepModel::Trie).fill_map(true).start()?;
    let info = lab.cilium.vtep_map_info()?;
    assert_eq!((info.name_as_str(), info.map_type()?), (Some("cilium_vtep_map"), MapType::LpmTrie));
    assert_eq!([info.key_size(), info.value_size(), info.max_entries(), info.map_flags()], [8, 16, 8, 1]);
    assert!(lab.cilium.vtep_entries().is_err(), "it is no hash");

    let map = Map::from_map_data(MapData::from_pin(lab.cilium.vtep_pin())?)?;
    let map: LpmTrie<_, [u8; 4], [u8; 16]> = map.try_into()?;
    let mut entries = BTreeMap::new();
    for entry in map.iter() {
        let (key, value) = entry?;
        assert_eq!(key.prefix_len(), 24);
        entries.insert(key.data().to_vec(), value.to_vec());
    }
    assert_eq!(entries, dump(include_str!("fixtures/map-dump-vtep.json"))?);
    Ok(())
}

#[test]
fn entries_of_both_types_read_and_write_alike() -> Result<()> {
    for model in [VtepModel::Hash, VtepModel::Trie] {
        let lab = Lab::builder().vtep_model(model).fill_map(true).start()?;
        let mut expected = of(&lab.topology.vteps());
        assert_eq!(lab.cilium.entries()?, expected, "{model:?}");
        let (cidr, value) = ("10.1.9.0/24".parse()?, [7; 16]);
        lab.cilium.put_entry(cidr, value)?;
        expected.insert(cidr, value);
        assert_eq!(lab.cilium.entries()?, expected, "{model:?}");
        lab.cilium.delete_entry(cidr)?;
        assert!(lab.cilium.delete_entry(cidr).is_err(), "{model:?}: it is gone");
        assert_eq!(lab.cilium.entries()?, of(&lab.topology.vteps()), "{model:?}");
    }
    Ok(())
}

#[test]
fn a_release_with_a_trie_replaces_the_hash() -> Result<()> {
    let mut lab = Lab::builder().fill_map(true).start()?;
    lab.cilium.model = VtepModel::Trie;
    let traffic = in_background(&lab);
    lab.cilium.start()?;
    assert_eq!(lab.cilium.vtep_map_info()?.key_size(), 8);
    let seen = traffic.join().map_err(|_| anyhow::anyhow!("the ping panicked"))??;
    assert!(seen.is_complete(), "{seen:?}");
    Ok(())
}

#[test]
fn a_reconciliation_touches_only_its_own_entries() -> Result<()> {
    for model in [VtepModel::Hash, VtepModel::Trie] {
        let mut lab = Lab::builder().vtep_model(model).vtep_lists(false).fill_map(true).start()?;
        assert!(lab.cilium.entries()?.is_empty(), "{model:?}: no list, no entry");
        let [first, second] = lab.topology.vteps()[..] else { anyhow::bail!("two BIG-IPs") };
        let foreign = Vtep { cidr: "10.9.9.0/24".parse()?, ..second };
        lab.cilium.put_entry(foreign.cidr, foreign.value())?;
        lab.cilium.reconcile(&[first, second])?;
        assert_eq!(lab.cilium.entries()?, of(&[first, second, foreign]), "{model:?}");
        assert!(to_first(&lab, 3)?.is_complete(), "{model:?}");
        lab.cilium.sync()?;

        let moved = Vtep { endpoint: second.endpoint, mac: second.mac, ..first };
        lab.cilium.reconcile(&[moved])?;
        assert_eq!(lab.cilium.entries()?, of(&[moved, foreign]), "{model:?}");
        assert_eq!(to_first(&lab, 3)?.received, 0, "{model:?}");
        lab.cilium.delete_entry(first.cidr)?;
        lab.cilium.reconcile(&[])?;
        assert_eq!(lab.cilium.entries()?, of(&[foreign]), "{model:?}: what is gone is no error");

        lab.cilium.reconcile(&[first])?;
        lab.cilium.start()?;
        lab.cilium.put_entry(first.cidr, second.value())?;
        lab.cilium.reconcile(&[second])?;
        let entries = [(first.cidr, second.value()), (second.cidr, second.value())];
        assert_eq!(lab.cilium.entries()?, entries.into(), "{model:?}: a start forgets what was put before");
    }
    Ok(())
}

#[test]
fn a_reconciliation_touches_only_its_own_routes() -> Result<()> {
    let mut lab = Lab::builder().l7_proxy(true).vtep_lists(false).start()?;
    let [first, second] = lab.topology.vteps()[..] else { anyhow::bail!("two BIG-IPs") };
    assert_eq!(lab.node.ip("rule show priority 112")?, "");
    let routes = |lab: &Lab| -> Result<[String; 2]> {
        Ok([lab.node.ip("route show table 202")?, lab.node.ip("rule show priority 112")?])
    };
    lab.node.ip(&format!("route add {} dev cilium_host scope link table 202", second.cidr))?;
    let before = routes(&lab)?;
    lab.cilium.reconcile(&[first, second])?;
    let route = "10.1.5.0/24 dev cilium_host scope link \n10.1.6.0/24 dev cilium_host scope link mtu 1450 \n";
    assert_eq!(routes(&lab)?, [route, "112:\tfrom all to 10.1.6.0/24 lookup 202\n"]);
    assert!(ping(&lab.node, None, lab.bigips[0].addresses.self_ip.addr(), 3, Duration::from_millis(10))?.is_complete());
    lab.cilium.reconcile(&[])?;
    assert_eq!(routes(&lab)?, before);
    Ok(())
}

#[test]
fn ipcache_entries_have_ciliums_bytes() -> Result<()> {
    let lab = Lab::start()?;
    let map = Map::from_map_data(MapData::from_pin(Path::new(PINS).join("cilium_ipcache_v2"))?)?;
    let map: LpmTrie<_, [u8; 20], [u8; 24]> = map.try_into()?;
    let mut entries = BTreeMap::new();
    for entry in map.iter() {
        let (key, value) = entry?;
        entries.insert([&key.prefix_len().to_ne_bytes()[..], &key.data()[..]].concat(), value.to_vec());
    }
    // The capture is of a cluster with a second node and another pod; compare the common part.
    let captured = dump(include_str!("fixtures/map-dump-ipcache-v2.json"))?;
    let pod = lab.topology.pod_ip.octets();
    let (of_pod, common): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| key[8..12] == pod);
    assert_eq!((of_pod.len(), common.len()), (1, 3));
    for (key, value) in common {
        assert_eq!(Some(&value), captured.get(&key), "{key:02x?}");
    }
    Ok(())
}

#[test]
fn the_running_configuration_reads_as_ciliums() -> Result<()> {
    let lab = Lab::builder().l7_proxy(true).start()?;
    let state = Path::new(CILIUM_RUN).join("state");
    let written: Value = serde_json::from_str(&fs::read_to_string(state.join("agent-runtime-config.json"))?)?;
    let captured: Value = serde_json::from_str(include_str!("fixtures/agent-runtime-config.json"))?;
    for (key, value) in captured.as_object().context("the fixture is an object")? {
        assert_eq!(&written[key], value, "{key}");
    }
    let index = lab.node.link("cilium_vxlan")?.index;
    let header = fs::read_to_string(state.join("globals/node_config.h"))?;
    let captured = include_str!("fixtures/node_config.h").replace("ENCAP_IFINDEX 5", &format!("ENCAP_IFINDEX {index}"));
    assert_eq!(header.trim(), captured.trim());
    Ok(())
}

#[test]
fn a_running_configuration_without_lists_has_the_mask() -> Result<()> {
    let _lab = Lab::builder().vtep_lists(false).start()?;
    let written = fs::read_to_string(Path::new(CILIUM_RUN).join("state/agent-runtime-config.json"))?;
    let written: Value = serde_json::from_str(&written)?;
    let keys = written.as_object().context("an object")?.keys().filter(|key| key.to_lowercase().contains("vtep"));
    assert_eq!(keys.collect::<Vec<_>>(), ["EnableVTEP", "VtepCidrMask"]);
    assert_eq!((&written["EnableVTEP"], &written["VtepCidrMask"]), (&true.into(), &"255.255.255.0".into()));
    Ok(())
}

#[test]
fn host_routes_are_ciliums() -> Result<()> {
    let mut lab = Lab::builder().l7_proxy(true).start()?;
    let rules = "112:\tfrom all to 10.1.5.0/24 lookup 202\n112:\tfrom all to 10.1.6.0/24 lookup 202\n";
    assert_eq!(sorted(&lab.node.ip("rule show priority 112")?), rules);
    let routes = lab.node.ip("route show table 202")?;
    let expected =
        "10.1.5.0/24 dev cilium_host scope link mtu 1450 \n10.1.6.0/24 dev cilium_host scope link mtu 1450 \n";
    assert_eq!(routes, expected);

    // A restart restores a route, but not a rule whose route is intact.
    lab.node.ip(
        "rule del priority 112 to 10.1.5.0/24\nroute del 10.1.6.0/24 table 202\nrule del priority 112 to 10.1.6.0/24",
    )?;
    lab.cilium.start()?;
    assert_eq!(lab.node.ip("rule show priority 112")?, "112:\tfrom all to 10.1.6.0/24 lookup 202\n");
    assert_eq!(lab.node.ip("route show table 202")?, expected);
    Ok(())
}

#[test]
fn a_new_map_interrupts_only_until_it_is_filled() -> Result<()> {
    let mut lab = Lab::builder().fill_map(true).start()?;
    let before = lab.cilium.vtep_map_info()?.id();
    let traffic = in_background(&lab);
    lab.cilium.replace_pin()?;
    assert_ne!(lab.cilium.vtep_map_info()?.id(), before);
    assert!(lab.cilium.vtep_entries()?.is_empty());
    assert_eq!(to_first(&lab, 3)?.received, 0, "the programs use the new map, which is empty");
    lab.cilium.sync()?;
    assert!(to_first(&lab, 3)?.is_complete(), "traffic is back once it is filled");
    let seen = traffic.join().map_err(|_| anyhow::anyhow!("the ping panicked"))??;
    assert!(seen.received > 0 && seen.received < seen.sent, "an interruption: {seen:?}");
    Ok(())
}

#[test]
fn a_restart_that_fills_the_map_loses_nothing() -> Result<()> {
    let mut lab = Lab::builder().fill_map(true).start()?;
    let traffic = in_background(&lab);
    lab.cilium.start()?;
    let seen = traffic.join().map_err(|_| anyhow::anyhow!("the ping panicked"))??;
    assert!(seen.is_complete(), "{seen:?}");
    Ok(())
}

#[test]
fn programs_keep_a_map_whose_pin_is_gone() -> Result<()> {
    let lab = Lab::builder().fill_map(true).start()?;
    lab.cilium.remove_pin()?;
    assert!(!lab.cilium.vtep_pin().exists());
    assert!(lab.cilium.vtep_entries().is_err());
    assert!(to_first(&lab, 3)?.is_complete());
    lab.cilium.pin_foreign_layout()?;
    assert_eq!(lab.cilium.vtep_map_info()?.value_size(), 24);
    assert!(lab.cilium.vtep_entries().is_err(), "an unknown layout is not read");
    assert!(to_first(&lab, 3)?.is_complete());
    Ok(())
}

#[test]
fn with_vtep_disabled_the_pin_stays_and_means_nothing() -> Result<()> {
    let mut lab = Lab::builder().fill_map(true).start()?;
    lab.cilium.running.enable_vtep = false;
    lab.cilium.fill_map = false;
    lab.cilium.start()?;
    assert_eq!(lab.cilium.vtep_entries()?.len(), 2);
    assert_eq!(to_first(&lab, 3)?.received, 0);
    Ok(())
}

#[test]
fn before_cilium_starts_there_is_nothing() -> Result<()> {
    let mut lab = Lab::builder().cilium_running(false).fill_map(true).start()?;
    assert!(!lab.cilium.vtep_pin().exists());
    assert!(!Path::new(CILIUM_RUN).join("state").exists());
    lab.cilium.start()?;
    assert!(to_first(&lab, 3)?.is_complete());
    lab.cilium.stop()?;
    assert!(!lab.cilium.vtep_pin().exists());
    assert_eq!(to_first(&lab, 3)?.received, 0);
    Ok(())
}

fn to_first(lab: &Lab, count: u32) -> Result<PingResult> {
    ping(&lab.pod, None, lab.bigips[0].addresses.self_ip.addr(), count, Duration::from_millis(10))
}

/// Pings for two seconds, while the tunnel is in use.
fn in_background(lab: &Lab) -> thread::JoinHandle<Result<PingResult>> {
    let (pod, bigip) = (lab.pod.clone(), lab.bigips[0].addresses.self_ip.addr());
    let traffic = thread::spawn(move || ping(&pod, None, bigip, 200, Duration::from_millis(10)));
    while !matches!(to_first(lab, 1), Ok(first) if first.is_complete()) {}
    traffic
}

fn sorted(text: &str) -> String {
    let mut lines: Vec<_> = text.split_inclusive('\n').collect();
    lines.sort_unstable();
    lines.concat()
}

fn of(vteps: &[Vtep]) -> BTreeMap<Ipv4Net, [u8; 16]> {
    vteps.iter().map(|vtep| (vtep.cidr, vtep.value())).collect()
}

/// A map in the output of bpftool.
fn dump(json: &str) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let value: Value = serde_json::from_str(json)?;
    let entries = value.as_array().context("a dump is an array")?;
    entries.iter().map(|entry| Ok((bytes(&entry["key"])?, bytes(&entry["value"])?))).collect()
}

fn bytes(hex: &Value) -> Result<Vec<u8>> {
    let digits = hex.as_array().context("bytes are an array")?.iter().filter_map(Value::as_str);
    digits.map(|byte| Ok(u8::from_str_radix(byte.trim_start_matches("0x"), 16)?)).collect()
}
