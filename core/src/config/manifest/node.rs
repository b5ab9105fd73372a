//! YAML and JSON as a tree of text with places: numbers and booleans keep the spelling of the input.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::value::RawValue;

use super::{ManifestError, template, yaml};
use crate::config::text::{At, Style, Text};

pub(in crate::config) type Map = BTreeMap<String, Node>;

#[derive(Clone, Debug)]
pub(in crate::config) struct Node {
    pub(in crate::config) value: Value,
    /// Where it is written; `None` if the parser does not report it.
    pub(in crate::config) at: Option<At>,
    /// Where its key is written, if it is the value of a map.
    pub(in crate::config) key: Option<At>,
}

#[derive(Clone, Debug)]
pub(in crate::config) enum Value {
    Null,
    Text(String),
    /// A value that is not text, as the input spells it: `0x10`, not 16.
    Bare(String, Type),
    List(Vec<Node>),
    Map(Map),
}

/// A type of JSON, by its name in Go's error messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Type {
    Bool,
    Number,
}

/// A document with the text that its places refer to.
#[derive(Clone, Debug)]
pub(in crate::config) struct Document {
    pub(in crate::config) text: Arc<Text>,
    pub(in crate::config) node: Node,
}

impl Type {
    pub(in crate::config) fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Number => "number",
        }
    }
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        Self { value, at: None, key: None }
    }
}

impl Node {
    pub(in crate::config) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) | Value::Bare(text, _) => Some(text),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    pub(in crate::config) fn map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            Value::Null | Value::Text(_) | Value::Bare(_, _) | Value::List(_) => None,
        }
    }

    pub(in crate::config) fn list(&self) -> Option<&[Self]> {
        match &self.value {
            Value::List(items) => Some(items),
            Value::Null | Value::Text(_) | Value::Bare(_, _) | Value::Map(_) => None,
        }
    }

    /// The value of a key, if this is a map that has it.
    pub(in crate::config) fn get(&self, key: &str) -> Option<&Self> {
        self.map().and_then(|map| map.get(key))
    }

    /// Whether it is text without quotes: YAML 1.1 reads some of these as booleans.
    pub(in crate::config) fn is_plain(&self) -> bool {
        self.at.is_some_and(|at| at.style == Style::Plain)
    }

    /// Converts the tree to JSON. Numbers and booleans become text.
    pub(in crate::config) fn json(self) -> serde_json::Value {
        match self.value {
            Value::Null => serde_json::Value::Null,
            Value::Text(text) | Value::Bare(text, _) => text.into(),
            Value::List(items) => items.into_iter().map(Self::json).collect(),
            Value::Map(map) => map.into_iter().map(|(key, value)| (key, value.json())).collect(),
        }
    }

    /// The bytes of its texts and of the nodes that hold them.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>()
            + match &self.value {
                Value::Null => 0,
                Value::Text(text) | Value::Bare(text, _) => text.len(),
                Value::List(items) => items.iter().map(Self::size).sum(),
                Value::Map(map) => map.iter().map(|(key, value)| key.len() + value.size()).sum(),
            }
    }

    /// As JSON with the types of the input; a number that JSON does not have is text.
    pub(in crate::config) fn typed(self) -> serde_json::Value {
        match self.value {
            Value::Null => serde_json::Value::Null,
            Value::Text(text) => text.into(),
            Value::Bare(text, Type::Bool) => text.eq_ignore_ascii_case("true").into(),
            Value::Bare(text, Type::Number) => serde_json::from_str(&text).unwrap_or_else(|_| text.into()),
            Value::List(items) => items.into_iter().map(Self::typed).collect(),
            Value::Map(map) => map.into_iter().map(|(key, value)| (key, value.typed())).collect(),
        }
    }

    fn from_json(value: serde_json::Value) -> Self {
        Self::from(match value {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bare(value.to_string(), Type::Bool),
            serde_json::Value::Number(value) => Value::Bare(value.to_string(), Type::Number),
            serde_json::Value::String(text) => Value::Text(text),
            serde_json::Value::Array(items) => Value::List(items.into_iter().map(Self::from_json).collect()),
            serde_json::Value::Object(map) => {
                Value::Map(map.into_iter().map(|(key, value)| (key, Self::from_json(value))).collect())
            }
        })
    }

    /// Levels of collections in it.
    pub(super) fn depth(&self) -> usize {
        match &self.value {
            Value::Null | Value::Text(_) | Value::Bare(_, _) => 0,
            Value::List(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Value::Map(map) => 1 + map.values().map(Self::depth).max().unwrap_or(0),
        }
    }

    pub(in crate::config) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Text(text) | Value::Bare(text, _) => {
                format!("the text {:?}", text.chars().take(40).collect::<String>())
            }
            Value::List(items) => format!("a list of {}", items.len()),
            Value::Map(map) => format!("a map of {}", map.len()),
        }
    }
}

/// Parses every document of the text. A text that templates keep from being YAML is read without them.
pub(in crate::config) fn parse(text: &Arc<Text>) -> Result<Vec<Document>, ManifestError> {
    parse_part(text, 0, text.content())
}

/// The same for the part of a text that begins at the byte `base`.
pub(in crate::config) fn parse_part(
    text: &Arc<Text>,
    base: usize,
    content: &str,
) -> Result<Vec<Document>, ManifestError> {
    let with = |text: &Arc<Text>, nodes: Vec<Node>| {
        nodes.into_iter().map(|node| Document { text: Arc::clone(text), node }).collect()
    };
    let error = match parse_content(content, base) {
        Ok(nodes) => return Ok(with(text, nodes)),
        Err(error) => error,
    };
    let Some(masked) = template::mask(content) else { return Err(error) };
    let nodes = parse_content(&masked, base).map_err(|_| error)?;
    let (before, after) = (text.content().get(..base), text.content().get(base + content.len()..));
    let whole = before.unwrap_or_default().to_owned() + &masked + after.unwrap_or_default();
    Ok(with(&text.read_as(whole), nodes))
}

fn parse_content(content: &str, base: usize) -> Result<Vec<Node>, ManifestError> {
    let text = content.trim_start_matches('\u{feff}');
    let base = base + content.len() - text.len();
    if text.trim_start().starts_with('{') {
        match json(text) {
            Ok(values) => {
                return values
                    .into_iter()
                    .map(|value| of_json(value, base + (value.as_ptr().addr() - text.as_ptr().addr())))
                    .collect();
            }
            // A map in YAML's flow style begins the same way. If the text is neither, it was probably meant as JSON.
            Err(error) => return yaml::read(text, base).map_err(|_| ManifestError::Json(error)),
        }
    }
    yaml::read(text, base).map_err(ManifestError::Yaml)
}

/// Splits JSON values, which can follow each other without a separator. YAML documents cannot.
fn json(text: &str) -> serde_json::Result<Vec<&str>> {
    let values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    values.map(|value| value.map(RawValue::get)).collect()
}

/// YAML includes JSON, and keeps the spelling of numbers. It refuses some characters in strings, which JSON permits; then there are no
/// places.
fn of_json(text: &str, base: usize) -> Result<Node, ManifestError> {
    match yaml::read(text, base).map(|mut documents| documents.pop()) {
        Ok(document) => Ok(document.unwrap_or(Node::from(Value::Null))),
        Err(_) if text.contains(is_refused_by_yaml) => {
            serde_json::from_str(text).map(Node::from_json).map_err(ManifestError::Json)
        }
        Err(error) => Err(ManifestError::Yaml(error)),
    }
}

/// Characters that are not printable for YAML (YAML 1.2, section 5.1), and that JSON takes as they are.
fn is_refused_by_yaml(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}')
}
