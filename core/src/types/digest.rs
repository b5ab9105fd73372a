//! SHA-256 as text.

use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};

/// In hexadecimal digits.
#[must_use]
pub fn hex(content: &str) -> String {
    format!("{:x}", Sha256::digest(content))
}

/// One digest of several texts, in hexadecimal digits. It includes their lengths, so that `ab`, `c` differs from `a`, `bc`.
#[must_use]
pub fn hex_of_parts<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    format!("{:x}", hasher.finalize())
}

/// In Base64 (RFC 4648, section 4).
#[must_use]
pub fn base64(content: &str) -> String {
    BASE64_STANDARD.encode(Sha256::digest(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_sha256sum() {
        assert_eq!(hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(base64("abc"), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
        assert_ne!(hex_of_parts(["ab", "c"]), hex_of_parts(["a", "bc"]));
    }
}
