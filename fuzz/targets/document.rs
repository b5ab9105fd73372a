//! Any text as a manifest: it is read or refused, and what is read is linted.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vtep_agent::cli::check::render;
use vtep_core::config::{manifest::read_documents, parse::parse};

fuzz_target!(|text: &str| {
    if let Ok(keys) = read_documents(text) {
        let report = render(&keys, &parse(&keys));
        assert!(!report.chars().any(|c| c.is_control() && c != '\n'), "the terminal is safe");
    }
});
