//! Reads YAML into a tree.
//!
//! An alias copies its anchor, so that a short text can expand to more than the memory holds. A budget limits the copies.

use std::{borrow::Cow, collections::HashMap};

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag, options};

use super::node::{Map, Node, Type, Value};
use crate::config::text::{At, Style};

/// The maximum size of all copies; several times the longest text.
const BUDGET: usize = 64 << 20;

/// Levels of collections, those behind aliases included: the tree is walked and dropped by recursion.
const MAX_DEPTH: usize = 255;

/// The prefix of YAML's own tags, such as `!!str`.
const YAML_TAG: &str = "tag:yaml.org,2002:";

const MERGE: &str = "<<";

/// Reads every document of the text, which begins at the byte `base` of its input. The parser refuses collections that nest deeper than 255
/// levels.
pub(super) fn read(text: &str, base: usize) -> Result<Vec<Node>, ScanError> {
    // The parser buffers comments only to emit them, and refuses a long block of them.
    let options = options! { block_scalar_eof_without_line_feed: true, emit_comments: false };
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event?;
        let at = span.byte_range().map(|range| At::plain(base + range.start, base + range.end));
        builder.add_event(event, at).map_err(|problem| problem_at(span, problem))?;
    }
    Ok(builder.documents)
}

fn problem_at(span: Span, problem: String) -> ScanError {
    ScanError::new(span.start, problem)
}

#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    /// The collections around the next node, the innermost last.
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    copied: usize,
}

struct Open {
    collection: Node,
    /// The key in a map whose value comes next, and its place.
    key: Option<(String, Option<At>)>,
    anchor: usize,
}

impl Builder {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum is the library's, and not exhaustive")]
    fn add_event(&mut self, event: Event<'_>, at: Option<At>) -> Result<(), String> {
        let node = |value| Node { value, at, key: None };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let at = at.map(|at| At { style: written(style), ..at });
                self.add(Node { at, ..node(scalar(text, style, tag.as_deref())?) }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => self.begin(node(Value::List(Vec::new())), anchor, tag.as_deref()),
            Event::MappingStart(_, anchor, tag) => self.begin(node(Value::Map(Map::new())), anchor, tag.as_deref()),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).ok_or("an alias is inside its own anchor")?;
                if self.open.len() + node.depth() > MAX_DEPTH {
                    return Err("nests too deeply".to_owned());
                }
                let node = copy(node, &mut self.copied)?;
                self.add(node, 0)
            }
            // The other events carry no data.
            _ => Ok(()),
        }
    }

    fn begin(&mut self, collection: Node, anchor: usize, tag: Option<&Tag>) -> Result<(), String> {
        is_by_schema(tag, true)?;
        self.open.push(Open { collection, key: None, anchor });
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        let Some(Open { mut collection, anchor, .. }) = self.open.pop() else { return Ok(()) };
        if let Value::Map(map) = &mut collection.value
            && let Some(merged) = map.remove(MERGE)
        {
            merge(map, merged)?;
        }
        self.add(collection, anchor)
    }

    fn add(&mut self, mut node: Node, anchor: usize) -> Result<(), String> {
        if anchor != 0 {
            self.anchors.insert(anchor, copy(&node, &mut self.copied)?);
        }
        let Some(Open { collection, key, .. }) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        match (&mut collection.value, key.take()) {
            (Value::Map(map), Some((key, _))) if map.contains_key(&key) => {
                return Err(format!("the key `{key}` is there twice"));
            }
            (Value::Map(map), Some((key, at))) => {
                node.key = at;
                map.insert(key, node);
            }
            (Value::Map(_), None) => {
                let text = node.text().ok_or_else(|| format!("a key is {}", node.describe()))?;
                *key = Some((text.to_owned(), node.at));
            }
            (Value::List(items), _) => items.push(node),
            (Value::Null | Value::Text(_) | Value::Bare(_, _), _) => {}
        }
        Ok(())
    }
}

/// Copies an anchor's node. `copied` is the size of all copies so far.
fn copy(node: &Node, copied: &mut usize) -> Result<Node, String> {
    *copied = copied.saturating_add(node.size());
    if *copied > BUDGET { Err("unfolds to too much data".to_owned()) } else { Ok(node.clone()) }
}

/// Applies YAML's merge key: inserts the keys of the merged maps. The map's own keys take precedence, then those of the first merged map.
fn merge(map: &mut Map, merged: Node) -> Result<(), String> {
    match merged.value {
        Value::Map(more) => {
            for (key, value) in more {
                map.entry(key).or_insert(value);
            }
            Ok(())
        }
        Value::List(maps) if maps.iter().all(|item| item.map().is_some()) => {
            maps.into_iter().try_for_each(|item| merge(map, item))
        }
        other @ (Value::Null | Value::Text(_) | Value::Bare(_, _) | Value::List(_)) => {
            Err(format!("`{MERGE}` merges maps, and is {}", Node::from(other).describe()))
        }
    }
}

fn written(style: ScalarStyle) -> Style {
    match style {
        ScalarStyle::Plain => Style::Plain,
        ScalarStyle::SingleQuoted => Style::SingleQuoted,
        ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
        ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
    }
}

/// Types a scalar by YAML's core schema, with binary numbers. Digits after a leading zero are text.
fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let by_schema = is_by_schema(tag, style == ScalarStyle::Plain)?;
    let text = text.into_owned();
    Ok(match text.as_str() {
        _ if !by_schema => Value::Text(text),
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => Value::Bare(text, Type::Bool),
        number if is_number(number) => Value::Bare(text, Type::Number),
        _ => Value::Text(text),
    })
}

/// Whether the schema decides the type, and not the tag.
fn is_by_schema(tag: Option<&Tag>, untagged: bool) -> Result<bool, String> {
    match tag.map(|tag| (tag.handle(), tag.suffix())) {
        None => Ok(untagged),
        Some(("", "!") | (YAML_TAG, "str")) => Ok(false),
        Some((YAML_TAG, _)) => Ok(true),
        Some((handle, suffix)) => Err(format!("the tag {handle}{suffix} is unknown")),
    }
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let of_radix = |prefix, radix| {
        let digits = digits.strip_prefix(prefix).filter(|digits| !digits.is_empty());
        digits.is_some_and(|digits| digits.chars().all(|digit| digit.is_digit(radix)))
    };
    match digits.as_bytes() {
        b".inf" | b".Inf" | b".INF" | b".nan" | b".NaN" | b".NAN" => true,
        [b'0', _, ..] if digits.bytes().all(|byte| byte.is_ascii_digit()) => false,
        [b'0'..=b'9' | b'.', ..] if digits.parse().is_ok_and(f64::is_finite) => true,
        _ => of_radix("0x", 16) || of_radix("0o", 8) || of_radix("0b", 2),
    }
}
