//! Lines and columns of bytes in a text, found without reading the whole text for each.

/// The distance of two marks in bytes.
const STEP: usize = 512;

/// Marks at about every [`STEP`] bytes: the byte, its line and its column, from 1.
#[derive(Clone, Debug, Default)]
pub(super) struct LineIndex(Vec<(usize, u32, u32)>);

impl LineIndex {
    pub(super) fn of(text: &str) -> Self {
        let mut marks = Vec::with_capacity(text.len() / STEP + 1);
        let (mut line, mut column, mut next) = (1, 1, 0);
        for (at, c) in text.char_indices() {
            if at >= next {
                marks.push((at, line, column));
                next = at + STEP;
            }
            step(text, at, c, &mut line, &mut column);
        }
        Self(marks)
    }

    /// Line and column of a byte; behind the end, those of the end.
    pub(super) fn position(&self, text: &str, offset: usize) -> (u32, u32) {
        let mark = self.0.partition_point(|(at, _, _)| *at <= offset).checked_sub(1);
        let (start, mut line, mut column) = mark.and_then(|mark| self.0.get(mark)).copied().unwrap_or((0, 1, 1));
        for (at, c) in text.get(start..).unwrap_or_default().char_indices() {
            if start + at >= offset {
                break;
            }
            step(text, start + at, c, &mut line, &mut column);
        }
        (line, column)
    }
}

/// `\n`, `\r\n` and a lone `\r` each end a line, as in YAML.
fn step(text: &str, at: usize, c: char, line: &mut u32, column: &mut u32) {
    let ends = c == '\n' || (c == '\r' && text.as_bytes().get(at + 1) != Some(&b'\n'));
    (*line, *column) = if ends { (line.saturating_add(1), 1) } else { (*line, column.saturating_add(1)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_line_and_column() {
        let text = "ab\r\nü\rc\n\n".repeat(300) + "end";
        let index = LineIndex::of(&text);
        let (mut line, mut column) = (1, 1);
        for (at, c) in text.char_indices() {
            assert_eq!(index.position(&text, at), (line, column), "{at}");
            step(&text, at, c, &mut line, &mut column);
        }
        assert_eq!(index.position(&text, text.len()), (line, column));
        assert_eq!(LineIndex::of("").position("", 5), (1, 1));
    }
}
