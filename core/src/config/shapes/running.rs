//! The configuration of a running agent: the output of `cilium-dbg config --all`, and `agent-runtime-config.json`.
//!
//! The names are those of fields of Cilium's program.

use std::{net::Ipv4Addr, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use ipnet::ipv4_mask_to_prefix;

use super::{Configuration, Root, Setting, Shape};
use crate::config::{
    manifest::{
        node::{Node, Value},
        part::Part,
    },
    text::{At, Place, Text},
};

/// The fields that have the value of a key.
const FIELDS: [(&str, &str); 14] = [
    ("EnableVTEP", "enable-vtep"),
    ("VtepEndpoints", "vtep-endpoint"),
    ("VtepCIDRs", "vtep-cidr"),
    ("VtepCidrMask", "vtep-mask"),
    ("VtepMACs", "vtep-mac"),
    ("RoutingMode", "routing-mode"),
    ("TunnelProtocol", "tunnel-protocol"),
    ("TunnelPort", "tunnel-port"),
    ("EnableIPv4", "enable-ipv4"),
    ("EnableIPSec", "enable-ipsec"),
    ("EnableWireguard", "enable-wireguard"),
    ("EnablePolicy", "enable-policy"),
    ("EnableL7Proxy", "enable-l7-proxy"),
    ("IPAM", "ipam"),
];

const LISTS: [&str; 3] = ["vtep-endpoint", "vtep-cidr", "vtep-mac"];
const HEADING: &str = "configurations ####";

fn key(field: &str) -> Option<&'static str> {
    FIELDS.iter().find(|(known, _)| *known == field).map(|(_, key)| *key)
}

/// Reads the output of `cilium-dbg config --all` that begins at the byte `base` of a text; `None` if it is none.
pub(in crate::config) fn of_lines(text: &Arc<Text>, base: usize, part: &str) -> Option<Configuration> {
    if !part.contains(HEADING) {
        return None;
    }
    let root = Place::anchored(text, String::new(), Some(At::plain(base, base)));
    let mut configuration = Configuration::new(Shape::RunningConfig, Root { place: root, is_chart: false });
    let mut start = base;
    for line in part.split_inclusive('\n') {
        let value = line.find(':').map(|colon| (line.get(..colon).unwrap_or_default().trim(), colon + 1));
        if let Some((field, colon)) = value
            && let Some(key) = key(field)
        {
            let written = line.get(colon..).unwrap_or_default();
            let begin = start + colon + (written.len() - written.trim_start().len());
            let at = At::plain(begin.min(start + line.trim_end().len()), start + line.trim_end().len());
            configuration.add_printed(text, key, field, at);
        }
        start += line.len();
    }
    Some(configuration.completed())
}

/// Reads the same configuration as JSON; `None` if the map is none.
pub(super) fn of_tree(part: &Part<'_>) -> Option<Configuration> {
    let holders = ["", "daemonConfigurationMap", "status.daemonConfigurationMap"];
    let map = holders.iter().find_map(|path| {
        let part = if path.is_empty() { Some(part.clone()) } else { part.at(path) };
        part.filter(|part| part.get("EnableVTEP").is_some())
    })?;
    let root = Root { place: map.lacking(""), is_chart: false };
    let mut configuration = Configuration::new(Shape::RunningConfig, root);
    for (field, value) in map.entries() {
        let Some(key) = key(field) else { continue };
        let setting = match &value.node.value {
            Value::Null => continue,
            Value::List(_) => list(&value),
            Value::Text(text) | Value::Bare(text, _) => {
                Setting { place: value.place(text), value: text.clone(), is_default: false }
            }
            Value::Map(_) => continue,
        };
        configuration.settings.insert(key.to_owned(), setting);
    }
    Some(configuration.completed())
}

fn list(part: &Part<'_>) -> Setting {
    let mut value = String::new();
    let mut place = Place::of_key(part.text, part.path.clone(), part.node.key);
    for (index, item) in part.items().enumerate() {
        let mask = item.text_at("Mask");
        let written = item.get("IP").map_or(item.node, |ip| ip.node);
        let Some(text) = written.text() else { continue };
        let text = mask.map_or_else(|| text.to_owned(), |mask| network(text, mask));
        if !value.is_empty() {
            value.push(' ');
        }
        let start = value.len();
        value += &text;
        if let Some(at) = Node::clone(written).at {
            place = place.with_piece(start..value.len(), at, 0, &format!("[{index}]"));
        }
    }
    Setting { value, place, is_default: false }
}

/// A network as Go's JSON has it: the address, and the mask in base64.
fn network(address: &str, mask: &str) -> String {
    let bytes = STANDARD.decode(mask).ok().and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let length = bytes.and_then(|bytes| ipv4_mask_to_prefix(Ipv4Addr::from(bytes)).ok());
    length.map_or_else(|| format!("{address}/{mask}"), |length| format!("{address}/{length}"))
}

impl Configuration {
    /// Adds a field as Go prints it: `[a b]`, and networks as `[map[IP:10.1.6.0 Mask:////AA==]]`.
    fn add_printed(&mut self, text: &Arc<Text>, key: &str, field: &str, at: At) {
        let written = text.slice(at);
        if matches!(written, "" | "<nil>" | "[]") {
            return;
        }
        let mut value = String::new();
        let mut place = Place::of_key(text, field.to_owned(), Some(at));
        let list = written.strip_prefix('[').and_then(|list| list.strip_suffix(']'));
        let items: Vec<&str> = match list {
            Some(list) if list.contains("map[") => list.split("map[").filter(|item| !item.trim().is_empty()).collect(),
            Some(list) => list.split_whitespace().collect(),
            None => vec![written],
        };
        for item in items {
            let of = |name: &str| item.split_once(name).and_then(|(_, rest)| rest.split([' ', ']']).next());
            let (shown, whole) = match (of("IP:"), of("Mask:")) {
                (Some(address), Some(mask)) => (address, network(address, mask)),
                (_, _) => (item, item.to_owned()),
            };
            if !value.is_empty() {
                value.push(' ');
            }
            let start = value.len();
            value += &whole;
            let offset = at.start as usize + (shown.as_ptr().addr() - written.as_ptr().addr());
            place = place.with_piece(start..value.len(), At::plain(offset, offset + shown.len()), 0, "");
        }
        self.settings.insert(key.to_owned(), Setting { value, place, is_default: false });
    }

    /// Cilium 1.19 and newer do not disclose their lists.
    fn completed(mut self) -> Self {
        if LISTS.iter().all(|key| !self.settings.contains_key(*key)) {
            self.notes.push("the running agent does not disclose its lists of VTEPs: give the ConfigMap".to_owned());
        }
        self
    }
}
