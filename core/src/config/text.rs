//! The text of an input, and the places in it.
//!
//! A text can be the value of a scalar in another text, as Helm values in `valuesContent: |`. A place in it is then reported in the outer
//! text, the file as it is.

mod align;
mod index;
mod place;

use std::{ops::Range, sync::Arc};

use self::index::LineIndex;
use crate::types::location::Location;

pub use self::{
    align::count,
    place::{Place, Spot},
};

/// How a scalar is written, which decides where each character of its value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Plain,
    SingleQuoted,
    /// Also the strings of JSON.
    DoubleQuoted,
    /// A literal or folded block below `|` or `>`, from its first character on.
    Block,
}

/// The part of a text, in bytes, that a key or a value is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    pub start: u32,
    pub end: u32,
    pub style: Style,
}

impl At {
    #[must_use]
    pub fn plain(start: usize, end: usize) -> Self {
        let offset = |offset| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { start: offset(start), end: offset(end), style: Style::Plain }
    }
}

/// A text with its name. Its size is limited to that of an input, so offsets fit 32 bits.
#[derive(Debug)]
pub struct Text {
    file: Arc<str>,
    content: String,
    /// What the parser read instead of the content, of equal length: the same text without templates.
    parsed: Option<String>,
    index: LineIndex,
    /// The scalar that this text is the value of.
    outer: Option<Outer>,
}

#[derive(Debug)]
struct Outer {
    text: Arc<Text>,
    at: At,
    /// The characters of the scalar before this text, without white space.
    units: usize,
}

/// A line of a file, and the marked part of it, in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    pub line: String,
    /// From 0.
    pub column: usize,
    pub width: usize,
}

impl Text {
    /// The text of a file, as the user named it.
    #[must_use]
    pub fn of_file(file: &str, content: impl Into<String>) -> Arc<Self> {
        let content = content.into();
        let index = LineIndex::of(&content);
        Arc::new(Self { file: file.into(), content, parsed: None, index, outer: None })
    }

    /// The value of a scalar as a text of its own.
    #[must_use]
    pub fn nested(outer: &Arc<Self>, at: At, content: &str) -> Arc<Self> {
        let outer = Outer { text: Arc::clone(outer), at, units: 0 };
        let (content, index) = (content.to_owned(), LineIndex::default());
        Arc::new(Self { file: Arc::clone(&outer.text.file), content, parsed: None, index, outer: Some(outer) })
    }

    /// The same text after the parser read `parsed` instead, which has the same length.
    #[must_use]
    pub fn read_as(self: &Arc<Self>, parsed: String) -> Arc<Self> {
        let outer = self.outer.as_ref().map(|outer| Outer { text: Arc::clone(&outer.text), ..*outer });
        let (file, content, index) = (Arc::clone(&self.file), self.content.clone(), self.index.clone());
        Arc::new(Self { file, content, parsed: Some(parsed), index, outer })
    }

    #[must_use]
    pub fn file(&self) -> &Arc<str> {
        &self.file
    }

    #[must_use]
    pub fn content(&self) -> &str {
        &self.content
    }

    /// How the part is written in this text.
    #[must_use]
    pub fn slice(&self, at: At) -> &str {
        self.content.get(at.start as usize..at.end as usize).unwrap_or_default()
    }

    /// The bytes of the character of a scalar's value that has `units` characters before it, white space not counted.
    fn offset_in(&self, at: At, units: usize) -> Range<usize> {
        let read = self.parsed.as_ref().unwrap_or(&self.content);
        let raw = read.get(at.start as usize..at.end as usize).unwrap_or_default();
        let unit = align::nth_unit(raw, at.style, units);
        at.start as usize + unit.start..at.start as usize + unit.end
    }

    /// The file's text and the byte in it, for a byte of this text.
    fn in_file(&self, offset: usize) -> (&Self, usize) {
        let mut place = (self, offset);
        while let Some(outer) = &place.0.outer {
            let before = place.0.content.get(..place.1).unwrap_or(&place.0.content);
            let units = outer.units + count(before);
            place = (&outer.text, outer.text.offset_in(outer.at, units).start);
        }
        place
    }

    /// Where the byte stands in the file.
    #[must_use]
    pub fn location(&self, offset: usize) -> Location {
        let (text, offset) = self.in_file(offset);
        let (line, column) = text.index.position(&text.content, offset);
        Location::new(&text.file, line, column)
    }

    /// Where a part of a scalar's value stands: from the character with `from` others before it, `width` characters long, white space not
    /// counted.
    #[must_use]
    pub fn locate(&self, at: At, from: usize, width: usize) -> (Location, Option<Excerpt>) {
        let start = self.offset_in(at, from).start;
        let last = self.offset_in(at, from + width.max(1) - 1);
        let ((text, start), (_, mut end)) = (self.in_file(start), self.in_file(last.start));
        if !last.is_empty() {
            end = text.behind(end);
        }
        let (line, column) = text.index.position(&text.content, start);
        let excerpt = (width > 0).then(|| text.excerpt(start, end)).flatten();
        (Location::new(&text.file, line, column), excerpt)
    }

    /// Where a key or a value stands as a whole, with its quotes.
    #[must_use]
    pub fn mark(&self, at: At) -> (Location, Option<Excerpt>) {
        let (start, end) = (at.start as usize, at.end.max(at.start) as usize);
        let ((text, start), (_, last)) = (self.in_file(start), self.in_file(end.saturating_sub(1).max(start)));
        let (line, column) = text.index.position(&text.content, start);
        let end = text.behind(last);
        let excerpt = (at.start < at.end).then(|| text.excerpt(start, end)).flatten();
        (Location::new(&text.file, line, column), excerpt)
    }

    /// The byte behind the character at this one.
    fn behind(&self, at: usize) -> usize {
        at + self.content.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8)
    }

    /// The last byte up to this one at which a character begins.
    fn boundary(&self, at: usize) -> usize {
        (0..=at).rev().find(|at| self.content.is_char_boundary(*at)).unwrap_or(0)
    }

    /// How many texts are around this one.
    #[must_use]
    pub fn depth(&self) -> usize {
        let mut depth = 0;
        let mut text = self;
        while let Some(outer) = &text.outer {
            (depth, text) = (depth + 1, &outer.text);
        }
        depth
    }

    /// The line around a part, and the part in it. Of a long line it is the surroundings of the part.
    fn excerpt(&self, start: usize, end: usize) -> Option<Excerpt> {
        const SHOWN: usize = 400;
        let near = self.boundary(start.saturating_sub(SHOWN));
        let before = self.content.get(near..start)?;
        let line_start = before.rfind(['\n', '\r']).map_or(near, |at| near + at + 1);
        let far = self.boundary(start.saturating_add(SHOWN).min(self.content.len()));
        let line = self.content.get(line_start..far)?;
        let (head, rest) = line.split_at_checked(start - line_start)?;
        let rest = rest.split(['\n', '\r']).next().unwrap_or_default();
        let marked = rest.get(..(end.max(start) - start).min(rest.len())).unwrap_or(rest);
        let (column, width) = (head.chars().count(), marked.chars().count());
        Some(Excerpt { line: format!("{head}{rest}"), column, width })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_nested_text_is_one_of_the_file() {
        let file = "spec:\n  values: |\n    # a comment\n    vtep:\n      mac: \"a b\"\n";
        let outer = Text::of_file("x.yaml", file);
        let start = file.find('#').expect("a block");
        let at = At { style: Style::Block, ..At::plain(start, file.len()) };
        let value = "# a comment\nvtep:\n  mac: \"a b\"\n";
        let inner = Text::nested(&outer, at, value);
        let quoted = value.find('"').expect("a value");
        let scalar = At { style: Style::DoubleQuoted, ..At::plain(quoted, quoted + 5) };
        let (location, excerpt) = inner.locate(scalar, 1, 1);
        assert_eq!(location.to_string(), "x.yaml:5:15");
        assert_eq!(excerpt, Some(Excerpt { line: "      mac: \"a b\"".to_owned(), column: 14, width: 1 }));
    }

    #[test]
    fn columns_count_characters() {
        let text = Text::of_file("x", "é: ü v\nw");
        let at = At::plain("é: ".len(), "é: ü v".len());
        let (location, excerpt) = text.locate(at, 1, 1);
        assert_eq!((location.line, location.column), (1, 6));
        assert_eq!(excerpt.map(|excerpt| (excerpt.column, excerpt.width)), Some((5, 1)));
        assert_eq!(text.location(1_000).line, 2, "behind the end is the end");
    }
}
