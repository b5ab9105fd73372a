//! From what the watches see to what the source says. Pure.

use std::{collections::BTreeSet, net::Ipv4Addr};

use super::{
    Names,
    follow::Part,
    objects::{CiliumNode, Node},
};
use crate::config::{
    Keys,
    document::{Document, Labels, NodeConfig},
    surroundings::Surroundings,
    view::{Observed, Sight},
};

#[derive(Clone, Default)]
pub(super) struct Seen {
    pub(super) configmap: Part<Option<Keys>>,
    pub(super) node_configs: Part<Vec<NodeConfig>>,
    pub(super) node: Part<Node>,
    pub(super) cilium_node: Part<CiliumNode>,
    /// Of the API server's Service.
    pub(super) endpoints: Part<BTreeSet<Ipv4Addr>>,
    /// As this agent reaches the API server; `None` until its name was looked up.
    pub(super) server: Option<BTreeSet<Ipv4Addr>>,
    /// Why the API server cannot be reached.
    pub(super) trouble: Option<String>,
}

impl Seen {
    /// `None` while the API server was not asked everything yet: half an answer may be the wrong configuration. `before` is the doubt that
    /// was told last; it goes when everything is watched again, and not earlier.
    pub(super) fn observed(&self, names: &Names, given: &Surroundings, before: Option<&str>) -> Option<Observed> {
        let doubt = self.doubt(before);
        if self.is_pending() || (self.configmap.known.is_none() && doubt.is_some()) {
            return doubt.map(|doubt| Observed::nothing(&doubt));
        }
        let sight = match (&self.configmap.known, &self.node_configs.known, &self.node.known) {
            (Some(None), _, _) => Sight::Missing(missing(names)),
            (Some(Some(keys)), Some(configs), Some(node)) => {
                let surroundings = given.and(&self.surroundings());
                Sight::Document(Document::effective(keys.clone(), configs, &node.labels, surroundings))
            }
            // Without an override the labels of the node do not matter.
            (Some(Some(keys)), Some(configs), None) if configs.is_empty() => {
                let surroundings = given.and(&self.surroundings());
                Sight::Document(Document::effective(keys.clone(), &[], &Labels::new(), surroundings))
            }
            (_, _, _) => Sight::Nothing,
        };
        Some(Observed { sight, doubt })
    }

    /// Why what is known may be out of date. What the configuration is complete without raises none.
    fn doubt(&self, before: Option<&str>) -> Option<String> {
        let Self { configmap, node_configs, node, trouble, .. } = self;
        let error = [&configmap.error, &node_configs.error, &node.error].into_iter().find_map(Clone::clone);
        let is_whole = configmap.open && node_configs.open && node.open;
        let trouble = trouble.as_deref().or(before).filter(|_| !is_whole);
        error.or_else(|| trouble.map(str::to_owned))
    }

    fn is_pending(&self) -> bool {
        let Self { configmap, node_configs, node, cilium_node, endpoints, server, trouble: _ } = self;
        let pending = [
            configmap.is_pending(),
            node_configs.is_pending(),
            node.is_pending(),
            cilium_node.is_pending(),
            endpoints.is_pending(),
            server.is_none(),
        ];
        pending.contains(&true)
    }

    /// What the cluster says of this node and of the API server. Networks that either the Node or the CiliumNode names are kept clear: which
    /// of them Cilium gives to pods depends on its IPAM mode, and too many refuse a VTEP where too few would cut pods off.
    fn surroundings(&self) -> Surroundings {
        let mut surroundings = Surroundings::default();
        if let Some(Node { pod_cidrs, addresses, .. }) = &self.node.known {
            surroundings.pod_cidrs.extend(pod_cidrs);
            surroundings.node_addresses.extend(addresses);
        }
        if let Some(CiliumNode { pod_cidrs, addresses }) = &self.cilium_node.known {
            surroundings.pod_cidrs.extend(pod_cidrs);
            surroundings.node_addresses.extend(addresses);
        }
        surroundings.api_servers.extend(self.server.iter().chain(&self.endpoints.known).flatten());
        surroundings
    }
}

fn missing(Names { namespace, configmap, .. }: &Names) -> String {
    format!("there is no ConfigMap {configmap} in namespace {namespace}: is Cilium installed there?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known<V>(value: V) -> Part<V> {
        Part { known: Some(value), error: None, open: true }
    }

    fn failed<V>(known: Option<V>) -> Part<V> {
        Part { known, error: Some("refused".into()), open: false }
    }

    fn closed<V>(part: Part<V>) -> Part<V> {
        Part { open: false, ..part }
    }

    fn node_config() -> Vec<NodeConfig> {
        vec![NodeConfig { name: "a".into(), selector: Some(kube::core::Selector::default()), defaults: Keys::new() }]
    }

    /// Everything known, and every watch open.
    fn whole() -> Seen {
        Seen {
            configmap: known(Some(Keys::new())),
            node_configs: known(vec![]),
            node: known(Node::default()),
            cilium_node: known(CiliumNode::default()),
            endpoints: known(BTreeSet::new()),
            server: Some(BTreeSet::new()),
            trouble: None,
        }
    }

    /// Everything known, and the API server lost.
    fn away() -> Seen {
        Seen { configmap: closed(known(Some(Keys::new()))), trouble: Some("away".into()), ..whole() }
    }

    fn observed(seen: &Seen, before: Option<&str>) -> Option<Observed> {
        let names = Names { namespace: "ns".into(), configmap: "cm".into(), node: "n".into() };
        seen.observed(&names, &Surroundings::default(), before)
    }

    /// In short: what is seen, and why it is in doubt.
    fn shown(seen: &Seen, before: Option<&str>) -> Option<(&'static str, Option<String>)> {
        observed(seen, before).map(|Observed { sight, doubt }| {
            let sight = match sight {
                Sight::Document(_) => "document",
                Sight::Missing(_) => "missing",
                Sight::Nothing => "nothing",
            };
            (sight, doubt)
        })
    }

    #[test]
    fn half_an_answer_is_no_document() {
        let cases = [
            ("nothing asked", Seen { configmap: Part::default(), ..whole() }, None),
            ("overrides not asked", Seen { node_configs: Part::default(), ..whole() }, None),
            ("node not asked", Seen { node: Part::default(), ..whole() }, None),
            ("CiliumNode not asked", Seen { cilium_node: Part::default(), ..whole() }, None),
            ("endpoints not asked", Seen { endpoints: Part::default(), ..whole() }, None),
            ("name not looked up", Seen { server: None, ..whole() }, None),
            ("all known", whole(), Some(("document", false))),
            ("no ConfigMap", Seen { configmap: known(None), ..whole() }, Some(("missing", false))),
            ("away in between", Seen { endpoints: Part::default(), ..away() }, Some(("nothing", true))),
            ("refused at once", Seen { configmap: failed(None), ..Seen::default() }, Some(("nothing", true))),
            ("away at once", Seen { trouble: Some("away".into()), ..Seen::default() }, Some(("nothing", true))),
            ("overrides refused", Seen { node_configs: failed(None), ..whole() }, Some(("nothing", true))),
            ("labels refused, not needed", Seen { node: failed(None), ..whole() }, Some(("document", true))),
            (
                "labels refused, needed",
                Seen { node_configs: known(node_config()), node: failed(None), ..whole() },
                Some(("nothing", true)),
            ),
            ("CiliumNode refused", Seen { cilium_node: failed(None), ..whole() }, Some(("document", false))),
            ("endpoints refused", Seen { endpoints: failed(None), ..whole() }, Some(("document", false))),
            ("gone later", Seen { configmap: failed(Some(Some(Keys::new()))), ..whole() }, Some(("document", true))),
        ];
        for (name, seen, expected) in cases {
            let shown = shown(&seen, None).map(|(sight, doubt)| (sight, doubt.is_some()));
            assert_eq!(shown, expected, "{name}");
        }
    }

    #[test]
    fn a_doubt_comes_with_a_failure_and_goes_when_all_is_watched_again() {
        let ended = || Seen { trouble: None, ..away() };
        let doubt = |seen: &Seen, before| shown(seen, before).and_then(|(_, doubt)| doubt);
        assert_eq!(doubt(&ended(), None), None, "a watch may end");
        assert_eq!(doubt(&away(), None).as_deref(), Some("away"));
        assert_eq!(
            doubt(&ended(), Some("away")).as_deref(),
            Some("away"),
            "it answers, and not everything is known yet"
        );
        assert_eq!(doubt(&whole(), Some("away")), None);
        let optional =
            Seen { cilium_node: closed(known(CiliumNode::default())), trouble: Some("away".into()), ..whole() };
        assert_eq!(doubt(&optional, None), None, "what the configuration is complete without raises none");
    }

    #[test]
    fn all_that_the_cluster_says_of_this_node_is_kept_clear() {
        let networks = |cidrs: &[&str]| cidrs.iter().map(|cidr| cidr.parse().expect("a network")).collect();
        let addresses = |ips: &[&str]| ips.iter().map(|ip| ip.parse().expect("an address")).collect();
        let node =
            Node { pod_cidrs: networks(&["10.244.1.0/24"]), addresses: addresses(&["10.0.0.1"]), ..Node::default() };
        let cilium_node = CiliumNode { pod_cidrs: networks(&["10.1.6.0/24"]), addresses: addresses(&["10.1.6.7"]) };
        let seen = Seen {
            node: known(node),
            cilium_node: known(cilium_node),
            endpoints: known(addresses(&["10.169.73.10"])),
            server: Some(addresses(&["10.96.0.1"])),
            ..whole()
        };
        let Some(Observed { sight: Sight::Document(document), .. }) = observed(&seen, None) else {
            panic!("a document")
        };
        let expected = Surroundings {
            pod_cidrs: networks(&["10.244.1.0/24", "10.1.6.0/24"]),
            node_addresses: addresses(&["10.0.0.1", "10.1.6.7"]),
            api_servers: addresses(&["10.96.0.1", "10.169.73.10"]),
            ..Surroundings::default()
        };
        assert_eq!(document.surroundings, expected);
        // Without the Node what else is known still counts.
        let seen = Seen { node: failed(None), ..seen };
        let Some(Observed { sight: Sight::Document(document), .. }) = observed(&seen, None) else {
            panic!("a document")
        };
        assert_eq!(document.surroundings.api_servers, expected.api_servers);
    }
}
