//! One bundle of many nodes: which nodes, how much of each, and what the archive says about itself.
//!
//! - `choice`: the nodes that are in it
//! - `readme`: its README
//! - `redacted`: one node's files with other addresses, the same ones as in every other node's

pub mod choice;
pub mod readme;
pub mod redacted;

use std::collections::BTreeMap;

use super::part::Extent;

/// The most bytes of one node's files: the limit of a node's own bundle, its README, and some room for newer agents.
pub const MOST_OF_NODE: usize = 10 << 20;
/// The most bytes of all nodes' files. The archive is made in memory.
pub const MOST_OF_ALL: usize = 128 << 20;

/// What one node has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeBundle {
    /// By their paths in that node's archive.
    pub files: BTreeMap<String, Vec<u8>>,
    pub extent: Extent,
}

impl NodeBundle {
    #[must_use]
    pub fn size(&self) -> usize {
        self.files.values().map(Vec::len).sum()
    }
}

/// How much there is, for the exit status: the nodes' bundles, or why one is missing, and the nodes that are left out.
#[must_use]
pub fn extent(bundles: &BTreeMap<String, Result<NodeBundle, String>>, left_out: &[String]) -> Extent {
    let collected = || bundles.values().filter_map(|bundle| bundle.as_ref().ok());
    if collected().next().is_none() {
        return Extent::Nothing;
    }
    let is_complete = bundles.values().all(|bundle| bundle.as_ref().is_ok_and(|it| it.extent == Extent::Complete));
    if is_complete && left_out.is_empty() { Extent::Complete } else { Extent::InPart }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_complete_if_every_node_is() {
        let bundle = |extent| Ok(NodeBundle { files: BTreeMap::new(), extent });
        let missing = || Err("no answer".to_owned());
        let of = |bundles: Vec<Result<NodeBundle, String>>, left_out: &[String]| {
            let bundles = (0..).zip(bundles).map(|(number, bundle)| (format!("worker-{number}"), bundle)).collect();
            extent(&bundles, left_out)
        };
        assert_eq!(of(vec![bundle(Extent::Complete), bundle(Extent::Complete)], &[]), Extent::Complete);
        assert_eq!(of(vec![bundle(Extent::Complete)], &["worker-9".into()]), Extent::InPart);
        assert_eq!(of(vec![bundle(Extent::Complete), bundle(Extent::InPart)], &[]), Extent::InPart);
        assert_eq!(of(vec![bundle(Extent::Complete), missing()], &[]), Extent::InPart);
        assert_eq!(of(vec![missing(), missing()], &[]), Extent::Nothing);
        assert_eq!(of(vec![], &[]), Extent::Nothing);
    }
}
