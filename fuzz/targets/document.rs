//! Reads arbitrary text as a manifest. It must be accepted or refused, and `check` must be able to report on an accepted one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vtep_agent::cli::check::{colourless, render};
use vtep_core::config::{manifest::read_documents, parse::parse};

fuzz_target!(|text: &str| {
    if let Ok(keys) = read_documents(text) {
        let report = colourless(&render(&keys, &parse(&keys)));
        assert!(!report.chars().any(|c| c.is_control() && c != '\n'), "no control character reaches the terminal");
    }
});
