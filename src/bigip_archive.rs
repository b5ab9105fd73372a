//! What a person hands over of a BIG-IP, as texts: a text itself, or the configuration files in a UCS or a qkview.
//!
//! A UCS and a qkview are `tar.gz` files with paths relative to `/`. The configuration is in `config/bigip_base.conf` and
//! `config/bigip.conf`, that of a partition in `config/partitions/NAME/`. Nothing else is kept, and nothing is written to disk, so paths and
//! links of the archive reach no file. An archive comes from somebody else, so everything that it can make large has a limit.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    sync::Arc,
};

use flate2::bufread::MultiGzDecoder;
use tar::{Archive, Entry};

/// A configuration of 64 MiB has more objects than a BIG-IP can have.
const MAX_TEXT: u64 = 64 << 20;
/// The texts of an archive together.
const MAX_TEXTS: u64 = 256 << 20;
/// A qkview with logs has some ten thousand members.
const MAX_MEMBERS: usize = 200_000;
/// A path, in a header of its own.
const MAX_PATH: u64 = 64 << 10;
/// An archive of up to this size may be packed in any ratio.
const SMALL: u64 = 64 << 20;
/// Logs are packed to a tenth or less; 1000 is the most that the format allows.
const MAX_RATIO: u64 = 100;
const MAX_INFLATED: u64 = 16 << 30;

/// A text, and its name for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The name of the file; `site.ucs!config/bigip.conf` for one in an archive.
    pub name: Arc<str>,
    pub text: String,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the archive is encrypted: save it again without a passphrase, or give the output of `tmsh list`")]
    Encrypted,
    #[error("it is neither text, nor an archive of a BIG-IP (UCS, qkview)")]
    NotText,
    #[error("the archive has no config/bigip.conf, so it is no UCS and no qkview")]
    NoConfiguration,
    #[error("{0} has more than {mib} MiB", mib = MAX_TEXT >> 20)]
    TextTooLarge(String),
    #[error("the configuration files of the archive have more than {mib} MiB", mib = MAX_TEXTS >> 20)]
    TextsTooLarge,
    #[error("the archive has more than {MAX_MEMBERS} members")]
    TooManyMembers,
    #[error("failed to unpack the archive")]
    Unpack(#[source] io::Error),
}

/// The texts in a file with this name and content.
///
/// # Errors
///
/// It is encrypted, damaged or cut off, has no text, or exceeds a limit.
pub fn load(name: &str, bytes: &[u8]) -> Result<Vec<Text>, LoadError> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let limit = (bytes.len() as u64).saturating_mul(MAX_RATIO).clamp(SMALL, MAX_INFLATED);
        let mut inflated = Limited { inner: MultiGzDecoder::new(bytes), left: limit };
        let mut first = Vec::new();
        (&mut inflated).take(BLOCK).read_to_end(&mut first).map_err(LoadError::Unpack)?;
        if is_tar(&first) {
            return members(name, first.as_slice().chain(inflated));
        }
        let text = read_text(name, first.as_slice().chain(inflated))?;
        return Ok(vec![Text { name: name.into(), text }]);
    }
    if is_tar(bytes) {
        return members(name, bytes);
    }
    let text = read_text(name, bytes)?;
    Ok(vec![Text { name: name.into(), text }])
}

/// The size of a block of tar.
const BLOCK: u64 = 512;

fn is_tar(bytes: &[u8]) -> bool {
    bytes.get(257..262) == Some(b"ustar")
}

/// Fails instead of reading more than a number of bytes.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| io::Error::other("it is packed too densely"))?;
        Ok(count)
    }
}

/// The configuration files of an archive, by path.
fn members(archive: &str, source: impl Read) -> Result<Vec<Text>, LoadError> {
    let mut source = Archive::new(source);
    let (mut texts, mut size, mut long_path) = (BTreeMap::new(), 0, None);
    // Raw entries: the crate would read a long path into memory, however long it claims to be.
    for (n, entry) in source.entries().map_err(LoadError::Unpack)?.raw(true).enumerate() {
        if n == MAX_MEMBERS {
            return Err(LoadError::TooManyMembers);
        }
        let mut entry = entry.map_err(LoadError::Unpack)?;
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() || kind.is_pax_local_extensions() {
            long_path = path_in_header(&mut entry)?;
            continue;
        }
        let path = long_path.take().unwrap_or_else(|| String::from_utf8_lossy(&entry.path_bytes()).into_owned());
        // Links, devices and directories have no text of their own.
        let Some(path) = configuration(&path).filter(|_| kind.is_file()) else { continue };
        let name = format!("{archive}!{path}");
        let text = read_text(&name, &mut entry)?;
        size += text.len() as u64;
        if size > MAX_TEXTS {
            return Err(LoadError::TextsTooLarge);
        }
        // As with tar itself, the last member with a path is the file.
        texts.insert(name, text);
    }
    // The checksum is at the end.
    io::copy(&mut source.into_inner(), &mut io::sink()).map_err(LoadError::Unpack)?;
    if texts.is_empty() {
        return Err(LoadError::NoConfiguration);
    }
    Ok(texts.into_iter().map(|(name, text)| Text { name: name.into(), text }).collect())
}

/// The path of the next member, which is too long for its own header.
fn path_in_header(entry: &mut Entry<'_, impl Read>) -> Result<Option<String>, LoadError> {
    if entry.size() > MAX_PATH {
        return Ok(None);
    }
    let is_pax = entry.header().entry_type().is_pax_local_extensions();
    let mut bytes = Vec::new();
    entry.take(MAX_PATH).read_to_end(&mut bytes).map_err(LoadError::Unpack)?;
    let text = String::from_utf8_lossy(&bytes);
    if !is_pax {
        return Ok(Some(text.trim_end_matches('\0').to_owned()));
    }
    // `27 path=config/…\n`
    let path = text.lines().find_map(|line| line.split_once(' ')?.1.strip_prefix("path="));
    Ok(path.map(ToOwned::to_owned))
}

/// The path of a configuration file, without a leading `./`; `None` for everything else.
fn configuration(path: &str) -> Option<&str> {
    let path = path.strip_prefix("./").unwrap_or(path);
    let parts: Vec<&str> = path.split('/').collect();
    let (folder, file) = match parts.as_slice() {
        ["config", file] => ("Common", *file),
        ["config", "partitions", partition, file] => (*partition, *file),
        _ => return None,
    };
    let is_name = !matches!(folder, "" | "." | "..") && !folder.chars().any(|c| c.is_control() || c == '!');
    (is_name && matches!(file, "bigip.conf" | "bigip_base.conf")).then_some(path)
}

fn read_text(name: &str, source: impl Read) -> Result<String, LoadError> {
    let mut bytes = Vec::new();
    source.take(MAX_TEXT + 1).read_to_end(&mut bytes).map_err(LoadError::Unpack)?;
    if bytes.len() as u64 > MAX_TEXT {
        return Err(LoadError::TextTooLarge(name.to_owned()));
    }
    if is_encrypted(&bytes) {
        return Err(LoadError::Encrypted);
    }
    // Windows saves the output of a terminal like this.
    if let Some(units) = bytes.strip_prefix(&[0xff, 0xfe]) {
        let units = units.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
        return Ok(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect());
    }
    if bytes.contains(&0) {
        return Err(LoadError::NotText);
    }
    // A description may be in any encoding, and nothing that is read is outside ASCII.
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// BIG-IP encrypts a UCS with OpenPGP; older versions used `openssl enc`.
fn is_encrypted(bytes: &[u8]) -> bool {
    // The tags of packets with an encrypted session key, in both formats of headers (RFC 9580, sections 4.2 and 5). Text begins with
    // 0xc1 and 0xc3 only as part of a longer character.
    let is_packet = matches!(bytes, [0x84..=0x86 | 0x8c..=0x8e, ..] | [0xc1 | 0xc3, 0..=0x7f, ..]);
    is_packet || bytes.starts_with(b"Salted__") || bytes.starts_with(b"-----BEGIN PGP MESSAGE")
}

#[cfg(test)]
mod tests;
