//! The report for people, in 80 columns, most useful first: the sum, the matrix, the trouble, and what differs.

use std::fmt::Write as _;

use anstyle::Style;
use jiff::Timestamp;
use vtep_core::{
    diagnosis::Verdict,
    fleet::{
        common::{Attribute, Common},
        differences::Difference,
        matrix::Row,
        names,
        report::{Outcome, Report},
        trouble::Group,
    },
};

use super::super::style::{BAD, BOLD, GOOD, SOFT, WARNING, clean, fold, paint};

/// About five lines of names; `-o wide` has all.
const MAX_NAMES: usize = 380;
/// The columns of the matrix: verdict, heading, width.
const COLUMNS: [(Verdict, &str, usize); 5] = [
    (Verdict::Healthy, "HEALTHY", 7),
    (Verdict::Degraded, "DEGRADED", 8),
    (Verdict::Unreachable, "UNREACH.", 8),
    (Verdict::Misconfigured, "MISCONF.", 8),
    (Verdict::Unknown, "UNKNOWN", 7),
];

/// How names are printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// At most [`MAX_NAMES`] characters.
    Short,
    All,
}

pub(super) fn render(report: &Report) -> String {
    sections(report, Names::Short)
}

/// All sections. Writing to a `String` never fails.
pub(super) fn sections(report: &Report, length: Names) -> String {
    let mut out = String::new();
    let style = if report.outcome() == Outcome::Healthy { GOOD } else { BOLD };
    let _ = writeln!(out, "{}", paint(style, report.headline()));
    matrix(&mut out, &report.vteps);
    report.trouble.iter().for_each(|group| trouble(&mut out, group, length));
    differences(&mut out, &report.differences, length);
    let without = report.without_agent.as_deref().unwrap_or_default();
    if !without.is_empty() {
        let nodes = plural(without.len());
        let _ = writeln!(out, "\n{}", paint(WARNING, format!("{nodes} with Cilium and without an agent")));
        indented(&mut out, "  ", &shortened(&names::fold(without.iter().map(String::as_str)), without.len(), length));
    }
    for unanswered in &report.unanswered {
        let nodes = plural(unanswered.nodes.len());
        let _ = writeln!(out, "\n{}", paint(WARNING, format!("{nodes} without an answer")));
        indented(&mut out, "  ", &unanswered.reason);
        indented(&mut out, "  ", &shortened(&unanswered.folded, unanswered.nodes.len(), length));
    }
    for note in &report.notes {
        let _ = writeln!(out);
        indented(&mut out, "", &format!("note: {note}"));
    }
    out
}

fn matrix(out: &mut String, rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    let headings = COLUMNS.map(|(_, heading, width)| format!(" {heading:>width$}")).concat();
    let _ = writeln!(out, "\n{}", paint(SOFT, format!("{:<18} {:<15}{headings}", "VTEP", "ENDPOINT")));
    for Row { vtep, names, verdicts, .. } in rows {
        let cell = |(verdict, _, width): (Verdict, &str, usize)| match verdicts.of(verdict) {
            0 => format!(" {:>width$}", "-"),
            count => format!(" {}", paint(style(verdict), format!("{count:>width$}"))),
        };
        let cells = COLUMNS.map(cell).concat();
        let _ = writeln!(out, "{:<18} {:<15}{cells}", clean(&vtep.cidr), clean(&vtep.endpoint));
        for name in names {
            indented(out, "  ", name);
        }
    }
}

const fn style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Healthy => GOOD,
        Verdict::Degraded | Verdict::Unknown => WARNING,
        Verdict::Unreachable | Verdict::Misconfigured => BAD,
    }
}

fn trouble(out: &mut String, group: &Group, length: Names) {
    let Group { vtep, verdict, cause, nodes, of, .. } = group;
    let cause = cause.as_deref().map(|cause| format!(", {}", clean(cause))).unwrap_or_default();
    let share = if nodes.len() == *of {
        format!("on all {}", plural(*of))
    } else {
        format!("on {} of {}", nodes.len(), plural(*of))
    };
    let (cidr, endpoint) = (clean(&vtep.cidr), clean(&vtep.endpoint));
    // A VTEP with a name may have any gateway at its far end.
    let label = group.name.as_ref().map_or_else(
        || format!("BIG-IP {endpoint} ({cidr})"),
        |name| format!("{} ({cidr} at {endpoint})", clean(name)),
    );
    let head = format!("{verdict}{cause}: {label} {share}");
    let verdict = verdict.to_string();
    let folded = fold(&head, "  ");
    let _ = writeln!(out, "\n{}{}", paint(style(group.verdict), &verdict), &folded[verdict.len()..]);
    indented(out, "  ", &shortened(&group.folded, nodes.len(), length));
    if let Some(since) = since(group.first_since, group.last_since) {
        indented(out, "  ", &since);
    }
    if !group.common.is_empty() {
        let others = nodes.len();
        let common: Vec<_> = group.common.iter().map(|common| in_common(common, others)).collect();
        indented(out, "  ", &format!("all {}", common.join("; all ")));
    }
    if let Some(hint) = &group.hint {
        let of = if group.same_hint { String::new() } else { format!("{}: ", group.hint_from) };
        indented(out, "  ", &format!("{of}{hint}"));
    }
    // The link is not folded, so that a terminal can open it.
    if let Some(runbook) = &group.runbook {
        let _ = writeln!(out, "  {}", paint(SOFT, clean(runbook)));
    }
}

fn since(first: Option<Timestamp>, last: Option<Timestamp>) -> Option<String> {
    let (first, last) = (first?, last?);
    Some(if first == last {
        format!("since {first:.0}")
    } else {
        format!("since {first:.0}, the last of them since {last:.0}")
    })
}

/// `in zone b, where 3 other nodes are healthy`.
fn in_common(Common { attribute, value, others }: &Common, nodes: usize) -> String {
    let value = clean(value);
    let what = match attribute {
        Attribute::NodeAge => format!("added {value}"),
        Attribute::Zone => format!("in zone {value}"),
        Attribute::CiliumVersion
        | Attribute::AgentVersion
        | Attribute::Kernel
        | Attribute::Config
        | Attribute::Mode
        | Attribute::OsImage
        | Attribute::InstanceType => format!("with {} {value}", attribute.words()),
    };
    match others {
        0 => format!("{what}, as no other node"),
        1 => format!("{what}, as 1 other node"),
        others => format!("{what} ({nodes} of {})", nodes + others),
    }
}

fn differences(out: &mut String, differences: &[Difference], length: Names) {
    if differences.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{}", paint(BOLD, "nodes differ"));
    for Difference { what, values } in differences {
        let mut what = what.words();
        for (rank, value) in values.iter().enumerate() {
            // Of the most frequent value, the number says enough.
            let nodes = if rank == 0 && length == Names::Short {
                plural(value.nodes.len())
            } else {
                shortened(&value.folded, value.nodes.len(), length)
            };
            let text = value.value.as_deref().unwrap_or("not known");
            let text = text.get(..12).filter(|_| is_digest(text)).unwrap_or(text);
            indented(out, &format!("{:19}", ""), &format!("  {what:<16} {text}: {nodes}"));
            what = "";
        }
    }
}

fn is_digest(text: &str) -> bool {
    text.len() > 12 && text.chars().all(|c| c.is_ascii_hexdigit())
}

fn plural(nodes: usize) -> String {
    if nodes == 1 { "1 node".to_owned() } else { format!("{nodes} nodes") }
}

/// Folded names, cut unless all are wanted.
fn shortened(all: &str, count: usize, length: Names) -> String {
    if length == Names::All || all.chars().count() <= MAX_NAMES {
        return all.to_owned();
    }
    let end = all.char_indices().nth(MAX_NAMES).map_or(all.len(), |(at, _)| at);
    let cut = all[..end].rfind(", ").unwrap_or(end);
    format!("{}, … ({} in all: -o wide)", &all[..cut], plural(count))
}

/// A line, folded; those after the first have the indent, and the first one has it unless it begins with its own.
fn indented(out: &mut String, indent: &str, text: &str) {
    let text = clean(text);
    let first = if text.starts_with(' ') { "" } else { indent };
    let _ = writeln!(out, "{}", fold(&format!("{first}{text}"), indent));
}
