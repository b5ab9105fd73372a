//! Where a character of a scalar's value stands in the scalar as written.
//!
//! Folding, indentation and escapes change only white space between the characters of a value. So the n-th character that is no white space
//! is the same on both sides, and a value's elements, which white space separates, can be found by counting.

use std::ops::Range;

use super::Style;

/// How many characters are no white space.
#[must_use]
pub fn count(text: &str) -> usize {
    text.chars().filter(|c| !c.is_whitespace()).count()
}

/// The bytes in `raw`, a scalar as written, of the value's character that has `units` others before it. Behind the last they are none, at the
/// end of the last.
pub(super) fn nth_unit(raw: &str, style: Style, units: usize) -> Range<usize> {
    let (mut at, mut left) = (begin(raw, style), units);
    let mut last = at;
    while let Some(unit) = unit(raw.get(at..).unwrap_or_default(), style) {
        if !unit.is_space {
            if left == 0 {
                return at..at + unit.length;
            }
            left -= 1;
            last = at + unit.length;
        }
        at += unit.length;
    }
    last..last
}

/// The first byte behind the quote. The parser reports a block without its header.
fn begin(raw: &str, style: Style) -> usize {
    match style {
        Style::Plain | Style::Block => 0,
        Style::SingleQuoted | Style::DoubleQuoted => usize::from(raw.starts_with(['"', '\''])),
    }
}

/// The written form of one character.
struct Unit {
    length: usize,
    is_space: bool,
}

/// `None` at the end of the scalar.
fn unit(rest: &str, style: Style) -> Option<Unit> {
    let c = rest.chars().next()?;
    let one = Unit { length: c.len_utf8(), is_space: c.is_whitespace() };
    match (style, c) {
        (Style::SingleQuoted, '\'') => rest.starts_with("''").then_some(Unit { length: 2, is_space: false }),
        (Style::DoubleQuoted, '"') => None,
        (Style::DoubleQuoted, '\\') => Some(escape(rest)),
        (Style::Plain | Style::SingleQuoted | Style::DoubleQuoted | Style::Block, _) => Some(one),
    }
}

/// An escape of a double-quoted scalar, from its backslash on.
fn escape(rest: &str) -> Unit {
    let Some(kind) = rest.chars().nth(1) else { return Unit { length: 1, is_space: true } };
    let digits = match kind {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => {
            let is_space = kind.is_whitespace() || matches!(kind, 't' | 'n' | 'r' | 'v' | 'f' | '_' | 'N' | 'L' | 'P');
            return Unit { length: 1 + kind.len_utf8(), is_space };
        }
    };
    let code = rest.get(2..2 + digits).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let is_space = match code {
        // The second half of a surrogate pair is no character of its own.
        Some(0xdc00..=0xdfff) => true,
        Some(code) => char::from_u32(code).is_some_and(char::is_whitespace),
        None => false,
    };
    Unit { length: (2 + digits).min(rest.len()), is_space }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_found_as_written() {
        let cases = [
            ("a bc", Style::Plain, "abc"),
            ("a\n   b\n\n  c", Style::Plain, "abc"),
            ("'a ''b c'", Style::SingleQuoted, "a'bc"),
            (r#""a\tb \u0062\n \x41""#, Style::DoubleQuoted, r"ab\\"),
            ("\"a\\\n   b\\\\\"", Style::DoubleQuoted, r"ab\"),
            ("a b\n    c\n", Style::Block, "abc"),
        ];
        for (raw, style, expected) in cases {
            let found: String = (0..expected.chars().count())
                .map(|units| raw[nth_unit(raw, style, units)].chars().next().expect("a character"))
                .collect();
            assert_eq!(found, expected, "{raw}");
        }
        assert_eq!(nth_unit("'ab' # c", Style::SingleQuoted, 9), 3..3, "behind the last");
        assert_eq!(nth_unit("\"\"", Style::DoubleQuoted, 0), 1..1);
        assert_eq!(nth_unit("\"\\", Style::DoubleQuoted, 3), 1..1);
        assert_eq!(nth_unit("\"\\uü", Style::DoubleQuoted, 1), 5..5);
    }
}
