//! From what a person hands over to [`Device`]s: configuration files, the output of `tmsh list` and `tmsh show`, commands, and answers of
//! iControl REST, told apart by their content.
//!
//! # Which texts are one BIG-IP
//!
//! - All files of one archive are. Two archives are two BIG-IPs, or one at two times, which must not be mixed.
//! - Texts with the same hostname are. It is the one of `sys global-settings`, of `cm device`, or of a prompt. A prompt has no domain, so
//!   it is compared without. A text with prompts of two hosts has two parts.
//! - A text without a hostname belongs to the BIG-IP before it, preferably one with a file in the same directory, unless it contradicts:
//!   - an object of the same name has another value of a property that distinguishes objects, such as the address of a self IP, or
//!   - both have self IPs in the same folder, and none is common: self IPs belong to one unit.

mod build;
mod command;
mod context;
mod group;
pub(super) mod part;
mod profiles;
mod prompt;
mod tables;
pub(super) mod text;

use std::sync::Arc;

use super::{device::Device, rest};

/// What [`read`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadResult {
    /// In the order of the input.
    pub devices: Vec<Device>,
    /// What could not be read, or is uncertain, with its place: sentences for a person.
    pub notes: Vec<String>,
}

/// Reads texts, each with its name: the path of a file, with the path inside an archive behind `!`. The documentation of this function's
/// module has the rule for which texts are one BIG-IP.
#[must_use]
pub fn read(texts: &[(Arc<str>, &str)]) -> ReadResult {
    let mut result = ReadResult::default();
    let mut parts = Vec::new();
    let files: Arc<[Arc<str>]> = texts.iter().map(|(file, _)| Arc::clone(file)).collect();
    for (number, (file, text)) in (0..).zip(texts) {
        let source = part::Source { files: Arc::clone(&files), number };
        let read = if rest::is_json(text) { rest::read(&source, text) } else { text::read(&source, text) };
        if read.iter().all(part::Part::is_empty) && !read.iter().any(|part| part.signs.is_file) {
            result.notes.push(format!("{file}: it shows no object that a tunnel consists of"));
        }
        parts.extend(read);
    }
    for part in &mut parts {
        result.notes.append(&mut part.notes);
    }
    parts.retain(|part| !part.is_empty());
    for group in group::groups(parts) {
        let (device, notes) = group.device();
        result.devices.push(device);
        result.notes.extend(notes);
    }
    result
}

#[cfg(test)]
mod tests;
