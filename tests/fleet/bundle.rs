//! `vtep-agent fleet bundle`: which nodes are in it, what it says about those that are not, and what it leaves.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use vtep_apiserver::{Exec, Fault, Matcher, Times};
use vtep_core::{
    bundle::{
        part::{Outcome, Part},
        readme::{Origin, readme},
    },
    capture::{Capture, Captured, Direction, Interface, Known, pcapng},
};

use crate::cluster::{Agent, Cluster, Outcome as Ended, healthy, pod_of, silent};

const BROKEN: &str = "10.1.5.0/24";
const SINCE: &str = "2026-11-27T08:00:00Z";
/// The far end behind that network, which all nodes name.
const ENDPOINT: [u8; 4] = [10, 169, 72, 36];
const EXEC: &str = "pods/exec";
const WITHIN: Duration = Duration::from_secs(60);

type Files = BTreeMap<String, Vec<u8>>;

/// The parts of a node's bundle that have something to replace.
fn parts(node: &str) -> BTreeMap<Part, Vec<u8>> {
    let endpoint = std::net::Ipv4Addr::from(ENDPOINT);
    let number = node.rsplit('-').next().unwrap_or_default();
    let frame = [&[2, 0, 0, 0, 0, 1, 0, 0x50, 0x56, 0xa0, 0x7d, 0xd8, 8, 0][..], &ping()].concat();
    let captured = Captured {
        at: SINCE.parse().expect("a time"),
        interface: 0,
        direction: Direction::In,
        length: 98,
        bytes: frame,
    };
    let capture = Capture {
        interfaces: vec![Interface { name: "eth0".into(), received: 1, dropped: 0 }],
        frames: vec![captured],
        ended: SINCE.parse().expect("a time"),
        without_bulk_since: None,
        left_out: Vec::new(),
    };
    [
        (Part::Table, format!("{node}: BIG-IP {endpoint} is silent\n").into_bytes()),
        (Part::Status, silent(node, BROKEN, SINCE).to_string().into_bytes()),
        (Part::Log, format!("{node} asks {endpoint}, from 10.9.{number}.1; {node}0 is another\n").into_bytes()),
        (Part::VtepMapRaw, br#"{"entries":["0a010500"]}"#.to_vec()),
        (Part::Capture, pcapng::write(&capture, &Known::default(), "vtep-agent", 128)),
    ]
    .into()
}

/// An echo from the far end: IPv4 and the header of ICMP.
fn ping() -> Vec<u8> {
    let ip = [&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0][..], &ENDPOINT, &[10, 169, 72, 1]].concat();
    [&ip[..], &[8, 0, 0, 0, 0, 1, 0, 1]].concat()
}

fn archive(node: &str) -> Vec<u8> {
    let parts = parts(node);
    let outcomes = parts.iter().map(|(part, bytes)| (*part, Outcome::Collected(bytes.clone()))).collect();
    let origin = Origin { node, version: "0.1.0", at: SINCE.parse().expect("a time"), is_redacted: false };
    let readme = readme(&origin, &outcomes).into_bytes();
    let files = parts.into_iter().map(|(part, bytes)| (part.file(), bytes)).chain([("README.md", readme)]);
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("vtep-bundle/{path}"), &bytes[..]).expect("a Vec takes all");
    }
    tar.into_inner().and_then(GzEncoder::finish).expect("a Vec takes all")
}

fn ends(stdout: Vec<u8>, stderr: &str, code: u8) -> Exec {
    Exec::Ends { stdout, stderr: stderr.to_owned(), code }
}

/// Nodes worker-1 to worker-5; those in `broken` are silent. Each makes a complete bundle.
fn cluster(broken: &[usize]) -> Result<Cluster> {
    let cluster = Cluster::start()?;
    for number in 1..=5 {
        let node = format!("worker-{number}");
        let is_broken = broken.contains(&number);
        let status = if is_broken { silent(&node, BROKEN, SINCE) } else { healthy(&node) };
        cluster.add(&node, "a", Agent::Answers(status))?;
        cluster.server.on_exec(&pod_of(&node), ends(archive(&node), "written to standard output\n", 0));
    }
    Ok(cluster)
}

struct Made {
    ended: Ended,
    files: Files,
}

impl Made {
    fn text(&self, file: &str) -> Result<&str> {
        let bytes = self.files.get(file).with_context(|| format!("no {file} in {:?}", self.files.keys()))?;
        Ok(std::str::from_utf8(bytes)?)
    }

    fn readme(&self) -> Result<&str> {
        self.text("README.md")
    }

    /// The directories of nodes.
    fn nodes(&self) -> Vec<&str> {
        let mut nodes: Vec<_> =
            self.files.keys().filter_map(|file| file.strip_prefix("nodes/")?.split('/').next()).collect();
        nodes.dedup();
        nodes
    }
}

fn unpack(tar: impl Read) -> Result<Files> {
    let mut files = Files::new();
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.strip_prefix("vtep-bundle")?.to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        files.insert(path, bytes);
    }
    Ok(files)
}

/// Through a file, because standard output has bytes.
fn make(cluster: &Cluster, args: &[&str]) -> Result<Made> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("bundle");
    let ended = Ended::of(cluster.bundle(args).arg("--output").arg(&file).output()?)?;
    let files = if file.exists() { unpack(GzDecoder::new(fs::File::open(&file)?))? } else { Files::new() };
    Ok(Made { ended, files })
}

fn execs(cluster: &Cluster) -> Vec<vtep_apiserver::Request> {
    cluster.server.requests().into_iter().filter(|request| request.rbac_resource() == EXEC).collect()
}

#[test]
fn of_five_nodes_it_has_the_two_in_trouble() -> Result<()> {
    let cluster = cluster(&[2, 4])?;
    let made = make(&cluster, &["--seconds", "3"])?;
    ensure!(made.ended.code == Some(0), "{:?}", made.ended);
    assert_eq!(made.nodes(), ["worker-2", "worker-4"]);
    for node in ["worker-2", "worker-4"] {
        for (part, bytes) in parts(node) {
            ensure!(made.files[&format!("nodes/{node}/{}", part.file())] == bytes, "{node} {}", part.file());
        }
        ensure!(made.text(&format!("nodes/{node}/README.md"))?.contains(&format!("# Bundle of {node}")));
    }
    let readme = made.readme()?;
    for words in [
        "3 of 5 nodes healthy, 2 with trouble. It is complete.",
        "| worker-2 | unreachable, tunnel-silent at 10.1.5.0/24 | complete |",
        "| `fleet.txt` |",
    ] {
        ensure!(readme.contains(words), "{words:?} is not in\n{readme}");
    }
    ensure!(!readme.contains("## Missing") && !readme.contains("## Left out"), "{readme}");
    let report: Value = serde_json::from_str(made.text("fleet.json")?)?;
    assert_eq!(report["trouble"][0]["nodes"], serde_json::json!(["worker-2", "worker-4"]));
    let table = made.text("fleet.txt")?;
    ensure!(table.contains("NODE") && table.contains("worker-5") && !table.contains('\u{1b}'), "{table}");
    // The healthy ones are not disturbed.
    let execs = execs(&cluster);
    let mut pods: Vec<_> = execs.iter().map(|request| request.name.as_str()).collect();
    pods.sort_unstable();
    assert_eq!(pods, [pod_of("worker-2"), pod_of("worker-4")]);
    ensure!(
        execs[0].query.contains("command=bundle&command=--output&command=-&command=--seconds&command=3"),
        "{execs:?}"
    );
    ensure!(!execs[0].query.contains("redact"), "{execs:?}");
    Ok(())
}

#[test]
fn names_causes_and_a_limit_select_nodes() -> Result<()> {
    let cluster = cluster(&[2, 4, 5])?;
    let nodes = |args: &[&str]| -> Result<(Option<i32>, String)> {
        let made = make(&cluster, args)?;
        Ok((made.ended.code, made.nodes().join(" ")))
    };
    assert_eq!(nodes(&["--node", "worker-1", "--node", "worker-2"])?, (Some(0), "worker-1 worker-2".into()));
    assert_eq!(nodes(&["--cause", "tunnel-silent"])?, (Some(0), "worker-2 worker-4 worker-5".into()));
    assert_eq!(nodes(&["--vtep", BROKEN])?, (Some(0), "worker-2 worker-4 worker-5".into()));
    let made = make(&cluster, &["--vtep", "10.1.6.0/24"])?;
    ensure!(made.ended.code == Some(2) && made.files.is_empty(), "{:?}", made.ended);
    ensure!(
        made.ended.err.contains("5 of 5 nodes healthy: there is no trouble to bundle; --node NAME"),
        "{:?}",
        made.ended
    );

    let made = make(&cluster, &["--max-nodes", "1"])?;
    assert_eq!((made.ended.code, made.nodes()), (Some(1), vec!["worker-2"]));
    ensure!(made.readme()?.contains("## Left out\n\n- worker-4, worker-5: in trouble as well."), "{}", made.readme()?);
    ensure!(made.ended.err.contains("left out: worker-4, worker-5: --max-nodes"), "{:?}", made.ended);
    Ok(())
}

#[test]
fn a_node_that_hangs_costs_only_its_deadline() -> Result<()> {
    let cluster = cluster(&[1, 2, 3])?;
    cluster.server.on_exec(&pod_of("worker-2"), Exec::Hangs);
    let begun = Instant::now();
    let made = make(&cluster, &["--bundle-timeout", "3s"])?;
    ensure!(begun.elapsed() < WITHIN, "{:?}", begun.elapsed());
    assert_eq!((made.ended.code, made.nodes()), (Some(1), vec!["worker-1", "worker-3"]));
    let readme = made.readme()?;
    ensure!(
        readme.contains("It is there in part") && readme.contains("## Missing\n\n- worker-2: no bundle within 3s\n"),
        "{readme}"
    );
    ensure!(readme.contains("| worker-2 | unreachable, tunnel-silent at 10.1.5.0/24 | missing |"), "{readme}");
    ensure!(made.ended.err.contains("missing: worker-2: no bundle within 3s\n"), "{:?}", made.ended);
    Ok(())
}

/// Its agent does not answer, and just for that reason its bundle is wanted.
#[test]
fn a_node_whose_agent_does_not_answer_is_in_it() -> Result<()> {
    let cluster = cluster(&[])?;
    cluster.add("worker-6", "a", Agent::Dead)?;
    cluster.server.on_exec(&pod_of("worker-6"), ends(archive("worker-6"), "missing: status.json: no answer\n", 1));
    let made = make(&cluster, &["--timeout", "20s"])?;
    assert_eq!((made.ended.code, made.nodes()), (Some(1), vec!["worker-6"]));
    let row = "| worker-6 | a port-forward does not reach it: connection refused | in part: its `README.md` says what is missing |";
    ensure!(made.readme()?.contains(row), "{}", made.readme()?);
    ensure!(made.ended.err.contains("in part: worker-6"), "{:?}", made.ended);
    Ok(())
}

#[test]
fn a_bundle_that_cannot_be_made_or_used_is_named() -> Result<()> {
    let cluster = cluster(&[1, 2, 3, 4, 5])?;
    let older = ends(Vec::new(), "error: unrecognized subcommand 'bundle'\n\nUsage: vtep-agent <COMMAND>\n", 2);
    let whole = archive("worker-2");
    let half = whole[..whole.len() / 2].to_vec();
    for (node, exec) in [
        ("worker-1", older),
        ("worker-2", ends(half, "", 0)),
        ("worker-3", ends(b"hello".to_vec(), "", 0)),
        ("worker-4", ends(vec![0; 11 << 20], "", 0)),
    ] {
        cluster.server.on_exec(&pod_of(node), exec);
    }
    let made = make(&cluster, &[])?;
    assert_eq!((made.ended.code, made.nodes()), (Some(1), vec!["worker-5"]));
    let readme = made.readme()?;
    for words in [
        "- worker-1: exec: error: unrecognized subcommand 'bundle'\n",
        "- worker-2: its bundle cannot be used: it is no whole archive: ",
        "- worker-3: its bundle cannot be used: it is no whole archive: ",
        "- worker-4: its answer has more than 10 MB\n",
    ] {
        ensure!(readme.contains(words), "{words:?} is not in\n{readme}");
    }
    Ok(())
}

#[test]
fn without_exec_the_one_right_that_is_missing_is_named() -> Result<()> {
    let cluster = cluster(&[1, 2, 3])?;
    cluster.server.misbehave(Matcher::all().resource(EXEC), Fault::Forbidden, Times::Always);
    let made = make(&cluster, &[])?;
    ensure!(made.ended.code == Some(2) && made.files.is_empty(), "{:?}", made.ended);
    let expected = "missing: worker-[1-3]: you lack the right to get pods/exec in namespace kube-system\n\
                    error: nothing could be collected, so nothing is written\n";
    assert_eq!(made.ended.err, expected);
    Ok(())
}

/// With exec alone, the statuses come by exec, too.
#[test]
fn exec_alone_is_enough() -> Result<()> {
    let cluster = cluster(&[3])?;
    cluster.server.misbehave(Matcher::all().resource("pods/portforward"), Fault::Forbidden, Times::Always);
    let made = make(&cluster, &[])?;
    assert_eq!((made.ended.code, made.nodes()), (Some(0), vec!["worker-3"]));
    Ok(())
}

#[test]
fn addresses_and_names_are_replaced_by_the_same_ones_on_all_nodes() -> Result<()> {
    let cluster = cluster(&[2, 4])?;
    cluster.server.on_exec(&pod_of("worker-4"), ends(archive("worker-4"), "", 1));
    cluster.add("worker-6", "a", Agent::Hangs)?;
    cluster.server.on_exec(&pod_of("worker-6"), ends(Vec::new(), "error: worker-6 lost 10.169.72.36\n", 2));
    let made = make(&cluster, &["--redact", "--timeout", "3s"])?;
    assert_eq!((made.ended.code, made.nodes()), (Some(1), vec!["node-2", "node-4"]));
    for (file, bytes) in &made.files {
        let text = String::from_utf8_lossy(bytes);
        for word in
            ["worker-2", "worker-4", "worker-6", "10.169.", "10.1.5", "10.1.6", "10.9.", "00:50:56", "0a:0a:0a:a9"]
        {
            // The name of another node, which the test has put there, is a longer one; and five octets, which the fixture has, are no MAC.
            let text = ["worker-20", "worker-40", "00:50:56:86:6b"]
                .iter()
                .fold(text.to_string(), |text, known| text.replace(known, ""));
            ensure!(!text.contains(word) && !file.contains(word), "{word} is in {file}:\n{text}");
        }
        ensure!(!bytes.windows(4).any(|bytes| bytes == ENDPOINT), "{file}");
        ensure!(!bytes.windows(6).any(|bytes| bytes == [0, 0x50, 0x56, 0xa0, 0x7d, 0xd8]), "{file}");
    }
    // They still fit together: the report, both nodes, texts and frames.
    let report: Value = serde_json::from_str(made.text("fleet.json")?)?;
    let group = &report["trouble"][0];
    let endpoint = group["endpoint"].as_str().context("an endpoint")?;
    ensure!(endpoint.starts_with("240.") && endpoint.ends_with(".36"), "{endpoint}");
    assert_eq!(group["nodes"], serde_json::json!(["node-2", "node-4"]));
    for node in ["node-2", "node-4"] {
        for file in ["status.txt", "log.txt", "status.json"] {
            let text = made.text(&format!("nodes/{node}/{file}"))?;
            ensure!(text.contains(endpoint) && text.contains(node), "{endpoint} and {node} are not in {text}");
        }
        let octets = endpoint.parse::<std::net::Ipv4Addr>()?.octets();
        let capture = &made.files[&format!("nodes/{node}/capture.pcapng")];
        ensure!(capture.windows(4).any(|bytes| bytes == octets), "{endpoint} is not in the frames");
        ensure!(!made.files.contains_key(&format!("nodes/{node}/maps/vtep-raw.json")));
        let readme = made.text(&format!("nodes/{node}/README.md"))?;
        ensure!(
            readme.contains(&format!("# Bundle of {node}")) && readme.contains("- `maps/vtep-raw.json`: "),
            "{readme}"
        );
        ensure!(readme.contains("240.0.0.0/4") && !readme.contains("| `maps/vtep-raw.json` |"), "{readme}");
    }
    let readme = made.readme()?;
    ensure!(readme.contains(&format!("- node-6: exec: error: node-6 lost {endpoint}\n")), "{readme}");
    ensure!(readme.contains("| node-4 | unreachable, tunnel-silent at ") && readme.contains("240.0.0.0/4"), "{readme}");
    // The person who makes it reads the names.
    ensure!(made.ended.err.contains("missing: worker-6: "), "{:?}", made.ended);
    Ok(())
}

#[test]
fn an_interruption_leaves_nothing() -> Result<()> {
    let cluster = cluster(&[1, 2])?;
    cluster.server.on_exec(&pod_of("worker-2"), Exec::Hangs);
    let dir = tempfile::tempdir()?;
    for (signal, args) in [
        (Signal::SIGINT, &[][..]),
        (Signal::SIGTERM, &["--output", "here"]),
        (Signal::SIGINT, &["--output", "-", "--redact"]),
    ] {
        cluster.server.clear_requests();
        let mut child =
            cluster.bundle(args).current_dir(dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        cluster.server.wait_seen(&Matcher::all().resource(EXEC), 2, WITHIN)?;
        kill(Pid::from_raw(child.id().try_into()?), signal)?;
        let mut words = String::new();
        child.stderr.take().context("a pipe")?.read_to_string(&mut words)?;
        let output = child.wait_with_output()?;
        ensure!(output.status.code() == Some(2) && output.stdout.is_empty(), "{signal} {args:?}: {output:?}");
        ensure!(words.ends_with("error: interrupted: nothing is written\n"), "{words}");
        assert_eq!(fs::read_dir(dir.path())?.count(), 0, "{signal} {args:?}");
    }
    Ok(())
}

/// The plugin, its file in the working directory, and the other compression.
#[test]
fn as_a_plugin_it_writes_a_file_of_zstd() -> Result<()> {
    let cluster = cluster(&[4])?;
    let dir = tempfile::tempdir()?;
    let plugin = dir.path().join("kubectl-vtep");
    symlink(env!("CARGO_BIN_EXE_vtep-agent"), &plugin)?;
    fs::write(dir.path().join("kubeconfig"), cluster.server.kubeconfig())?;
    let work = dir.path().join("work");
    fs::create_dir(&work)?;
    let output = Command::new(&plugin)
        .args(["bundle", "--zstd"])
        .env("KUBECONFIG", dir.path().join("kubeconfig"))
        .current_dir(&work)
        .output()?;
    ensure!(output.status.code() == Some(0), "{output:?}");
    let files: Vec<_> = fs::read_dir(&work)?.collect::<Result<_, _>>()?;
    let [file] = &files[..] else { anyhow::bail!("{files:?}") };
    let name = file.file_name().to_string_lossy().into_owned();
    ensure!(
        name.starts_with("vtep-bundle-fleet-") && Path::new(&name).extension().is_some_and(|end| end == "zst"),
        "{name}"
    );
    ensure!(String::from_utf8_lossy(&output.stderr).ends_with(&format!("written to {name}\n")), "{output:?}");
    let bytes = fs::read(file.path())?;
    let files = unpack(ruzstd::decoding::StreamingDecoder::new(&bytes[..])?)?;
    ensure!(files.contains_key("nodes/worker-4/status.txt"), "{:?}", files.keys());
    // A second one in the same second would have the same name; no file is replaced.
    let existing = file.path();
    let ended = Ended::of(cluster.bundle(&["--output"]).arg(&existing).output()?)?;
    ensure!(ended.code == Some(2) && ended.err.contains("exists: name another file"), "{ended:?}");
    Ok(())
}

/// Flags of the report mean nothing for a bundle, and are refused rather than ignored.
#[test]
fn flags_of_the_report_are_refused() -> Result<()> {
    let cluster = cluster(&[])?;
    for args in [&["-o", "json", "bundle"][..], &["--watch", "bundle"], &["--node", "worker-1", "bundle"]] {
        let ended = cluster.fleet(args)?;
        ensure!(ended.code == Some(2) && ended.err.contains("cannot be used with"), "{ended:?}");
    }
    ensure!(cluster.server.requests().is_empty());
    Ok(())
}

#[test]
fn no_credentials_of_the_person_are_in_it() -> Result<()> {
    const SECRET: &str = "s3cr3t-hunter2";
    let cluster = cluster(&[2])?;
    cluster.server.require_token(Some(SECRET));
    let dir = tempfile::tempdir()?;
    let kubeconfig = dir.path().join("kubeconfig");
    fs::write(&kubeconfig, cluster.server.kubeconfig())?;
    ensure!(fs::read_to_string(&kubeconfig)?.contains(SECRET), "the token");
    let mut command = Command::new(env!("CARGO_BIN_EXE_vtep-agent"));
    command.args(["fleet", "bundle", "--output", "-"]).env("KUBECONFIG", &kubeconfig).env("VTEP_PASSWORD", SECRET);
    let output = command.output()?;
    ensure!(output.status.code() == Some(0), "{output:?}");
    for (file, bytes) in unpack(GzDecoder::new(&output.stdout[..]))? {
        ensure!(!String::from_utf8_lossy(&bytes).contains(SECRET), "{file}");
    }
    ensure!(!String::from_utf8_lossy(&output.stderr).contains(SECRET), "{output:?}");
    Ok(())
}
