//! Cilium's version, and the releases whose VTEP support is broken.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::compatibility;

/// A release of Cilium. Text after the numbers is ignored, because a build of a release behaves like the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CiliumVersion {
    pub major: u16,
    pub minor: u16,
    pub patch: u16,
}

/// Why a release cannot be used for VTEPs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenRelease {
    pub what: &'static str,
    /// The first release of the same minor version without it.
    pub fixed_in: CiliumVersion,
}

impl fmt::Display for BrokenRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {} is the first release without it", self.what, self.fixed_in)
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version: write e.g. 1.18.8")]
pub struct NoVersion;

impl CiliumVersion {
    #[must_use]
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// The first version in a text such as `1.18.3 (v1.18.3-85db28be)`, `v1.14.5-rc.0`, `1.18-dev` or an image's name.
    #[must_use]
    pub fn find(text: &str) -> Option<Self> {
        let starts = text.match_indices(|c: char| c.is_ascii_digit()).map(|(at, _)| at);
        // A digit inside a word, such as a hash or a host name, does not start a version.
        let starts = starts.filter(|&at| {
            let before = text.get(..at).unwrap_or_default();
            let before = before.strip_suffix('v').unwrap_or(before);
            before.is_empty() || before.ends_with([':', ' ', '/', '(', '='])
        });
        starts.filter_map(|at| Self::at_start(text.get(at..)?)).next()
    }

    fn at_start(text: &str) -> Option<Self> {
        let numbers = text.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
        let mut numbers = numbers.split('.').map(str::parse);
        let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        let patch = numbers.next().and_then(Result::ok).unwrap_or(0);
        Some(Self { major, minor, patch })
    }

    /// The defect of this release, if it has one.
    #[must_use]
    pub fn broken(self) -> Option<BrokenRelease> {
        let release = compatibility::release(self)?;
        Some(BrokenRelease { what: release.defect?, fixed_in: release.until })
    }
}

impl fmt::Display for CiliumVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { major, minor, patch } = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl FromStr for CiliumVersion {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        Self::find(text.trim()).ok_or(NoVersion)
    }
}

impl From<CiliumVersion> for String {
    fn from(version: CiliumVersion) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for CiliumVersion {
    type Error = NoVersion;

    fn try_from(text: String) -> Result<Self, NoVersion> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_field_prints() {
        let table = [
            ("1.18.3", Some((1, 18, 3))),
            ("v1.14.5-85db28be", Some((1, 14, 5))),
            ("1.18.3 (v1.18.3-abc)", Some((1, 18, 3))),
            ("1.18.3    Stale status data", Some((1, 18, 3))),
            ("1.18-dev", Some((1, 18, 0))),
            ("1.19.0-rc.1", Some((1, 19, 0))),
            ("quay.io/cilium/cilium:v1.17.2@sha256:1.2", Some((1, 17, 2))),
            ("registry.local:5000/cilium:v1.16.10", Some((1, 16, 10))),
            ("", None),
            ("v", None),
            ("1", None),
            ("latest", None),
            ("a1.18.3", None),
            ("99999.1.1", None),
        ];
        for (text, expected) in table {
            let found = text.parse::<CiliumVersion>().ok().map(|v| (v.major, v.minor, v.patch));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn only_broken_releases_are_reported() {
        let table = [
            ("1.14.99", None),
            ("1.15.0", Some("1.15.2")),
            ("1.15.1", Some("1.15.2")),
            ("1.15.2", None),
            ("1.17.9", None),
            ("1.18.0", Some("1.18.8")),
            ("1.18.7", Some("1.18.8")),
            ("1.18.8", None),
            ("1.19.1", Some("1.19.2")),
            ("1.19.2", None),
            ("1.20.0", None),
        ];
        for (version, fixed) in table {
            let broken = version.parse::<CiliumVersion>().expect("a version").broken();
            assert_eq!(broken.map(|broken| broken.fixed_in.to_string()).as_deref(), fixed, "{version}");
        }
    }
}
