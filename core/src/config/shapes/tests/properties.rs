//! Mutated documents: no panic, and each finding points into the text.

use proptest::prelude::*;

use super::*;
use crate::config::{manifest::read_one_of_many, project::groups};

/// Pieces of what people have, which a test puts together in any order.
const PIECES: [&str; 40] = [
    "vtep:\n",
    "  enabled: true\n",
    "  endpoint: \"10.1.6.34 10.1.5.36\"\n",
    "  cidr: '10.1.6.0/24  x'\n",
    "  mac: [a, b]\n",
    "  mask: >-\n    255.255\n    .255.0\n",
    "kind: ConfigMap\n",
    "kind: Application\napiVersion: v1\n",
    "kind: HelmRelease\n",
    "metadata: {name: cilium-config}\n",
    "data:\n",
    "spec:\n",
    "  values:\n",
    "    vtep: {mac: \"z\\t\\u00e9 \\\"\", enabled: yes}\n",
    "  valuesContent: |\n    vtep:\n      mac: ü x\n      enabled: true\n",
    "kind: HelmChartConfig\n",
    "---\n",
    "{{- if .x }}\n",
    "{{ .y }}",
    "${MAC}",
    "  enable-vtep: 'true'\n",
    "  vtep-mac: \"ü ${A} \"\n",
    "enable-vtep:true\n",
    "vtep-cidr    1.2.3.4/5 6\n",
    "\u{feff}",
    "\r\n",
    "helm upgrade cilium c --set vtep.mac=\"a b\",vtep.cidr=x,y --set vtep.enabled=true \\\n --set 'vtep.endpoint={1.1.1.1,ü}'\n",
    "#### Read-only configurations ####\n",
    "EnableVTEP : true\n",
    "VtepCIDRs : [map[IP:10.1.6.0 Mask:////AA==] map[IP: Mask:x]]\n",
    "VtepMACs : [a b]\n",
    "\"",
    "'",
    "{",
    "}",
    " ",
    "&a ",
    "*a",
    "configMapGenerator:\n- literals: [\"vtep-mac=ü x\", 'enable-vtep=true']\n  name: cilium-config\n",
    "kind: CiliumVTEPConfig\nspec: {endpoints: [{cidr: 1}]}\n",
];

fn report(contents: Contents, text: &str) {
    for group in groups(contents, None).0 {
        let Some(configuration) = group.configuration else { continue };
        let overrides: Vec<_> = group.node_configs.iter().collect();
        let checked = check(&configuration, &overrides, &Labels::new(), &Surroundings::default(), |_| Vec::new());
        for located in checked.findings {
            let spot = located.spot.expect("a spot");
            let line = text.split(['\n', '\r']).count();
            assert!((1..=line).contains(&(spot.location.line as usize)), "{spot:?}\n{text}");
            let Some(excerpt) = spot.excerpt else { continue };
            assert!(excerpt.column + excerpt.width <= excerpt.line.chars().count(), "{excerpt:?}\n{text}");
            assert_eq!(spot.location.column as usize, excerpt.column + 1, "{spot:?}\n{text}", spot = spot.path);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn findings_point_into_any_text(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 1..14)) {
        let text = pieces.concat();
        let file = Text::of_file("f", text.as_str());
        report(read_one_of_many(&file), &text);
        if let Ok(contents) = read(&file, None) {
            report(contents, &text);
        }
    }
}
