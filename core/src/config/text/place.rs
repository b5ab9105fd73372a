//! Where the value of a key stands, and how to name the place.

use std::sync::Arc;

use super::{At, Excerpt, Text, count};
use crate::types::location::Location;

/// The place of a key's value. The value can be put together of several: the elements of a list in Helm values.
#[derive(Clone, Debug)]
pub struct Place {
    text: Arc<Text>,
    /// The path in the document, e.g. `spec.values.vtep.mac`.
    path: String,
    /// How a message names it, if not by its path.
    name: Option<String>,
    pieces: Vec<Piece>,
    /// Where to point if there is no value: the key, or the map that lacks it.
    anchor: Option<At>,
    /// The anchor is the key of this value.
    is_key: bool,
}

/// A part of the value that is written in one scalar.
#[derive(Clone, Debug)]
struct Piece {
    /// The bytes of the value.
    start: usize,
    end: usize,
    at: At,
    /// The characters of the scalar before this part, white space not counted.
    units: usize,
    /// What to append to the path, e.g. `[1]`.
    suffix: String,
}

/// The place of a part of a value, to show to a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    pub location: Location,
    pub path: String,
    pub excerpt: Option<Excerpt>,
}

impl Place {
    /// A place without a value: a map that lacks a key, or a key without a value.
    #[must_use]
    pub fn anchored(text: &Arc<Text>, path: String, anchor: Option<At>) -> Self {
        Self { text: Arc::clone(text), path, name: None, pieces: Vec::new(), anchor, is_key: false }
    }

    /// The place of a key without a value.
    #[must_use]
    pub fn of_key(text: &Arc<Text>, path: String, key: Option<At>) -> Self {
        Self { is_key: true, ..Self::anchored(text, path, key) }
    }

    /// The place of a value that one scalar holds.
    #[must_use]
    pub fn of_scalar(text: &Arc<Text>, path: String, at: At, value: &str) -> Self {
        Self::anchored(text, path, None).with_piece(0..value.len(), at, 0, "")
    }

    /// Adds the scalar that a part of the value is written in, behind `units` of its characters.
    #[must_use]
    pub fn with_piece(mut self, value: std::ops::Range<usize>, at: At, units: usize, suffix: &str) -> Self {
        let (start, end, suffix) = (value.start, value.end, suffix.to_owned());
        self.pieces.push(Piece { start, end, at, units, suffix });
        self
    }

    /// The same place, named by another word than its path.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    /// The place of a key in this map that the map does not have.
    #[must_use]
    pub fn child(&self, path: &str) -> Self {
        let path = if self.path.is_empty() { path.to_owned() } else { format!("{}.{path}", self.path) };
        Self::anchored(&self.text, path, self.anchor)
    }

    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How a message names it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.path)
    }

    #[must_use]
    pub fn file(&self) -> &Arc<str> {
        self.text.file()
    }

    /// The value as the input has it: a template as its author wrote it.
    #[must_use]
    pub fn written(&self) -> Option<&str> {
        let [piece] = self.pieces.as_slice() else { return None };
        Some(self.text.slice(piece.at).trim_matches(['"', '\'']))
    }

    /// The spot of the value's part at these bytes, or of the whole value.
    #[must_use]
    pub fn spot(&self, value: &str, part: Option<std::ops::Range<usize>>) -> Spot {
        let part = part.unwrap_or(0..value.len());
        let piece = self.pieces.iter().find(|piece| part.start < piece.end.max(piece.start + 1));
        let Some(piece) = piece.or(self.pieces.last()) else { return self.anchor_spot() };
        let end = part.end.min(piece.end).max(part.start);
        let before = value.get(piece.start..part.start).unwrap_or_default();
        let width = count(value.get(part.start..end).unwrap_or_default());
        let (location, excerpt) = match width {
            0 => self.text.mark(piece.at),
            _ => self.text.locate(piece.at, piece.units + count(before), width),
        };
        Spot { location, path: format!("{}{}", self.path, piece.suffix), excerpt }
    }

    fn anchor_spot(&self) -> Spot {
        let anchor = self.anchor.unwrap_or(At::plain(0, 0));
        let (location, excerpt) = self.text.mark(anchor);
        Spot { location, path: self.path.clone(), excerpt: excerpt.filter(|_| self.is_key) }
    }
}
