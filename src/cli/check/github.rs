//! GitHub's workflow commands: a runner shows each beside its line in a pull request.

use vtep_core::config::{checked::Located, finding::Severity};

use super::{Count, Report};

pub(super) fn report(report: &Report) -> String {
    let Count { errors, warnings, infos } = report.count();
    let commands: String = report.findings().map(command).collect();
    format!("{commands}{errors} errors, {warnings} warnings, {infos} info\n")
}

fn command(located: &Located) -> String {
    let finding = &located.finding;
    let level = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "notice",
    };
    // Standard input is no file of the repository.
    let spot = located.spot.as_ref().filter(|spot| spot.location.file.as_ref() != "-");
    let place = spot.map_or_else(String::new, |spot| {
        let location = &spot.location;
        let end = spot.excerpt.as_ref().map_or_else(String::new, |excerpt| {
            let width = u32::try_from(excerpt.width.max(1)).unwrap_or(1);
            format!(",endColumn={}", location.column.saturating_add(width) - 1)
        });
        format!("file={},line={},col={}{end},", property(&location.file), location.line, location.column)
    });
    format!("::{level} {place}title={}::{}\n", property(finding.rule.id()), data(&finding.message))
}

/// Escapes the text of a command, as GitHub's toolkit does.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property of a command.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_command_early() {
        assert_eq!(data("100%\r\na::b"), "100%25%0D%0Aa::b");
        assert_eq!(property("a:b,c%"), "a%3Ab%2Cc%25");
    }
}
