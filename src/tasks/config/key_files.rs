//! A ConfigMap as the kubelet mounts it: a directory with one file per key.

use std::{fs, io, path::Path};

use vtep_core::config::{Keys, manifest::MAX_BYTES};

use crate::bounded;

/// The maximum size of one value, which is one file.
const MAX_VALUE_BYTES: u64 = 1 << 20;

/// Reads a directory with one file per key, as the kubelet mounts a ConfigMap.
pub fn read_dir(path: &Path) -> io::Result<Keys> {
    // The kubelet swaps the link `..data`. All keys behind one target are of the same version.
    let snapshot = fs::canonicalize(path.join("..data")).unwrap_or_else(|_| path.to_owned());
    let mut keys = Keys::new();
    let mut total = 0;
    for entry in fs::read_dir(snapshot)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Names that begin with two dots are the kubelet's own. If a file has disappeared, the read fails, because half a version is of no
        // use.
        if name.starts_with("..") || !fs::metadata(entry.path())?.is_file() {
            continue;
        }
        let too_long = || io::Error::new(io::ErrorKind::FileTooLarge, format!("{name} is too long for a ConfigMap"));
        let bytes = match bounded::read_file(&entry.path(), MAX_VALUE_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Err(too_long()),
            read => read?,
        };
        total += name.len() + bytes.len();
        if total > MAX_BYTES {
            return Err(too_long());
        }
        keys.insert(name, String::from_utf8_lossy(&bytes).into_owned());
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_mounted_directory() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let data = dir.path().join("..2026_01_01");
        fs::create_dir(&data)?;
        fs::write(data.join("vtep-mask"), "255.255.255.0\n")?;
        fs::write(data.join("vtep-mac"), b"\xff")?;
        std::os::unix::fs::symlink("..2026_01_01", dir.path().join("..data"))?;
        for key in ["vtep-mask", "vtep-mac"] {
            std::os::unix::fs::symlink(format!("..data/{key}"), dir.path().join(key))?;
        }
        fs::create_dir(dir.path().join("lost+found"))?;
        let keys = read_dir(dir.path())?;
        let expected = [("vtep-mac", "\u{fffd}"), ("vtep-mask", "255.255.255.0\n")];
        assert_eq!(keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect::<Vec<_>>(), expected);

        fs::write(data.join("big"), vec![b'x'; (1 << 20) + 1])?;
        assert!(read_dir(dir.path()).expect_err("too long").to_string().contains("big"));
        fs::remove_file(dir.path().join("..data"))?;
        fs::remove_file(dir.path().join("vtep-mac"))?;
        assert_eq!(read_dir(dir.path()).expect_err("a dangling link").kind(), io::ErrorKind::NotFound);
        fs::remove_file(dir.path().join("vtep-mask"))?;
        fs::write(dir.path().join("plain"), "x")?;
        assert_eq!(read_dir(dir.path())?.into_iter().collect::<Vec<_>>(), [("plain".to_owned(), "x".to_owned())]);
        assert_eq!(read_dir(&dir.path().join("gone")).expect_err("gone").kind(), io::ErrorKind::NotFound);
        Ok(())
    }
}
