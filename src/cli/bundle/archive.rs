//! The archive: tar, compressed.

use std::{borrow::Cow, io::Write};

use anyhow::Context;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    pub(in crate::cli) const fn extension(self) -> &'static str {
        match self {
            Self::Gzip => "tar.gz",
            Self::Zstd => "tar.zst",
        }
    }
}

/// The directory that all files are in.
const DIRECTORY: &str = "vtep-bundle";

/// A path in the directory, and what the file has.
pub(in crate::cli) type File<'f> = (Cow<'f, str>, Cow<'f, [u8]>);

pub(in crate::cli) fn archive(files: &[File<'_>], now: Timestamp, compression: Compression) -> anyhow::Result<Vec<u8>> {
    match compression {
        // A bundle is made beside traffic, so time counts for more than the last bytes.
        Compression::Gzip => {
            let gzip = tar(files, now, GzEncoder::new(Vec::new(), flate2::Compression::fast()))?;
            gzip.finish().context("failed to compress")
        }
        Compression::Zstd => Ok(compress_to_vec(tar(files, now, Vec::new())?.as_slice(), CompressionLevel::Fastest)),
    }
}

fn tar<W: Write>(files: &[File<'_>], now: Timestamp, writer: W) -> anyhow::Result<W> {
    let mut tar = tar::Builder::new(writer);
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(u64::try_from(now.as_second()).unwrap_or_default());
        let path = format!("{DIRECTORY}/{path}");
        tar.append_data(&mut header, &path, &**bytes).with_context(|| format!("failed to archive {path}"))?;
    }
    tar.into_inner().context("failed to end the archive")
}
