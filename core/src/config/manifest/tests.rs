//! Every form of input that a person may give.

use std::error::Error;

use super::*;
use crate::config::project::groups;

fn read(text: &str) -> Result<Keys, String> {
    read_documents(text).map_err(|error| {
        let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        format!("{error}{source}")
    })
}

fn contents(text: &str, namespace: Option<&str>) -> Result<Contents, ManifestError> {
    super::read(&Text::of_file("-", text), namespace)
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
    let text = "enable-vtep: true\ntunnel-port: 8472\nvtep-mask:\na: 'false'\nb: -1\nc: |\n  x\n  y\n1: d\n\
                2: 99999999999999999999\n3: 0x10\n4: 1.50\n5: 1_000\n";
    let keys = read(text).expect("keys");
    let expected = [
        ("1", "d"),
        ("2", "99999999999999999999"),
        ("3", "0x10"),
        ("4", "1.50"),
        ("5", "1_000"),
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
fn merge_keys_are_merged() {
    let cases = [
        ("<<: {a: merged, b: merged}\na: own", "own merged"),
        ("a: own\n<<: {a: merged, b: merged}", "own merged"),
        ("<<: [{a: first}, {a: second, b: second}]", "first second"),
        ("kind: ConfigMap\ndata:\n  <<: &x {a: '1', b: '2'}", "1 2"),
        ("x: &x\n  a: '1'\nkind: ConfigMap\ndata:\n  <<: *x\n  b: '2'", "1 2"),
        ("x: &x {b: deep}\ny: &y {<<: *x, a: near}\nkind: ConfigMap\ndata: {<<: *y}", "near deep"),
    ];
    for (text, expected) in cases {
        let keys = read(&format!("ipam: eni\n{text}")).unwrap_or_else(|error| panic!("{text}\n{error}"));
        assert_eq!(format!("{} {}", keys["a"], keys["b"]), expected, "{text}");
        assert!(!keys.contains_key("<<"), "{text}");
    }
    for text in ["<<: text", "<<: [a]", "<<: 1", "<<:"] {
        let error = read(text).expect_err(text);
        assert!(error.contains("`<<` merges maps"), "{text}\n{error}");
    }
}

/// The API server decodes `data` into a map of strings, and refuses other values.
#[test]
fn an_object_holds_text_alone() {
    let cases = [
        ("kind: ConfigMap\ndata: {enable-vtep: true}", "`enable-vtep`", "bool into string"),
        ("kind: ConfigMap\ndata: {tunnel-port: 8472}", "`tunnel-port`", "number into string"),
        ("kind: ConfigMap\ndata:\n  a: x\n  b: 1.5\n", "`b`", "write b: \"1.5\""),
        ("{\"kind\": \"ConfigMap\", \"data\": {\"enable-vtep\": true}}", "`enable-vtep`", "is true without quotes"),
        ("kind: ConfigMap\ndata: {a: 0x10}", "is 0x10 without quotes", "number into string"),
        ("kind: ConfigMap\ndata: {a: True}", "write a: \"True\"", "bool into string"),
        ("kind: List\nitems:\n- {kind: ConfigMap, data: {a: false}}", "`a`", "false"),
        (
            "kind: ConfigMap\ndata: {}\n---\nkind: CiliumNodeConfig\nspec: {defaults: {a: 1}}",
            "`a`",
            "number into string",
        ),
    ];
    for (text, key, words) in cases {
        let error = read(text).expect_err(text);
        assert!(error.contains(key) && error.contains(words), "{text}\n{error}");
    }
    // A missing value is the empty text, for the API server as well.
    assert_eq!(read("kind: ConfigMap\ndata: {a: 'true', b: \"1\", c: }").expect("keys").len(), 3);
}

/// One `cilium-config` in each of these namespaces, with the namespace as the value.
fn namespaces(namespaces: &[&str]) -> String {
    let object = |namespace: &&str| {
        format!(
            "kind: ConfigMap\nmetadata: {{name: cilium-config, namespace: {namespace}}}\ndata: {{vtep-mac: {namespace}}}\n"
        )
    };
    namespaces.iter().map(object).collect::<Vec<_>>().join("---\n")
}

#[test]
fn namespaces_tell_two_of_a_name_apart() {
    type Case = (&'static [&'static str], Option<&'static str>, Result<&'static str, &'static str>);
    let cases: [Case; 7] = [
        (&["cilium"], None, Ok("cilium")),
        (&["cilium", "kube-system"], None, Ok("kube-system")),
        (&["cilium", "kube-system"], Some("cilium"), Ok("cilium")),
        (&["cilium", "other"], None, Err("cilium/cilium-config, other/cilium-config; give --namespace")),
        (&["cilium", "other"], Some("other"), Ok("other")),
        (
            &["cilium", "other"],
            Some("kube-system"),
            Err("no ConfigMap in the namespace kube-system, only cilium/cilium-config"),
        ),
        (&["cilium", "cilium"], Some("cilium"), Err("cilium/cilium-config, cilium/cilium-config")),
    ];
    for (given, namespace, expected) in cases {
        let found = contents(&namespaces(given), namespace)
            .map(|contents| contents.configurations[0].settings["vtep-mac"].value.clone());
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{given:?} {namespace:?}"),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{given:?}: {error}"),
            (found, expected) => panic!("{given:?} {namespace:?}: {found:?}, not {expected:?}"),
        }
    }
    let bare = contents("vtep-mac: x", Some("cilium")).expect("a map that names no namespace");
    assert_eq!(bare.configurations[0].settings["vtep-mac"].value, "x");
}

#[test]
fn node_configs_come_with_their_configmap() {
    let config = |name: &str, namespace: &str, spec: &str| {
        format!(
            "---\napiVersion: cilium.io/v2\nkind: CiliumNodeConfig\nmetadata: {{name: {name}{namespace}}}\nspec: {spec}\n"
        )
    };
    let text = namespaces(&["kube-system", "cilium"])
        + &config("all", ", namespace: kube-system", "{nodeSelector: {}, defaults: {vtep-mask: 255.255.0.0}}")
        + &config("dmz", "", "{nodeSelector: {matchLabels: {zone: dmz}}, defaults: {a: b}}")
        + &config("none", ", namespace: kube-system", "{defaults: {a: b}}")
        + &config("elsewhere", ", namespace: cilium", "{nodeSelector: {}}");
    let names = |namespace| {
        let (groups, _) = groups(contents(&text, namespace).expect("a manifest"), namespace);
        groups[0].node_configs.iter().map(|object| object.config.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(None), ["all", "dmz", "none"]);
    assert_eq!(names(Some("cilium")), ["dmz", "elsewhere"]);
    let (groups, _) = groups(contents(&text, None).expect("a manifest"), None);
    let configs: Vec<_> = groups[0].node_configs.iter().map(|object| &object.config).collect();
    let [all, dmz, none] = configs.as_slice() else { panic!("{groups:?}") };
    assert_eq!(all.selector, Some(crate::config::selector::Selector::default()));
    assert_eq!(all.defaults["vtep-mask"], "255.255.0.0");
    let labels = |zone: &str| [("zone".to_owned(), zone.to_owned())].into();
    assert!(dmz.selects(&labels("dmz")) && !dmz.selects(&labels("lan")) && none.selector.is_none());

    let wrong = "{nodeSelector: {matchExpressions: [{key: a, operator: Near}]}}";
    for (text, words) in [
        (config("x", "", "{}"), "no ConfigMap in the input, only CiliumNodeConfig x"),
        (config("x", "", wrong), "the CiliumNodeConfig x"),
        (config("x", "", "{nodeSelector: [a]}"), "the CiliumNodeConfig x"),
    ] {
        let error = read(&text).expect_err(&text);
        assert!(error.contains(words), "{text}\n{error}");
    }
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
        ("replicas: {min: 1}", "Helm values"),
        ("Hello: world\nand: more", "no cilium-config in the input, only a map of `Hello`, `and`"),
        ("Error from server (NotFound): configmaps \"cilium-config\" not found", "no cilium-config in the input"),
        (
            "kind: ConfigMap\nmetadata: {name: app}\ndata: {log-level: debug}",
            "no cilium-config in the input, only ConfigMap app",
        ),
        (
            "kind: ConfigMap\nmetadata: {name: cilium-config}\nvtep-mac: x",
            "cilium-config has no data, and vtep-mac beside it",
        ),
        ("kind: ConfigMap\nmetadata: {name: a}\nstringData: {vtep-mac: x}", "no data, and stringData beside it"),
        ("vtep-cidr: [10.1.6.0/24, 10.1.5.0/24]", "separated by blanks"),
        ("vtep-cidr: a\nvtep-cidr: b", "`vtep-cidr` is there twice"),
        ("a: b: c", "not YAML"),
        (
            "Name:         cilium-config\nLabels:       a/b=c\nAnnotations:  d: e\n\nData\n====\nvtep-mac:\n----\nx\n",
            "take `kubectl -n kube-system get configmap cilium-config -o yaml`",
        ),
        ("create net tunnels tunnel t { key 2 profile p local-address 10.169.72.34 }\n", "give it with --bigip"),
        ("net tunnels tunnel t {\n    key 2\n    profile p\n}\n", "give it with --bigip"),
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
fn a_long_block_of_comments_is_no_obstacle() {
    let comments = "  # nothing of this counts\n".repeat(300);
    let text = format!("kind: ConfigMap\ndata:\n{comments}  vtep-cidr: 10.1.6.0/24\n{comments}");
    assert_eq!(read(&text).expect("a ConfigMap").get("vtep-cidr").map(String::as_str), Some("10.1.6.0/24"));
}

#[test]
fn aliases_do_not_nest_deeper_than_collections() {
    let level = |n: usize| format!("a{n}: &a{n} {}*a{}{}\n", "[".repeat(200), n - 1, "]".repeat(200));
    let text = "a0: &a0 [x]\n".to_owned() + &(1..90).map(level).collect::<String>();
    let error = read(&text).expect_err("too deep");
    assert!(error.contains("nests too deeply"), "{error}");
}

#[test]
fn json_may_hold_what_yaml_may_not() {
    let keys = read("{\"vtep-cidr\": \"10.1.6.0/24\u{7f}\", \"a\": 16, \"b\": true}").expect("JSON");
    let expected = [("a", "16"), ("b", "true"), ("vtep-cidr", "10.1.6.0/24\u{7f}")];
    assert_eq!(keys, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
}
