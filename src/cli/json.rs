//! JSON that a command prints.

use std::fmt::Write as _;

use serde::Serialize;

/// The value in lines, the last one with its end. JSON itself permits DEL and the C1 controls in a string, and some terminals obey them.
pub(super) fn pretty(value: &impl Serialize) -> serde_json::Result<String> {
    let json = serde_json::to_string_pretty(value)?;
    let mut text = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        match c {
            // A `String` takes everything.
            '\u{7f}'..='\u{9f}' => drop(write!(text, "\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::pretty;

    #[test]
    fn a_value_controls_no_terminal_and_stays_the_same() {
        let value = "\u{1b}[2J \u{7f} \u{9b}31m \u{80}\u{9f}\u{a0} é";
        let text = pretty(&[value]).expect("JSON");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&text).expect("JSON"), [value]);
    }
}
