//! The README of a fleet's bundle: which nodes are in it and why, and which are not.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{NodeBundle, choice::Choice, extent};
use crate::{
    bundle::{
        part::Extent,
        readme::{Origin, REDACTED},
    },
    fleet::{names, report::Report},
};

/// The report of the fleet, as files.
pub const TEXT: &str = "fleet.txt";
pub const JSON: &str = "fleet.json";

/// What the README is about.
#[derive(Clone, Debug)]
pub struct Contents<'c> {
    /// Its `node` is not used.
    pub origin: Origin<'c>,
    pub report: &'c Report,
    pub choice: &'c Choice,
    /// Of the nodes that were chosen: the bundle, or why there is none.
    pub bundles: &'c BTreeMap<String, Result<NodeBundle, String>>,
}

/// Markdown.
#[must_use]
pub fn readme(contents: &Contents<'_>) -> String {
    let Contents { origin: Origin { version, at, is_redacted, .. }, report, choice, bundles } = contents;
    let words = match extent(bundles, &choice.left_out) {
        Extent::Complete => "It is complete.",
        Extent::InPart => "It is there in part: see below what is missing, and why.",
        Extent::Nothing => "It has nothing: see below why.",
    };
    let mut text = format!(
        "# Bundle of a fleet\n\nMade at {at} by `vtep-agent fleet bundle` {version}: {}. {words}\n\n\
         | file | what it has |\n|---|---|\n\
         | `{TEXT}` | the report of all nodes, as `vtep-agent fleet -o wide` prints it: read it first |\n\
         | `{JSON}` | the same in full, as `vtep-agent fleet -o json` prints it |\n\
         | `nodes/NODE/` | the bundle of that node: begin with its `README.md`, which says what the other files have |\n\n\
         ## Nodes\n\n| node | why it is here | bundle |\n|---|---|---|\n",
        report.headline()
    );
    for (node, bundle) in *bundles {
        let of = match bundle {
            Ok(bundle) if bundle.extent == Extent::Complete => "complete",
            Ok(_) => "in part: its `README.md` says what is missing",
            Err(_) => "missing",
        };
        let why = choice.nodes.get(node).map_or("", String::as_str);
        let line = |text: &str| text.replace('|', "\\|").replace(['\n', '\r'], " ");
        // A `String` takes everything.
        let _ = writeln!(text, "| {} | {} | {of} |", line(node), line(why));
    }
    let missing = missing(bundles);
    if !missing.is_empty() {
        let _ = write!(text, "\n## Missing\n\n{}\n", missing.join("\n"));
    }
    if !choice.left_out.is_empty() {
        let folded = names::fold(choice.left_out.iter().map(String::as_str));
        let _ = write!(
            text,
            "\n## Left out\n\n- {folded}: in trouble as well. `--max-nodes` limits the number of nodes; each trouble of `{TEXT}` has a node here \
             before one has a second.\n"
        );
    }
    text += "\n## What is not in here\n\nNo kubeconfig and no credentials of the person who made it. Each node's part has what `vtep-agent \
             bundle` has: no environment variables, no Secrets, no tokens.\n";
    if *is_redacted {
        text += "\nThe names of nodes and of the agent's pods are replaced, too, in the parts of all nodes and in the report by the same \
                 ones.\n";
        text += REDACTED;
    } else {
        text += "\nThe files have IP addresses, MACs and names. `vtep-agent fleet bundle --redact` replaces addresses, and the names of nodes.\n";
    }
    text
}

/// One line for each reason: `- worker-[3-5]: no bundle within 2m`.
#[must_use]
pub fn missing(bundles: &BTreeMap<String, Result<NodeBundle, String>>) -> Vec<String> {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (node, bundle) in bundles {
        if let Err(reason) = bundle {
            reasons.entry(reason).or_default().push(node);
        }
    }
    reasons.into_iter().map(|(reason, nodes)| format!("- {}: {reason}", names::fold(nodes))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::report::Collected;

    #[test]
    fn it_says_which_nodes_are_there_and_why_others_are_not() {
        let at = "2026-11-27T12:00:00Z".parse().expect("a time");
        let report = Report::new(&Collected::default(), at);
        let bundle = |extent| Ok(NodeBundle { files: BTreeMap::new(), extent });
        let hangs = || Err("no bundle within 2m".to_owned());
        let bundles = [
            ("worker-1", bundle(Extent::Complete)),
            ("worker-2", bundle(Extent::InPart)),
            ("worker-3", hangs()),
            ("worker-4", hangs()),
            ("worker-5", hangs()),
        ];
        let bundles = bundles.map(|(node, bundle)| (node.to_owned(), bundle)).into();
        let nodes = [("worker-1".to_owned(), "a | b\nc".to_owned())].into();
        let choice = Choice { nodes, left_out: vec!["worker-7".into(), "worker-9".into()] };
        let origin = Origin { node: "", version: "0.1.0", at, is_redacted: false };
        let contents = Contents { origin, report: &report, choice: &choice, bundles: &bundles };
        let text = readme(&contents);
        for words in [
            "Made at 2026-11-27T12:00:00Z by `vtep-agent fleet bundle` 0.1.0: no node matches: 0 of 0 agents answered. It is there in part",
            "| worker-1 | a \\| b c | complete |\n",
            "| worker-2 |  | in part: its `README.md`",
            "## Missing\n\n- worker-[3-5]: no bundle within 2m\n",
            "## Left out\n\n- worker-7, worker-9: ",
            "--redact",
        ] {
            assert!(text.contains(words), "{words}\n{text}");
        }
        let origin = Origin { is_redacted: true, ..contents.origin.clone() };
        assert!(readme(&Contents { origin, ..contents }).contains("240.0.0.0/4"));
    }
}
