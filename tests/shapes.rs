//! `vtep-agent check` on what people have: each example in `examples/shapes` with its finding, whole repositories, and the outputs for code
//! review.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn check_in(directory: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vtep-agent"));
    command.arg("check").args(args).current_dir(directory).output().expect("the program runs")
}

fn check(args: &[&str]) -> Output {
    check_in(Path::new(ROOT), args)
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

/// The findings as `rule line:column path`.
fn found(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().expect("a list");
    let shown = |finding: &Value| {
        let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}:{} {}", text("rule"), finding["line"], finding["column"], text("path"))
    };
    findings.iter().map(shown).collect()
}

#[test]
fn each_shape_has_its_finding_at_its_place() {
    let examples: [(&str, &[&str]); 18] = [
        ("helm-values.yaml", &["vtep-mac-invalid 12:27 vtep.mac"]),
        ("umbrella-values.yaml", &["vtep-mac-placeholder 12:10 cilium.vtep.mac"]),
        ("flux-helmrelease.yaml", &["vtep-endpoint-in-vtep-cidr 18:17 spec.values.vtep.endpoint"]),
        ("argo-application.yaml", &["vtep-mask-invalid 15:17 spec.source.helm.parameters[0].value"]),
        ("argo-valuesobject.yaml", &["tunnel-disabled 13:22 spec.sources[1].helm.valuesObject.routingMode"]),
        ("rke2-helmchartconfig.yaml", &["vtep-list-separator 14:9 spec.valuesContent.vtep.endpoint[0]"]),
        ("openshift-ciliumconfig.yaml", &["vtep-mask-empty 8:3 spec.vtep.mask"]),
        ("helm-template.yaml", &["vtep-mask-empty 22:14 data.vtep-mask"]),
        ("config-view.txt", &["vtep-mac-multicast 8:48 vtep-mac"]),
        ("config-view-colons.txt", &["vtep-cidr-host-bits 5:11 vtep-cidr"]),
        ("cilium-dbg-config.txt", &["vtep-endpoint-duplicate 12:51 VtepEndpoints"]),
        ("running-config.json", &["vtep-mac-multicast 6:17 VtepMACs[0]"]),
        ("helm-upgrade.sh", &["vtep-mac-multicast 8:19 vtep.mac", "vtep-mask-empty 2:1 vtep.mask"]),
        ("cilium-install.sh", &["vtep-mac-zero 1:141 extraConfig.vtep-mac"]),
        ("node-config.yaml", &["vtep-mac-duplicate 18:33 spec.defaults.vtep-mac"]),
        ("vtep-config.yaml", &["vtep-cidr-invalid 10:11 spec.endpoints[0].cidr"]),
        ("kustomization.yaml", &["vtep-cidr-invalid 12:15 configMapGenerator[0].literals[3]"]),
        (
            "templates.yaml",
            &[
                "vtep-cidr-host-bits 12:14 data.vtep-cidr",
                "value-unknown 10:18 data.vtep-endpoint",
                "value-unknown 13:13 data.vtep-mac",
            ],
        ),
    ];
    let directory = Path::new(ROOT).join("examples/shapes");
    assert_eq!(fs::read_dir(&directory).expect("examples").count(), examples.len(), "each example has its row");
    for (file, expected) in examples {
        let path = format!("examples/shapes/{file}");
        let report = json(&check(&[&path, "-o", "json"]));
        let quiet = |line: &String| !line.starts_with("vtep-cidr-in-pod-pool");
        assert_eq!(found(&report).into_iter().filter(quiet).collect::<Vec<_>>(), expected, "{file}");
        assert_eq!(report["findings"][0]["file"], path, "{file}");
        // The marked text is the value, or there is none.
        let text = check(&[&path]);
        assert!(stdout(&text).contains(&format!("--> {path}:")), "{file}: {}", stdout(&text));
    }
}

#[test]
fn a_finding_is_shown_in_the_file_as_it_is() {
    let output = check(&["examples/shapes/flux-helmrelease.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stdout(&output),
        "error[vtep-endpoint-in-vtep-cidr]: 10.1.6.34 lies inside the tunnel network
  10.1.6.0/24: the outer packet would loop into the tunnel
  --> examples/shapes/flux-helmrelease.yaml:18:17 spec.values.vtep.endpoint, 1st value
   |
18 |       endpoint: 10.1.6.34
   |                 ^^^^^^^^^
   = write the BIG-IP's self IP on the underlay (the tunnel's local-address),
     not the tunnel's self IP

1 error, 0 warnings, 0 info
no VTEP in force
cilium also takes values from spec.valuesFrom, which may override these
"
    );
    let report = json(&check(&["examples/shapes/flux-helmrelease.yaml", "-o", "json"]));
    let finding = &report["findings"][0];
    assert_eq!(finding["key"], "vtep-endpoint");
    let message = finding["message"].as_str().expect("a message");
    assert!(message.starts_with("spec.values.vtep.endpoint, 1st value: 10.1.6.34 lies inside"), "{message}");
}

#[test]
fn a_template_is_unknown_and_no_error() {
    let output = check(&["examples/shapes/templates.yaml"]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    assert!(text.contains("10 |   vtep-endpoint: {{ .endpoint | quote }}\n"), "{text}");
    assert!(text.contains("the VTEPs in force are unknown: they depend on a value that is a template"), "{text}");
}

#[test]
fn a_repository_is_read_as_its_clusters() {
    let output = check(&["examples/gitops"]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    let text = stdout(&output);
    for line in [
        "examples/gitops/clusters/frankfurt/cilium.yaml: HelmRelease kube-system/cilium, with CiliumNodeConfig dmz",
        "  --> examples/gitops/clusters/frankfurt/dmz.yaml:7:33 vtep-mac, 2nd value (set by CiliumNodeConfig dmz)",
        "examples/gitops/clusters/leipzig/values.yaml: Helm values",
        "2 configurations checked: 1 error, 0 warnings, 1 info",
        "1 file without a configuration of Cilium skipped",
    ] {
        assert!(text.lines().any(|seen| seen == line), "no {line:?} in\n{text}");
    }
    let report = json(&check(&["examples/gitops/", "-o", "json"]));
    let configurations = report["configurations"].as_array().expect("a list");
    assert_eq!(configurations.len(), 2);
    assert_eq!(configurations[0]["kind"], "HelmRelease");
    assert_eq!(configurations[0]["vteps"].as_array().map(Vec::len), Some(1));
    assert_eq!(configurations[1]["truth"], "configmap");
    assert_eq!(
        (&report["findings"][0]["configuration"], &report["findings"][1]["configuration"]),
        (&json!(0), &json!(1))
    );
    assert_eq!(report["skipped_files"], 1);
}

/// A repository with files that are broken, too large, hidden or elsewhere.
#[test]
fn what_cannot_be_read_is_skipped_with_a_note() {
    let repository = tempfile::tempdir().expect("a directory");
    let root = repository.path().join("repository");
    let values = fs::read_to_string(Path::new(ROOT).join("examples/shapes/helm-values.yaml")).expect("an example");
    for directory in [".git", "a/b", "c"] {
        fs::create_dir_all(root.join(directory)).expect("a directory");
    }
    let write = |path: &str, text: &[u8]| fs::write(root.join(path), text).expect("a file");
    write(".git/values.yaml", values.as_bytes());
    write("a/b/values.yaml", values.as_bytes());
    write("a/README.md", values.as_bytes());
    write("a/NOTES.txt", values.as_bytes());
    write("a/_helpers.tpl", values.as_bytes());
    write("a/dashboard.yaml", b"kind: ConfigMap\nmetadata: {name: dashboard}\ndata: {vtep-agent.json: '{}'}\n");
    write("a/chart.yaml", b"{{- if .Values.cilium }}\nx: [\n{{- end }}\n");
    write("a/broken.yaml", b"vtep-mac: [\n");
    write("a/binary.yaml", b"\xff\xfe vtep");
    write("c/large.yaml", &vec![b'#'; (4 << 20) + 1]);
    fs::write(repository.path().join("outside.yaml"), &values).expect("a file");
    symlink("../../outside.yaml", root.join("c/outside.yaml")).expect("a link");
    symlink("../a/b/values.yaml", root.join("c/inside.yaml")).expect("a link");
    symlink("nowhere", root.join("c/nowhere.yaml")).expect("a link");
    let output = check_in(&root, &["."]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert_eq!(text.matches("vtep-mac-invalid").count(), 1, "once:\n{text}");
    for words in [
        "--> a/b/values.yaml:12:27 vtep.mac, 2nd value",
        "a/broken.yaml: the input is not YAML",
        "c/large.yaml: the file has more than 4 MiB, and is not read",
        "c/outside.yaml: the link leaves the directory, and is not followed",
        "c/nowhere.yaml: the link leads nowhere",
        "6 files without a configuration of Cilium skipped",
    ] {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }
    // A file that the user names is another matter.
    let output = check_in(&root, &["a/broken.yaml", "a/b/values.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stdout(&output).contains("vtep-mac-invalid"), "the other one is checked");
    let output = check_in(&root, &["c"]);
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(2), true));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("no configuration of Cilium in"), "{error}");
}

#[test]
fn two_hundred_files_take_less_than_a_second() {
    let repository = tempfile::tempdir().expect("a directory");
    let examples: Vec<_> = fs::read_dir(Path::new(ROOT).join("examples/shapes")).expect("examples").flatten().collect();
    for index in 0..200 {
        let directory = repository.path().join(format!("cluster-{}", index / 10));
        fs::create_dir_all(&directory).expect("a directory");
        let example = examples.get(index % 40).map(|entry| fs::read(entry.path()).expect("an example"));
        let other = || {
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: cilium-{index}}}\nspec: {{ports: [{{port: 80}}]}}\n"
            )
            .into_bytes()
        };
        fs::write(directory.join(format!("{index}.yaml")), example.unwrap_or_else(other)).expect("a file");
    }
    let took = || {
        let start = Instant::now();
        let output = check_in(repository.path(), &["."]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(stdout(&output).contains(" configurations checked"), "{}", stdout(&output));
        start.elapsed()
    };
    // The best of three: the machine may be busy.
    let best = (0..3).map(|_| took()).min().expect("three");
    assert!(best < Duration::from_secs(1), "{best:?}");
}

#[test]
fn sarif_is_as_its_schema_says() {
    let schema =
        fs::read_to_string(Path::new(ROOT).join("tests/fixtures/sarif/sarif-2.1.0.schema.json")).expect("a schema");
    // The schema has a pattern with a bracket too many, which is no regular expression.
    let schema = schema.replace("[a-zA-Z]{2}]?$", "[a-zA-Z]{2}?$");
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let shapes: Vec<_> = fs::read_dir(Path::new(ROOT).join("examples/shapes")).expect("examples").flatten().collect();
    let shapes: Vec<_> = shapes.iter().map(|entry| entry.path().display().to_string()).collect();
    for args in shapes.iter().map(|path| vec![path.as_str()]).chain([vec!["examples/gitops"]]) {
        let log = json(&check(&[&args[..], &["-o", "sarif"]].concat()));
        let errors: Vec<_> = validator.iter_errors(&log).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{args:?}: {errors:#?}");
        for result in log["runs"][0]["results"].as_array().expect("results") {
            let index = result["ruleIndex"].as_u64().and_then(|index| usize::try_from(index).ok()).expect("an index");
            assert_eq!(log["runs"][0]["tool"]["driver"]["rules"][index]["id"], result["ruleId"]);
            let uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].as_str().expect("a URI");
            assert!(uri.starts_with("examples/"), "{uri}");
        }
    }
    let log = json(&check(&["examples/shapes/helm-values.yaml", "-o", "sarif"]));
    let result = &log["runs"][0]["results"][0];
    assert_eq!((&result["ruleId"], &result["level"]), (&json!("vtep-mac-invalid"), &json!("error")));
    let location = &result["locations"][0];
    assert_eq!(
        location["physicalLocation"]["region"],
        json!({
            "startLine": 12, "startColumn": 27, "endColumn": 41,
            "snippet": {"text": "  mac: \"00:50:56:A0:7D:D8 00:50:56:86:6b\""},
        })
    );
    assert_eq!(location["logicalLocations"][0]["fullyQualifiedName"], "vtep.mac");
}

#[test]
fn github_shows_findings_beside_lines() {
    let output = check(&["examples/shapes/helm-values.yaml", "-o", "github"]);
    assert_eq!(output.status.code(), Some(1));
    let line = stdout(&output).lines().next().expect("a line");
    let begin = "::error file=examples/shapes/helm-values.yaml,line=12,col=27,endColumn=40,title=vtep-mac-invalid::vtep.mac, 2nd value: ";
    assert!(line.starts_with(begin), "{line}");
}

/// The console blocks of docs/check.md: each command, and its true output.
#[test]
fn the_document_shows_true_outputs() {
    let text = fs::read_to_string(Path::new(ROOT).join("docs/check.md")).expect("the document");
    let mut shown = 0;
    for block in text.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        let (command, expected) = block.split_once('\n').expect("an output");
        let args = command.strip_prefix("$ vtep-agent ").expect("a command");
        let mut command = Command::new(env!("CARGO_BIN_EXE_vtep-agent"));
        let output = command.args(args.split_whitespace()).current_dir(ROOT).output().expect("the program runs");
        assert_eq!(stdout(&output), expected, "{args}");
        shown += 1;
    }
    assert!(shown >= 3, "{shown}");
}

#[test]
fn bigip_reads_every_shape() {
    let bigip = |path: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vtep-agent"));
        command.args(["bigip", path]).current_dir(ROOT).output().expect("the program runs")
    };
    let output = bigip("examples/shapes/umbrella-values.yaml");
    assert!(stdout(&output).contains("local-address 10.169.72.34"), "{output:?}");
    // Objects without a ConfigMap hold VTEPs as well.
    let directory = tempfile::tempdir().expect("a directory");
    let object = directory.path().join("object.yaml");
    let text = fs::read_to_string(Path::new(ROOT).join("examples/shapes/vtep-config.yaml")).expect("the example");
    fs::write(&object, text.replace("10.21.0.0/16,10.30.0.0/16", "10.21.0.0/16")).expect("a file");
    let output = bigip(&object.display().to_string());
    assert!(stdout(&output).contains("key 2 profile cilium_vxlan local-address 10.20.1.15"), "{output:?}");
    for (path, words) in [
        ("examples/shapes/templates.yaml", "depend on a value that is a template"),
        ("examples/gitops", "several configurations"),
        ("examples/shapes/vtep-config.yaml", "no VTEP of this configuration would be in force"),
    ] {
        let output = bigip(path);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(words), "{path}: {error}");
    }
}
