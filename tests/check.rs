//! The commands `vtep-agent check` and `bigip`, and what `status` does without an agent: exit status, input and output.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};

use serde_json::json;
use vtep_apiserver::{ApiServer, Fault, Matcher, Resource, Times, objects};

const GOOD: &str = "enable-vtep: true
vtep-endpoint: 10.169.72.34        10.169.72.36
vtep-cidr:     10.1.6.0/24         10.1.5.0/24
vtep-mac:      00:50:56:A0:7D:D8   00:50:56:86:6b:28
enable-policy: never
";

fn check(args: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vtep-agent"))
        .arg("check")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // If the input is a file, the program may end before it reads standard input.
    let _ = child.stdin.take().expect("a pipe").write_all(stdin.as_bytes());
    child.wait_with_output().expect("the program ends")
}

/// The nodes that the FDB must have come from the API server of a kubeconfig.
#[test]
fn the_nodes_of_a_cluster() {
    let server = ApiServer::start().expect("an API server");
    for (name, address) in [("worker-1", "10.169.72.239"), ("worker-2", "10.169.72.233")] {
        let mut node = objects::node(name, [], &[]);
        node["status"]["addresses"] = json!([{ "type": "InternalIP", "address": address }]);
        server.apply(Resource::Nodes, node).expect("a node");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let kubeconfig = directory.path().join("kubeconfig");
    fs::write(&kubeconfig, server.kubeconfig()).expect("a file");
    let kubeconfig = kubeconfig.display().to_string();
    let bigip = ["--bigip", "examples/both-ends/bigip-1.txt", "--nodes", "cluster", "--kubeconfig", &kubeconfig];
    let args = [&["examples/both-ends/cilium-config.yaml"][..], &bigip].concat();
    let output = check(&args, "");
    assert!(stdout(&output).contains("no FDB record for the node worker-2 (10.169.72.233)"), "{output:?}");
    server.misbehave(Matcher::all(), Fault::Forbidden, Times::Always);
    let output = check(&args, "");
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.starts_with("vtep-agent check: --nodes cluster: the API server does not list the nodes"), "{error}");
}

/// Two inputs cannot both be standard input.
#[test]
fn standard_input_is_one_thing() {
    let output = check(&["-", "--bigip", "-"], GOOD);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard input can be only one of"), "{output:?}");
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).display().to_string()
}

#[test]
fn a_good_configuration_passes() {
    for args in [&[][..], &["-"], &["--strict"]] {
        let output = check(args, GOOD);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(output.stderr.is_empty(), "{args:?}");
        assert_eq!(
            stdout(&output),
            "0 errors, 0 warnings, 0 info
2 VTEPs in force:
  CIDR                ENDPOINT         MAC
  10.1.6.0/24         10.169.72.34     00:50:56:a0:7d:d8
  10.1.5.0/24         10.169.72.36     00:50:56:86:6b:28
"
        );
    }
}

#[test]
fn an_error_is_shown_where_it_is() {
    let output = check(&[], &GOOD.replace("00:50:56:86:6b:28", "00:50:56:86:6b"));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stdout(&output),
        "error[vtep-mac-invalid]: \"00:50:56:86:6b\" is not a MAC address
  --> vtep-mac, 2nd value
   |
   | 00:50:56:A0:7D:D8   00:50:56:86:6b
   |                     ^^^^^^^^^^^^^^
   = write six octets, e.g. 00:50:56:a0:7d:d8, as `tmsh show net tunnels tunnel
     … all-properties` prints it

1 error, 0 warnings, 0 info
1 VTEP in force:
  CIDR                ENDPOINT         MAC
  10.1.6.0/24         10.169.72.34     00:50:56:a0:7d:d8
"
    );
}

#[test]
fn a_warning_fails_only_when_strict() {
    let multicast = GOOD.replace("00:50:56:A0", "01:50:56:A0");
    assert_eq!(check(&[], &multicast).status.code(), Some(0));
    assert_eq!(check(&["--strict"], &multicast).status.code(), Some(1));
    let info = GOOD.replace("enable-policy: never", "");
    assert_eq!(check(&["--strict"], &info).status.code(), Some(0));
}

#[test]
fn what_helm_renders_stops_cilium() {
    let output = check(&[&fixture("cilium-config-helm.yaml"), "-o", "json"], "");
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let rules: Vec<&str> =
        report["findings"].as_array().expect("a list").iter().filter_map(|f| f["rule"].as_str()).collect();
    let expected = ["vtep-mac-multicast", "vtep-mask-empty", "vtep-cidr-in-pod-pool", "vtep-cidr-in-pod-pool"];
    assert_eq!(rules, expected);
    assert_eq!((&report["errors"], &report["warnings"]), (&1.into(), &3.into()));
    assert_eq!(report["vteps"], serde_json::json!([]));
    assert_eq!(report["findings"][0]["index"], 0);
    assert_eq!(report["findings"][1]["index"], serde_json::Value::Null);
}

#[test]
fn json_lists_the_effective_vteps() {
    let output = check(&["-", "--output", "json"], &GOOD.replace("10.1.5.0/24", "10.1.5.0"));
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let vtep = serde_json::json!({"cidr": "10.1.6.0/24", "endpoint": "10.169.72.34", "mac": "00:50:56:a0:7d:d8"});
    assert_eq!(report["vteps"], serde_json::json!([vtep]));
    assert_eq!(report["findings"][0]["value"], "10.1.5.0");
}

#[test]
fn a_mounted_directory_is_read() {
    let dir = tempfile::tempdir().expect("a directory");
    for line in GOOD.lines() {
        let (key, value) = line.split_once(':').expect("a key");
        fs::write(dir.path().join(key), value).expect("a file");
    }
    let output = check(&[&dir.path().display().to_string()], "");
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
}

#[test]
fn unusable_input_is_told_apart() {
    let empty = tempfile::tempdir().expect("a directory");
    let empty = empty.path().display().to_string();
    let cases: [(&[&str], &str, &str); 6] = [
        (&["no-such-file"], "", "failed to open no-such-file"),
        (&[&empty], "", "holds no keys"),
        (&[], "", "the input is empty"),
        (&[], "a: [", "not YAML"),
        (&[], "apiVersion: v1\nkind: Secret\n", "only Secret"),
        (&["-o", "json"], "hello", "the text \"hello\""),
    ];
    for (args, stdin, expected) in cases {
        let output = check(args, stdin);
        assert_eq!(output.status.code(), Some(2), "{args:?} {stdin}");
        assert!(output.stdout.is_empty(), "{args:?} {stdin}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(expected), "{args:?} {stdin}: {stderr}");
    }
}

#[test]
fn what_is_known_of_the_cluster_is_compared() {
    let cases: [(&[&str], Option<&str>); 6] = [
        (
            &["--pod-cidr", "10.0.0.0/24,fd00::/48", "--service-cidr", "10.96.0.0/12", "--node-ip", "10.169.72.239"],
            None,
        ),
        (&["--pod-cidr", "10.9.0.0/16", "--pod-cidr", "10.1.0.0/16"], Some("vtep-cidr-overlaps-pod-cidr")),
        (&["--service-cidr", "10.1.5.0/24"], Some("vtep-cidr-overlaps-service-cidr")),
        (&["--node-ip", "10.1.6.9"], Some("vtep-cidr-contains-node")),
        (&["--pod-cidr", "10.169.72.0/24"], Some("vtep-endpoint-in-pod-cidr")),
        (&["--node-ip", "10.9.9.9", "--node-ip", "10.169.72.34"], Some("vtep-endpoint-is-node")),
    ];
    for (args, expected) in cases {
        let output = check(args, GOOD);
        assert_eq!(output.status.code(), Some(i32::from(expected.is_some())), "{args:?}: {}", stdout(&output));
        if let Some(rule) = expected {
            assert!(stdout(&output).contains(&format!("error[{rule}]")), "{args:?}: {}", stdout(&output));
        }
    }
    let output = check(&["--pod-cidr", "10.0.0.0/33"], GOOD);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

fn config_map(namespace: &str, data: &str) -> String {
    let data: String = data.lines().map(|line| format!("  {}\n", line.replacen(": ", ": '", 1) + "'")).collect();
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: cilium-config\n  namespace: {namespace}\ndata:\n{data}---\n"
    )
}

const NODE_CONFIG: &str = "apiVersion: cilium.io/v2
kind: CiliumNodeConfig
metadata:
  name: dmz
  namespace: kube-system
spec:
  nodeSelector: SELECTOR
  defaults:
    vtep-mac: 00:50:56:00:00:01 00:50:56:00:00
";

#[test]
fn a_node_config_in_the_input_is_applied() {
    let of_all = NODE_CONFIG.replace("SELECTOR", "{}");
    let of_dmz = NODE_CONFIG.replace("SELECTOR", "{matchLabels: {zone: dmz}}");
    let of_none = NODE_CONFIG.replace("  nodeSelector: SELECTOR\n", "");
    let labels = |labels| ["-o", "json", "--node-labels", labels];
    let cases: [(&str, &[&str], Option<&str>); 6] = [
        (&of_all, &["-o", "json"], None),
        (&of_dmz, &labels("a=b,zone=dmz"), None),
        (&of_dmz, &labels("zone=lan"), Some("selects other nodes")),
        (&of_dmz, &["-o", "json"], Some("give --node-labels")),
        (&of_none, &["-o", "json"], Some("no nodeSelector")),
        (&of_none, &labels("zone=dmz"), Some("no nodeSelector")),
    ];
    for (object, args, reason) in cases {
        let input = config_map("kube-system", GOOD) + object;
        let output = check(args, &input);
        assert_eq!(output.status.code(), Some(i32::from(reason.is_none())), "{args:?}: {output:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let [applied] = report["node_configs"].as_array().expect("a list").as_slice() else { panic!("{report}") };
        assert_eq!((&applied["name"], &applied["applied"]), (&"dmz".into(), &reason.is_none().into()), "{args:?}");
        let text = check(&args[2..], &input);
        match reason {
            Some(reason) => {
                assert!(applied["reason"].as_str().is_some_and(|seen| seen.contains(reason)), "{applied}");
                let note = stdout(&text).lines().find(|line| line.starts_with("CiliumNodeConfig dmz is not applied: "));
                assert!(note.is_some_and(|note| note.contains(reason)), "{}", stdout(&text));
            }
            None => {
                assert_eq!(report["findings"][0]["origin"], "CiliumNodeConfig dmz");
                assert_eq!(report["vteps"][0]["mac"], "00:50:56:00:00:01");
                let place = "  --> vtep-mac, 2nd value (set by CiliumNodeConfig dmz)";
                assert!(stdout(&text).lines().any(|line| line == place), "{}", stdout(&text));
            }
        }
    }
    let bad = check(&["--node-labels", "zone"], GOOD);
    assert_eq!(bad.status.code(), Some(2));
}

#[test]
fn a_namespace_tells_two_apart() {
    let bad = GOOD.replace("10.1.5.0/24", "10.1.5.0");
    let input = config_map("cilium", &bad) + &config_map("kube-system", GOOD);
    assert_eq!(check(&[], &input).status.code(), Some(0));
    assert_eq!(check(&["--namespace", "cilium"], &input).status.code(), Some(1));
    let input = config_map("cilium", &bad) + &config_map("other", GOOD);
    let output = check(&[], &input);
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(2), true));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("cilium/cilium-config, other/cilium-config") && words.contains("--namespace"), "{words}");
}

#[test]
fn what_the_api_server_refuses_is_unusable() {
    let unquoted = config_map("kube-system", GOOD).replace("enable-vtep: 'true'", "enable-vtep: true");
    let output = check(&[], &unquoted);
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(2), true), "{output:?}");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("`enable-vtep`") && words.contains("cannot unmarshal bool into string"), "{words}");
    assert_eq!(check(&[], GOOD).status.code(), Some(0), "a bare map goes to no API server");
}

#[test]
fn what_ends_cilium_is_an_error() {
    let cases = [
        ("enable-vtep: true", "enable-vtep: ture", "bool-invalid", 0),
        ("enable-vtep: true", "enable-vtep: true\ntunnel-port: 847x", "number-invalid", 0),
        ("enable-vtep: true", "enable-vtep: true\nenable-wireguard: ture", "bool-invalid", 2),
        ("enable-vtep: true", "enable-vtep: true\nvtep-sync-interval: 60", "duration-invalid", 2),
    ];
    for (from, to, rule, vteps) in cases {
        let output = check(&["-o", "json"], &GOOD.replace(from, to));
        assert_eq!(output.status.code(), Some(1), "{to}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!((&report["errors"], &report["findings"][0]["rule"]), (&1.into(), &rule.into()), "{to}");
        assert_eq!(report["vteps"].as_array().map(Vec::len), Some(vteps), "{to}");
    }
}

#[test]
fn lists_that_are_gone_are_told_without_a_finding() {
    let output = check(&["--strict"], "enable-vtep: true\nenable-policy: never\n");
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    assert!(text.contains("0 errors, 0 warnings, 0 info") && text.contains("perhaps by a CiliumVTEPConfig"), "{text}");
    for (input, truth) in [("enable-vtep: true\n", "none"), (GOOD, "configmap"), ("enable-vtep: false\n", "configmap")]
    {
        let report: serde_json::Value = serde_json::from_slice(&check(&["-o", "json"], input).stdout).expect("JSON");
        assert_eq!(report["truth"], truth, "{input}");
    }
}

#[test]
fn the_git_hook_refuses_an_error() {
    let repository = tempfile::tempdir().expect("a temporary directory");
    let git = |args: &[&str]| {
        let bin = Path::new(env!("CARGO_BIN_EXE_vtep-agent")).parent().expect("a directory");
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("a PATH"));
        let names = ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"];
        let mut command = Command::new("git");
        command.args(args).current_dir(repository.path()).env("PATH", path).envs(names.map(|name| (name, "test")));
        command.output().expect("git runs")
    };
    let hook = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/pre-commit");
    assert!(git(&["init", "--quiet"]).status.success());
    fs::copy(hook, repository.path().join(".git/hooks/pre-commit")).expect("the hook is copied");
    let commit = |text: &str| {
        fs::write(repository.path().join("cilium-config.yaml"), text).expect("a file");
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", "x"])
    };
    assert!(commit(GOOD).status.success());
    let refused = commit(&GOOD.replace("10.1.5.0/24", "10.1.5.0"));
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && words.contains("cilium-config.yaml: not committed"), "{words}");
    assert!(commit(&GOOD.replace("10.169.72.36", "10.169.72.37")).status.success());
}

#[test]
fn the_ci_job_does_as_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/check.md")).expect("the document");
    let command = text.lines().find_map(|line| line.trim().strip_prefix("- vtep-agent ")).expect("a command");
    let run = |command: &str| {
        let mut agent = Command::new(env!("CARGO_BIN_EXE_vtep-agent"));
        agent.args(command.split_whitespace()).current_dir(root).output().expect("the program runs").status.code()
    };
    assert_eq!(run(command), Some(1), "with --strict the warning counts");
    assert_eq!(run(&command.replace("--strict", "")), Some(0), "without it does not");
    assert_eq!(run(&command.replace("10.0.0.0/16", "10.1.0.0/16")), Some(1), "pods would have BIG-IP's addresses");
}

#[test]
fn bigip_prints_what_the_configuration_asks_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bigip = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vtep-agent"));
        command.args(["bigip", "examples/cilium-config.yaml"]).args(args).current_dir(root);
        command.output().expect("the program runs")
    };
    let told =
        ["--pod-cidr", "10.0.0.0/16", "--node-ip", "10.169.72.239", "--self-ip", "10.1.6.34", "--self-ip", "10.1.5.36"];
    let output = bigip(&told);
    assert!(output.status.success());
    for line in [
        "# BIG-IP 10.169.72.34, tunnel network 10.1.6.0/24",
        "create net tunnels tunnel cilium key 2 profile cilium_vxlan local-address 10.169.72.36",
        "create net self cilium_self address 10.1.5.36/24 allow-service default vlan cilium",
        "modify net fdb tunnel cilium records add { 0a:0a:0a:a9:48:ef { endpoint 10.169.72.239 } }",
    ] {
        assert!(stdout(&output).lines().any(|seen| seen == line), "no {line:?} in\n{}", stdout(&output));
    }
    assert!(!stdout(&output).contains("give --node-ip"), "{}", stdout(&output));
    // Without the nodes, it does not look complete.
    for args in [&[][..], &["-o", "tmsh", "--vtep", "10.1.6.0/24"]] {
        let output = bigip(args);
        let is_told = stdout(&output).lines().any(|line| line.starts_with("# FDB records: give --node-ip or --nodes"));
        assert!(is_told, "{args:?}: {}", stdout(&output));
    }
    let json: serde_json::Value = serde_json::from_str(stdout(&bigip(&["-o", "json"]))).expect("JSON");
    assert_eq!(json[0]["local_address"], "10.169.72.34");
    assert_eq!(json[1]["key"], 2);
    assert_eq!(json[1]["self_ip"], serde_json::Value::Null);

    // Nothing is printed that BIG-IP would refuse, or understand as another command.
    for (args, words) in [
        (["--self-ip", "10.1.6.34,10.9.9.9"], "10.9.9.9 is in no VTEP CIDR"),
        (["--self-ip", "10.1.6.34,10.1.6.35"], "10.1.6.35 is the second address in 10.1.6.0/24"),
        (["--tunnel", "a b; run util bash"], "only letters, digits and _ - . /"),
        (["--tunnel", "9tunnel"], "begins with a letter"),
    ] {
        let output = bigip(&args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(words), "{args:?}: {error}");
        assert!(output.stdout.is_empty(), "{args:?}: {}", stdout(&output));
    }
    assert!(stdout(&bigip(&["--tunnel", "/Common/cilium"])).contains("create net tunnels tunnel /Common/cilium key 2"));
}

/// The commands name the same objects on each BIG-IP, and a line for a shell skips what is there.
#[test]
fn lines_for_a_shell_are_those_of_one_bigip() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bigip = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vtep-agent"));
        command.args(["bigip", "examples/cilium-config.yaml", "-o", "tmsh"]).args(args).current_dir(root);
        command.output().expect("the program runs")
    };
    let unit = ["--bigip", "examples/both-ends/bigip-1.txt"];
    for args in [&[][..], &unit] {
        let output = bigip(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), stdout(&output)), (Some(2), ""), "{args:?}");
        assert!(error.contains("for 2 (") && error.contains("choose one with --vtep"), "{args:?}: {error}");
    }
    for choice in ["10.1.5.0/24", "10.169.72.36"] {
        let output = bigip(&["--vtep", choice]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = stdout(&output);
        assert!(text.starts_with("# BIG-IP 10.169.72.36, tunnel network 10.1.5.0/24\n"), "{text}");
        assert!(text.contains(
            "|| tmsh create net tunnels tunnel cilium key 2 profile cilium_vxlan local-address 10.169.72.36\n"
        ));
        assert!(!text.contains("10.169.72.34"), "{text}");
    }
    // With the BIG-IP of the input, and with one that is not in the input.
    let output = bigip(&[&unit[..], &["--vtep", "10.169.72.34"]].concat());
    assert!(
        stdout(&output).starts_with("# bigip-1\ntmsh modify net tunnels vxlan cilium_vxlan port 8472\n"),
        "{output:?}"
    );
    assert!(!stdout(&output).contains("10.169.72.36"), "{output:?}");
    let output = bigip(&[&unit[..], &["--vtep", "10.169.72.36"]].concat());
    assert!(
        stdout(&output).starts_with("# BIG-IP 10.169.72.36, tunnel network 10.1.5.0/24: not in the input\n"),
        "{output:?}"
    );
    let output = bigip(&["--vtep", "10.1.9.0/24"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("no such VTEP, only 10.1.6.0/24 at 10.169.72.34, 10.1.5.0/24 at 10.169.72.36"), "{error}");
}

#[test]
fn status_says_what_is_wrong_with_a_url() {
    for (url, words) in [
        ("https://127.0.0.1:9", "use http:// in place of https://"),
        ("ftp://127.0.0.1:9", "not an http:// URL"),
        ("127.0.0.1:9", "write e.g. http://127.0.0.1:9808"),
        ("http://127.0.0.1:9", "is the agent running?"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_vtep-agent")).args(["status", "--url", url]).output();
        let output = output.expect("the program runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{url}: {error}");
        assert!(error.contains(words) && error.contains(url), "{url}: {error}");
        assert_eq!(error.contains("is the agent running?"), words == "is the agent running?", "{error}");
    }
}

/// `vtep-agent status --watch | head`.
#[test]
fn a_watch_ends_quietly_with_its_reader() {
    let agent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", agent.local_addr().expect("an address"));
    thread::spawn(move || {
        let body = fs::read_to_string(fixture("status.json")).expect("a status");
        for stream in agent.incoming() {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 4096]);
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_vtep-agent"));
    command.args(["status", "--watch", "--url", &url]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut watch = command.spawn().expect("the program starts");
    let mut line = String::new();
    // The reader ends after the first line.
    BufReader::new(watch.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    assert!(line.starts_with("node      worker-1"), "{line}");
    let output = watch.wait_with_output().expect("the program ends");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && error.is_empty(), "{:?}: {error}", output.status);
}

/// An object as a gateway's controller writes it.
const VTEP_CONFIG: &str = "apiVersion: cilium.io/v2
kind: CiliumVTEPConfig
metadata: {name: hybrid-gateway}
spec:
  endpoints:
  - {name: vpc-gateway, tunnelEndpoint: 192.0.2.15, cidr: 10.20.0.0/24, mac: 82:36:0a:14:01:0f}
status:
  endpointStatuses: [{name: vpc-gateway, synced: false, error: no map}]
";

#[test]
fn a_custom_resource_is_checked_alone_and_among_other_documents() {
    let other = "---\napiVersion: v1\nkind: Service\nmetadata: {name: x}\n";
    for input in [VTEP_CONFIG.to_owned(), VTEP_CONFIG.to_owned() + other] {
        let output = check(&[], &input);
        assert_eq!(output.status.code(), Some(0));
        let text = stdout(&output);
        assert!(
            text.contains("warning[vtep-config-not-synced]: Cilium reports that it is not synced: no map"),
            "{text}"
        );
        assert!(text.contains("1 VTEP in force, from custom resources:"), "{text}");
        assert!(text.contains("10.20.0.0/24        192.0.2.15       82:36:0a:14:01:0f  vpc-gateway"), "{text}");
    }
    let output = check(&["-o", "json"], VTEP_CONFIG);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["truth"], "crd");
    assert_eq!(report["vteps"][0]["endpoint"], "192.0.2.15");
    assert_eq!(report["findings"][0]["key"], "CiliumVTEPConfig/hybrid-gateway status.endpointStatuses[vpc-gateway]");
}

#[test]
fn a_list_of_networks_in_one_endpoint_is_named_at_its_place() {
    let output = check(&[], &VTEP_CONFIG.replace("10.20.0.0/24", "\"10.20.0.0/24,10.30.0.0/24\""));
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(text.contains("error[vtep-cidr-invalid]"), "{text}");
    assert!(text.contains("--> CiliumVTEPConfig/hybrid-gateway spec.endpoints[0].cidr"), "{text}");
    assert!(text.contains("write an endpoint for each network"), "{text}");
}

#[test]
fn a_selector_wants_labels() {
    let object = "apiVersion: cilium.io/v2alpha1
kind: CiliumVTEPConfig
metadata: {name: zone-a}
spec:
  nodeSelector: {matchLabels: {zone: a}}
  vtepEndpoints:
  - {name: bigip-1, tunnelEndpoint: 10.1.6.34, cidr: 10.1.6.0/24, mac: 00:50:56:a0:7d:d8}
";
    let output = check(&[], object);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains("CiliumVTEPConfig/zone-a is not applied"), "{}", stdout(&output));
    let output = check(&["--node-labels", "zone=a"], object);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("error[vtep-endpoint-in-vtep-cidr]"), "{}", stdout(&output));
    assert_eq!(check(&["--node-labels", "zone=b"], object).status.code(), Some(0));
}

#[test]
fn lists_and_objects_together_are_a_warning_unless_the_lists_are_gone() {
    let lists =
        |data: &str| format!("{VTEP_CONFIG}---\nkind: ConfigMap\nmetadata: {{name: cilium-config}}\ndata:\n{data}");
    let both = lists(&GOOD.replace('\n', "\n  ").replacen("enable", "  enable", 1).replace(": true", ": \"true\""));
    let output = check(&[], &both);
    assert!(stdout(&output).contains("warning[vtep-sources-both]"), "{}", stdout(&output));
    assert!(stdout(&output).contains("2 VTEPs in force:"), "{}", stdout(&output));
    let output = check(&[], &lists("  enable-vtep: \"true\"\n"));
    assert!(!stdout(&output).contains("vtep-sources-both"), "{}", stdout(&output));
    assert!(stdout(&output).contains("1 VTEP in force, from custom resources:"), "{}", stdout(&output));
}

/// A patch has some of the keys, and not the switch.
#[test]
fn a_part_of_a_configuration_is_checked_as_far_as_it_goes() {
    let map = |data: &str| format!("kind: ConfigMap\nmetadata: {{name: cilium-config}}\ndata:\n{data}");
    let patch = "- {op: replace, path: /data/vtep-mac, value: '00:50:56:a0:7d:d8 00:50'}\n";
    let inline = format!("kind: Kustomization\npatches:\n- patch: |-\n    {patch}  target: {{kind: ConfigMap}}\n");
    let values = "vtep: {enable: true, endpoint: 10.169.72.34, cidr: 10.1.6.0/24, mac: '00:50:56:a0:7d:d8'}\n";
    let cases = [
        (map("  vtep-mac: 00:50:56:a0:7d:d8 00:50\n"), "warning[vtep-mac-invalid]"),
        (map("  vtep-cidr: 10.1.6.0/24 10.1.6.0/24\n"), "warning[vtep-cidr-duplicate]"),
        (patch.to_owned(), "warning[vtep-mac-invalid]"),
        (inline, "warning[vtep-mac-invalid]"),
        (values.to_owned(), "did you mean enabled?"),
    ];
    for (input, words) in cases {
        let output = check(&[], &input);
        assert!(output.status.success() && stdout(&output).contains(words), "{input}\n{output:?}");
        assert!(stdout(&output).contains("so VTEP is off although vtep-"), "{input}\n{}", stdout(&output));
        assert!(!stdout(&output).contains("count-mismatch"), "{input}\n{}", stdout(&output));
        assert_eq!(check(&["--strict"], &input).status.code(), Some(1), "{input}");
    }
    let off = map("  enable-vtep: 'false'\n  vtep-mac: garbage\n");
    assert_eq!(check(&["--strict"], &off).status.code(), Some(0), "what is off stays off");
}

#[test]
fn what_other_nodes_get_is_checked_as_well() {
    let input = config_map("kube-system", GOOD) + &NODE_CONFIG.replace("SELECTOR", "{matchLabels: {zone: dmz}}");
    let output = check(&[], &input);
    let place = "  --> vtep-mac, 2nd value (set by CiliumNodeConfig dmz)";
    assert!(output.status.success() && stdout(&output).contains("warning[vtep-mac-invalid]"), "{}", stdout(&output));
    assert!(stdout(&output).lines().any(|line| line == place), "{}", stdout(&output));
    assert_eq!(check(&["--strict"], &input).status.code(), Some(1));
    // These labels say that the node is not one of them.
    assert_eq!(check(&["--strict", "--node-labels", "zone=lan"], &input).status.code(), Some(0));
}

#[test]
fn an_object_that_the_api_server_refuses_gives_no_vtep() {
    let input = VTEP_CONFIG.replace("{name: vpc-gateway, tunnelEndpoint", "{tunnelEndpoint");
    assert_ne!(input, VTEP_CONFIG);
    let output = check(&[], &input);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("error[vtep-config-refused]"), "{}", stdout(&output));
    assert!(stdout(&output).contains("no VTEP in force"), "{}", stdout(&output));
}

/// PowerShell's `>` writes UTF-16.
#[test]
fn utf_16_is_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config.yaml");
    for (mark, bytes) in [("little", u16::to_le_bytes as fn(u16) -> [u8; 2]), ("big", u16::to_be_bytes)] {
        let text: Vec<u8> = format!("\u{feff}{GOOD}").encode_utf16().flat_map(bytes).collect();
        fs::write(&path, text).expect("a file");
        let output = check(&[&path.display().to_string()], "");
        assert!(stdout(&output).contains("2 VTEPs in force"), "{mark}: {output:?}");
    }
}

#[test]
fn nodes_count_without_a_bigip() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("nodes.json");
    let node = serde_json::json!({ "kind": "NodeList", "items": [{ "kind": "Node", "metadata": { "name": "a" },
        "spec": { "podCIDR": "10.0.3.0/24" }, "status": { "addresses": [{ "type": "InternalIP", "address": "10.1.6.9" }] } }] });
    fs::write(&path, node.to_string()).expect("a file");
    let output = check(&["--nodes", &path.display().to_string()], GOOD);
    assert!(stdout(&output).contains("error[vtep-cidr-contains-node]"), "{output:?}");
}

#[test]
fn remedies_for_helm_values_have_the_names_of_the_chart() {
    let vtep =
        "enabled: true, endpoint: 10.169.72.34, cidr: 10.1.6.0/24, mask: 255.255.255.0, mac: '00:50:56:a0:7d:d8'";
    let values = &format!("routingMode: native\nvtep: {{{vtep}}}\n");
    let output = check(&["-o", "json"], values);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = report["findings"].as_array().expect("findings");
    for words in ["narrow ipam.operator.clusterPoolIPv4PodCIDRList", "set routingMode to tunnel", "vtep.enabled to"] {
        let is_there = findings.iter().any(|found| found["message"].as_str().is_some_and(|text| text.contains(words)));
        assert!(is_there, "{words}: {report:#}");
    }
}
