//! Text that is not JSON, line by line: stanzas, commands, tables, and everything else in a terminal's log or a document.

use std::sync::Arc;

use super::{
    command,
    part::{Kind, Object, Part, Source, word},
    prompt::{self, Prompt},
    tables::Tables,
};
use crate::bigip::tmsh::{Dialect, Node, Position, Problem, Scanner, is_module, line};

/// The parts of a text. It has more than one if prompts of several hosts are in it.
pub(super) fn read<'a>(source: &Source, text: &'a str) -> Vec<Part<'a>> {
    let mut reader = Reader {
        part: Part::new(source),
        parts: Vec::new(),
        folder: "/Common".into(),
        tables: Tables::default(),
        foreign: None,
        unpaired: Vec::new(),
    };
    let mut scanner = Scanner::new(text, source.number);
    while !scanner.is_at_end() {
        reader.line(&mut scanner);
    }
    reader.end()
}

pub(super) struct Reader<'a> {
    pub(super) part: Part<'a>,
    parts: Vec<Part<'a>>,
    /// The folder that names without one belong to.
    pub(super) folder: Arc<str>,
    pub(super) tables: Tables,
    /// The number of lines that are none of BIG-IP's, and the first of them.
    foreign: Option<(usize, Position)>,
    /// Quotes that the rest of the text does not have.
    unpaired: Vec<char>,
}

/// The BIG-IPs whose prompts are told apart in one text. It keeps a hostile text from taking quadratic time.
pub(in crate::bigip) const MAX_HOSTS: usize = 32;

/// Stanzas whose blocks are TCL, or TCL and HTML.
const SCRIPTS: &[(&str, &str)] =
    &[("cli", "script"), ("gtm", "rule"), ("ltm", "rule"), ("pem", "irule"), ("sys", "application"), ("sys", "icall")];

impl<'a> Reader<'a> {
    fn line(&mut self, scanner: &mut Scanner<'a>) {
        let whole = scanner.rest_of_line();
        let text = whole.trim_start();
        scanner.advance(whole.len() - text.len());
        if text.is_empty() {
            return scanner.next_line();
        }
        if text.starts_with('#') {
            self.part.signs.is_file |= text.starts_with("#TMSH-VERSION");
            return scanner.next_line();
        }
        let mut words = text.split_ascii_whitespace();
        if let (Some(module), Some(component)) = (words.next(), words.next())
            && is_module(module)
            && text.contains('{')
        {
            self.tables.end();
            return self.stanza(scanner, module, component);
        }
        let prompt = prompt::of(text);
        scanner.advance(prompt.as_ref().map_or(0, |prompt| prompt.length));
        let is_prompt = prompt.is_some();
        if let Some(prompt) = prompt {
            self.tables.end();
            self.prompt(prompt);
        }
        if command::read(self, scanner) {
            return;
        }
        let at = scanner.position();
        if !is_prompt && !self.tables.row(&mut self.part, text, at) {
            let (count, _) = self.foreign.get_or_insert((0, at));
            *count += 1;
        }
        scanner.next_line();
    }

    fn prompt(&mut self, Prompt { host, folder, .. }: Prompt<'_>) {
        if let Some(folder) = folder {
            self.folder = folder.into();
        }
        let Some(host) = host else { return };
        let is_host = |part: &Part<'_>| part.prompt.as_deref() == Some(host);
        if self.part.prompt.is_none() {
            self.part.prompt = Some(host.to_owned());
        } else if let Some(known) = self.parts.iter_mut().find(|part| is_host(part)) {
            std::mem::swap(known, &mut self.part);
        } else if !is_host(&self.part) && self.parts.len() < MAX_HOSTS {
            let mut next = Part::new(&self.part.source);
            next.prompt = Some(host.to_owned());
            self.parts.push(std::mem::replace(&mut self.part, next));
        }
    }

    /// The text up to the next quote.
    pub(super) fn quoted(&mut self, scanner: &Scanner<'a>, quote: char) -> Option<Scanner<'a>> {
        if self.unpaired.contains(&quote) {
            return None;
        }
        let inner = scanner.until(quote);
        if inner.is_none() {
            self.unpaired.push(quote);
        }
        inner
    }

    pub(super) fn change_folder(&mut self, folder: &str) {
        self.folder = if folder.starts_with('/') {
            folder.into()
        } else {
            format!("{}/{folder}", self.folder.trim_end_matches('/')).into()
        };
    }

    fn stanza(&mut self, scanner: &mut Scanner<'a>, module: &str, component: &str) {
        self.part.signs.has_ltm |= module == "ltm";
        self.part.signs.has_base |= matches!((module, component), ("sys", "global-settings") | ("cm", "device"));
        let is_read = matches!(
            (module, component),
            ("net", "self" | "route" | "tunnels" | "fdb" | "arp")
                | ("auth", "partition")
                | ("sys", "global-settings")
                | ("cm", "device")
        );
        if is_read {
            match line(scanner, Dialect::Stanza) {
                Ok(nodes) => nodes.into_iter().for_each(|node| self.node(node)),
                Err(error) => self.broken(scanner, error.problem, error.at),
            }
        } else {
            let at = scanner.position();
            if let Err(problem) = scanner.skip(SCRIPTS.contains(&(module, component))) {
                self.broken(scanner, problem, at);
            }
        }
    }

    pub(super) fn broken(&mut self, scanner: &mut Scanner<'a>, problem: Problem, at: Position) {
        self.part.signs.is_broken = true;
        self.part.note(at, problem);
        if let Problem::TooDeep { .. } | Problem::StrayBrace { .. } = problem {
            scanner.next_line();
        }
    }

    /// A stanza, or what stands alone in its line.
    fn node(&mut self, node: Node<'a>) {
        let Node { words, block: Some(body) } = node else { return };
        let Some(at) = words.first().map(|word| word.at) else { return };
        let texts: Vec<&str> = words.iter().map(|word| &*word.text).collect();
        match texts.as_slice() {
            ["sys", "global-settings"] => self.part.set_hostname(word(&body, "hostname")),
            ["cm", "device", ..] if word(&body, "self-device") != Some("true") => {}
            ["cm", "device", ..] => self.part.set_hostname(word(&body, "hostname")),
            texts => {
                let Some((kind, count)) = Kind::of_words(texts.iter().copied()) else { return };
                let [name] = &texts[count..] else { return };
                self.part.signs.has_partitions |= kind == Kind::Partition && *name != "Common";
                if kind == Kind::Partition {
                    self.part.partitions.insert((*name).to_owned(), at);
                }
                self.part.covered.extend(kind.component());
                let files = Arc::clone(&self.part.source.files);
                let object =
                    Object { kind, name: (*name).to_owned(), folder: Arc::clone(&self.folder), files, at, body };
                self.part.replace(object);
            }
        }
    }

    fn end(mut self) -> Vec<Part<'a>> {
        if let Some((count, at)) = self.foreign {
            let lines = if count == 1 { "line is" } else { "lines are" };
            self.part.note(at, format_args!("{count} {lines} no output, file or command of BIG-IP, from this one on"));
        }
        self.parts.push(self.part);
        self.parts
    }
}
