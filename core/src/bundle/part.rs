//! The parts of a bundle: each is one file.

/// A part, its file, and what the file has.
macro_rules! parts {
    ($($name:ident $file:literal = $what:literal),+ $(,)?) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Part {
            $(#[doc = $what] $name),+
        }

        impl Part {
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its path in the archive.
            #[must_use]
            pub const fn file(self) -> &'static str {
                match self {
                    $(Self::$name => $file),+
                }
            }

            /// What the file has.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self {
                    $(Self::$name => $what),+
                }
            }
        }
    };
}

parts! {
    Table "status.txt" = "the status of the running agent for people: read it first",
    Status "status.json" = "the same in full, as `/status` has it; `vtep-agent status --schema` describes it",
    History "history.json" = "the last changes of each verdict, and ten minutes of round trips, from `/history`",
    Health "health.txt" = "`/livez`, `/readyz` and `/healthz` of the running agent",
    Metrics "metrics.txt" = "`/metrics` of the running agent",
    Log "log.txt" = "the last lines of the running agent's log",
    Configuration "configuration.json" = "the keys of `cilium-config` that concern tunnels, which object set them, and the VTEPs in effect",
    Findings "findings.json" = "what is wrong with the configuration, as `vtep-agent check` says it",
    Preflight "preflight.json" = "whether this node is fit: `vtep-agent preflight`",
    Plan "plan.json" = "what the agent would change in the kernel now: `vtep-agent plan`",
    Probe "probe.json" = "one round of every probe while the bundle was made: `vtep-agent probe`",
    VtepMap "maps/vtep.json" = "Cilium's VTEP map, decoded",
    VtepMapRaw "maps/vtep-raw.json" = "the same as bytes: type and sizes of the map, and each entry in hexadecimal",
    Ipcache "maps/ipcache.json" = "the entries of Cilium's ipcache for each VTEP's network, and for addresses inside it",
    IpcacheRaw "maps/ipcache-raw.json" = "type and sizes of the ipcache, and its first entries in hexadecimal",
    Links "net/links.json" = "this node's devices, with their addresses",
    Routes "net/routes.json" = "this node's IPv4 routes of all tables but the kernel's own (255)",
    Rules "net/rules.json" = "this node's IPv4 routing rules",
    Neighbours "net/neighbours.json" = "the ARP entries of the endpoints, and of the gateways to them",
    Cilium "cilium/version.json" = "Cilium's version, and whether its agent answers",
    RunningConfig "cilium/agent-runtime-config.json" = "the keys about tunnels in the configuration that Cilium was started with",
    Header "cilium/node_config.h" = "the constants about tunnels that Cilium's programs were compiled with",
    Capture "capture.pcapng" = "the frames between this node and the far ends while the bundle was made: open it with Wireshark",
    Words "capture.txt" = "the same frames in words, one a line",
}

/// What became of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Collected(Vec<u8>),
    /// It is missing, and why: the bundle is there in part.
    Missing(String),
    /// It is not in the bundle by intention, and why: the bundle is complete without it.
    LeftOut(String),
}

/// The most bytes of a part, and of all parts: the agent's pod, in which the command runs, has 48 MiB of memory.
const MOST_OF_PART: usize = 2 << 20;
const MOST_OF_ALL: usize = 8 << 20;

/// Whether a part of this size fits beside those that have `before` bytes.
///
/// # Errors
///
/// It is too large, in words.
pub fn admit(before: usize, bytes: usize) -> Result<(), String> {
    if bytes > MOST_OF_PART {
        return Err(format!("it has {bytes} bytes, and the limit is {MOST_OF_PART}"));
    }
    if before.saturating_add(bytes) > MOST_OF_ALL {
        return Err(format!("it has {bytes} bytes, the other parts have {before}, and the limit is {MOST_OF_ALL}"));
    }
    Ok(())
}

/// How much of the bundle there is; it decides the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Complete,
    InPart,
    Nothing,
}

impl Extent {
    #[must_use]
    pub fn of<'o>(outcomes: impl IntoIterator<Item = &'o Outcome>) -> Self {
        let (mut collected, mut missing) = (0, 0);
        for outcome in outcomes {
            match outcome {
                Outcome::Collected(_) => collected += 1,
                Outcome::Missing(_) => missing += 1,
                Outcome::LeftOut(_) => {}
            }
        }
        match (collected, missing) {
            (0, _) => Self::Nothing,
            (_, 0) => Self::Complete,
            (_, _) => Self::InPart,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_part_has_a_file_of_its_own() {
        let files: BTreeSet<_> = Part::ALL.iter().map(|part| part.file()).collect();
        assert_eq!(files.len(), Part::ALL.len());
        assert!(!files.contains("README.md"));
    }

    #[test]
    fn a_part_and_the_whole_have_a_limit() {
        assert_eq!(admit(0, MOST_OF_PART), Ok(()));
        assert_eq!(admit(0, MOST_OF_PART + 1), Err("it has 2097153 bytes, and the limit is 2097152".to_owned()));
        assert_eq!(admit(MOST_OF_ALL - 7, 7), Ok(()));
        assert!(admit(MOST_OF_ALL - 7, 8).is_err_and(|why| why.contains("the other parts have 8388601")));
    }

    #[test]
    fn the_extent_follows_from_what_is_missing() {
        let [collected, missing, left_out] =
            [Outcome::Collected(vec![]), Outcome::Missing(String::new()), Outcome::LeftOut(String::new())];
        assert_eq!(Extent::of([&collected, &left_out]), Extent::Complete);
        assert_eq!(Extent::of([&collected, &missing]), Extent::InPart);
        assert_eq!(Extent::of([&missing, &left_out]), Extent::Nothing);
        assert_eq!(Extent::of([]), Extent::Nothing);
    }
}
