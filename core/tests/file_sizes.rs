//! No source file of the repository is long, apart from tests: a file that grows over the limit has a second subject, which gets a file of
//! its own.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// As `CONTRIBUTING.md` says.
const MAX_LINES: usize = 400;

#[test]
fn no_file_outside_tests_has_more_than_400_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = Vec::new();
    find_sources(&root, Path::new(""), &mut sources);
    sources.retain(|path| !is_test(path));
    for own in ["build.rs", "core/src/lib.rs", "ebpf/src/tap.rs", "src/main.rs", "tests/lab/src/lib.rs"] {
        assert!(sources.iter().any(|path| path == Path::new(own)), "{own} was not read");
    }
    let lines = |path: &Path| fs::read_to_string(root.join(path)).expect("a source file").lines().count();
    let sizes = sources.iter().map(|path| (path, lines(path)));
    let long: Vec<_> = sizes.filter(|(_, lines)| *lines > MAX_LINES).collect();
    assert!(long.is_empty(), "these files have more than {MAX_LINES} lines: {long:?}");
}

/// The lab and the API server are programs for tests, and their sources are no tests.
#[test]
fn tests_are_known_by_their_paths() {
    let tests =
        ["tests/agent/page.rs", "core/tests/purity.rs", "src/k8s/source/tests.rs", "core/src/diagnosis/tests/wire.rs"];
    for path in tests {
        assert!(is_test(Path::new(path)), "{path}");
    }
    for path in ["src/main.rs", "tests/lab/src/lib.rs", "tests/support/src/watch.rs", "benches/fleet.rs"] {
        assert!(!is_test(Path::new(path)), "{path}");
    }
}

/// Below the last `src`, or anywhere if there is none, a test is in `tests` or in `tests.rs`.
fn is_test(path: &Path) -> bool {
    let names: Vec<_> = path.iter().collect();
    let below = names.rsplit(|name| *name == "src").next().unwrap_or_default();
    below.iter().any(|name| *name == "tests" || *name == "tests.rs")
}

/// Finds Rust sources in this folder of the repository, but not what a build makes.
fn find_sources(root: &Path, folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root.join(folder)).expect("a folder") {
        let entry = entry.expect("an entry");
        let name = entry.file_name();
        let is_hidden = name.to_string_lossy().starts_with('.');
        let path = folder.join(&name);
        if entry.file_type().expect("a file type").is_dir() {
            if !is_hidden && name != "target" && name != "node_modules" {
                find_sources(root, &path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}
