//! Reads arbitrary text as an answer of iControl REST.

#![no_main]

mod devices;

use libfuzzer_sys::fuzz_target;

// Without a bracket it is no JSON, which the target `tmsh` has.
fuzz_target!(|text: &str| devices::assert_sound(&format!("[{text}")));
