//! Colours and line folding of commands. Only terminals get colours: `anstream` removes them elsewhere, and if NO_COLOR is set.

use std::fmt::Display;

use anstyle::{AnsiColor, Style};
use textwrap::{Options, WordSplitter};

pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
pub(super) const BOLD: Style = Style::new().bold();
pub(super) const SOFT: Style = Style::new().dimmed();

/// Moves the cursor home and clears the screen. `anstream` removes the sequence if the output is not a terminal.
pub(super) const CLEAR: &str = "\x1b[H\x1b[2J";

/// The default width of a terminal.
const COLUMNS: usize = 80;

pub(super) fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Folds text into lines of at most 80 columns; those after the first begin with `indent`. Longer words remain whole, because people copy
/// them.
pub(super) fn fold(text: &str, indent: &str) -> String {
    let options = Options::new(COLUMNS).word_splitter(WordSplitter::NoHyphenation).break_words(false);
    textwrap::fill(text, options.subsequent_indent(indent))
}

/// A value from the cluster: it must not control the terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Removes this module's colours, but no escape sequences that a value contains: for tests and the fuzz target `document`.
#[must_use]
pub fn colourless(text: &str) -> String {
    let ours = [GOOD, BAD, WARNING, BOLD, SOFT].map(|style| style.render().to_string());
    let reset = anstyle::Reset.render().to_string();
    ours.iter().chain([&reset]).fold(text.to_owned(), |text, code| text.replace(code, ""))
}

/// The text without colours; checks that every line fits the columns.
#[cfg(test)]
pub(super) fn plain(text: &str) -> String {
    let text = colourless(text);
    let is_link = |line: &str| line.trim_start().starts_with("https://");
    assert!(text.lines().all(|line| is_link(line) || line.chars().count() <= COLUMNS), "{text}");
    text
}
