//! Each shape with a mistake in it: the finding is at the place where its author can correct it.

mod properties;

use super::*;
use crate::config::{
    checked::{Located, check},
    finding::Rule,
    manifest::read,
    selector::Labels,
    surroundings::Surroundings,
};

fn checked(text: &str) -> Vec<Located> {
    let contents = read(&Text::of_file("f.yaml", text), None).unwrap_or_else(|error| panic!("{text}\n{error}"));
    let [configuration] = contents.configurations.as_slice() else { panic!("{text}\n{contents:#?}") };
    let node_configs: Vec<_> = contents.node_configs.iter().collect();
    check(configuration, &node_configs, &Labels::new(), &Surroundings::default(), |_| Vec::new()).findings
}

/// The findings except for notes about policies, as `rule place line:column mark`.
fn found(text: &str) -> Vec<String> {
    let shown = |located: &Located| {
        let spot = located.spot.as_ref().expect("a spot");
        let mark = spot
            .excerpt
            .as_ref()
            .map_or(String::new(), |excerpt| excerpt.line.chars().skip(excerpt.column).take(excerpt.width).collect());
        let (line, column) = (spot.location.line, spot.location.column);
        format!("{} {} {line}:{column} {mark}", located.finding.rule, located.place)
    };
    let quiet = [Rule::PolicyEnforcementEnabled, Rule::VtepCidrInPodPool];
    checked(text).iter().filter(|located| !quiet.contains(&located.finding.rule)).map(shown).collect()
}

/// Helm values whose second MAC is wrong, indented by so many blanks.
fn values(indent: usize) -> String {
    let lines = [
        "vtep:",
        "  enabled: true",
        "  endpoint: 10.169.72.34 10.169.72.36",
        "  cidr: \"10.1.6.0/24   10.1.5.0/24\"",
        "  mask: 255.255.255.0",
        "  mac: '00:50:56:A0:7D:D8  00:50:56:86:6b'",
    ];
    lines.iter().map(|line| format!("{}{line}\n", " ".repeat(indent))).collect()
}

const MAC: &str = "00:50:56:86:6b";

#[test]
fn releases_are_read_where_their_values_are() {
    let flux = format!(
        "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: cilium}}\nspec:\n  values:\n{}",
        values(4)
    );
    let argo = "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: cilium}\nspec:\n  source:\n    chart: cilium\n    helm:\n";
    let object = format!("{argo}      valuesObject:\n{}", values(8));
    let text = format!("{argo}      values: |\n{}", values(8));
    let sources = format!(
        "{}        values: |-\n{}",
        argo.replace("source:\n    chart: cilium\n    helm:", "sources:\n    - chart: cilium\n      helm:"),
        values(10)
    );
    let rke2 = format!(
        "apiVersion: helm.cattle.io/v1\nkind: HelmChartConfig\nmetadata: {{name: rke2-cilium, namespace: kube-system}}\nspec:\n  valuesContent: |-\n{}",
        values(4)
    );
    let openshift =
        format!("apiVersion: cilium.io/v1alpha1\nkind: CiliumConfig\nmetadata: {{name: cilium}}\nspec:\n{}", values(2));
    let umbrella = format!("replicas: 1\ncilium:\n{}", values(2));
    let kustomize = format!("helmCharts:\n- name: cilium\n  valuesInline:\n{}", values(4));
    let stored =
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: v}}\ndata:\n  values.yaml: |\n{}", values(4));
    let other = format!(
        "apiVersion: addons.cluster.x-k8s.io/v1alpha1\nkind: HelmChartProxy\nmetadata: {{name: c}}\nspec:\n  valuesTemplate: |\n{}",
        values(4)
    );
    let cases = [
        (values(0), "vtep.mac", 6, 28),
        (flux, "spec.values.vtep.mac", 11, 32),
        (object, "spec.source.helm.valuesObject.vtep.mac", 14, 36),
        (text, "spec.source.helm.values.vtep.mac", 14, 36),
        (sources, "spec.sources[0].helm.values.vtep.mac", 14, 38),
        (rke2, "spec.valuesContent.vtep.mac", 11, 32),
        (openshift, "spec.vtep.mac", 10, 30),
        (umbrella, "cilium.vtep.mac", 8, 30),
        (kustomize, "helmCharts[0].valuesInline.vtep.mac", 9, 32),
        (stored, "data[\"values.yaml\"].vtep.mac", 11, 32),
        (other, "spec.valuesTemplate.vtep.mac", 11, 32),
    ];
    for (text, path, line, column) in cases {
        assert_eq!(found(&text), [format!("vtep-mac-invalid {path}, 2nd value {line}:{column} {MAC}")], "{text}");
    }
}

#[test]
fn printed_forms_are_read() {
    let keys = [
        ("enable-vtep", "true"),
        ("vtep-endpoint", "10.169.72.34 10.169.72.36"),
        ("vtep-cidr", "10.1.6.0/24 10.1.5.0/24"),
        ("vtep-mask", "255.255.255.0"),
        ("vtep-mac", "00:50:56:A0:7D:D8 00:50:56:86:6b"),
    ];
    let columns: String = keys.iter().map(|(key, value)| format!("{key:<20}{value}\n")).collect();
    let colons: String = keys.iter().map(|(key, value)| format!("{key}:{value}\n")).collect();
    let mixed = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: x}}\n---\n{colons}");
    let broken = columns.replace("7D:D8 ", "7D:D8\n");
    let cases = [(columns, "5:39"), (colons, "5:28"), (mixed, "9:28"), (broken, "6:1")];
    for (text, place) in cases {
        assert_eq!(found(&text), [format!("vtep-mac-invalid vtep-mac, 2nd value {place} {MAC}")], "{text}");
    }
}

#[test]
fn the_running_configuration_is_read() {
    let text = "#### Read-only configurations ####
EnableVTEP                        : true
IPAM                              : kubernetes
IPv4NativeRoutingCIDR
\tIP                        : 10.0.0.0
VtepCIDRs                         : [map[IP:10.1.6.0 Mask:////AA==] map[IP:10.1.5.0 Mask:////AA==]]
VtepCidrMask                      : 255.255.255.0
VtepEndpoints                     : [10.169.72.34 10.1.5.36]
VtepMACs                          : [00:50:56:a0:7d:d8 00:50:56:86:6b:28]
k8s-endpoint                      : 
";
    assert_eq!(found(text), ["vtep-endpoint-in-vtep-cidr VtepEndpoints, 2nd value 8:51 10.1.5.36"]);
    let json = r#"{"EnableVTEP": true, "VtepCidrMask": "255.255.255.0", "VtepEndpoints": ["10.1.6.34"],
"VtepCIDRs": [{"IP": "10.1.6.0", "Mask": "////AA=="}], "VtepMACs": ["00:50:56:a0:7d:d8"]}"#;
    assert_eq!(found(json), ["vtep-endpoint-in-vtep-cidr VtepEndpoints[0] 1:74 10.1.6.34"]);
}

#[test]
fn commands_are_read() {
    let helm = "$ helm upgrade cilium cilium/cilium --version 1.18.3 \\\n   --namespace kube-system --reuse-values \\\n   \
                --set vtep.enabled=\"true\" \\\n   --set vtep.endpoint=\"10.169.72.34    10.169.72.36\" \\\n   \
                --set vtep.cidr=\"10.1.6.0/24         10.1.5.0/24\",vtep.mask=255.255.255.0 \\\n   \
                --set vtep.mac=\"00:50:56:A0:7D:D8    00:50:56:86:6b\" \\\n   --set policyEnforcementMode=\"never\"\n";
    let expected = format!("vtep-mac-invalid vtep.mac, 2nd value 6:41 {MAC}");
    assert_eq!(found(helm), [expected]);
    let job = format!(
        "jobs:\n  deploy:\n    steps:\n    - run: |\n{}",
        helm.lines().map(|line| format!("        {line}\n")).collect::<String>()
    );
    assert_eq!(found(&job), [format!("vtep-mac-invalid vtep.mac, 2nd value 10:49 {MAC}")]);
    let cilium = "cilium install --config enable-vtep=true,vtep-endpoint=10.1.6.34,vtep-cidr=10.1.6.0/24,vtep-mac=00:50:56:a0:7d:d8,vtep-mask=255.255.255.0";
    assert_eq!(found(cilium), ["vtep-endpoint-in-vtep-cidr extraConfig.vtep-endpoint, 1st value 1:56 10.1.6.34"]);
    assert_eq!(
        found("helm install cilium cilium/cilium --set ' ,' --set l7Proxy=true"),
        ["vtep-disabled vtep.enabled 1:1 "]
    );
    let comma = "helm install cilium cilium/cilium --set vtep.enabled=true --set vtep.endpoint=10.169.72.34,10.169.72.36 \
                 --set vtep.cidr=10.1.6.0/24 --set vtep.mac=00:50:56:a0:7d:d8 --set vtep.mask=255.255.255.0";
    assert_eq!(found(comma), ["vtep-list-separator vtep.endpoint 1:92 10.169.72.36"]);
}

#[test]
fn the_chart_is_known() {
    let good = |more: &str| values(0).replace(MAC, "00:50:56:86:6b:28") + more;
    let cases: [(String, &[&str]); 20] = [
        (good(""), &[]),
        (good("routingMode: native\n"), &["tunnel-disabled routingMode 7:14 native"]),
        (good("eni: {enabled: true}\n"), &["tunnel-disabled eni.enabled 7:16 true"]),
        (good("tunnelPort: 8473\n"), &["tunnel-port-nonstandard tunnelPort 7:13 8473"]),
        (good("tunnelPort: 0\ntunnelProtocol: ''\n"), &[]),
        (good("encryption: {enabled: yes}\n"), &["ipsec-enabled encryption.enabled 7:23 yes"]),
        (good("encryption: {enabled: true, type: wireguard}\n"), &["wireguard-enabled encryption.enabled 7:23 true"]),
        (good("encryption: {enabled: false, type: wireguard}\n"), &[]),
        (good("l7Proxy: no\n"), &["l7-proxy-disabled l7Proxy 7:10 no"]),
        (good("ipv4:\n  enabled: false\n"), &["ipv4-disabled ipv4.enabled 8:12 false"]),
        (
            good("extraConfig: {vtep-mac: 'x y'}\n"),
            &[
                "vtep-mac-invalid extraConfig.vtep-mac, 1st value 7:26 x",
                "vtep-mac-invalid extraConfig.vtep-mac, 2nd value 7:28 y",
            ],
        ),
        (
            good("extraConfig: {enable-l7-proxy: false}\n"),
            &[
                "l7-proxy-disabled extraConfig.enable-l7-proxy 7:32 false",
                "bool-invalid extraConfig.enable-l7-proxy 7:32 false",
            ],
        ),
        (good("").replace("  mask: 255.255.255.0\n", ""), &["vtep-mask-empty vtep.mask 1:1 "]),
        (good("").replace("mask: 255.255.255.0", "mask: \"\""), &["vtep-mask-empty vtep.mask 5:9 \"\""]),
        (good("").replace("mask: 255.255.255.0", "mask: null"), &[]),
        (
            good("").replace("10.169.72.34 10.169.72.36", "[10.169.72.34, 10.169.72.36]"),
            &["vtep-list-separator vtep.endpoint 3:14 10.169.72.34"],
        ),
        (
            good("").replace("10.169.72.34 10.169.72.36", "[10.169.72.34, x]"),
            &["vtep-list-separator vtep.endpoint 3:14 10.169.72.34", "vtep-endpoint-invalid vtep.endpoint[1] 3:28 x"],
        ),
        ("vtep: {endpoint: 10.169.72.34}".to_owned(), &["vtep-disabled vtep.enabled 1:1 "]),
        (
            "routingMode: tunnel\nvtep: {enabled: true}".to_owned(),
            &["vtep-list-empty vtep.cidr 2:1 ", "vtep-mask-empty vtep.mask 2:1 "],
        ),
        (
            good("").replace("'00:50:56:A0:7D:D8  00:50:56:86:6b:28'", "{{ .Values.macs | quote }}"),
            &["value-unknown vtep.mac 6:8 {{ .Values.macs | quote }}"],
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(found(&text), expected, "{text}");
    }
}

#[test]
fn pools_are_those_of_the_chart() {
    let pool = |more: &str| {
        let text = values(0).replace(MAC, "00:50:56:86:6b:28") + more;
        let found = checked(&text).into_iter().filter(|located| located.finding.rule == Rule::VtepCidrInPodPool);
        found.map(|located| format!("{:?}", located.finding.severity)).collect::<Vec<_>>()
    };
    assert_eq!(pool(""), ["Info", "Info"], "the chart's default");
    assert_eq!(pool("ipam: {mode: kubernetes}\n"), [""; 0]);
    assert_eq!(pool("ipam: {operator: {clusterPoolIPv4PodCIDRList: [192.168.0.0/16, 10.1.5.0/24]}}\n"), ["Warning"]);
    assert_eq!(pool("ipam: {operator: {clusterPoolIPv4PodCIDRList: 10.0.0.0/8}}\n"), ["Warning"; 2]);
}

#[test]
fn what_takes_precedence_counts() {
    let argo = format!(
        "kind: Application\napiVersion: argoproj.io/v1alpha1\nspec:\n  source:\n    chart: cilium\n    helm:\n      parameters:\n      - name: vtep.mac\n        value: 00:50:56:a0:7d:d8 00:50:56:86:6b\n      valuesObject:\n        vtep: {{mac: x, enabled: true}}\n      values: |\n{}",
        values(8)
    );
    assert_eq!(found(&argo), [format!("vtep-mac-invalid spec.source.helm.parameters[0].value, 2nd value 9:34 {MAC}")]);
    let node = "kind: ConfigMap\nmetadata: {name: cilium-config}\ndata:\n  enable-vtep: 'true'\n  vtep-endpoint: 10.169.72.34\n  vtep-cidr: 10.1.6.0/24\n  vtep-mac: 00:50:56:a0:7d:d8\n---\nkind: CiliumNodeConfig\nmetadata: {name: a}\nspec:\n  nodeSelector: {}\n  defaults:\n    vtep-mac: 00:00:00:00:00:00\n";
    let [located, ..] = &checked(node)[..] else { panic!("no finding") };
    assert_eq!(located.finding.origin.as_deref(), Some("CiliumNodeConfig a"));
    assert_eq!(
        located.spot.as_ref().map(|spot| (spot.location.line, spot.path.as_str())),
        Some((14, "spec.defaults.vtep-mac"))
    );
}

#[test]
fn generated_configmaps_and_patches_are_read() {
    let literals = "configMapGenerator:\n- name: cilium-config\n  behavior: merge\n  literals:\n  - enable-vtep=true\n  - vtep-endpoint=10.1.6.34\n  - vtep-cidr=\"10.1.6.0/24\"\n  - vtep-mac=00:50:56:a0:7d:d8\n";
    assert_eq!(
        found(literals),
        ["vtep-endpoint-in-vtep-cidr configMapGenerator[0].literals[1], 1st value 6:19 10.1.6.34"]
    );
    let patch = "kind: Kustomization\napiVersion: kustomize.config.k8s.io/v1beta1\npatches:\n- patch: |-\n    kind: ConfigMap\n    metadata: {name: cilium-config}\n    data:\n      enable-vtep: 'ture'\n";
    assert_eq!(found(patch), ["bool-invalid enable-vtep 8:21 ture"]);
}

#[test]
fn templates_in_a_manifest_are_unknown() {
    let text = "kind: ConfigMap\nmetadata:\n  name: cilium-config\ndata:\n{{- if .Values.vtep }}\n  enable-vtep: \"true\"\n{{- end }}\n  vtep-endpoint: {{ .Values.endpoint | quote }}\n  vtep-cidr: 10.1.6.34/24\n  vtep-mac: ${MAC}\n";
    assert_eq!(
        found(text),
        [
            "vtep-cidr-host-bits vtep-cidr, 1st value 9:14 10.1.6.34/24",
            "value-unknown vtep-endpoint 8:18 {{ .Values.endpoint | quote }}",
            "value-unknown vtep-mac 10:13 ${MAC}"
        ]
    );
}

#[test]
fn other_files_are_no_configuration() {
    let of_many = |text: &str| crate::config::manifest::read_one_of_many(&Text::of_file("f", text));
    for text in [
        "replicas: 1\nimage: {tag: x}",
        "kind: Secret\napiVersion: v1\nmetadata: {name: x}",
        "kind: ConfigMap\nmetadata: {name: hubble}\ndata: {a: b}",
        "{{- if .x }}\na: [\n",
        "properties:\n  vtep:\n    properties:\n      enabled: {type: boolean}\n",
        "hello",
        "",
        "a: b: c",
        "tunnel: x\nencryption: {enabled: true}\n",
    ] {
        let contents = of_many(text);
        assert!(contents.configurations.is_empty() && contents.notes.is_empty(), "{text}\n{contents:#?}");
    }
    assert_eq!(of_many("vtep-mac: [\n").notes.len(), 1, "it is about VTEPs, and cannot be read");
}

#[test]
fn an_object_that_the_api_server_refuses_is_found_among_many_files() {
    let text = "kind: ConfigMap\nmetadata: {name: cilium-config}\ndata:\n  enable-vtep: true\n  vtep-mac: x\n";
    let contents = crate::config::manifest::read_one_of_many(&Text::of_file("f", text));
    let [configuration] = contents.configurations.as_slice() else { panic!("{contents:?}") };
    let checked = check(configuration, &[], &Labels::new(), &Surroundings::default(), |_| Vec::new());
    let bare = checked.findings.iter().find(|located| located.finding.rule == Rule::BoolInvalid).expect("a finding");
    assert!(bare.finding.message.contains("write enable-vtep: \"true\""), "{}", bare.finding.message);
    assert_eq!(bare.spot.as_ref().map(|spot| spot.location.to_string()).as_deref(), Some("f:4:16"));
}
