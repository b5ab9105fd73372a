//! Compares the kernel's release with the release that VTEP needs.

use super::{compatibility, version::CiliumVersion};

/// The kernel of RHEL 8.6 is the first 4.18 that Cilium accepts instead of a newer release.
const RHEL_8_6_BUILD: u32 = 372;

/// Requires the kernel that the running version of Cilium requires. If that version is unknown, it requires what F5's document does: 5.4,
/// or 4.18 of RHEL 8 and its derivatives.
///
/// # Errors
///
/// If the release is too old, or contains no version; in words.
pub fn judge(release: &str, cilium: Option<CiliumVersion>) -> Result<(), String> {
    let needed = Needed::by(cilium);
    match version(release) {
        None => Err(format!("cannot read a version from the kernel release {release:?}")),
        Some(version) if version >= needed.version || needed.rhel_8(release, version) => Ok(()),
        Some((major, minor)) => {
            let (needed_major, needed_minor) = needed.version;
            let by = cilium.map_or("VTEP".to_owned(), |version| format!("VTEP in Cilium {version}"));
            Err(format!(
                "kernel {major}.{minor} is older than {needed_major}.{needed_minor}, which {by} needs ({} is also sufficient)",
                needed.rhel()
            ))
        }
    }
}

struct Needed {
    version: (u32, u32),
    /// The lowest sufficient build number of RHEL 8's 4.18.
    rhel_build: u32,
}

impl Needed {
    fn by(cilium: Option<CiliumVersion>) -> Self {
        let (version, rhel_build) = match cilium {
            None => ((5, 4), 0),
            Some(version) => (compatibility::kernel(version), RHEL_8_6_BUILD),
        };
        Self { version, rhel_build }
    }

    fn rhel_8(&self, release: &str, version: (u32, u32)) -> bool {
        let is_rhel = release.split(['.', '_', '-']).any(|part| part.starts_with("el8") && !part.contains("uek"));
        let build = release.split('-').nth(1).and_then(|build| build.split('.').next()?.parse::<u32>().ok());
        version == (4, 18) && is_rhel && build.is_some_and(|build| build >= self.rhel_build)
    }

    fn rhel(&self) -> &'static str {
        if self.rhel_build == 0 {
            "4.18 on RHEL 8 or a derivative"
        } else {
            "4.18 on RHEL 8.6 or newer, or a derivative"
        }
    }
}

/// Whether this kernel counts BPF maps and programs against `RLIMIT_MEMLOCK`, as Linux did before 5.11. A vendor's older kernel may not.
#[must_use]
pub fn locks_memory(release: &str) -> bool {
    version(release).is_some_and(|version| version < (5, 11))
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_releases_of_the_field() {
        // The columns: an unknown Cilium, 1.14, 1.17, 1.18.
        let table = [
            ("5.14.0-503.11.1.el9_5.x86_64", [true, true, true, true]),
            ("4.18.0-553.el8_10.x86_64", [true, true, true, true]),
            ("4.18.0-372.9.1.el8.x86_64", [true, true, true, true]),
            ("4.18.0-305.25.1.el8_4.x86_64", [true, false, false, false]),
            ("4.18.0-25-generic", [false, false, false, false]),
            ("4.19.0-27-amd64", [false, false, false, false]),
            ("5.15.0-1051-azure", [true, true, true, true]),
            ("5.10.0-30-cloud-amd64", [true, true, true, true]),
            ("6.8.0-45-generic", [true, true, true, true]),
            ("5.4.17-2136.el8uek.x86_64", [true, true, true, false]),
            ("5.3.18-57-default", [false, true, false, false]),
            ("6.1.102-flatcar", [true, true, true, true]),
            ("5.15.153.1-microsoft-standard-WSL2", [true, true, true, true]),
            ("6.18.44-fc-v669", [true, true, true, true]),
            ("5.10.0-rc3+", [true, true, true, true]),
            ("", [false, false, false, false]),
            ("five", [false, false, false, false]),
            ("99999999999999999999.1", [false, false, false, false]),
        ];
        let versions = [
            None,
            Some(CiliumVersion::new(1, 14, 5)),
            Some(CiliumVersion::new(1, 17, 0)),
            Some(CiliumVersion::new(1, 18, 8)),
        ];
        for (release, expected) in table {
            for (version, supported) in versions.into_iter().zip(expected) {
                assert_eq!(judge(release, version).is_ok(), supported, "{release} with {version:?}");
            }
        }
    }

    #[test]
    fn the_reason_names_release_and_need() {
        let reason = judge("5.4.0-150-generic", Some(CiliumVersion::new(1, 18, 3))).expect_err("too old");
        for word in ["5.4", "5.10", "Cilium 1.18.3", "RHEL 8.6"] {
            assert!(reason.contains(word), "{reason}");
        }
    }
}
