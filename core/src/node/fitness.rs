//! Judges whether VTEPs, and this agent, can work on this node. On an unsupported node, the agent writes nothing and reports the reasons.
//! The agent reads the kernel's features; this module only judges them.

use serde::{Deserialize, Serialize};

use super::{
    capabilities::{self, Capability},
    kernel,
    version::CiliumVersion,
};

/// The kernel of this node, and whether it supports this agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// The output of `uname -r`.
    pub release: String,
    pub supported: bool,
    /// The reasons why it does not, each a sentence.
    pub reasons: Vec<String>,
}

/// The result of checking one requirement of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub ok: bool,
    /// The result; if the check failed, also the remedy.
    pub detail: String,
}

/// Facts that do not change while this process runs.
#[derive(Clone, Debug, Default)]
pub struct Fitness {
    pub release: String,
    /// `--ignore-kernel-check`: do not judge the release, only the features.
    pub ignore_release: bool,
    pub missing: Vec<Capability>,
    /// The missing features, each a sentence.
    pub lacking: Vec<String>,
    /// `RLIMIT_MEMLOCK` in bytes, if the kernel refuses new maps because of it, so that no feature could be tested.
    pub memory_lock: Option<u64>,
}

impl Check {
    pub fn new(name: &str, result: Result<String, String>) -> Self {
        let ok = result.is_ok();
        let (Ok(detail) | Err(detail)) = result;
        Self { name: name.to_owned(), ok, detail }
    }
}

impl Fitness {
    /// Whether this process lacks a capability.
    #[must_use]
    pub fn lacks(&self, capability: Capability) -> bool {
        self.missing.contains(&capability)
    }

    /// All checks, given the version of the Cilium that runs here.
    #[must_use]
    pub fn checks(&self, cilium: Option<CiliumVersion>) -> [Check; 3] {
        [
            Check::new("kernel", self.judge_release(cilium)),
            Check::new("capabilities", self.judge_capabilities()),
            Check::new("bpf-features", self.judge_features()),
        ]
    }

    /// A summary of the checks.
    #[must_use]
    pub fn kernel(&self, cilium: Option<CiliumVersion>) -> Kernel {
        let reasons: Vec<_> =
            self.checks(cilium).into_iter().filter(|check| !check.ok).map(|check| check.detail).collect();
        Kernel { release: self.release.clone(), supported: reasons.is_empty(), reasons }
    }

    fn judge_release(&self, cilium: Option<CiliumVersion>) -> Result<String, String> {
        match kernel::judge(&self.release, cilium) {
            Err(reason) if self.ignore_release => Ok(format!("{}, not judged: {reason}", self.release)),
            Err(reason) => Err(reason),
            Ok(()) => Ok(self.release.clone()),
        }
    }

    fn judge_capabilities(&self) -> Result<String, String> {
        let missing: Vec<_> = self.missing.iter().map(ToString::to_string).collect();
        if missing.is_empty() {
            return Ok(capabilities::NEEDED.map(|capability| capability.name).join(", "));
        }
        Err(format!("missing {}: add them to the container's securityContext, or run as root", missing.join(" and ")))
    }

    fn judge_features(&self) -> Result<String, String> {
        if let Some(limit) = self.memory_lock {
            let kb = limit >> 10;
            return Ok(format!("not tested: the kernel counts BPF maps against RLIMIT_MEMLOCK, which is {kb} kB here"));
        }
        match self.lacking.as_slice() {
            [] if self.missing.contains(&capabilities::BPF) => Err("not tested, because CAP_BPF is missing".to_owned()),
            [] => Ok("hash and LPM trie maps, socket filters, large programs".to_owned()),
            lacking => Err(lacking.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit() -> Fitness {
        Fitness { release: "6.1.0-18-amd64".into(), ..Fitness::default() }
    }

    #[test]
    fn each_lack_makes_it_unfit() {
        let table: [(Fitness, &[&str]); 6] = [
            (fit(), &[]),
            (Fitness { release: "5.3.18".into(), ..fit() }, &["kernel 5.3 is older than 5.4"]),
            (Fitness { release: "5.3.18".into(), ignore_release: true, ..fit() }, &[]),
            (
                Fitness { ignore_release: true, lacking: vec!["the kernel has no LPM trie maps".into()], ..fit() },
                &["the kernel has no LPM trie maps"],
            ),
            (
                Fitness { missing: vec![capabilities::BPF], ..fit() },
                &["missing CAP_BPF (reading and writing Cilium's BPF maps", "not tested, because CAP_BPF is missing"],
            ),
            (Fitness { release: String::new(), ..fit() }, &["cannot read a version from the kernel release \"\""]),
        ];
        for (fitness, reasons) in table {
            let kernel = fitness.kernel(None);
            assert_eq!(kernel.supported, reasons.is_empty(), "{kernel:?}");
            assert_eq!(kernel.reasons.len(), reasons.len(), "{kernel:?}");
            for (found, expected) in kernel.reasons.iter().zip(reasons) {
                assert!(found.starts_with(expected), "{found}");
            }
        }
    }

    #[test]
    fn the_release_is_judged_by_ciliums_version() {
        let fitness = Fitness { release: "5.4.0-150-generic".into(), ..fit() };
        assert!(fitness.kernel(Some(CiliumVersion::new(1, 17, 0))).supported);
        assert!(!fitness.kernel(Some(CiliumVersion::new(1, 18, 8))).supported);
    }
}
