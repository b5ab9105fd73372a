//! From what the watches see to what the source says. Pure.

use super::{Names, follow::Part, objects::Node};
use crate::config::{
    Keys,
    document::{Document, Labels, NodeConfig},
    surroundings::Surroundings,
    view::{Observed, Sight},
};

pub(super) struct Seen {
    pub(super) configmap: Part<Option<Keys>>,
    pub(super) node_configs: Part<Vec<NodeConfig>>,
    pub(super) node: Part<Node>,
}

impl Seen {
    /// `None` while the API server was not asked everything yet: half an answer may be the wrong configuration.
    pub(super) fn observed(&self, names: &Names, given: &Surroundings) -> Option<Observed> {
        let Self { configmap, node_configs, node } = self;
        let doubt = [&configmap.error, &node_configs.error, &node.error].into_iter().find_map(Clone::clone);
        if configmap.known.is_none() && doubt.is_some() {
            return doubt.map(|doubt| Observed::nothing(&doubt));
        }
        if configmap.is_pending() || node_configs.is_pending() || node.is_pending() {
            return None;
        }
        let sight = match (&configmap.known, &node_configs.known, &node.known) {
            (Some(None), _, _) => Sight::Missing(missing(names)),
            (Some(Some(keys)), Some(configs), Some(node)) => {
                let surroundings = given.and(&Surroundings {
                    pod_cidrs: node.pod_cidrs.clone(),
                    node_addresses: node.addresses.clone(),
                    ..Surroundings::default()
                });
                Sight::Document(Document::effective(keys.clone(), configs, &node.labels, surroundings))
            }
            // Without an override the labels of the node do not matter.
            (Some(Some(keys)), Some(configs), None) if configs.is_empty() => {
                Sight::Document(Document::effective(keys.clone(), &[], &Labels::new(), given.clone()))
            }
            (_, _, _) => Sight::Nothing,
        };
        Some(Observed { sight, doubt })
    }
}

fn missing(Names { namespace, configmap, .. }: &Names) -> String {
    format!("there is no ConfigMap {configmap} in namespace {namespace}: is Cilium installed there?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known<V>(value: V) -> Part<V> {
        Part { known: Some(value), error: None }
    }

    fn failed<V>(known: Option<V>) -> Part<V> {
        Part { known, error: Some("refused".into()) }
    }

    fn node_config() -> Vec<NodeConfig> {
        vec![NodeConfig { name: "a".into(), selector: Some(kube::core::Selector::default()), defaults: Keys::new() }]
    }

    #[test]
    fn half_an_answer_is_no_document() {
        let names = Names { namespace: "ns".into(), configmap: "cm".into(), node: "n".into() };
        let keys = || known(Some(Keys::new()));
        let pending = || Part { known: None, error: None };
        let pending_keys = || Part { known: None, error: None };
        let cases = [
            ("nothing asked", pending_keys(), known(vec![]), known(Node::default()), None),
            ("overrides not asked", keys(), Part { known: None, error: None }, known(Node::default()), None),
            ("node not asked", keys(), known(vec![]), pending(), None),
            ("all known", keys(), known(vec![]), known(Node::default()), Some(("document", false))),
            ("no ConfigMap", known(None), known(vec![]), known(Node::default()), Some(("missing", false))),
            ("refused at once", failed(None), Part { known: None, error: None }, pending(), Some(("nothing", true))),
            ("overrides refused", keys(), failed(None), known(Node::default()), Some(("nothing", true))),
            ("labels refused, not needed", keys(), known(vec![]), failed(None), Some(("document", true))),
            ("labels refused, needed", keys(), known(node_config()), failed(None), Some(("nothing", true))),
            (
                "gone later",
                failed(Some(Some(Keys::new()))),
                failed(Some(vec![])),
                failed(Some(Node::default())),
                Some(("document", true)),
            ),
        ];
        for (name, configmap, node_configs, node, expected) in cases {
            let observed = Seen { configmap, node_configs, node }.observed(&names, &Surroundings::default());
            let shown = observed.map(|Observed { sight, doubt }| {
                let sight = match sight {
                    Sight::Document(_) => "document",
                    Sight::Missing(_) => "missing",
                    Sight::Nothing => "nothing",
                };
                (sight, doubt.is_some())
            });
            assert_eq!(shown, expected, "{name}");
        }
    }
}
