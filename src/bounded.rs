//! Reads files that other programs wrote, with a size limit, and never blocks on one.
//!
//! The DaemonSet limits the agent to 48 MiB: an oversized file must cause an error, not an out-of-memory kill.

use std::{
    fs::{self, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
};

use nix::libc::O_NONBLOCK;

/// The content of a regular file of at most `limit` bytes.
///
/// # Errors
///
/// The file cannot be read, is longer than `limit`, or is not a regular file. A pipe, for example, could block the agent for ever.
pub fn read_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // This check comes before the open, because opening a device can have side effects.
    check(&fs::metadata(path)?, limit)?;
    // Another program may have replaced the file since that check. O_NONBLOCK keeps the open of a pipe from waiting for its writer.
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?;
    check(&file.metadata()?, limit)?;
    read(file, limit)
}

/// Like [`read_file`], for a text file.
///
/// # Errors
///
/// Those of [`read_file`]; also if the content is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let not_text = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not text in UTF-8");
    String::from_utf8(read_file(path, limit)?).map_err(not_text)
}

/// Reads a source to its end, which must come within `limit` bytes.
///
/// # Errors
///
/// The source cannot be read, or has more than `limit` bytes.
pub fn read(source: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(too_long(limit)) } else { Ok(bytes) }
}

fn check(metadata: &Metadata, limit: u64) -> io::Result<()> {
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {}, not a file", kind(metadata))));
    }
    if metadata.len() > limit { Err(too_long(limit)) } else { Ok(()) }
}

/// The message does not contain the file's length, so that the log reports a growing file once and not after every read.
fn too_long(limit: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes, the limit"))
}

/// The file type in words, with an article.
#[must_use]
pub fn kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    match () {
        () if kind.is_file() => "a file",
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () if kind.is_char_device() || kind.is_block_device() => "a device",
        () => "something else",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("file");
        fs::write(&path, "12345678").expect("a file");
        assert_eq!(read_text(&path, 8).expect("as long as it may be"), "12345678");
        let error = read_file(&path, 7).expect_err("longer");
        assert_eq!(error.to_string(), "it has more than 7 bytes, the limit");
        assert_eq!(read(&b"1234"[..], 3).expect_err("longer").kind(), io::ErrorKind::FileTooLarge);
        fs::write(&path, b"\xff").expect("a file");
        assert_eq!(read_text(&path, 8).expect_err("no text").to_string(), "it is not text in UTF-8");
        // A sparse file: larger than any memory, but without blocks on the disk.
        fs::File::create(&path).and_then(|file| file.set_len(1 << 40)).expect("a file with a hole");
        assert_eq!(read_file(&path, 8).expect_err("longer").kind(), io::ErrorKind::FileTooLarge);
        // Files in /proc report a length of 0.
        assert!(read_text(Path::new("/proc/self/status"), 1 << 16).expect("a status").contains("CapEff"));
    }

    #[test]
    fn what_is_no_file_is_named_and_not_waited_for() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = |name| dir.path().join(name);
        mkfifo(&path("pipe"), Mode::S_IRWXU).expect("a pipe");
        let _socket = UnixListener::bind(path("socket")).expect("a socket");
        for (path, words) in [
            (path("pipe"), "it is a pipe, not a file"),
            (path("socket"), "it is a socket, not a file"),
            (dir.path().to_owned(), "it is a directory, not a file"),
            ("/dev/zero".into(), "it is a device, not a file"),
        ] {
            assert_eq!(read_file(&path, 8).expect_err("no file").to_string(), words);
        }
        assert_eq!(read_file(&path("nothing"), 8).expect_err("nothing").kind(), io::ErrorKind::NotFound);
    }
}
