//! The text form of findings, like a compiler's messages: the problem, its place, the offending text, and the remedy.

use vtep_core::config::{
    Keys,
    checked::Located,
    finding::{Finding, Severity},
    parse::{Parsed, tokens},
    text,
    vtep_config::{NamedVtep, Resolved},
};

use super::{
    Count, Report,
    section::{Section, in_force},
};
use crate::cli::{
    input::Applied,
    style::{BAD, BOLD, WARNING, fold, paint},
};

/// The report of `check` for a person, ending in a line break, for keys that come from no file.
#[must_use]
pub fn render(keys: &Keys, parsed: &Parsed) -> String {
    let findings: Vec<_> = parsed.findings.iter().cloned().map(Located::from).collect();
    findings.iter().map(|located| render_finding(keys, located) + "\n").collect::<String>()
        + &counts(Count::of(findings.iter()))
        + &summary(parsed, false)
}

/// The findings for a person, each with an empty line behind it.
pub(in crate::cli) fn render_located(findings: &[Located]) -> String {
    findings.iter().map(|located| render_finding(&Keys::new(), located) + "\n").collect()
}

/// A line for each fact that a person should know, folded.
pub(in crate::cli) fn render_notes(notes: &[String]) -> String {
    notes.iter().map(|note| fold(&format!("note: {}", printable(note)), "  ") + "\n").collect()
}

pub(super) fn report(report: &Report) -> String {
    let Report { sections, notes, skipped } = report;
    let several = sections.len() > 1 || skipped.is_counted;
    let mut text: String = sections.iter().map(|section| render_section(section, several)).collect();
    for note in notes {
        text += &(printable(note) + "\n");
    }
    if sections.len() > 1 {
        text += &format!("{} checked: {}", plural(sections.len(), "configuration"), counts(report.count()));
    }
    if skipped.is_counted && skipped.files > 0 {
        text += &format!("{} without a configuration of Cilium skipped\n", plural(skipped.files, "file"));
    }
    text
}

fn render_section(section: &Section, several: bool) -> String {
    let mut text = String::new();
    if several {
        text += &format!("{}\n\n", paint(BOLD, printable(&heading(section))));
    }
    let none = Keys::new();
    let keys = section.lists.as_ref().map_or(&none, |lists| &lists.document.keys);
    text.extend(section.findings.iter().map(|located| render_finding(keys, located) + "\n"));
    text += &counts(Count::of(section.findings.iter()));
    match (&section.lists, &section.objects) {
        (_, Some(objects)) if section.objects_decide() => text += &summary_of_objects(&objects.resolved),
        (Some(lists), _) => text += &summary(&lists.parsed, lists.is_unknown),
        (None, _) => {}
    }
    let unknown = section.objects.iter().flat_map(|objects| &objects.unknown);
    text.extend(unknown.chain(&section.notes).map(|note| printable(note) + "\n"));
    text += &notes(&section.node_configs);
    if several {
        text.push('\n');
    }
    text
}

/// Which configuration a section is about, and what overrides it.
fn heading(section: &Section) -> String {
    let Section { shape, file, name, namespace, node_configs, .. } = section;
    let name = match (namespace, name) {
        (Some(namespace), Some(name)) => format!(" {namespace}/{name}"),
        (None, Some(name)) => format!(" {name}"),
        (_, None) => String::new(),
    };
    let applied = node_configs.iter().filter(|applied| applied.applied).map(|applied| &applied.name);
    let with: String = applied.map(|name| format!(", with CiliumNodeConfig {name}")).collect();
    let file = if file.as_ref() == "-" { "standard input" } else { file };
    format!("{file}: {}{name}{with}", shape.name())
}

fn render_finding(keys: &Keys, located: &Located) -> String {
    let Located { finding, place, spot, difference } = located;
    let Finding { rule, severity, key, index, origin, problem, remedy, .. } = finding;
    let (label, style) = match severity {
        Severity::Error => ("error", BAD),
        Severity::Warning => ("warning", WARNING),
        Severity::Info => ("info", BOLD),
    };
    let origin = origin.as_ref().map(|origin| format!(" (set by {origin})")).unwrap_or_default();
    // Nobody can open standard input at a line.
    let spot = spot.as_ref().filter(|spot| spot.location.file.as_ref() != "-");
    let location = spot.map(|spot| format!("{} ", spot.location)).unwrap_or_default();
    let place = printable(&(location + place + &origin));
    let head = format!("{label}[{rule}]");
    let problem = fold(&format!("{head}: {problem}"), "  ");
    let mut text = format!("{}{}\n  --> {place}\n", paint(style, &head), &problem[head.len()..]);
    let excerpt = match spot {
        Some(spot) => spot.excerpt.as_ref().map(Excerpt::of),
        None => keys.get(key).and_then(|raw| excerpt(raw, *index)),
    };
    let number = spot.map(|spot| spot.location.line.to_string()).unwrap_or_default();
    if let Some(Excerpt { line, column, width }) = excerpt {
        let marks = "^".repeat(width.max(1));
        let gutter = number.len().max(2);
        text += &format!("{:gutter$} |\n{number:>gutter$} | {line}\n", "");
        text += &format!("{:gutter$} | {:column$}{}\n", "", "", paint(style, marks));
    }
    if let Some(cilium) = difference.as_ref().and_then(|difference| difference.cilium.as_ref()) {
        text += &format!("   = Cilium has {}\n", printable(cilium));
    }
    text += &fold(&format!("   = {remedy}"), "     ");
    text.push('\n');
    for command in difference.iter().flat_map(|difference| &difference.commands) {
        let prompt = if command.starts_with('#') { "" } else { "$ tmsh " };
        text += &format!("   {prompt}{}\n", printable(command));
    }
    text
}

/// A line of a value, and the marked part of it, in characters.
struct Excerpt {
    line: String,
    column: usize,
    width: usize,
}

impl Excerpt {
    /// Cuts a long line so that the marked part remains visible, and a line's indentation if it is deep.
    fn of(excerpt: &text::Excerpt) -> Self {
        let text::Excerpt { line, column, width } = excerpt;
        Self::cut(line, *column, *width)
    }

    fn cut(line: &str, before: usize, width: usize) -> Self {
        const LONGEST: usize = 100;
        let skipped = if before + width > LONGEST { before.saturating_sub(LONGEST / 4) } else { 0 };
        let shown: String = line.chars().skip(skipped).take(LONGEST).collect();
        let column = before - skipped;
        let width = width.min(LONGEST.saturating_sub(column));
        Self { line: printable(shown.trim_end()), column, width }
    }
}

/// Extracts the line with the list's element at `index`, or without an index the first line of the value.
fn excerpt(raw: &str, index: Option<usize>) -> Option<Excerpt> {
    let whole = || Some((raw.len() - raw.trim_start().len(), raw.trim().lines().next().unwrap_or_default()));
    if raw.trim().is_empty() {
        return None;
    }
    let (start, part) = match index {
        Some(index) => tokens(raw).nth(index)?,
        None => whole()?,
    };
    let line_start = raw.get(..start)?.rfind(['\n', '\r']).map_or(0, |at| at + 1);
    let line = raw.get(line_start..)?.lines().next().unwrap_or_default();
    let before = raw.get(line_start..start)?.chars().count();
    Some(Excerpt::cut(line, before, part.trim_end().chars().count()))
}

/// Replaces each control character by one space, so that no value can move a terminal's cursor and columns remain correct.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The summary if all three lists are absent.
const ELSEWHERE: &str = "no VTEP in force: vtep-endpoint, vtep-cidr and vtep-mac are absent, so VTEPs are decided elsewhere, \
                         perhaps by a CiliumVTEPConfig\n";

/// One line for each `CiliumNodeConfig` of the input that is not applied.
fn notes(node_configs: &[Applied]) -> String {
    node_configs.iter().filter_map(Applied::note).map(|note| printable(&note) + "\n").collect()
}

fn counts(Count { errors, warnings, infos }: Count) -> String {
    format!("{}, {}, {infos} info\n", plural(errors, "error"), plural(warnings, "warning"))
}

fn summary_of_objects(Resolved { vteps, .. }: &Resolved) -> String {
    if vteps.is_empty() {
        return "no VTEP in force\n".to_owned();
    }
    let mut text = format!("{} in force, from custom resources:\n", plural(vteps.len(), "VTEP"));
    text += &format!("  {:<18}  {:<15}  {:<17}  {}\n", "CIDR", "ENDPOINT", "MAC", "NAME");
    for NamedVtep { name, vtep, .. } in vteps {
        let (cidr, endpoint, mac) = (vtep.cidr.to_string(), vtep.endpoint.to_string(), vtep.mac.to_string());
        text += &format!("  {cidr:<18}  {endpoint:<15}  {mac:<17}  {}\n", printable(name));
    }
    text
}

fn summary(parsed: &Parsed, is_unknown: bool) -> String {
    if is_unknown {
        return "the VTEPs in force are unknown: they depend on a value that is a template\n".to_owned();
    }
    let vteps = in_force(parsed);
    let mut text = match vteps.len() {
        0 if !parsed.enabled => "no VTEP in force: VTEP is off\n".to_owned(),
        0 if parsed.elsewhere => ELSEWHERE.to_owned(),
        0 if parsed.list_error() => "no VTEP in force: an error concerns the whole configuration\n".to_owned(),
        0 => "no VTEP in force\n".to_owned(),
        n => format!("{} in force:\n", plural(n, "VTEP")),
    };
    if !vteps.is_empty() {
        text += &format!("  {:<18}  {:<15}  {}\n", "CIDR", "ENDPOINT", "MAC");
    }
    for vtep in vteps {
        let (cidr, endpoint) = (vtep.cidr.to_string(), vtep.endpoint.to_string());
        text += &format!("  {cidr:<18}  {endpoint:<15}  {}\n", vtep.mac);
    }
    text
}

fn plural(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vtep_core::config::{parse::parse_within, surroundings::Surroundings};

    use super::*;

    #[test]
    fn findings_as_a_person_sees_them() {
        let keys = [
            ("enable-vtep", "true"),
            ("vtep-endpoint", "10.169.72.34    10.169.72.36"),
            ("vtep-cidr", "10.1.6.34/24   10.1.5.0/24"),
            ("vtep-mac", "00:50:56:A0:7D:D8   00:50:56:86:6b"),
            ("vtep-maks", "255.255.255.0"),
            ("tunnel-protocol", "vxlan"),
        ];
        let keys = keys.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let parsed = parse_within(&keys, &Surroundings::default());
        insta::assert_snapshot!(crate::cli::style::plain(&render(&keys, &parsed)));
    }

    proptest! {
        /// No value can move a terminal's cursor.
        #[test]
        fn any_text_is_printable(keys in prop::collection::btree_map(
            prop_oneof![
                prop::sample::select(&[
                    "enable-vtep", "vtep-endpoint", "vtep-cidr", "vtep-mask", "vtep-mac", "routing-mode", "tunnel",
                    "tunnel-protocol", "tunnel-port", "ipam", "cluster-pool-ipv4-cidr", "enable-ipv4",
                ][..]).prop_map(str::to_owned),
                any::<String>(),
            ],
            prop_oneof![any::<String>(), "[0-9./: ,\"truea-f]{0,40}"],
            0..12,
        )) {
            let text = crate::cli::style::colourless(&render(&keys, &parse_within(&keys, &Surroundings::default())));
            prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
        }
    }
}
