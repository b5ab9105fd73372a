//! Answers of iControl REST, as people save them: one answer, several in a list or one after the other, or an object with an answer for
//! each address.
//!
//! A collection without `items` is empty. The records of forwarding databases are a collection of their own, or in the answer with
//! `expandSubcollections=true`. Answers of other kinds are ignored.
//!
//! Source: F5, "iControl REST User Guide", and answers of BIG-IP 14.1 to 16.1.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Deserializer, value::RawValue};

use super::{
    device::Component,
    read::{
        part::{Kind, Object, Part, Source, TunnelMac},
        text::MAX_HOSTS,
    },
    tmsh::{Counter, Node, Position, Word},
};
use crate::types::mac::Mac;

/// The answers in lists and objects within each other.
const MAX_DEPTH: usize = 4;

/// Whether a text is JSON. A prompt of bash also begins with a bracket.
pub(super) fn is_json(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let Some(inside) = text.strip_prefix(['{', '[']) else { return false };
    matches!(inside.trim_start().chars().next(), None | Some('{' | '[' | '"' | '}' | ']'))
}

/// The parts of a text. It has more than one if it has answers from several hosts.
pub(super) fn read<'a>(source: &Source, text: &'a str) -> Vec<Part<'a>> {
    let text = text.trim_start_matches('\u{feff}');
    let counter = Counter::new(text, source.number);
    let mut reader = Reader { text, counter, parts: vec![Part::new(source)] };
    for value in Deserializer::from_str(text).into_iter::<&RawValue>() {
        match value {
            Ok(value) => reader.value(value, None, 0),
            Err(error) => {
                let at = Position { text: source.number, ..place(text, &error) };
                let part = reader.part(None);
                part.signs.is_broken = true;
                part.note(at, format_args!("expected JSON: {}", without_place(&error)));
                break;
            }
        }
    }
    reader.parts
}

/// The place of an error, whose column is in bytes.
fn place(text: &str, error: &serde_json::Error) -> Position {
    let line = text.split('\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let before = line.as_bytes().iter().take(error.column().saturating_sub(1));
    let column = before.filter(|byte| !(0x80..=0xbf).contains(*byte)).count() + 1;
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Position { text: 0, line: number(error.line()), column: number(column) }
}

/// The message of an error, without its line and column.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split_once(" at line ").map_or(text.clone(), |(message, _)| message.to_owned())
}

struct Reader<'a> {
    text: &'a str,
    counter: Counter<'a>,
    /// The first one has the answers whose host is not known, then one follows for each host.
    parts: Vec<Part<'a>>,
}

/// An object of JSON, in the order of the text.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    fn of(value: &'a RawValue) -> Option<Self> {
        let fields: BTreeMap<String, &'a RawValue> = serde_json::from_str(value.get()).ok()?;
        let mut fields: Vec<_> = fields.into_iter().collect();
        fields.sort_by_key(|(_, value)| value.get().as_ptr());
        Some(Self(fields))
    }

    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| *value)
    }

    fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    fn list(&self, name: &str) -> Vec<&'a RawValue> {
        self.get(name).and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default()
    }
}

/// `tm:net:fdb:tunnel:records:recordscollectionstate` in its pieces.
struct AnswerKind {
    words: Vec<String>,
    is_collection: bool,
}

impl AnswerKind {
    fn of(text: &str) -> Option<Self> {
        let (words, last) = text.strip_prefix("tm:")?.rsplit_once(':')?;
        let is_collection = last.ends_with("collectionstate");
        let is_state = last.ends_with("state") || last.ends_with("stats");
        is_state.then(|| Self { words: words.split(':').map(ToOwned::to_owned).collect(), is_collection })
    }

    fn words(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).collect()
    }
}

impl<'a> Reader<'a> {
    fn at(&mut self, value: &RawValue) -> Position {
        self.counter.position(value.get().as_ptr() as usize - self.text.as_ptr() as usize)
    }

    fn part(&mut self, host: Option<&str>) -> &mut Part<'a> {
        let known = self.parts.iter().position(|part| part.prompt.as_deref() == host);
        let place = known.unwrap_or(self.parts.len());
        match host {
            None => &mut self.parts[0],
            Some(_) if known.is_some() || place == MAX_HOSTS => &mut self.parts[place.min(MAX_HOSTS - 1)],
            Some(host) => {
                let mut part = Part::new(&self.parts[0].source);
                part.prompt = Some(host.to_owned());
                self.parts.push(part);
                &mut self.parts[place]
            }
        }
    }

    /// An answer, or several; `address` is the one that it belongs to, where the input has it.
    fn value(&mut self, value: &'a RawValue, address: Option<&str>, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        if let Ok(list) = serde_json::from_str::<Vec<&'a RawValue>>(value.get()) {
            return list.into_iter().for_each(|value| self.value(value, address, depth + 1));
        }
        let Some(fields) = Fields::of(value) else { return };
        match fields.text("kind").as_deref().map(AnswerKind::of) {
            Some(Some(kind)) => self.answer(value, &kind, &fields, address),
            Some(None) => {}
            None if fields.get("code").is_some() => {
                let at = self.at(value);
                let message = fields.text("message").unwrap_or_default();
                let code = fields.get("code").map_or("", |code| code.get());
                self.part(address.and_then(host))
                    .note(at, format_args!("the BIG-IP refused the request: {code} {message}"));
            }
            None => {
                let hosts: BTreeSet<_> = fields.0.iter().filter_map(|(key, _)| host(key)).collect();
                for (key, value) in &fields.0 {
                    // The only host needs no name, which the configuration knows better.
                    let address = if hosts.len() > 1 { key.as_str() } else { path(key) };
                    self.value(value, Some(address), depth + 1);
                }
            }
        }
    }

    fn answer(&mut self, value: &'a RawValue, kind: &AnswerKind, fields: &Fields<'a>, address: Option<&str>) {
        let link = fields.text("selfLink").or_else(|| address.map(ToOwned::to_owned)).unwrap_or_default();
        let host = address.and_then(host);
        match *kind.words() {
            ["net", "fdb", "tunnel", "records"] => self.records(value, fields, &link, kind.is_collection, host),
            ["net", "tunnels", "tunnel"] if fields.get("entries").is_some() => self.statistics(fields, host),
            ["sys", "global-settings"] => self.part(host).set_hostname(fields.text("hostname").as_deref()),
            ["cm", "device"] if !kind.is_collection => {
                if fields.text("selfDevice").as_deref() == Some("true") {
                    self.part(host).set_hostname(fields.text("hostname").as_deref());
                }
            }
            ref words => {
                let of_words = Kind::of_words(words.iter().copied()).filter(|(_, count)| *count == words.len());
                let is_device = *words == ["cm", "device"];
                if kind.is_collection && (of_words.is_some() || is_device) {
                    self.collection(fields, of_words.map(|(kind, _)| kind), &link, host, address);
                } else if let Some((kind, _)) = of_words {
                    self.object(value, kind, fields, link.contains("expandSubcollections=true"), host);
                }
            }
        }
    }

    fn collection(
        &mut self,
        fields: &Fields<'a>,
        kind: Option<Kind>,
        link: &str,
        host: Option<&str>,
        address: Option<&str>,
    ) {
        let is_expanded = link.contains("expandSubcollections=true");
        // Without their records, the names of the forwarding databases show nothing.
        let component = kind.as_ref().filter(|kind| is_expanded || **kind != Kind::Fdb).and_then(Kind::component);
        if let Some(component) = component {
            let selects =
                |option: &&str| link.contains(&format!("${option}=")) || link.contains(&format!("%24{option}="));
            let is_whole = !["filter", "top", "skip"].iter().any(selects) && fields.get("nextLink").is_none();
            let part = self.part(host);
            if is_whole { &mut part.covered } else { &mut part.partial }.insert(component);
        }
        for item in fields.list("items") {
            let Some(fields) = Fields::of(item) else { continue };
            match (&kind, fields.text("kind").as_deref().and_then(AnswerKind::of)) {
                (Some(kind), _) => self.object(item, kind.clone(), &fields, is_expanded, host),
                (None, Some(kind)) if !kind.is_collection => self.answer(item, &kind, &fields, address),
                (None, _) => {}
            }
        }
    }

    fn object(&mut self, value: &'a RawValue, kind: Kind, fields: &Fields<'a>, is_expanded: bool, host: Option<&str>) {
        let at = self.at(value);
        let body: Vec<Node<'a>> = if kind == Kind::Fdb {
            let records = fields.get("recordsReference").and_then(Fields::of);
            let list = records.as_ref().map(|records| records.list("items")).unwrap_or_default();
            if list.is_empty() && !is_expanded {
                return;
            }
            let block = list.into_iter().filter_map(|record| self.record(record)).collect();
            vec![Node { words: vec![word("records", at)], block: Some(block) }]
        } else {
            fields.0.iter().filter_map(|(name, value)| self.property(name, value)).collect()
        };
        let folder = match (fields.text("partition"), fields.text("subPath")) {
            (Some(partition), Some(path)) => format!("/{partition}/{path}"),
            (Some(partition), None) => format!("/{partition}"),
            (None, _) => "/Common".to_owned(),
        };
        let full = fields.text("fullPath").filter(|name| name.starts_with('/'));
        let name = if kind == Kind::Partition { fields.text("name") } else { full.or_else(|| fields.text("name")) };
        let Some(name) = name else { return };
        let part = self.part(host);
        let files = Arc::clone(&part.source.files);
        part.replace(Object { kind, name, folder: folder.into(), files, at, body });
    }

    /// A property as tmsh writes it: `allowService` is `allow-service`.
    fn property(&mut self, name: &str, value: &'a RawValue) -> Option<Node<'a>> {
        let at = self.at(value);
        let key = word(property_name(name), at);
        let text = value.get();
        if text == "true" {
            // Properties without a value, such as `blackhole`.
            return Some(Node { words: vec![key], block: None });
        }
        if let Ok(list) = serde_json::from_str::<Vec<Cow<'_, str>>>(text) {
            let members =
                list.into_iter().map(|member| Node { words: vec![word(member.into_owned(), at)], block: None });
            return Some(Node { words: vec![key], block: Some(members.collect()) });
        }
        let value = match text.as_bytes().first()? {
            b'"' => serde_json::from_str::<String>(text).ok()?,
            b'0'..=b'9' => text.to_owned(),
            _ => return None,
        };
        Some(Node { words: vec![key, word(value, at)], block: None })
    }

    fn records(&mut self, value: &'a RawValue, fields: &Fields<'a>, link: &str, is_all: bool, host: Option<&str>) {
        let Some(tunnel) = tunnel_of(link) else { return };
        let at = self.at(value);
        let items = if is_all { fields.list("items") } else { vec![value] };
        let block: Vec<_> = items.into_iter().filter_map(|record| self.record(record)).collect();
        let words = if is_all { vec![word("records", at)] } else { vec![word("records", at), word("add", at)] };
        let body = vec![Node { words, block: Some(block) }];
        let is_whole = is_all && fields.get("nextLink").is_none();
        let part = self.part(host);
        if is_whole {
            // Of this tunnel. Another one without an answer is not there at all, and nothing is said about it.
            part.covered.insert(Component::Fdb);
        }
        let files = Arc::clone(&part.source.files);
        part.extend(Object { kind: Kind::Fdb, name: tunnel, folder: "/Common".into(), files, at, body });
    }

    fn record(&mut self, value: &'a RawValue) -> Option<Node<'a>> {
        let fields = Fields::of(value)?;
        let at = self.at(value);
        let body = fields.0.iter().filter_map(|(name, value)| self.property(name, value)).collect();
        Some(Node { words: vec![word(fields.text("name")?, at)], block: Some(body) })
    }

    /// `/mgmt/tm/net/tunnels/tunnel/stats`: entries by the address of the tunnel, or of one tunnel. Not each version shows the MAC.
    fn statistics(&mut self, fields: &Fields<'a>, host: Option<&str>) {
        let Some(entries) = fields.get("entries").and_then(Fields::of) else { return };
        let nested = |value: &'a RawValue| Fields::of(Fields::of(value)?.get("nestedStats")?);
        let all: Vec<_> = entries.0.iter().filter_map(|(_, value)| nested(value)).collect();
        for entries in all.iter().filter_map(|nested| Fields::of(nested.get("entries")?)).chain([entries]) {
            let description = |name: &str| Fields::of(entries.get(name)?)?.text("description");
            let mac = ["macAddr", "macAddress"].iter().find_map(|name| {
                let value = entries.get(name)?;
                Some((description(name)?.parse::<Mac>().ok()?, value))
            });
            if let (Some(tunnel), Some((mac, value))) = (description("tmName"), mac) {
                let at = self.at(value);
                self.part(host).tunnel_macs.push(TunnelMac { tunnel, mac, at });
            }
        }
    }
}

fn word<'a>(text: impl Into<Cow<'a, str>>, at: Position) -> Word<'a> {
    Word { text: text.into(), at }
}

/// `tmInterface` is `interface`, because `interface` is taken in a language that F5's tools are written in.
fn property_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 2);
    for c in name.strip_prefix("tm").filter(|rest| rest.starts_with('I')).unwrap_or(name).chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The tunnel of `https://localhost/mgmt/tm/net/fdb/tunnel/~Common~cilium/records/…`.
fn tunnel_of(link: &str) -> Option<String> {
    let (_, rest) = link.split_once("/fdb/tunnel/")?;
    let name = rest.split(['/', '?']).next().filter(|name| !name.is_empty())?;
    Some(name.replace('~', "/"))
}

/// The host of an address with a scheme; `localhost` is every BIG-IP.
fn host(address: &str) -> Option<&str> {
    let (_, rest) = address.split_once("://")?;
    let host = rest.split('/').next()?;
    let host = host.split(':').next().filter(|host| !host.is_empty())?;
    (host != "localhost").then_some(host)
}

fn path(address: &str) -> &str {
    address.split_once("://").and_then(|(_, rest)| rest.find('/').map(|start| &rest[start..])).unwrap_or(address)
}
