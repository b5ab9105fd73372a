//! The effective `cilium-config` of one node: the ConfigMap, overridden by each `CiliumNodeConfig` that selects the node.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    Keys,
    finding::Finding,
    list_record::LIST_KEYS,
    selector::{Labels, Selector},
    surroundings::Surroundings,
    vtep_config::Objects,
};

/// The configuration as a source saw it at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// The effective keys.
    pub keys: Keys,
    /// The object that set a key's value, for each key that the ConfigMap itself does not set.
    pub origins: BTreeMap<String, String>,
    /// The three lists have not changed after this time, by the API server's clock; `None` if that is not known.
    pub lists_changed: Option<Timestamp>,
    /// Facts about the cluster, as far as the source knows them.
    pub surroundings: Surroundings,
    /// Custom resources with VTEPs; `None` if the source has none, or may not read them.
    pub objects: Option<Objects>,
}

/// A `CiliumNodeConfig`: it overrides keys for some of the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    pub name: String,
    /// `None` selects no node; an empty selector selects all nodes.
    pub selector: Option<Selector>,
    /// `spec.defaults`. In spite of the name, they override the ConfigMap.
    pub defaults: Keys,
}

impl Document {
    /// The document of a source that has no overrides.
    #[must_use]
    pub fn of_keys(keys: Keys, surroundings: Surroundings) -> Self {
        Self { keys, surroundings, ..Self::default() }
    }

    /// Overrides `keys` with the keys of those `configs` that select a node with these labels. If two of them set the same key, the later
    /// name wins, as in Cilium.
    #[must_use]
    pub fn effective(mut keys: Keys, configs: &[NodeConfig], labels: &Labels, surroundings: Surroundings) -> Self {
        let mut selected: Vec<_> = configs.iter().filter(|config| config.selects(labels)).collect();
        selected.sort_by(|a, b| a.name.cmp(&b.name));
        let mut origins = BTreeMap::new();
        for NodeConfig { name, defaults, .. } in selected {
            for (key, value) in defaults {
                keys.insert(key.clone(), value.clone());
                origins.insert(key.clone(), format!("CiliumNodeConfig {name}"));
            }
        }
        Self { keys, origins, surroundings, ..Self::default() }
    }
}

impl Document {
    /// Adds the time of the lists' last change in the ConfigMap. It proves nothing about a list that another object sets.
    #[must_use]
    pub fn changed(self, lists_changed: Option<Timestamp>) -> Self {
        let is_overridden = LIST_KEYS.iter().any(|key| self.origins.contains_key(*key));
        Self { lists_changed: lists_changed.filter(|_| !is_overridden), ..self }
    }

    /// Adds to the finding the object that set its key.
    #[must_use]
    pub fn with_origin(&self, finding: Finding) -> Finding {
        match self.origins.get(&finding.key) {
            Some(origin) => finding.set_by(origin),
            None => finding,
        }
    }
}

impl NodeConfig {
    #[must_use]
    pub fn selects(&self, labels: &Labels) -> bool {
        self.selector.as_ref().is_some_and(|selector| selector.matches(labels))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keys<const N: usize>(keys: [(&str, &str); N]) -> Keys {
        keys.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }

    fn config<const N: usize>(name: &str, selector: serde_json::Value, defaults: [(&str, &str); N]) -> NodeConfig {
        let selector = serde_json::from_value(selector).expect("a selector");
        NodeConfig { name: name.to_owned(), selector, defaults: keys(defaults) }
    }

    #[test]
    fn the_last_name_that_selects_the_node_wins() {
        let labels = keys([("zone", "dmz"), ("bigip", "yes")]);
        let dmz = || json!({ "matchLabels": { "zone": "dmz" } });
        let cases: [(&str, Vec<NodeConfig>, &str, Option<&str>); 7] = [
            ("none", vec![], "base", None),
            ("one", vec![config("a", dmz(), [("k", "a")])], "a", Some("CiliumNodeConfig a")),
            (
                "another node's",
                vec![config("a", json!({ "matchLabels": { "zone": "lan" } }), [("k", "a")])],
                "base",
                None,
            ),
            ("no selector selects nothing", vec![config("a", json!(null), [("k", "a")])], "base", None),
            ("an empty one all", vec![config("a", json!({}), [("k", "a")])], "a", Some("CiliumNodeConfig a")),
            (
                "in the order of names",
                vec![config("b", dmz(), [("k", "b")]), config("a", dmz(), [("k", "a")])],
                "b",
                Some("CiliumNodeConfig b"),
            ),
            (
                "expressions",
                vec![config(
                    "a",
                    json!({ "matchExpressions": [
                        { "key": "bigip", "operator": "Exists" },
                        { "key": "zone", "operator": "NotIn", "values": ["dmz"] },
                    ] }),
                    [("k", "a")],
                )],
                "base",
                None,
            ),
        ];
        for (name, configs, value, origin) in cases {
            let base = keys([("k", "base"), ("other", "x")]);
            let document = Document::effective(base, &configs, &labels, Surroundings::default());
            assert_eq!(document.keys, keys([("k", value), ("other", "x")]), "{name}");
            assert_eq!(document.origins.get("k").map(String::as_str), origin, "{name}");
        }
    }

    #[test]
    fn an_override_of_a_list_hides_when_it_changed() {
        let changed = |key: &str| {
            let configs = [config("a", json!({}), [(key, "x")])];
            let document = Document::effective(Keys::new(), &configs, &Labels::new(), Surroundings::default());
            document.changed(Some(Timestamp::UNIX_EPOCH)).lists_changed
        };
        assert_eq!(changed("vtep-mask"), Some(Timestamp::UNIX_EPOCH));
        assert_eq!(LIST_KEYS.map(changed), [None; 3]);
    }

    #[test]
    fn a_key_that_the_configmap_lacks_is_added() {
        let configs = [config("a", json!({}), [("vtep-mask", "255.255.0.0")])];
        let document = Document::effective(Keys::new(), &configs, &Labels::new(), Surroundings::default());
        assert_eq!(document.keys, keys([("vtep-mask", "255.255.0.0")]));
    }
}
