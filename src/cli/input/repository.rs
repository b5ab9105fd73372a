//! A directory of a repository: reads the files that can hold a configuration of Cilium, within limits.
//!
//! It follows no links: a link inside leads to a file that is read anyway, and one that leaves the directory is not part of it.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::bail;
use vtep_core::config::{
    manifest::{MAX_BYTES, read_one_of_many},
    shapes::Contents,
    text::Text,
};

use crate::bounded;

const MAX_DEPTH: usize = 24;
const MAX_FILES: usize = 20_000;
const MAX_TOTAL: u64 = 256 << 20;

/// A text without any of these has nothing to do with Cilium's VTEPs.
const MARKS: [&str; 7] = ["vtep", "Vtep", "VTEP", "cilium", "Cilium", "tunnelProtocol", "policyEnforcementMode"];

/// Keys of every `cilium-config`, or of those with VTEPs: the names of files in a mounted ConfigMap.
const KEYS: [&str; 9] = [
    "cluster-name",
    "enable-ipv4",
    "enable-vtep",
    "ipam",
    "routing-mode",
    "vtep-cidr",
    "vtep-endpoint",
    "vtep-mac",
    "vtep-mask",
];

/// Documents that show configurations which are in force nowhere, and parts of charts that are no values and no objects.
const PROSE: [&str; 6] = ["md", "rst", "adoc", "html", "tpl", "gotmpl"];
/// What Helm prints after an installation.
const NOTES: &str = "NOTES.txt";

/// The files of a directory that hold no configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Files that have nothing to do with Cilium.
    pub files: usize,
    /// A directory was read.
    pub is_counted: bool,
}

/// Whether the directory is a mounted ConfigMap: one file for each key.
pub(super) fn is_mounted(directory: &Path) -> bool {
    let Ok(entries) = fs::read_dir(directory) else { return false };
    let mut is_empty = true;
    let is_key = entries.filter_map(Result::ok).any(|entry| {
        is_empty = false;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name == "..data" || (KEYS.contains(&name.as_ref()) && !entry.path().is_dir())
    });
    is_key || is_empty
}

/// Reads every file below the directory.
pub(super) fn read(directory: &Path, skipped: &mut Skipped) -> anyhow::Result<Contents> {
    let mut reader = Reader { contents: Contents::default(), files: 0, bytes: 0, skipped: 0, is_full: false };
    let root = fs::canonicalize(directory)?;
    reader.directory(directory, &root, 0)?;
    let Reader { contents, files, skipped: more, .. } = reader;
    skipped.files += more;
    skipped.is_counted = true;
    let Contents { configurations, node_configs, vtep_configs, .. } = &contents;
    if configurations.is_empty() && vtep_configs.is_empty() {
        let notes: String = contents.notes.iter().map(|note| format!("; {note}")).collect();
        let only = node_configs.iter().map(|object| format!(", only CiliumNodeConfig {}", object.config.name));
        bail!("no configuration of Cilium in {files} files{}{notes}", only.collect::<String>());
    }
    Ok(contents)
}

struct Reader {
    contents: Contents,
    files: usize,
    bytes: u64,
    skipped: usize,
    is_full: bool,
}

impl Reader {
    fn directory(&mut self, directory: &Path, root: &Path, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            self.note(directory, "the directory is nested too deeply, and is not read");
            return Ok(());
        }
        let mut entries: Vec<_> = fs::read_dir(directory)?.collect::<io::Result<_>>()?;
        // The order of a directory is that of its file system; the report must not depend on it.
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, kind) = (entry.path(), entry.file_type()?);
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            if kind.is_symlink() {
                self.link(&path, root);
            } else if kind.is_dir() {
                if let Err(error) = self.directory(&path, root, depth + 1) {
                    self.note(&path, &format!("the directory cannot be read: {error}"));
                }
            } else if kind.is_file() {
                self.file(&path);
            }
        }
        Ok(())
    }

    fn link(&mut self, path: &Path, root: &Path) {
        match fs::canonicalize(path) {
            Ok(target) if target.starts_with(root) => {}
            Ok(_) => self.note(path, "the link leaves the directory, and is not followed"),
            Err(_) => self.note(path, "the link leads nowhere"),
        }
    }

    fn file(&mut self, path: &Path) {
        if self.is_full {
            return;
        }
        if self.files >= MAX_FILES || self.bytes >= MAX_TOTAL {
            self.is_full = true;
            self.note(
                path,
                &format!(
                    "this file and those behind it are not read: more than {MAX_FILES} files or {} MiB",
                    MAX_TOTAL >> 20
                ),
            );
            return;
        }
        self.files += 1;
        let is_prose = PROSE.iter().any(|extension| path.extension() == Some(OsStr::new(extension)));
        if is_prose || path.file_name() == Some(OsStr::new(NOTES)) {
            self.skipped += 1;
            return;
        }
        match bounded::read_file(path, MAX_BYTES as u64) {
            Ok(bytes) => {
                self.bytes += bytes.len() as u64;
                self.text(path, bytes);
            }
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                let limit = MAX_BYTES >> 20;
                self.note(path, &format!("the file has more than {limit} MiB, and is not read"));
            }
            Err(error) => self.note(path, &format!("the file cannot be read: {error}")),
        }
    }

    fn text(&mut self, path: &Path, bytes: Vec<u8>) {
        let text = String::from_utf8(bytes).ok().filter(|text| MARKS.iter().any(|mark| text.contains(mark)));
        let found = text.map(|text| read_one_of_many(&Text::of_file(&shown(path), text))).unwrap_or_default();
        let Contents { configurations, node_configs, vtep_configs, notes, .. } = &found;
        if configurations.is_empty() && node_configs.is_empty() && vtep_configs.is_empty() && notes.is_empty() {
            self.skipped += 1;
        }
        self.contents.append(found);
    }

    fn note(&mut self, path: &Path, problem: &str) {
        self.contents.notes.push(format!("{}: {problem}", shown(path)));
    }
}

/// The path as a code review names it: relative, without `./`.
fn shown(path: &Path) -> String {
    let path: PathBuf = path.components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect();
    path.display().to_string()
}
