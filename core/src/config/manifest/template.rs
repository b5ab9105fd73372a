//! Templates in a text: placeholders that another program fills in before Cilium reads the value.

/// Whether a value contains a placeholder: `{{ … }}` of Helm and other programs, `${VAR}`, `$(VAR)`, `$VAR`, `<path:…>` of Argo CD's Vault
/// plugin, or what SOPS has encrypted.
pub(in crate::config) fn is_template(value: &str) -> bool {
    let variable = value.match_indices('$').any(|(at, _)| {
        let next = value[at + 1..].chars().next();
        next.is_some_and(|c| c == '{' || c == '(' || c == '_' || c.is_ascii_alphabetic())
    });
    variable || value.contains("{{") || value.contains("<path:") || value.contains("ENC[")
}

/// The text with each placeholder replaced by `$(xxx)` of the same length, which YAML reads as text, and each line that only controls a
/// template replaced by blanks. `None` if there is no placeholder.
pub(super) fn mask(text: &str) -> Option<String> {
    if !text.contains("{{") && !text.contains("${") {
        return None;
    }
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, close)) = next(rest) {
        let (before, from) = rest.split_at_checked(at)?;
        masked.push_str(before);
        let inside = from.get(2..)?;
        let length = 2 + inside.find(close).map_or(inside.len(), |end| end + close.len());
        let (placeholder, after) = from.split_at_checked(length)?;
        if is_alone(&masked, after) && controls(placeholder) {
            masked.extend(placeholder.chars().flat_map(blank));
        } else {
            masked.push_str(&stand_in(placeholder));
        }
        rest = after;
    }
    masked.push_str(rest);
    (masked.len() == text.len()).then_some(masked)
}

/// The next placeholder, and how it ends.
fn next(text: &str) -> Option<(usize, &'static str)> {
    let found = [("{{", "}}"), ("${", "}")].into_iter().filter_map(|(open, close)| Some((text.find(open)?, close)));
    found.min_by_key(|(at, _)| *at)
}

/// Whether nothing else is on the lines of the placeholder.
fn is_alone(before: &str, after: &str) -> bool {
    let ends = |text: Option<&str>| text.is_none_or(|text| text.trim().is_empty());
    ends(before.rsplit('\n').next()) && ends(after.split('\n').next())
}

/// Whether the placeholder gives no value of its own: a branch, a loop, a variable, or a block that it inserts.
fn controls(placeholder: &str) -> bool {
    placeholder.starts_with("{{")
}

fn blank(c: char) -> impl Iterator<Item = char> {
    let shown = if matches!(c, '\n' | '\r') { c } else { ' ' };
    std::iter::repeat_n(shown, c.len_utf8())
}

/// `$(xxx)` with the white space of the placeholder, so that its other characters still can be counted.
fn stand_in(placeholder: &str) -> String {
    let last = placeholder.len().saturating_sub(1);
    let shown = placeholder.char_indices().flat_map(|(at, c)| {
        let shown = match at {
            0 => '$',
            1 => '(',
            _ if at == last => ')',
            _ if c.is_ascii_whitespace() => c,
            _ => 'x',
        };
        std::iter::repeat_n(shown, c.len_utf8())
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_become_text_of_the_same_length() {
        let cases = [
            ("a: {{ .b }}\nc: d", "a: $( xx x)\nc: d"),
            ("{{- if .a }}\na: b\n{{- end }}\n", "            \na: b\n          \n"),
            ("{m: ${MAC:-x}}", "{m: $(xxxxxx)}"),
            ("a: {{ ü", "a: $( xx"),
            ("a: x{{b}}y{{c}}", "a: x$(xx)y$(xx)"),
        ];
        for (text, expected) in cases {
            let masked = mask(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(masked, expected, "{text}");
            assert_eq!(masked.len(), text.len());
        }
        assert_eq!(mask("a: {b: c}"), None);
    }

    #[test]
    fn a_placeholder_is_no_value() {
        for value in [
            "{{ .mac }}",
            "a ${B} c",
            "$(B)",
            "$B",
            "<path:vault#mac>",
            "${",
            "ENC[AES256_GCM,data:Tr7o=,iv:x,tag:y,type:str]",
        ] {
            assert!(is_template(value), "{value}");
        }
        for value in ["", "10.1.6.0/24", "00:50:56:a0:7d:d8", "a$", "$1", "{a}"] {
            assert!(!is_template(value), "{value}");
        }
    }
}
