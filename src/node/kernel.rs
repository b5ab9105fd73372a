//! The kernel's release, against what VTEP needs.

/// The kernel of this node.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Kernel {
    /// As `uname -r` prints it.
    pub release: String,
    pub supported: bool,
    /// Why not, each a sentence.
    pub reasons: Vec<String>,
}

/// Asks the kernel.
#[must_use]
pub fn read() -> Kernel {
    nix::sys::utsname::uname().map_or_else(
        |error| Kernel { release: String::new(), supported: false, reasons: vec![format!("uname failed: {error}")] },
        |name| judge(&name.release().to_string_lossy()),
    )
}

/// F5's document asks for 5.4, or 4.18 as RHEL 8 and its kin ship it.
fn judge(release: &str) -> Kernel {
    let reason = match version(release) {
        None => Some(format!("cannot read a version from kernel release {release:?}")),
        Some(version) if version >= (5, 4) || (version == (4, 18) && is_rhel_8(release)) => None,
        Some((major, minor)) => Some(format!("kernel {major}.{minor} is older than 5.4 (4.18 on RHEL 8)")),
    };
    Kernel { release: release.to_owned(), supported: reason.is_none(), reasons: reason.into_iter().collect() }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn is_rhel_8(release: &str) -> bool {
    release.split(['.', '_', '-']).any(|part| part.starts_with("el8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_releases_of_the_field() {
        let table = [
            ("5.14.0-503.11.1.el9_5.x86_64", true),
            ("4.18.0-553.el8_10.x86_64", true),
            ("4.18.0-25-generic", false),
            ("4.19.0-27-amd64", false),
            ("5.15.0-1051-azure", true),
            ("5.10.0-30-cloud-amd64", true),
            ("5.4.17-2136.el8uek.x86_64", true),
            ("5.3.18-57-default", false),
            ("6.1.102-flatcar", true),
            ("5.15.153.1-microsoft-standard-WSL2", true),
            ("6.18.44-fc-v669", true),
            ("5.10.0-rc3+", true),
            ("", false),
            ("five", false),
            ("99999999999999999999.1", false),
        ];
        for (release, supported) in table {
            assert_eq!(judge(release).supported, supported, "{release}");
            assert_eq!(judge(release).reasons.is_empty(), supported, "{release}");
        }
    }
}
