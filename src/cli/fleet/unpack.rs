//! The files of a node's bundle. The archive comes from a pod, so nothing in it is trusted: neither its size nor its paths.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::{Component, Path},
};

use anyhow::{Context, bail, ensure};
use flate2::read::GzDecoder;
use vtep_core::bundle::fleet::MOST_OF_NODE;

/// The directory that all files of a bundle are in.
const DIRECTORY: &str = "vtep-bundle";
/// More files than any version writes.
const MOST_FILES: usize = 200;
/// Headers and padding of that many files.
const MOST_OF_TAR: usize = MOST_OF_NODE + MOST_FILES * 2048;

/// By their paths in the bundle.
///
/// # Errors
///
/// It is no whole archive of plain files, or too large.
pub(super) fn unpack(archive: &[u8]) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut tar = tar::Archive::new(GzDecoder::new(archive).take(MOST_OF_TAR as u64));
    let mut files = BTreeMap::new();
    let mut size = 0;
    for entry in tar.entries()? {
        let mut entry = entry.context("it is no whole archive")?;
        ensure!(entry.header().entry_type().is_file(), "it has something else than files");
        size += usize::try_from(entry.size())?;
        ensure!(size <= MOST_OF_NODE, "it has more than {} MB", MOST_OF_NODE >> 20);
        ensure!(files.len() < MOST_FILES, "it has more than {MOST_FILES} files");
        let path = plain(&entry.path()?)?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).context("it is no whole archive")?;
        files.insert(path, bytes);
    }
    // Behind the last file is the sum that shows whether everything arrived.
    io::copy(&mut tar.into_inner(), &mut io::sink()).context("it is no whole archive")?;
    ensure!(!files.is_empty(), "it is empty");
    Ok(files)
}

/// The path below the directory of the bundle, if it leads to nowhere else.
fn plain(path: &Path) -> anyhow::Result<String> {
    let inside = path.strip_prefix(DIRECTORY).ok().and_then(Path::to_str).unwrap_or_default();
    let is_plain = |component: Component<'_>| matches!(component, Component::Normal(_));
    if inside.is_empty() || !Path::new(inside).components().all(is_plain) || inside.contains(char::is_control) {
        bail!("it has a file at {path:?}");
    }
    Ok(inside.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn archive(files: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, kind, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            // As somebody would who wants to leave the directory.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            tar.append(&header, *bytes).expect("a Vec takes all");
        }
        tar.into_inner().and_then(GzEncoder::finish).expect("a Vec takes all")
    }

    const FILE: tar::EntryType = tar::EntryType::Regular;

    #[test]
    fn files_have_their_paths_in_the_bundle() {
        let files = [("vtep-bundle/README.md", FILE, &b"read"[..]), ("vtep-bundle/net/links.json", FILE, b"{}")];
        let unpacked = unpack(&archive(&files)).expect("an archive");
        assert_eq!(
            unpacked,
            [("README.md".into(), b"read".to_vec()), ("net/links.json".into(), b"{}".to_vec())].into()
        );
    }

    #[test]
    fn anything_else_is_refused() {
        let whole = archive(&[("vtep-bundle/README.md", FILE, b"read")]);
        let large = vec![0; MOST_OF_NODE + 1];
        let table = [
            (Vec::new(), "whole archive"),
            (b"error: oops".to_vec(), "whole archive"),
            (whole[..whole.len() - 4].to_vec(), "whole archive"),
            (archive(&[]), "empty"),
            (archive(&[("vtep-bundle/../../.bashrc", FILE, b"x")]), "a file at"),
            (archive(&[("/etc/passwd", FILE, b"x")]), "a file at"),
            (archive(&[("README.md", FILE, b"x")]), "a file at"),
            (archive(&[("vtep-bundle/a\nb", FILE, b"x")]), "a file at"),
            (archive(&[("vtep-bundle/link", tar::EntryType::Symlink, b"")]), "something else"),
            (archive(&[("vtep-bundle/large", FILE, &large)]), "more than 10 MB"),
        ];
        for (bytes, words) in table {
            let error = format!("{:#}", unpack(&bytes).expect_err(words));
            assert!(error.contains(words), "{words}: {error}");
        }
        // A bomb: a gigabyte of zeros.
        let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
        for _ in 0..1 << 10 {
            bomb.write_all(&vec![0; 1 << 20]).expect("a Vec takes all");
        }
        assert!(unpack(&bomb.finish().expect("a Vec takes all")).is_err());
    }
}
