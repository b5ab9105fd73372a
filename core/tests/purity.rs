//! The core must be pure: its dependencies include no runtime, API client or kernel interface, and its source uses no clock, file or
//! socket.

use std::{collections::BTreeSet, env, fs, path::Path, process::Command};

/// The beginnings of the names of forbidden crates, each with the thing that such a crate would bring in.
const FORBIDDEN: &[(&str, &str)] = &[
    ("aya", "BPF maps"),
    ("axum", "an HTTP server"),
    ("clap", "the command line"),
    ("hyper", "HTTP"),
    ("k8s-openapi", "the API client's types"),
    ("kube", "the API client"),
    ("mio", "sockets"),
    ("netlink", "netlink"),
    ("nix", "system calls"),
    ("notify", "inotify"),
    ("rtnetlink", "netlink"),
    ("rustls", "TLS"),
    ("socket2", "sockets"),
    ("tempfile", "files"),
    ("tokio", "a runtime"),
    ("tower", "HTTP"),
    ("tracing", "logging"),
];

/// Words that no source file of the core may contain.
const WORDS: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "Timestamp::now",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "std::env",
    "std::fs",
    "std::process",
    "std::thread",
    "println!",
];

#[test]
fn no_dependency_is_forbidden() {
    let cargo = env::var_os("CARGO").expect("cargo runs this test");
    let tree = Command::new(cargo)
        .args([
            "tree",
            "--locked",
            "--package",
            "vtep-core",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo tree");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8_lossy(&tree.stdout);
    let names: BTreeSet<_> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains("vtep-core") && names.contains("serde"), "{tree}");
    for (start, what) in FORBIDDEN {
        let found: Vec<_> = names.iter().filter(|name| name.starts_with(start)).collect();
        assert!(found.is_empty(), "vtep-core depends on {found:?}, which bring in {what}");
    }
}

#[test]
fn no_source_reads_a_clock_a_file_or_a_socket() {
    let mut files = 0;
    each_source(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut |path, text| {
        files += 1;
        // Tests may use a clock. They are at the end of a file, or in files of their own.
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for word in WORDS {
            assert!(!text.contains(word), "{} contains {word}", path.display());
        }
    });
    assert!(files > 50, "{files} files were read");
}

fn each_source(dir: &Path, check: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            if name != "tests" {
                each_source(&path, check);
            }
        } else if name != "tests.rs" {
            check(&path, &fs::read_to_string(&path).expect("a source file"));
        }
    }
}
