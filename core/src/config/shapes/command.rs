//! `helm upgrade --set …` and `cilium install --config …`, as people keep them in notes, scripts and jobs.

mod words;

use std::sync::Arc;

use self::words::{Word, commands};
use super::{Configuration, Shape, chart, release::is_cilium, values::Layer};
use crate::config::{
    finding::{Finding, Rule, Severity},
    manifest::{
        node::{Node, Type, Value},
        part::Part,
    },
    text::{At, Place, Text},
};

/// Whether a text may have such a command.
pub(in crate::config) fn is(text: &str) -> bool {
    let names = ["--set", "--config", "--helm-set"];
    names.iter().any(|name| text.contains(name)) && (text.contains("helm ") || text.contains("cilium "))
}

/// The configurations of the commands in the part of a text that begins at the byte `base`.
pub(in crate::config) fn read(text: &Arc<Text>, base: usize, part: &str) -> Vec<Configuration> {
    commands(part).iter().filter_map(|words| Command::of(text, base, words)).map(Command::configuration).collect()
}

/// The configurations of the commands in the text of a scalar.
pub(super) fn of_part(part: &Part<'_>) -> Vec<Configuration> {
    let (Value::Text(content), Some(at)) = (&part.node.value, part.node.at) else { return Vec::new() };
    let text = Text::nested(part.text, at, content);
    read(&text, 0, content)
}

struct Command<'w> {
    text: &'w Arc<Text>,
    base: usize,
    shape: Shape,
    /// `--set`, and `--config` as `extraConfig`; the last one counts.
    layer: Layer,
    release: Option<&'w str>,
    notes: Vec<String>,
    problems: Vec<(Finding, Place)>,
}

impl<'w> Command<'w> {
    fn of(text: &'w Arc<Text>, base: usize, words: &'w [Word]) -> Option<Self> {
        let program = |word: &Word| word.value.rsplit('/').next().map(str::to_owned);
        let at = words.iter().position(|word| matches!(program(word).as_deref(), Some("helm" | "cilium")))?;
        let verb = words.get(at + 1)?.value.as_str();
        let shape = match (program(words.get(at)?)?.as_str(), verb) {
            ("helm", "install" | "upgrade" | "template") => Shape::HelmCommand,
            ("cilium", "install" | "upgrade") => Shape::CiliumCommand,
            (_, _) => return None,
        };
        let anchor = words.get(at).map(|word| word.at(base, 0, word.value.len()));
        let layer = Layer::of_assignments(text, anchor);
        let mut command = Self { text, base, shape, layer, release: None, notes: Vec::new(), problems: Vec::new() };
        let mut rest = words.get(at + 2..)?.iter();
        let mut names = Vec::new();
        while let Some(word) = rest.next() {
            let (flag, inline) = match word.value.split_once('=') {
                Some((flag, _)) if flag.starts_with('-') => (flag, Some(flag.len() + 1)),
                Some(_) | None => (word.value.as_str(), None),
            };
            if !flag.starts_with('-') {
                names.push(word.value.as_str());
                continue;
            }
            command.flag(flag, inline.map(|start| (word, start)), &mut rest);
        }
        command.release = names.first().copied();
        let is_of_cilium = shape == Shape::CiliumCommand || names.iter().any(|name| is_cilium(name));
        (is_of_cilium || command.layer.is_of_cilium()).then_some(command)
    }

    fn flag<'r>(&mut self, flag: &str, inline: Option<(&'r Word, usize)>, rest: &mut impl Iterator<Item = &'r Word>) {
        match flag {
            "--set" | "--helm-set" => self.assign(inline.or_else(|| Some((rest.next()?, 0))), "", typed),
            "--set-string" | "--set-literal" | "--helm-set-string" => {
                self.assign(inline.or_else(|| Some((rest.next()?, 0))), "", |text| Value::Text(text.to_owned()));
            }
            "--config" if self.shape == Shape::CiliumCommand => {
                let text = |text: &str| Value::Text(text.to_owned());
                self.assign(inline.or_else(|| Some((rest.next()?, 0))), "extraConfig.", text);
            }
            "-f" | "--values" | "--helm-values" => {
                let file = inline.or_else(|| Some((rest.next()?, 0)));
                let file = file.and_then(|(word, start)| word.value.get(start..)).unwrap_or("a file");
                self.notes.push(format!("the command also takes values from {file}, which may add to these"));
            }
            "--reuse-values" | "--reset-then-reuse-values" => {
                self.notes.push(format!("with {flag} the values of the release may add to these"));
            }
            _ => {}
        }
    }

    /// Adds the assignments `a.b=c,d=e` of a word, from the byte `start` of it on.
    fn assign(&mut self, word: Option<(&Word, usize)>, prefix: &str, value: impl Fn(&str) -> Value) {
        let Some((word, start)) = word else { return };
        let mut last: Option<String> = None;
        for (start, end) in assignments(&word.value, start) {
            let Some(text) = word.value.get(start..end) else { continue };
            let Some((path, assigned)) = text.split_once('=') else {
                self.refuse(word, (start, end), last.as_deref());
                continue;
            };
            let path =
                if prefix.is_empty() { path.to_owned() } else { format!("{prefix}{}", path.replace('.', "\\.")) };
            let begin = end - assigned.len();
            let node = Node {
                value: match assigned.strip_prefix('{').and_then(|list| list.strip_suffix('}')) {
                    Some(list) if prefix.is_empty() => self.list(word, begin + 1, list),
                    Some(_) | None => value(&assigned.replace("\\,", ",")),
                },
                at: Some(word.at(self.base, begin, end)),
                key: Some(word.at(self.base, start, begin.saturating_sub(1))),
            };
            self.layer.set(&path, node, None);
            last = Some(path);
        }
    }

    fn list(&self, word: &Word, start: usize, list: &str) -> Value {
        let mut begin = start;
        let items = list.split(',').map(|item| {
            let at = Some(word.at(self.base, begin, begin + item.len()));
            begin += item.len() + 1;
            Node { value: typed(item), at, key: None }
        });
        Value::List(items.collect())
    }

    /// Helm refuses the rest of a list that commas separate.
    fn refuse(&mut self, word: &Word, (start, end): (usize, usize), last: Option<&str>) {
        let text = word.value.get(start..end).unwrap_or_default().trim();
        if text.is_empty() {
            return;
        }
        let path = last.unwrap_or(text);
        let key = chart::key(path).unwrap_or(path);
        let problem = format!("Helm reads the comma as the end of the value, and refuses {text:?}, which has no value");
        let remedy = "separate the values with blanks, in quotes";
        let finding = Finding::new(Rule::VtepListSeparator, key, None, Some(text), problem, remedy);
        let place = Place::of_scalar(self.text, path.to_owned(), word.at(self.base, start, end), text);
        self.problems.push((Finding { severity: Severity::Error, ..finding }, place));
    }

    fn configuration(self) -> Configuration {
        let Self { shape, layer, release, notes, problems, .. } = self;
        let mut configuration = chart::configuration(shape, vec![layer]);
        configuration.name = release.map(str::to_owned);
        configuration.notes.extend(notes);
        configuration.problems.extend(problems);
        configuration
    }
}

/// The type that `--set` gives a value.
pub(super) fn typed(text: &str) -> Value {
    let is_number = text == "0" || (text.parse::<i64>().is_ok() && !text.starts_with(['0', '+']));
    match text {
        "true" | "false" => Value::Bare(text.to_owned(), Type::Bool),
        "null" => Value::Null,
        _ if is_number => Value::Bare(text.to_owned(), Type::Number),
        _ => Value::Text(text.to_owned()),
    }
}

/// The byte ranges between the commas of a word that are neither escaped nor in a list.
fn assignments(word: &str, start: usize) -> Vec<(usize, usize)> {
    let (mut ranges, mut begin, mut depth, mut is_escaped) = (Vec::new(), start, 0_usize, false);
    for (at, c) in word.char_indices().filter(|(at, _)| *at >= start) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                ranges.push((begin, at));
                begin = at + 1;
            }
            _ => {}
        }
    }
    ranges.push((begin, word.len()));
    ranges.retain(|(begin, end)| begin < end);
    ranges
}

impl Word {
    /// Where a part of the word stands in a text whose part with the command begins at `base`.
    fn at(&self, base: usize, start: usize, end: usize) -> At {
        let (start, end) = self.written(start, end);
        At::plain(base + start, base + end)
    }
}
