//! Commands: those that create and change objects, and those whose output is in a terminal's log.
//!
//! ```text
//! create net tunnels tunnel cilium key 2 profile cilium_vxlan local-address 10.169.72.34
//! modify net fdb tunnel cilium records add { 0a:0a:0a:a9:48:ef { endpoint 10.169.72.239 } }
//! tmsh -c "create net route r network 10.0.0.0/16 interface cilium"
//! ```
//!
//! Commands show what somebody wants a BIG-IP to have, so they never show a kind of objects completely.

use super::{
    part::{Kind, Object},
    profiles,
    tables::Tables,
    text::Reader,
};
use crate::bigip::tmsh::{Dialect, Node, Scanner, Word, is_module, line};

/// Reads the rest of the line if it is a command. Returns false, and leaves the scanner where it is, if it is none.
pub(super) fn read<'a>(reader: &mut Reader<'a>, scanner: &mut Scanner<'a>) -> bool {
    let Some(Lead { length, quote }) = Lead::of(scanner.beginning_of_line()) else { return false };
    reader.tables.end();
    scanner.advance(length);
    match quote.and_then(|quote| reader.quoted(scanner, quote)) {
        Some(mut inner) => {
            while one(reader, &mut inner) {}
            scanner.resume_behind(inner);
            scanner.next_line();
        }
        None => while one(reader, scanner) {},
    }
    true
}

/// What stands before a command, in bytes, and the quote that it is in.
#[derive(Debug, PartialEq, Eq)]
struct Lead {
    length: usize,
    quote: Option<char>,
}

impl Lead {
    fn of(text: &str) -> Option<Self> {
        let (mut rest, mut is_tmsh) = (text, false);
        let rest = loop {
            let word = rest.split([' ', '\t']).next().unwrap_or_default();
            match word {
                "sudo" => {}
                "tmsh" | "/usr/bin/tmsh" => is_tmsh = true,
                "-a" | "-c" | "-q" if is_tmsh => {}
                _ => break rest,
            }
            rest = rest[word.len()..].trim_start();
        };
        let quote = rest.chars().next().filter(|first| is_tmsh && ['"', '\''].contains(first));
        let command = rest.trim_start_matches(['"', '\'']);
        (is_tmsh || is_command(command)).then_some(Self { length: text.len() - command.len(), quote })
    }
}

/// Whether a line of prose does not begin like this.
fn is_command(text: &str) -> bool {
    let mut words = text.split_ascii_whitespace();
    let (verb, object) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match verb {
        "show" if object == "running-config" => true,
        "create" | "modify" | "delete" | "list" | "show" => is_module(object.trim_start_matches('/')),
        "cd" => object.starts_with('/'),
        "save" | "load" => object.trim_start_matches('/') == "sys",
        _ => false,
    }
}

/// Reads one command, and returns whether another one follows in its line.
fn one<'a>(reader: &mut Reader<'a>, scanner: &mut Scanner<'a>) -> bool {
    match line(scanner, Dialect::Command) {
        Ok(nodes) => run(reader, nodes),
        Err(error) => {
            reader.broken(scanner, error.problem, error.at);
            return false;
        }
    }
    let rest = scanner.beginning_of_line();
    let next = rest.trim_start_matches([';', ' ', '\t']);
    if rest.starts_with('|') {
        scanner.next_line();
    } else if rest.starts_with(';') {
        scanner.advance(rest.len() - next.len());
        if let Some(Lead { length, .. }) = Lead::of(next) {
            scanner.advance(length);
            return true;
        }
        scanner.next_line();
    }
    false
}

fn run<'a>(reader: &mut Reader<'a>, nodes: Vec<Node<'a>>) {
    let mut nodes = nodes.into_iter();
    let Some(Node { words, block }) = nodes.next() else { return };
    let Some((verb, object)) = words.split_first() else { return };
    let texts: Vec<&str> = object.iter().map(|word| &*word.text).collect();
    match &*verb.text {
        "cd" => {
            if let [folder] = *texts {
                reader.change_folder(folder);
            }
        }
        "list" => select(reader, &texts),
        "show" if texts.first() == Some(&"running-config") => select(reader, &texts[1..]),
        "show" => {
            if let ["net" | "/net", "tunnels", "tunnel", tunnel, ..] = *texts {
                reader.tables = Tables::Tunnel(tunnel.to_owned());
            } else {
                select(reader, &texts);
            }
        }
        "create" | "modify" | "delete" => {
            let Some((kind, count)) = Kind::of_words(texts.iter().copied()) else { return };
            let Some((name, behind)) = object[count..].split_first() else { return };
            let mut body = Vec::new();
            match (behind, block) {
                ([], None) => {}
                // Behind the name, the block holds the properties.
                ([], Some(block)) => body = block,
                (words, block) => body.push(Node { words: words.to_vec(), block }),
            }
            body.extend(nodes);
            change(reader, &verb.text, kind, name, body);
        }
        _ => {}
    }
}

fn change<'a>(reader: &mut Reader<'a>, verb: &str, kind: Kind, name: &Word<'a>, body: Vec<Node<'a>>) {
    let Reader { part, folder, .. } = reader;
    let at = name.at;
    // A forwarding database exists with its tunnel.
    let exists = kind == Kind::Fdb || part.has(&kind, &name.text, folder) || profiles::is_built_in(&kind, &name.text);
    match verb {
        "delete" => part.remove(&kind, &name.text, folder),
        "modify" if !exists => {
            let kind = kind.words();
            part.note(
                at,
                format_args!("the command changes {kind} {}, which the text before it does not show", name.text),
            );
        }
        _ => {
            let (name, folder, files) = (name.text.clone().into_owned(), folder.clone(), part.source.files.clone());
            part.extend(Object { kind, name, folder, files, at, body });
        }
    }
}

/// A command names objects or properties, so its output does not show all objects of the kind.
fn select(reader: &mut Reader<'_>, texts: &[&str]) {
    const ALL: &[&str] = &["all", "all-properties", "non-default-properties", "one-line", "recursive"];
    if let Some((kind, count)) = Kind::of_words(texts.iter().copied())
        && texts[count..].iter().any(|word| !ALL.contains(word))
    {
        reader.part.partial.extend(kind.component());
    }
}
