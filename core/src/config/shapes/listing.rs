//! The output of `cilium config view`: two columns, or `key:value` without blanks.

use std::sync::Arc;

use super::{Configuration, Root, Setting, Shape, is_vtep_key};
use crate::config::text::{At, Place, Text};

/// Reads the part of a text that begins at the byte `base`; `None` if it is no such output.
pub(in crate::config) fn read(text: &Arc<Text>, base: usize, part: &str) -> Option<Configuration> {
    let mut entries: Vec<(&str, usize, usize)> = Vec::new();
    let (mut start, mut continued) = (base, 0);
    for line in part.split_inclusive('\n') {
        let end = start + line.trim_end().len();
        if !line.trim().is_empty() && !line.starts_with('#') {
            match entry(line) {
                Some((key, value)) => entries.push((key, start + value, end)),
                None => {
                    // A value with line breaks continues on the next line.
                    entries.last_mut()?.2 = end;
                    continued += 1;
                }
            }
        }
        start += line.len();
    }
    let is_listing = entries.iter().any(|(key, _, _)| is_vtep_key(key))
        || entries.iter().filter(|(key, _, _)| key.starts_with("enable-")).count() > 2;
    if !is_listing || continued > entries.len() {
        return None;
    }
    let root = Place::anchored(text, String::new(), Some(At::plain(base, base)));
    let mut configuration = Configuration::new(Shape::ConfigView, Root { place: root, is_chart: false });
    for (key, start, end) in entries {
        let at = At::plain(start.min(end), end);
        let value = text.slice(at).to_owned();
        let place = Place::of_scalar(text, key.to_owned(), at, &value);
        configuration.settings.insert(key.to_owned(), Setting { value, place, is_default: false });
    }
    Some(configuration)
}

/// The key of a line, and the byte at which its value begins.
fn entry(line: &str) -> Option<(&str, usize)> {
    const SHORTEST: usize = 3;
    let is_key = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.' | '/');
    let length = line.find(|c| !is_key(c)).unwrap_or(line.len());
    let (key, rest) = line.split_at_checked(length)?;
    // A MAC or a network at the beginning of a line is no key.
    if length < SHORTEST || !key.starts_with(|c: char| c.is_ascii_lowercase()) {
        return None;
    }
    let value = rest.strip_prefix(':').unwrap_or(rest);
    // A blank behind the colon would be YAML.
    let is_colon = rest.starts_with(':') && (value.trim().is_empty() || !value.starts_with([' ', '\t']));
    let is_separated = rest.trim().is_empty() || is_colon || rest.starts_with([' ', '\t']);
    is_separated.then(|| (key, line.len() - value.trim_start_matches([' ', '\t']).len()))
}
