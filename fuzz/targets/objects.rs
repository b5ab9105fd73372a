//! Reads each line as a custom resource with VTEPs, for a node with a hash or a trie as its VTEP map. The planner must accept what is in
//! effect, and each finding must say something.

#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use vtep_core::config::{
    document::Document,
    surroundings::Surroundings,
    truth::{Choice, Signs},
    view::{Observed, SourceState, View},
    vtep_config::{Kind, Objects, VtepConfig},
};

fuzz_target!(|text: &str| {
    let read = |line: &str| {
        let object: Value = serde_json::from_str(line).ok()?;
        let kind = Kind::of(object["kind"].as_str().unwrap_or_default()).unwrap_or(Kind::Config);
        Some(VtepConfig::read(kind, &object))
    };
    let all: Vec<_> = text.lines().filter_map(read).collect();
    let observed = |count: usize| {
        let all = all[..count].to_vec();
        let labels = [("zone".to_owned(), "dmz".to_owned())].into();
        let objects = Objects { all, node: "worker-1".to_owned(), labels, delivered: None };
        let keys = [("enable-vtep".to_owned(), "true".to_owned())].into();
        let document = Document { objects: Some(objects), ..Document::of_keys(keys, Surroundings::default()) };
        Observed::from(SourceState::Document(document))
    };
    for map_is_trie in [false, true] {
        let signs = Signs { choice: Choice::Crd, map_is_trie, runs_with_lists: false };
        let next = |count, previous: Option<&View>| {
            let now = Timestamp::UNIX_EPOCH;
            let view = View::next_on(&Surroundings::default(), signs, "", &observed(count), previous, now);
            if let Some(spec) = &view.effective {
                spec.check().expect("the planner accepts it");
            }
            assert!(view.findings.iter().all(|finding| !finding.message.is_empty()), "{:?}", view.findings);
            view
        };
        // First all of them, then half of them, then none.
        let view = next(all.len(), None);
        let view = next(all.len() / 2, Some(&view));
        next(0, Some(&view));
    }
});
