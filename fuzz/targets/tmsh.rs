//! Reads arbitrary text as files or output of a BIG-IP.

#![no_main]

mod devices;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| devices::assert_sound(text));
