//! How commands print to a terminal. Colours reach terminals alone: `anstream` takes them away elsewhere, and where NO_COLOR is set.

use std::fmt::Display;

use anstyle::{AnsiColor, Style};
use textwrap::{Options, WordSplitter};

pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
pub(super) const BOLD: Style = Style::new().bold();
pub(super) const SOFT: Style = Style::new().dimmed();

/// Columns of a terminal that nobody made larger.
const COLUMNS: usize = 80;

pub(super) fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Lines of at most 80 columns; those after the first begin with `indent`. Words longer than that stay whole, for they are what people copy.
pub(super) fn fold(text: &str, indent: &str) -> String {
    let options = Options::new(COLUMNS).word_splitter(WordSplitter::NoHyphenation).break_words(false);
    textwrap::fill(text, options.subsequent_indent(indent))
}

/// Without the colours that we give; what a value brings along stays.
#[cfg(test)]
pub(crate) fn colourless(text: &str) -> String {
    let ours = [GOOD, BAD, WARNING, BOLD, SOFT].map(|style| style.render().to_string());
    let reset = anstyle::Reset.render().to_string();
    ours.iter().chain([&reset]).fold(text.to_owned(), |text, code| text.replace(code, ""))
}

/// As it is where there are no colours, and within its columns.
#[cfg(test)]
pub(super) fn plain(text: &str) -> String {
    let text = colourless(text);
    let is_link = |line: &str| line.trim_start().starts_with("https://");
    assert!(text.lines().all(|line| is_link(line) || line.chars().count() <= COLUMNS), "{text}");
    text
}
