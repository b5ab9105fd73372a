//! The differences between the two ends for a person, like a compiler's messages.

use vtep_core::{
    bigip::compare::{Comparison, Difference},
    config::finding::{Finding, Severity},
    types::location::Location,
};

use super::Sources;
use crate::cli::style::{BAD, BOLD, WARNING, fold, paint};

/// The widest excerpt of a line.
const WIDEST: usize = 100;

/// Every difference, and what could not be judged.
pub(in crate::cli) fn render(comparison: &Comparison, sources: &Sources) -> String {
    comparison.differences.iter().map(|difference| render_difference(difference, sources) + "\n").collect()
}

/// One line for each fact that could not be judged.
pub(in crate::cli) fn notes(comparison: &Comparison) -> String {
    comparison.notes.iter().map(|note| fold(&format!("note: {}", printable(note)), "  ") + "\n").collect()
}

fn render_difference(difference: &Difference, sources: &Sources) -> String {
    let Difference { finding, at, cilium, commands, .. } = difference;
    let Finding { rule, severity, key, problem, remedy, .. } = finding;
    let (label, style) = match severity {
        Severity::Error => ("error", BAD),
        Severity::Warning => ("warning", WARNING),
        Severity::Info => ("info", BOLD),
    };
    let head = format!("{label}[{rule}]");
    let problem = fold(&format!("{head}: {}", printable(problem)), "  ");
    let mut text = format!("{}{}\n", paint(style, &head), problem.get(head.len()..).unwrap_or_default());
    match at {
        Some(at) => {
            text += &format!("  --> {}: {}\n", printable(&at.to_string()), printable(key));
            text += &excerpt(at, sources, |marks| paint(style, marks));
        }
        None => text += &format!("  --> {}\n", printable(key)),
    }
    if let Some(cilium) = cilium {
        text += &format!("   = Cilium has {}\n", printable(cilium));
    }
    text += &(fold(&format!("   = {}", printable(remedy)), "     ") + "\n");
    for command in commands {
        text += &format!("   $ tmsh {}\n", printable(command));
    }
    text
}

/// The line, and below it marks under the word at the location.
fn excerpt(at: &Location, sources: &Sources, paint: impl Fn(String) -> String) -> String {
    let line = sources.get(&at.file).and_then(|text| text.lines().nth(usize::try_from(at.line).ok()?.checked_sub(1)?));
    let Some(line) = line else { return String::new() };
    let column = usize::try_from(at.column).unwrap_or(1).saturating_sub(1);
    let word = marked(line.get(line.char_indices().nth(column).map_or(line.len(), |(at, _)| at)..).unwrap_or_default());
    // A line without line breaks, as JSON often is: only the part around the word.
    let skipped = if column + word > WIDEST { column.saturating_sub(WIDEST / 4) } else { 0 };
    let shown: String = line.chars().skip(skipped).take(WIDEST).collect();
    let column = column - skipped;
    let marks = "^".repeat(word.clamp(1, WIDEST.saturating_sub(column).max(1)));
    let number = at.line.to_string();
    let margin = " ".repeat(number.len().max(2));
    let shown = printable(shown.trim_end());
    format!("{margin} |\n{number:>2} | {shown}\n{margin} | {:column$}{}\n", "", paint(marks))
}

/// The width of the word at the beginning, or of an object's head: `net self cilium_self`.
fn marked(rest: &str) -> usize {
    let head = rest.strip_prefix("net ").and_then(|_| rest.split(" {").next());
    head.unwrap_or_else(|| rest.split_whitespace().next().unwrap_or_default()).chars().count()
}

/// Replaces each control character by one space, so that no value can move a terminal's cursor and columns remain correct.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
