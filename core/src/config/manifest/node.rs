//! YAML and JSON as a tree of text: numbers and booleans stay what was written, and the size is bounded.
//!
//! An alias of YAML repeats what it names, so that a short text can unfold to more than any memory holds: every node
//! and every byte is paid from one budget while the tree is built.

use std::{cell::Cell, collections::BTreeMap, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::ManifestError;

/// Several times what the longest text without aliases needs.
const BUDGET: usize = 64 << 20;

/// What a node costs beside its text.
const NODE: usize = 16;

/// Deeper than any manifest, and what YAML's scanner handles in no time.
const MAX_DEPTH: usize = 512;

pub(super) type Map = BTreeMap<String, Node>;

#[derive(Debug)]
pub(super) enum Node {
    Null,
    Text(String),
    /// What was written without quotes and is no text, as it was written.
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

    /// For what reads JSON; numbers and booleans are text.
    pub(super) fn json(self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Text(text) | Self::Bare(text, _) => text.into(),
            Self::List(items) => items.into_iter().map(Self::json).collect(),
            Self::Map(map) => map.into_iter().map(|(key, value)| (key, value.json())).collect(),
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
    let budget = Cell::new(BUDGET);
    if text.trim_start().starts_with('{') {
        match json(text, &budget) {
            Ok(documents) => return Ok(documents),
            // A map in YAML's flow style begins the same way; what is no YAML either was meant as JSON.
            Err(error) => return yaml(text, &budget).map_err(|_| ManifestError::Json(error)),
        }
    }
    yaml(text, &budget).map_err(ManifestError::Yaml)
}

fn json(text: &str, budget: &Cell<usize>) -> serde_json::Result<Vec<Node>> {
    let mut documents = Vec::new();
    let mut rest = text;
    while !rest.trim().is_empty() {
        let mut values = serde_json::Deserializer::from_str(rest);
        documents.push(Seed { budget }.deserialize(&mut values)?);
        let end = values.into_iter::<IgnoredAny>().byte_offset();
        rest = rest.get(end..).unwrap_or_default();
    }
    Ok(documents)
}

fn yaml(text: &str, budget: &Cell<usize>) -> serde_yaml_ng::Result<Vec<Node>> {
    if brackets(text) > MAX_DEPTH {
        return Err(serde_yaml_ng::Error::custom("nested too deeply"));
    }
    serde_yaml_ng::Deserializer::from_str(text).map(|document| Seed { budget }.deserialize(document)).collect()
}

/// How deep flow collections nest, not minding quotes: YAML's scanner takes time by the square of it.
fn brackets(text: &str) -> usize {
    let depths = text.bytes().scan(0_usize, |depth, byte| {
        *depth = match byte {
            b'[' | b'{' => *depth + 1,
            b']' | b'}' => depth.saturating_sub(1),
            _ => *depth,
        };
        Some(*depth)
    });
    depths.max().unwrap_or(0)
}

struct Seed<'b> {
    budget: &'b Cell<usize>,
}

impl Seed<'_> {
    fn pay<E: Error>(&self, bytes: usize) -> Result<(), E> {
        let rest = self.budget.get().checked_sub(NODE.saturating_add(bytes));
        self.budget.set(rest.unwrap_or(0));
        rest.map(|_| ()).ok_or_else(|| E::custom("unfolds to too much data"))
    }

    fn bare<E: Error>(&self, text: String, of: Type) -> Result<Node, E> {
        self.pay(text.len()).map(|()| Node::Bare(text, of))
    }

    fn again(&self) -> Self {
        Self { budget: self.budget }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("plain data")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        self.pay(0).map(|()| Node::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        self.visit_unit()
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        self.bare(value.to_string(), Type::Bool)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        self.bare(value.to_string(), Type::Number)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        self.bare(value.to_string(), Type::Number)
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Node, E> {
        self.bare(value.to_string(), Type::Number)
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Node, E> {
        self.bare(value.to_string(), Type::Number)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        self.bare(value.to_string(), Type::Number)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        self.pay(value.len()).map(|()| Node::Text(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Node, E> {
        self.pay(value.len()).map(|()| Node::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        self.pay(0)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.again())? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        self.pay(0)?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(self.again())? {
            let (Node::Text(key) | Node::Bare(key, _)) = key else {
                return Err(A::Error::custom(format!("a key is {}", key.describe())));
            };
            let value = entries.next_value_seed(self.again())?;
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key `{key}` is there twice")));
            }
            map.insert(key, value);
        }
        if let Some(merged) = map.remove(MERGE) {
            merge(&mut map, merged).map_err(A::Error::custom)?;
        }
        Ok(Node::Map(map))
    }
}

/// YAML's merge key: what it names is as if written here. What is written here wins, and of several the first.
const MERGE: &str = "<<";

fn merge(map: &mut Map, merged: Node) -> Result<(), String> {
    match merged {
        Node::Map(more) => {
            for (key, value) in more {
                map.entry(key).or_insert(value);
            }
            Ok(())
        }
        Node::List(maps) if maps.iter().all(|item| matches!(item, Node::Map(_))) => {
            maps.into_iter().try_for_each(|item| merge(map, item))
        }
        other @ (Node::Null | Node::Text(_) | Node::Bare(_, _) | Node::List(_)) => {
            Err(format!("`{MERGE}` merges maps, and is {}", other.describe()))
        }
    }
}
