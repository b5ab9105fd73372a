//! Reads arbitrary text as a file of a repository and as a file that the user gave: Helm values, GitOps objects, command lines. Each finding
//! must point into the text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vtep_core::config::{
    checked::check,
    manifest::{read, read_one_of_many},
    project::groups,
    selector::Labels,
    shapes::Contents,
    surroundings::Surroundings,
    text::Text,
};

fuzz_target!(|text: &str| {
    let file = Text::of_file("f.yaml", text);
    report(read_one_of_many(&file), text);
    if let Ok(contents) = read(&file, None) {
        report(contents, text);
    }
});

fn report(contents: Contents, text: &str) {
    let (groups, _) = groups(contents, None);
    for group in groups {
        for object in &group.vtep_configs {
            let finding = object.read.as_ref().err();
            finding.and_then(|finding| object.place_of(&finding.key)).map(|place| place.spot("", None));
        }
        let Some(configuration) = group.configuration else { continue };
        let overrides: Vec<_> = group.node_configs.iter().collect();
        let checked = check(&configuration, &overrides, &Labels::new(), &Surroundings::default(), |_| Vec::new());
        for located in checked.findings {
            assert!(!located.finding.message.is_empty() && !located.place.is_empty(), "{located:?}");
            let Some(spot) = located.spot else { panic!("no place: {:?}", located.finding) };
            let lines = text.split(['\n', '\r']).count();
            assert!((1..=lines).contains(&(spot.location.line as usize)), "{spot:?}");
            if let Some(excerpt) = spot.excerpt {
                assert!(excerpt.column + excerpt.width <= excerpt.line.chars().count(), "{excerpt:?}");
            }
        }
    }
}
