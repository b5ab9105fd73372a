//! Reads what others wrote, never more of it than its limit, and never waits for it.
//!
//! The agent has 48 MiB in its DaemonSet: a file that grew beyond all measure must cost an error, not the agent.

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
/// When it cannot be read, is longer, or is something else than a file: a directory, or a pipe, which could keep us waiting for ever.
pub fn read_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // Before it is opened: to open a device may do something.
    check(&fs::metadata(path)?, limit)?;
    // What is there may have changed in between; opening a pipe would wait for its writer.
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?;
    check(&file.metadata()?, limit)?;
    read(file, limit)
}

/// As [`read_file`], for a file that holds text.
///
/// # Errors
///
/// As [`read_file`], and when it is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let not_text = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not text in UTF-8");
    String::from_utf8(read_file(path, limit)?).map_err(not_text)
}

/// What a source holds to its end, which comes after at most `limit` bytes.
///
/// # Errors
///
/// When it cannot be read, or has more.
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

/// The same words at every look, so that a file that goes on growing is told once.
fn too_long(limit: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes, the most that is read"))
}

/// What is there, with its article.
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
        assert_eq!(error.to_string(), "it has more than 7 bytes, the most that is read");
        assert_eq!(read(&b"1234"[..], 3).expect_err("longer").kind(), io::ErrorKind::FileTooLarge);
        fs::write(&path, b"\xff").expect("a file");
        assert_eq!(read_text(&path, 8).expect_err("no text").to_string(), "it is not text in UTF-8");
        // Larger than any memory, and without a byte on the disk.
        fs::File::create(&path).and_then(|file| file.set_len(1 << 40)).expect("a file with a hole");
        assert_eq!(read_file(&path, 8).expect_err("longer").kind(), io::ErrorKind::FileTooLarge);
        // The kernel's own say that they are empty.
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
