//! The README inside a bundle: what is what, and what is missing and why.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::Timestamp;

use super::{
    part::{Extent, Outcome, Part},
    redact::Redactor,
};

/// Where a bundle comes from.
#[derive(Clone, Debug)]
pub struct Origin<'o> {
    pub node: &'o str,
    pub version: &'o str,
    pub at: Timestamp,
    pub is_redacted: bool,
}

/// Markdown.
#[must_use]
pub fn readme(origin: &Origin<'_>, outcomes: &BTreeMap<Part, Outcome>) -> String {
    let Origin { node, version, at, is_redacted } = origin;
    let extent = match Extent::of(outcomes.values()) {
        Extent::Complete => "It is complete.",
        Extent::InPart => "It is there in part: see below what is missing, and why.",
        Extent::Nothing => "It has nothing: see below why.",
    };
    let mut text = format!(
        "# Bundle of {node}\n\nMade at {at} by vtep-agent {version} on that node. {extent}\n\n| file | what it has |\n|---|---|\n"
    );
    for (part, outcome) in outcomes {
        if let Outcome::Collected(_) = outcome {
            // A `String` takes everything.
            let _ = writeln!(text, "| `{}` | {} |", part.file(), part.what());
        }
    }
    let why = |wanted: fn(&Outcome) -> Option<&String>| {
        let found = outcomes.iter().filter_map(move |(part, outcome)| Some((part, wanted(outcome)?)));
        found.map(|(part, why)| format!("- `{}`, {}: {why}\n", part.file(), part.what())).collect::<String>()
    };
    let missing = why(|outcome| if let Outcome::Missing(why) = outcome { Some(why) } else { None });
    let left_out = why(|outcome| if let Outcome::LeftOut(why) = outcome { Some(why) } else { None });
    for (heading, list) in [("Missing", missing), ("Left out", left_out)] {
        if !list.is_empty() {
            let _ = write!(text, "\n## {heading}\n\n{list}");
        }
    }
    text += "\n## What is not in here\n\nNo environment variables, no Secrets, no tokens and no kubeconfig. Of Cilium's configuration only \
             keys about tunnels, which a list in the program names. Of each captured frame only the first bytes.\n";
    text += if *is_redacted { REDACTED } else { PLAIN };
    text
}

/// The README of a bundle whose addresses are replaced after it was made. `left_out` has files that are no longer there, each with the reason.
#[must_use]
pub fn redacted(readme: &str, left_out: &[(String, &str)], redactor: &mut Redactor) -> String {
    let is_left_out = |line: &str| left_out.iter().any(|(file, _)| line.starts_with(&format!("| `{file}` |")));
    let kept = readme.lines().filter(|line| !is_left_out(line)).map(|line| format!("{line}\n")).collect::<String>();
    let mut text = redactor.text(&kept).replace(PLAIN, REDACTED);
    if !left_out.is_empty() {
        text += "\n## Left out because addresses are replaced\n\n";
        text.extend(left_out.iter().map(|(file, why)| format!("- `{file}`: {why}\n")));
    }
    text
}

const PLAIN: &str = "\nThe files have IP addresses, MACs and the names of this node and of objects in Kubernetes. `vtep-agent bundle \
                     --redact` replaces addresses and the node's name.\n";

pub(super) const REDACTED: &str = "\nAddresses and the node's name are replaced, in all files by the same ones: IPv4 addresses by ones in 240.0.0.0/4, \
                        MACs by ones that begin with 02:f5:00 (a group's with 03:f5:00), IPv6 addresses by ones in 2001:db8::/32. Whether \
                        an address is in a network of 16 or more bits is as it was, and so is the last octet. Networks of fewer bits, \
                        masks, loopback and multicast are as they were. Captured frames end behind their headers; in these, the checksums \
                        of TCP, UDP and ICMP and the options of IPv4 and Geneve are zeros, and the checksum of an IPv4 header is that of \
                        the new header. Names of objects in Kubernetes and of devices, ports, times, and the hash of the configuration \
                        are as they were. Whoever knows the original of one address knows the first two octets of all others in the same \
                        /16, and the bits of their third octets up to the first one that differs; of other addresses, nothing.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_is_there_and_why_something_is_not() {
        let outcomes = [
            (Part::Status, Outcome::Collected(vec![])),
            (Part::Log, Outcome::Missing("nobody answers".into())),
            (Part::Header, Outcome::LeftOut("this Cilium has none".into())),
        ];
        let origin = Origin {
            node: "worker-1",
            version: "0.1.0",
            at: "2026-11-27T12:00:00Z".parse().expect("a time"),
            is_redacted: false,
        };
        let text = readme(&origin, &outcomes.into());
        for words in [
            "# Bundle of worker-1\n\nMade at 2026-11-27T12:00:00Z by vtep-agent 0.1.0 on that node. It is there in part",
            "| `status.json` | the same in full",
            "## Missing\n\n- `log.txt`, the last lines of the running agent's log: nobody answers\n",
            "## Left out\n\n- `cilium/node_config.h`, ",
            "--redact",
        ] {
            assert!(text.contains(words), "{words}\n{text}");
        }
        let mut redactor = Redactor::new(7, "worker-1");
        let outcomes = [(Part::Status, Outcome::Collected(vec![])), (Part::VtepMapRaw, Outcome::Collected(vec![]))];
        let later =
            redacted(&readme(&origin, &outcomes.into()), &[("maps/vtep-raw.json".into(), "bytes")], &mut redactor);
        assert!(
            later.contains("# Bundle of node-1\n") && later.contains(REDACTED) && !later.contains(PLAIN),
            "{later}"
        );
        assert!(
            !later.contains("| `maps/vtep-raw.json` |") && later.ends_with("- `maps/vtep-raw.json`: bytes\n"),
            "{later}"
        );
        let complete = [(Part::Status, Outcome::Collected(vec![]))].into();
        let text = readme(&Origin { is_redacted: true, ..origin }, &complete);
        assert!(
            text.contains("It is complete.") && text.contains("240.0.0.0/4") && !text.contains("## Missing"),
            "{text}"
        );
    }
}
