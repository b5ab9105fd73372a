//! Which releases of Cilium, kernels and far ends work with this agent, and how each of them is known.
//!
//! `preflight`, `/status`, the kernel's check and docs/compatibility.md all use these tables. Nothing in them is a guess: if nobody has looked,
//! there is no row, or the evidence says so.

use serde::{Deserialize, Serialize};

use super::version::CiliumVersion;

/// How something is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Seen on a running one.
    Run(&'static str),
    /// A test of this repository shows it: its file and function. Where the far end or Cilium is not the real one, the test imitates it.
    Test(&'static str, &'static str),
    /// Run by `make test-kernels`, with every test of the datapath.
    Kernels(&'static str),
    /// Read in the source or in a document, and not run.
    Read(&'static str),
    /// Reported by others.
    Reported(&'static str),
}

/// How much is known of a release of Cilium.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compatibility {
    /// Seen on a running Cilium of this minor release.
    Run,
    /// Read in its source, and not run.
    Read,
    /// This release loses the traffic of VTEPs.
    Broken,
    /// Nobody has looked at this release.
    Unknown,
}

impl Compatibility {
    /// In a few words, for a person.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Run => "seen running",
            Self::Read => "read in its source, not run",
            Self::Broken => "broken for VTEPs",
            Self::Unknown => "nobody has examined this release with this agent",
        }
    }
}

/// Releases of Cilium that are the same for VTEPs.
#[derive(Debug)]
pub struct Release {
    pub since: CiliumVersion,
    /// The first release that is no longer in this row.
    pub until: CiliumVersion,
    /// The kernel that VTEP in it needs. RHEL 8.6's 4.18 and newer builds count as well, in all of them.
    pub kernel: (u32, u32),
    /// Why it cannot be used for VTEPs.
    pub defect: Option<&'static str>,
    /// Its differences, as far as they concern this agent.
    pub differs: &'static str,
    /// What the agent does about them.
    pub agent: &'static str,
    pub evidence: &'static [Evidence],
}

impl Release {
    fn contains(&self, version: CiliumVersion) -> bool {
        self.since <= version && version < self.until
    }

    #[must_use]
    pub fn compatibility(&self) -> Compatibility {
        let was_run = self.evidence.iter().any(|evidence| matches!(evidence, Evidence::Run(_)));
        match self.defect {
            Some(_) => Compatibility::Broken,
            None if was_run => Compatibility::Run,
            None => Compatibility::Read,
        }
    }
}

/// The row of a release, if somebody has looked at it.
#[must_use]
pub fn release(version: CiliumVersion) -> Option<&'static Release> {
    RELEASES.iter().find(|release| release.contains(version))
}

/// What is known of a release.
#[must_use]
pub fn of(version: CiliumVersion) -> Compatibility {
    release(version).map_or(Compatibility::Unknown, Release::compatibility)
}

/// The kernel that VTEP in this release needs. For a release that nobody has looked at, it is that of the nearest one.
#[must_use]
pub fn kernel(version: CiliumVersion) -> (u32, u32) {
    let not_newer = RELEASES.iter().rev().find(|release| release.since <= version);
    not_newer.or(RELEASES.first()).map_or((5, 10), |release| release.kernel)
}

const ZERO_MAC: &str =
    "it answers BIG-IP's ARP requests with the MAC 00:00:00:00:00:00, so that BIG-IP does not reach pods";
const SOURCE: Evidence = Evidence::Read("Cilium's source");
const LAYOUT_V1: Evidence = Evidence::Test("tests/agent/layouts.rs", "the_ipcache_is_written_only_when_told");
const RESTART_DUE: Evidence =
    Evidence::Test("tests/agent/restart.rs", "a_restart_is_due_when_the_lists_changed_after_ciliums_start");
const BROKEN_NAMED: Evidence = Evidence::Test("tests/agent/fitness.rs", "a_broken_release_of_cilium_is_named");

/// In order, without a gap.
pub const RELEASES: &[Release] = &[
    Release {
        since: CiliumVersion::new(0, 0, 0),
        until: CiliumVersion::new(1, 12, 0),
        kernel: (5, 2),
        defect: None,
        differs: "no VTEPs, apart from release candidates of 1.12 and F5's own build, which keep a VTEP in the ipcache and have no VTEP map",
        agent: "writes the VTEPs into the ipcache (`--ipcache auto`), and takes back only what it wrote",
        evidence: &[
            SOURCE,
            Evidence::Test("tests/agent/layouts.rs", "before_the_vtep_map_the_ipcache_is_the_datapath"),
        ],
    },
    Release {
        since: CiliumVersion::new(1, 12, 0),
        until: CiliumVersion::new(1, 15, 0),
        kernel: (5, 2),
        defect: None,
        differs: "`cilium_vtep_map`, a hash of at most 8 entries, which each start of Cilium replaces by an empty one; ipcache with values of 12 bytes",
        agent: "opens the map again whenever its pin changes, and only reads the ipcache",
        evidence: &[SOURCE, LAYOUT_V1],
    },
    Release {
        since: CiliumVersion::new(1, 15, 0),
        until: CiliumVersion::new(1, 15, 2),
        kernel: (5, 2),
        defect: Some("it drops everything that BIG-IP sends, as \"Incorrect VNI\""),
        differs: "as 1.14",
        agent: "names the defect and the first release without it (`cilium-broken-release`)",
        evidence: &[Evidence::Reported("cilium/cilium #31023"), BROKEN_NAMED],
    },
    Release {
        since: CiliumVersion::new(1, 15, 2),
        until: CiliumVersion::new(1, 16, 0),
        kernel: (5, 2),
        defect: None,
        differs: "as 1.14",
        agent: "as with 1.14",
        evidence: &[SOURCE, LAYOUT_V1],
    },
    Release {
        since: CiliumVersion::new(1, 16, 0),
        until: CiliumVersion::new(1, 18, 0),
        kernel: (5, 4),
        defect: None,
        differs: "`CiliumNodeConfig` is `cilium.io/v2`; since 1.17, Cilium logs that its ConfigMap has changed",
        agent: "reads `CiliumNodeConfig` in both versions",
        evidence: &[SOURCE, LAYOUT_V1],
    },
    Release {
        since: CiliumVersion::new(1, 18, 0),
        until: CiliumVersion::new(1, 18, 8),
        kernel: (5, 10),
        defect: Some(ZERO_MAC),
        differs: "`cilium_ipcache_v2` with values of 24 bytes",
        agent: "names the defect, also where it sees such an answer on the wire (`cilium-arp-zero-mac`)",
        evidence: &[
            Evidence::Run("1.18-dev, with the defect: `tests/fixtures/cilium-1.18`"),
            Evidence::Reported("cilium/cilium #44453"),
            BROKEN_NAMED,
        ],
    },
    Release {
        since: CiliumVersion::new(1, 18, 8),
        until: CiliumVersion::new(1, 19, 0),
        kernel: (5, 10),
        defect: None,
        differs: "the last release whose start replaces the map by an empty one, and that tells its lists in `agent-runtime-config.json`",
        agent: "writes the entries into the new map within milliseconds, and compares the lists of the running Cilium with the ConfigMap",
        // The 1.18-dev that was run has the defect: no release of this row was.
        evidence: &[SOURCE, RESTART_DUE],
    },
    Release {
        since: CiliumVersion::new(1, 19, 0),
        until: CiliumVersion::new(1, 19, 2),
        kernel: (5, 10),
        defect: Some(ZERO_MAC),
        differs: "as 1.19.2",
        agent: "names the defect and the first release without it",
        evidence: &[Evidence::Reported("cilium/cilium #44453"), BROKEN_NAMED],
    },
    Release {
        since: CiliumVersion::new(1, 19, 2),
        until: CiliumVersion::new(1, 20, 0),
        kernel: (5, 10),
        defect: None,
        differs: "the map is kept at a restart, with its stale entries; the running Cilium tells no lists; it splits lists at commas first; \
                  `vtep-sync-interval` (effective since 1.19.8)",
        agent: "deletes entries that no configuration names; knows whether a restart is due from its own record of the lists \
                (`last-good.json`) and from values that come back with Cilium's sync",
        evidence: &[SOURCE, RESTART_DUE],
    },
    Release {
        since: CiliumVersion::new(1, 20, 0),
        until: CiliumVersion::new(1, 21, 0),
        kernel: (5, 10),
        defect: None,
        differs: "as 1.19.2, and both maps are read-only for programs (`BPF_F_RDONLY_PROG`), not for user space",
        agent: "requires no exact flags, and writes as before",
        evidence: &[Evidence::Run("1.20.0-dev of June 2026, two nodes")],
    },
];

/// A series of kernels.
#[derive(Debug)]
pub struct Series {
    pub name: &'static str,
    /// What `uname -r` prints on one of them.
    pub release: &'static str,
    pub notes: &'static str,
    pub evidence: &'static [Evidence],
}

pub const KERNELS: &[Series] = &[
    Series {
        name: "4.18 of RHEL 8.6 and newer",
        release: "4.18.0-372.9.1.el8.x86_64",
        notes: "it has what Cilium needs of newer kernels; `CAP_BPF` it may not know: see [RHEL 8](platforms/rhel-8.md)",
        evidence: &[Evidence::Read("F5's document, and Cilium's requirements")],
    },
    Series {
        name: "5.4",
        release: "5.4.0-200-generic",
        notes: "no `CAP_BPF` before 5.8, and BPF maps count as locked memory before 5.11: set `legacyKernel`",
        evidence: &[Evidence::Read("F5's document, and Cilium's requirements")],
    },
    Series {
        name: "5.10",
        release: "5.10.0-30-cloud-amd64",
        notes: "if `preflight` says that the container runtime limits locked memory: set its `LimitMEMLOCK`, or `legacyKernel`",
        evidence: &[Evidence::Kernels("5.10")],
    },
    Series {
        name: "5.14 of RHEL 9",
        release: "5.14.0-503.11.1.el9_5.x86_64",
        notes: "only that the agent understands the release",
        evidence: &[Evidence::Test("core/src/node/kernel.rs", "judges_releases_of_the_field")],
    },
    Series {
        name: "6.1",
        release: "6.1.0-28-amd64",
        notes: "on arm64, too: maps, repairs, the start and the kernel's features, by `make test-arm64`",
        evidence: &[Evidence::Kernels("6.1")],
    },
    Series { name: "6.12", release: "6.12.1-amd64", notes: "", evidence: &[Evidence::Kernels("6.12")] },
    Series {
        name: "6.18",
        release: "6.18.44",
        notes: "every test of the agent and the figures",
        evidence: &[Evidence::Test("tests/agent/fitness.rs", "a_fit_node_passes")],
    },
    Series {
        name: "the newest of Debian",
        release: "7.0.0-amd64",
        notes: "",
        evidence: &[Evidence::Kernels("newest")],
    },
];

/// A way to use VTEPs, or a far end of the tunnel.
#[derive(Debug)]
pub struct Mode {
    pub name: &'static str,
    pub works: &'static str,
    pub evidence: &'static [Evidence],
}

pub const MODES: &[Mode] = &[
    Mode {
        name: "VXLAN",
        works: "yes",
        evidence: &[
            Evidence::Run("1.18-dev and 1.20.0-dev"),
            Evidence::Test("tests/agent/start.rs", "the_seed_configuration_becomes_healthy"),
        ],
    },
    Mode {
        name: "Geneve",
        works: "yes",
        evidence: &[Evidence::Test("tests/agent/geneve.rs", "a_healthy_tunnel_carries_everything"), SOURCE],
    },
    Mode {
        name: "underlay on a VLAN device",
        works: "yes",
        evidence: &[Evidence::Test("tests/agent/vlan.rs", "tunnels_over_a_vlan_are_probed_and_seen")],
    },
    Mode {
        name: "lists in `cilium-config`, with `CiliumNodeConfig`",
        works: "yes",
        evidence: &[Evidence::Run("1.18-dev and 1.20.0-dev"), Evidence::Test("tests/agent/kubernetes.rs", "")],
    },
    Mode {
        name: "`CiliumVTEPConfig` v2 (EKS' builds of Cilium) and v2alpha1 (cilium/cilium #46602), map a hash",
        works: "yes: the agent repairs only what Cilium leaves for two seconds, and deletes nothing",
        evidence: &[Evidence::Read("schemas and source"), Evidence::Test("tests/agent/objects.rs", "")],
    },
    Mode {
        name: "map an LPM trie",
        works: "compared, never written",
        evidence: &[
            Evidence::Read("cilium/cilium #46602"),
            Evidence::Test("tests/agent/layouts.rs", "a_trie_of_vteps_is_compared_and_not_written"),
        ],
    },
    Mode {
        name: "native routing",
        works: "no: there is no tunnel device (`tunnel-disabled`)",
        evidence: &[Evidence::Run("1.18-dev")],
    },
    Mode { name: "IPsec", works: "no (`ipsec-enabled`)", evidence: &[Evidence::Read("Cilium's documentation")] },
    Mode {
        name: "WireGuard",
        works: "doubtful: traffic of VTEPs seems to be lost since 1.17 (`wireguard-enabled`)",
        evidence: &[SOURCE],
    },
    Mode {
        name: "IPv6 in a VTEP list",
        works: "no: Cilium's map has only IPv4",
        evidence: &[Evidence::Run("1.18-dev")],
    },
];

pub const FAR_ENDS: &[Mode] = &[
    Mode {
        name: "BIG-IP, any release",
        works: "not run: nobody has had a real BIG-IP at hand. The tests imitate its tunnel with a VXLAN or Geneve device of Linux, and its \
                configuration with texts in the form of `tmsh`",
        evidence: &[
            Evidence::Read("F5's documents"),
            Evidence::Test("tests/agent/traffic.rs", ""),
            Evidence::Test("core/tests/both_ends.rs", ""),
        ],
    },
    Mode {
        name: "BIG-IP's REST interface (iControl REST)",
        works: "not run: at a stand-in that fails on command",
        evidence: &[Evidence::Read("F5's documents"), Evidence::Test("tests/icontrol/what_is_read.rs", "")],
    },
    Mode {
        name: "CIS 2.15 and newer, which removes the FDB record of a node that is NotReady",
        works: "the agent never makes a node NotReady",
        evidence: &[Evidence::Read("CIS' release notes and issues")],
    },
    Mode {
        name: "gateways of `aws/eks-hybrid-nodes-gateway`",
        works: "not run: the same tunnel without a BIG-IP",
        evidence: &[Evidence::Read("its source"), Evidence::Test("tests/agent/objects.rs", "")],
    },
    Mode {
        name: "a VXLAN device of Linux",
        works: "yes",
        evidence: &[Evidence::Run("1.18-dev and 1.20.0-dev"), Evidence::Test("tests/agent/traffic.rs", "")],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_releases_have_no_gap() {
        for pair in RELEASES.windows(2) {
            assert_eq!(pair[0].until, pair[1].since);
        }
        for release in RELEASES {
            assert!(release.since < release.until && !release.evidence.is_empty(), "{release:?}");
        }
    }

    #[test]
    fn what_nobody_has_looked_at_is_unknown() {
        let table = [
            ("1.11.5", Compatibility::Read, (5, 2)),
            ("1.14.3", Compatibility::Read, (5, 2)),
            ("1.15.1", Compatibility::Broken, (5, 2)),
            ("1.17.2", Compatibility::Read, (5, 4)),
            ("1.18.7", Compatibility::Broken, (5, 10)),
            ("1.18.8", Compatibility::Read, (5, 10)),
            ("1.19.3", Compatibility::Read, (5, 10)),
            ("1.20.1", Compatibility::Run, (5, 10)),
            ("1.21.0", Compatibility::Unknown, (5, 10)),
        ];
        for (version, expected, needed) in table {
            let version = version.parse().expect("a version");
            assert_eq!((of(version), kernel(version)), (expected, needed), "{version}");
        }
    }
}
