//! What Cilium's Helm chart writes into `cilium-config`, for the values that matter to VTEPs.
//!
//! By `templates/cilium-configmap.yaml` and `values.yaml` of the chart, 1.14 to 1.20.

use super::{
    Configuration, Root, Setting, Shape,
    config_map::bare,
    values::{Layer, VTEP, Values, scalar},
};
use crate::config::{
    finding::{Finding, Rule, Severity},
    manifest::{
        node::{Node, Value},
        part::Part,
    },
    parse::cluster::nearest,
    text::Place,
};

/// The keys of `cilium-config`, and the value of the chart that each comes from.
const PATHS: [(&str, &str); 15] = [
    ("enable-vtep", "vtep.enabled"),
    ("vtep-endpoint", "vtep.endpoint"),
    ("vtep-cidr", "vtep.cidr"),
    ("vtep-mask", "vtep.mask"),
    ("vtep-mac", "vtep.mac"),
    ("routing-mode", "routingMode"),
    ("tunnel", "tunnel"),
    ("tunnel-protocol", "tunnelProtocol"),
    ("tunnel-port", "tunnelPort"),
    ("enable-ipv4", "ipv4.enabled"),
    ("enable-policy", "policyEnforcementMode"),
    ("enable-l7-proxy", "l7Proxy"),
    ("enable-ipsec", "encryption.enabled"),
    ("ipam", "ipam.mode"),
    ("cluster-pool-ipv4-cidr", "ipam.operator.clusterPoolIPv4PodCIDRList"),
];

/// The lists of VTEPs, which the chart renders even if nobody sets them.
const LISTS: [&str; 4] = ["vtep-endpoint", "vtep-cidr", "vtep-mask", "vtep-mac"];

const DEFAULT_POOL: &str = "10.0.0.0/8";

/// The chart's name for a key.
pub(super) fn path(key: &str) -> Option<&'static str> {
    PATHS.iter().find(|(known, _)| *known == key).map(|(_, path)| *path)
}

/// A remedy with the chart's names in the place of keys.
pub(in crate::config) fn in_words_of_chart(remedy: String) -> String {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let words = remedy.split_inclusive(|c| !is_of_word(c)).map(|word| {
        let end = word.find(|c| !is_of_word(c)).unwrap_or(word.len());
        let (name, rest) = word.split_at(end);
        // `tunnel` is a word of English, too.
        path(name).filter(|_| name.contains('-')).unwrap_or(name).to_owned() + rest
    });
    words.collect()
}

/// The key that a value of the chart becomes.
pub(super) fn key(path: &str) -> Option<&'static str> {
    PATHS.iter().find(|(_, known)| *known == path).map(|(key, _)| *key)
}

/// What the chart makes of these values; the first layer takes precedence.
pub(super) fn configuration(shape: Shape, layers: Vec<Layer>) -> Configuration {
    let values = Values::new(layers.into_iter().map(Layer::narrowed).collect());
    let place = values
        .root()
        .map_or_else(|| Place::anchored(&super::Text::of_file("", ""), String::new(), None), |root| root.lacking(""));
    let mut rendered =
        Rendered { values: &values, configuration: Configuration::new(shape, Root { place, is_chart: true }) };
    rendered.vteps();
    rendered.tunnel();
    rendered.features();
    rendered.pools();
    rendered.extra();
    rendered.configuration
}

struct Rendered<'v> {
    values: &'v Values,
    configuration: Configuration,
}

impl Rendered<'_> {
    fn vteps(&mut self) {
        self.copy("enable-vtep", |text| Some(text.to_owned()));
        for key in LISTS {
            self.list(key);
        }
        for (key, part) in self.values.entries("vtep").iter().filter(|(key, _)| !VTEP.contains(&key.as_str())) {
            let problem = "the chart reads no such value: it is a typo, or belongs to a newer chart";
            let remedy = match nearest(key, &VTEP) {
                Some(known) => format!("did you mean {known}?"),
                None => format!("known values are {}", VTEP.join(", ")),
            };
            let place = Place::of_key(part.text, part.path.clone(), part.node.key.or(part.node.at));
            let finding = Finding::new(Rule::UnknownVtepKey, &format!("vtep.{key}"), None, None, problem, remedy);
            self.configuration.problems.push((finding, place));
        }
    }

    /// A list of VTEPs: one text in the chart. Many people write a YAML list.
    fn list(&mut self, key: &'static str) {
        let Some(path) = path(key) else { return };
        match self.values.get(path) {
            // An explicit null removes the chart's default, so that the chart renders nothing.
            Some(part) if matches!(part.node.value, Value::Null) => {}
            Some(part) if part.node.list().is_some() => {
                let setting = joined(&part);
                let shown = setting.value.replace('"', "'");
                let problem =
                    format!("{path} is a list, and the chart writes it as \"[{shown}]\", which Cilium cannot read");
                let remedy = format!("write one text, with blanks between the values: \"{shown}\"");
                self.problem(Rule::VtepListSeparator, key, &setting, problem, remedy);
                self.insert(key, setting);
            }
            Some(_) => self.copy(key, |text| Some(text.to_owned())),
            None => {
                if let Some(place) = self.values.lacking(path) {
                    self.insert(key, Setting { value: String::new(), place, is_default: true });
                }
            }
        }
    }

    fn tunnel(&mut self) {
        let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        self.copy("routing-mode", filled);
        for path in ["eni.enabled", "gke.enabled"] {
            if !self.configuration.settings.contains_key("routing-mode") && self.values.is_true(path) {
                let place = self.values.get(path).map(|part| part.place("native"));
                let setting = place.map(|place| Setting { value: "native".to_owned(), place, is_default: true });
                self.configuration.settings.extend(setting.map(|setting| ("routing-mode".to_owned(), setting)));
            }
        }
        self.copy("tunnel", filled);
        self.copy("tunnel-protocol", filled);
        self.copy("tunnel-port", |text| (!matches!(text, "" | "0")).then(|| text.to_owned()));
    }

    fn features(&mut self) {
        self.copy("enable-ipv4", |text| Some(text.to_owned()));
        self.copy("enable-policy", |text| Some(text.to_lowercase()));
        self.copy("enable-l7-proxy", |text| Some(text.to_owned()));
        if !self.values.is_true("encryption.enabled") {
            return;
        }
        let kind = self.values.get("encryption.type").and_then(|part| part.node.text().map(str::to_owned));
        let key = match kind.as_deref() {
            None | Some("" | "ipsec") => "enable-ipsec",
            Some("wireguard") => "enable-wireguard",
            Some(_) => return,
        };
        if let Some(part) = self.values.get("encryption.enabled") {
            self.insert_scalar(key, &part, |text| Some(text.to_owned()));
        }
    }

    /// The pools count only in the mode that uses them, which is the chart's default.
    fn pools(&mut self) {
        self.copy("ipam", |text| (!text.is_empty()).then(|| text.to_owned()));
        if self.values.is_true("eni.enabled") {
            let place = self.values.get("eni.enabled").map(|part| part.place("eni"));
            let setting = place.map(|place| Setting { value: "eni".to_owned(), place, is_default: true });
            self.configuration.settings.extend(setting.map(|setting| ("ipam".to_owned(), setting)));
        }
        let paths = ["ipam.operator.clusterPoolIPv4PodCIDRList", "ipam.operator.clusterPoolIPv4PodCIDR"];
        let key = "cluster-pool-ipv4-cidr";
        match paths.iter().find_map(|path| self.values.get(path)) {
            Some(part) if part.node.list().is_some() => self.insert(key, joined(&part)),
            Some(part) => self.insert_scalar(key, &part, |text| Some(text.to_owned())),
            None => {
                if let Some(place) = self.values.lacking(paths[0]) {
                    self.insert(key, Setting { value: DEFAULT_POOL.to_owned(), place, is_default: true });
                }
            }
        }
    }

    /// `extraConfig` is appended to the ConfigMap, so that it overrides what the chart has rendered. It is copied as it is: a boolean without
    /// quotes is one in the ConfigMap, too.
    fn extra(&mut self) {
        for (key, part) in self.values.entries("extraConfig") {
            let text = match &part.node.value {
                Value::Text(_) | Value::Bare(_, _) => {
                    scalar(part.node).map(std::borrow::Cow::into_owned).unwrap_or_default()
                }
                Value::Null => String::new(),
                Value::List(_) | Value::Map(_) => continue,
            };
            let setting = Setting { place: part.place(&text), value: text, is_default: false };
            if let Value::Bare(value, of) = &part.node.value {
                self.configuration.problems.push((bare(&key, value, of.name()), setting.place.clone()));
            }
            self.insert(&key, setting);
        }
    }

    /// Copies a scalar of the chart into its key, if `text` makes something of it.
    fn copy(&mut self, key: &str, text: impl Fn(&str) -> Option<String>) {
        let part = path(key).and_then(|path| self.values.get(path));
        if let Some(part) = part {
            self.insert_scalar(key, &part, text);
        }
    }

    fn insert_scalar(&mut self, key: &str, part: &Part<'_>, text: impl Fn(&str) -> Option<String>) {
        if let Some(value) = scalar(part.node).and_then(|value| text(&value)) {
            self.insert(key, Setting { place: part.place(&value), value, is_default: false });
        }
    }

    fn insert(&mut self, key: &str, setting: Setting) {
        self.configuration.settings.insert(key.to_owned(), setting);
    }

    fn problem(&mut self, rule: Rule, key: &str, setting: &Setting, problem: String, remedy: String) {
        let finding = Finding::new(rule, key, None, Some(&setting.value), problem, remedy);
        let finding = Finding { severity: Severity::Error, ..finding };
        self.configuration.problems.push((finding, setting.place.clone()));
    }
}

/// The elements of a list in one text, each with its place.
fn joined(part: &Part<'_>) -> Setting {
    let mut value = String::new();
    let mut place = Place::of_key(part.text, part.path.clone(), part.node.key.or(part.node.at));
    for (index, item) in part.items().enumerate() {
        let text = scalar(item.node).unwrap_or_default();
        if !value.is_empty() {
            value.push(' ');
        }
        let start = value.len();
        value.push_str(&text);
        if let Some(at) = Node::clone(item.node).at {
            place = place.with_piece(start..value.len(), at, 0, &format!("[{index}]"));
        }
    }
    Setting { value, place, is_default: false }
}
