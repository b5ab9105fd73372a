//! YAML and JSON as a tree of text: numbers and booleans keep the spelling of the input.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{ManifestError, yaml};

pub(super) type Map = BTreeMap<String, Node>;

#[derive(Clone, Debug)]
pub(super) enum Node {
    Null,
    Text(String),
    /// A value that is not text, as the input spells it: `0x10`, not 16.
    Bare(String, Type),
    List(Vec<Node>),
    Map(Map),
}

/// A type of JSON, by its name in Go's error messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Number,
}

impl Type {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Number => "number",
        }
    }
}

impl Node {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Bare(text, _) => Some(text),
            Self::Null | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// Converts the tree to JSON. Numbers and booleans become text.
    pub(super) fn json(self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Text(text) | Self::Bare(text, _) => text.into(),
            Self::List(items) => items.into_iter().map(Self::json).collect(),
            Self::Map(map) => map.into_iter().map(|(key, value)| (key, value.json())).collect(),
        }
    }

    /// The bytes of its texts and of the nodes that hold them.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Null => 0,
                Self::Text(text) | Self::Bare(text, _) => text.len(),
                Self::List(items) => items.iter().map(Self::size).sum(),
                Self::Map(map) => map.iter().map(|(key, value)| key.len() + value.size()).sum(),
            }
    }

    /// As JSON with the types of the input; a number that JSON does not have is text.
    pub(super) fn typed(self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Text(text) => text.into(),
            Self::Bare(text, Type::Bool) => text.eq_ignore_ascii_case("true").into(),
            Self::Bare(text, Type::Number) => serde_json::from_str(&text).unwrap_or_else(|_| text.into()),
            Self::List(items) => items.into_iter().map(Self::typed).collect(),
            Self::Map(map) => map.into_iter().map(|(key, value)| (key, value.typed())).collect(),
        }
    }

    fn from_json(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bare(value.to_string(), Type::Bool),
            serde_json::Value::Number(value) => Self::Bare(value.to_string(), Type::Number),
            serde_json::Value::String(text) => Self::Text(text),
            serde_json::Value::Array(items) => Self::List(items.into_iter().map(Self::from_json).collect()),
            serde_json::Value::Object(map) => {
                Self::Map(map.into_iter().map(|(key, value)| (key, Self::from_json(value))).collect())
            }
        }
    }

    /// Levels of collections in it.
    pub(super) fn depth(&self) -> usize {
        match self {
            Self::Null | Self::Text(_) | Self::Bare(_, _) => 0,
            Self::List(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Map(map) => 1 + map.values().map(Self::depth).max().unwrap_or(0),
        }
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Text(text) | Self::Bare(text, _) => {
                format!("the text {:?}", text.chars().take(40).collect::<String>())
            }
            Self::List(items) => format!("a list of {}", items.len()),
            Self::Map(map) => format!("a map of {}", map.len()),
        }
    }
}

/// Parses every document of the text.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, ManifestError> {
    if text.trim_start().starts_with('{') {
        match json(text) {
            Ok(values) => return values.into_iter().map(of_json).collect(),
            // A map in YAML's flow style begins the same way. If the text is neither, it was probably meant as JSON.
            Err(error) => return yaml::read(text).map_err(|_| ManifestError::Json(error)),
        }
    }
    yaml::read(text).map_err(ManifestError::Yaml)
}

/// Splits JSON values, which can follow each other without a separator. YAML documents cannot.
fn json(text: &str) -> serde_json::Result<Vec<&str>> {
    let values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    values.map(|value| value.map(RawValue::get)).collect()
}

/// YAML includes JSON, and keeps the spelling of numbers. It refuses some characters in strings, which JSON permits.
fn of_json(text: &str) -> Result<Node, ManifestError> {
    match yaml::read(text).map(|mut documents| documents.pop()) {
        Ok(document) => Ok(document.unwrap_or(Node::Null)),
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
