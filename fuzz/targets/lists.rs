//! Reads each line as the value of one key about VTEPs. The planner must accept the effective configuration.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vtep_core::config::{Keys, effective::effective, parse::parse};

const KEYS: [&str; 7] =
    ["vtep-cidr", "vtep-endpoint", "vtep-mac", "vtep-mask", "tunnel-protocol", "tunnel-port", "enable-vtep"];

fuzz_target!(|text: &str| {
    let mut keys: Keys = KEYS.map(str::to_owned).into_iter().zip(text.split('\n').map(str::to_owned)).collect();
    keys.entry("enable-vtep".to_owned()).or_insert_with(|| "true".to_owned());
    let parsed = parse(&keys);
    if let Some(now) = effective(&parsed, None) {
        now.spec.check().expect("the planner accepts it");
    }
    for finding in parsed.findings {
        assert!(!finding.message.is_empty(), "{finding:?}");
    }
});
