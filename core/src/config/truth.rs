//! Where the truth about this node's VTEPs is: in the lists of `cilium-config`, or in custom resources.
//!
//! A Cilium reads one of the two and ignores the other. The agent writes and deletes nothing against the one that Cilium reads.

use serde::{Deserialize, Serialize};

/// The place that decides the VTEPs of this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Truth {
    /// The lists in `cilium-config`.
    #[default]
    Configmap,
    /// `CiliumVTEPConfig` objects, or this node's `CiliumVTEPNodeConfig`. Cilium itself reconciles them.
    Crd,
    /// Unknown: VTEP is enabled, all three lists are absent, and no object is known. The agent then writes and deletes nothing.
    None,
}

impl std::fmt::Display for Truth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Configmap => "configmap",
            Self::Crd => "crd",
            Self::None => "none",
        })
    }
}

/// `--vtep-source`: the place as a person chooses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// By what the cluster and the node show.
    #[default]
    Auto,
    Configmap,
    Crd,
}

/// What this node shows about its Cilium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    pub choice: Choice,
    /// The VTEP map is an LPM trie: only a Cilium that reconciles custom resources makes one.
    pub map_is_trie: bool,
    /// Cilium discloses the lists that it was started with: such a Cilium knows no custom resources.
    pub runs_with_lists: bool,
}

/// What the sources have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// A list in `cilium-config` has a value.
    pub lists: bool,
    /// An object is for this node, sound or not.
    pub objects: bool,
    /// An object for this node says that Cilium has synced it.
    pub is_synced: bool,
    /// Until now objects were the truth, and gave this node VTEPs.
    pub had_objects: bool,
}

/// The place, and the reason in words. [`Truth::None`] is decided later, by the lists themselves.
#[must_use]
pub fn decide(signs: Signs, sources: Sources) -> (Truth, &'static str) {
    let Signs { choice, map_is_trie, runs_with_lists } = signs;
    let Sources { lists, objects, is_synced, had_objects } = sources;
    match choice {
        Choice::Configmap => return (Truth::Configmap, "--vtep-source says so"),
        Choice::Crd => return (Truth::Crd, "--vtep-source says so"),
        Choice::Auto => {}
    }
    match (lists, objects) {
        (true, false) => (Truth::Configmap, "cilium-config has VTEP lists, and no custom resource is for this node"),
        (false, true) => (Truth::Crd, "custom resources have VTEPs for this node, and cilium-config has no lists"),
        (false, false) if had_objects => {
            (Truth::Crd, "custom resources had VTEPs for this node, and nothing took their place")
        }
        (false, false) => (Truth::Configmap, "no custom resource is for this node"),
        (true, true) if map_is_trie => {
            (Truth::Crd, "the VTEP map is an LPM trie, which Cilium fills from custom resources")
        }
        (true, true) if runs_with_lists => (Truth::Configmap, "Cilium was started with the lists"),
        (true, true) if is_synced => (Truth::Crd, "Cilium reports that it has synced the custom resources"),
        // What Cilium has shown once remains true while an object reports a problem.
        (true, true) if had_objects => (Truth::Crd, "Cilium has synced the custom resources before"),
        (true, true) => (Truth::Configmap, "nothing shows that Cilium reads the custom resources"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_count_until_something_shows_that_cilium_reads_objects() {
        use Truth::{Configmap, Crd};
        let none = (Signs::default(), Sources::default());
        type Change = fn(&mut Signs, &mut Sources);
        let table: [(&str, Change, Truth); 12] = [
            ("nothing", |_, _| {}, Configmap),
            ("lists", |_, of| of.lists = true, Configmap),
            ("objects", |_, of| of.objects = true, Crd),
            ("objects beside a Cilium with lists", |signs, of| (signs.runs_with_lists, of.objects) = (true, true), Crd),
            ("objects that are gone", |_, of| of.had_objects = true, Crd),
            ("lists again", |_, of| (of.lists, of.had_objects) = (true, true), Configmap),
            ("both", |_, of| (of.lists, of.objects) = (true, true), Configmap),
            ("both, synced", |_, of| (of.lists, of.objects, of.is_synced) = (true, true, true), Crd),
            ("both, synced before", |_, of| (of.lists, of.objects, of.had_objects) = (true, true, true), Crd),
            (
                "both, synced elsewhere",
                |signs, of| {
                    signs.runs_with_lists = true;
                    (of.lists, of.objects, of.is_synced, of.had_objects) = (true, true, true, true);
                },
                Configmap,
            ),
            (
                "both, and a trie",
                |signs, of| {
                    (signs.map_is_trie, signs.runs_with_lists) = (true, true);
                    (of.lists, of.objects) = (true, true);
                },
                Crd,
            ),
            ("lists and a trie", |signs, of| (signs.map_is_trie, of.lists) = (true, true), Configmap),
        ];
        for (name, change, expected) in table {
            let (mut signs, mut sources) = none;
            change(&mut signs, &mut sources);
            assert_eq!(decide(signs, sources).0, expected, "{name}");
            assert_eq!(decide(Signs { choice: Choice::Configmap, ..signs }, sources).0, Configmap, "{name}");
            assert_eq!(decide(Signs { choice: Choice::Crd, ..signs }, sources).0, Crd, "{name}");
        }
    }
}
