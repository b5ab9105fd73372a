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

/// As Go calls the types of JSON.
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

    /// For readers of JSON; numbers and booleans are text.
    pub(super) fn json(self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Text(text) | Self::Bare(text, _) => text.into(),
            Self::List(items) => items.into_iter().map(Self::json).collect(),
            Self::Map(map) => map.into_iter().map(|(key, value)| (key, value.json())).collect(),
        }
    }

    /// Of its texts, and of the nodes that hold them.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Null => 0,
                Self::Text(text) | Self::Bare(text, _) => text.len(),
                Self::List(items) => items.iter().map(Self::size).sum(),
                Self::Map(map) => map.iter().map(|(key, value)| key.len() + value.size()).sum(),
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

/// Every document of the text.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, ManifestError> {
    if text.trim_start().starts_with('{') {
        match json(text) {
            Ok(values) => return yaml_of(values),
            // A map in YAML's flow style begins the same way; text that is neither was meant as JSON.
            Err(error) => return yaml::read(text).map_err(|_| ManifestError::Json(error)),
        }
    }
    yaml_of(vec![text])
}

/// JSON values can follow each other without a separator, and YAML documents cannot.
fn json(text: &str) -> serde_json::Result<Vec<&str>> {
    let values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    values.map(|value| value.map(RawValue::get)).collect()
}

/// YAML includes JSON.
fn yaml_of(texts: Vec<&str>) -> Result<Vec<Node>, ManifestError> {
    let documents = texts.into_iter().map(yaml::read).collect::<Result<Vec<_>, _>>();
    Ok(documents.map_err(ManifestError::Yaml)?.into_iter().flatten().collect())
}
