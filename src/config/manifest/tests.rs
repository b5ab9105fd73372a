//! Every shape a person may hand over.

use std::error::Error;

use super::*;

fn read(text: &str) -> Result<Keys, String> {
    read_documents(text).map_err(|error| {
        let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        format!("{error}{source}")
    })
}

const CIDR: &str = "10.1.6.0/24 10.1.5.0/24";

#[test]
fn reads_every_shape() {
    let shapes = [
        "vtep-cidr: 10.1.6.0/24 10.1.5.0/24",
        "\u{feff}vtep-cidr: \"10.1.6.0/24 10.1.5.0/24\"\n",
        "vtep-cidr: >-\n  10.1.6.0/24\n  10.1.5.0/24\n",
        "---\n# nothing\n---\nvtep-cidr: 10.1.6.0/24 10.1.5.0/24\n---\n",
        "{\"vtep-cidr\": \"10.1.6.0/24 10.1.5.0/24\"}",
        "{vtep-cidr: 10.1.6.0/24 10.1.5.0/24}",
        "data:\n  vtep-cidr: 10.1.6.0/24 10.1.5.0/24",
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: any\ndata:\n  vtep-cidr: 10.1.6.0/24 10.1.5.0/24",
        "kind: ConfigMap\nmetadata: {name: other}\ndata: {vtep-cidr: x}\n---\n\
         kind: ConfigMap\nmetadata: {name: cilium-config}\ndata: {vtep-cidr: 10.1.6.0/24 10.1.5.0/24}",
        "kind: ConfigMap\nmetadata: {name: other}\ndata: {foo: x}\n---\n\
         kind: ConfigMap\nmetadata: {name: mine}\ndata: {vtep-cidr: 10.1.6.0/24 10.1.5.0/24}",
        "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: cilium}\nspec: {a: [1]}\n---\n\
         kind: ConfigMap\ndata: {vtep-cidr: 10.1.6.0/24 10.1.5.0/24}",
        "kind: ConfigMapList\nitems:\n- kind: ConfigMap\n  data: {vtep-cidr: 10.1.6.0/24 10.1.5.0/24}",
        r#"{"kind": "List", "apiVersion": "v1", "items": [{"kind": "Secret", "apiVersion": "v1", "data": {"a": "b"}},
           {"kind": "ConfigMap", "metadata": {"name": "cilium-config"}, "data": {"vtep-cidr": "10.1.6.0/24 10.1.5.0/24"}}]}"#,
        "{\"kind\": \"ConfigMap\", \"data\": {}, \"metadata\": {\"name\": \"a\"}}\n\
         {\"kind\": \"ConfigMap\", \"data\": {\"vtep-cidr\": \"10.1.6.0/24 10.1.5.0/24\"}}\n",
    ];
    for text in shapes {
        let keys = read(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        assert_eq!(keys.get("vtep-cidr").map(String::as_str), Some(CIDR), "{text}");
    }
}

#[test]
fn scalars_are_their_text() {
    let text = "enable-vtep: true\ntunnel-port: 8472\nvtep-mask:\na: 'false'\nb: -1\nc: |\n  x\n  y\n1: d\n2: 99999999999999999999\n";
    let keys = read(text).expect("keys");
    let expected = [
        ("1", "d"),
        ("2", "99999999999999999999"),
        ("a", "false"),
        ("b", "-1"),
        ("c", "x\ny\n"),
        ("enable-vtep", "true"),
        ("tunnel-port", "8472"),
        ("vtep-mask", ""),
    ];
    assert_eq!(keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect::<Vec<_>>(), expected);
    assert_eq!(read("{\"enable-vtep\": true, \"tunnel-port\": 8472}").expect("keys").len(), 2);
}

#[test]
fn says_what_it_found_instead() {
    let cases = [
        ("", "empty"),
        ("---\n---\n", "empty"),
        ("hello", "the text \"hello\""),
        ("[1, 2]", "a list of 2"),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata: {a: b}", "only Secret x"),
        ("kind: ConfigMap\ndata: [a]", "a list of 1 as its data"),
        ("vtep: {enabled: true}", "Helm values"),
        ("vtep-cidr: [10.1.6.0/24, 10.1.5.0/24]", "separated by blanks"),
        ("vtep-cidr: a\nvtep-cidr: b", "`vtep-cidr` is there twice"),
        ("a: b: c", "not YAML"),
        ("a: !own b", "not YAML"),
        ("? [a]\n: b", "a key is a list"),
        ("{\"a\": ", "not JSON"),
        ("{\"a\": \"b\", \"a\": \"c\"}", "`a` is there twice"),
        ("kind: ConfigMap\nmetadata: {name: a}\n---\nkind: ConfigMap\nmetadata: {name: b}", "a, b"),
        (
            "kind: ConfigMap\nmetadata: {name: a}\ndata: {vtep-mac: x}\n---\nkind: ConfigMap\ndata: {vtep-mac: y}",
            "a, one without a name",
        ),
        (
            "kind: ConfigMap\nmetadata: {name: cilium-config}\n---\nkind: ConfigMap\nmetadata: {name: cilium-config}",
            "cilium-config, cilium-config",
        ),
    ];
    for (text, expected) in cases {
        let error = read(text).expect_err(text);
        assert!(error.contains(expected), "{text}\n{error}");
    }
}

#[test]
fn hostile_input_ends_soon() {
    let laughs: String = (1..12).map(|n| format!("a{n}: &a{n} [{}]\n", format!("*a{},", n - 1).repeat(20))).collect();
    let inputs = [
        " ".repeat(MAX_BYTES + 1),
        "[".repeat(100_000),
        "{\"a\":".repeat(100_000),
        "- ".repeat(100_000),
        format!("a0: &a0 x\n{laughs}"),
        format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a,".repeat(1000)),
        "\0".to_owned(),
        "%YAML 9.9\n---\na".to_owned(),
        "*a".to_owned(),
    ];
    for text in inputs {
        let start: String = text.chars().take(40).collect();
        assert!(read_documents(&text).is_err(), "{start}");
    }
}

#[test]
fn reads_a_mounted_directory() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("..2026_01_01");
    fs::create_dir(&data)?;
    fs::write(data.join("vtep-mask"), "255.255.255.0\n")?;
    fs::write(data.join("vtep-mac"), b"\xff")?;
    std::os::unix::fs::symlink("..2026_01_01", dir.path().join("..data"))?;
    for key in ["vtep-mask", "vtep-mac"] {
        std::os::unix::fs::symlink(format!("..data/{key}"), dir.path().join(key))?;
    }
    fs::create_dir(dir.path().join("lost+found"))?;
    let keys = read_dir(dir.path())?;
    let expected = [("vtep-mac", "\u{fffd}"), ("vtep-mask", "255.255.255.0\n")];
    assert_eq!(keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect::<Vec<_>>(), expected);

    fs::write(data.join("big"), vec![b'x'; (1 << 20) + 1])?;
    assert!(read_dir(dir.path()).expect_err("too long").to_string().contains("big"));
    fs::remove_file(dir.path().join("..data"))?;
    fs::remove_file(dir.path().join("vtep-mac"))?;
    assert_eq!(read_dir(dir.path()).expect_err("a dangling link").kind(), io::ErrorKind::NotFound);
    fs::remove_file(dir.path().join("vtep-mask"))?;
    fs::write(dir.path().join("plain"), "x")?;
    assert_eq!(read_dir(dir.path())?.into_iter().collect::<Vec<_>>(), [("plain".to_owned(), "x".to_owned())]);
    assert_eq!(read_dir(&dir.path().join("gone")).expect_err("gone").kind(), io::ErrorKind::NotFound);
    Ok(())
}
