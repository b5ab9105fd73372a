//! Splits commands into words as a shell does, and remembers where each character stands.

/// A word without its quotes.
#[derive(Debug, Default)]
pub(super) struct Word {
    pub(super) value: String,
    /// For each byte of the value, the byte of the input that it comes from.
    offsets: Vec<usize>,
}

impl Word {
    fn push(&mut self, c: char, at: usize) {
        self.value.push(c);
        self.offsets.extend((0..c.len_utf8()).map(|more| at + more));
    }

    /// The bytes of the input that a part of the value comes from.
    pub(super) fn written(&self, start: usize, end: usize) -> (usize, usize) {
        let first = self.offsets.get(start).or(self.offsets.last()).copied().unwrap_or(0);
        let last = end.checked_sub(1).filter(|last| *last >= start).and_then(|last| self.offsets.get(last));
        (first, last.map_or(first, |last| last + 1))
    }
}

/// The commands of a text. A line break, `;`, `&&`, `||` and `|` end a command; a backslash before a line break continues it.
pub(super) fn commands(text: &str) -> Vec<Vec<Word>> {
    let mut state = State::default();
    for (at, c) in text.char_indices() {
        state.step(c, at);
    }
    state.end_command();
    state.commands.retain(|words| !words.is_empty());
    state.commands
}

#[derive(Default)]
struct State {
    commands: Vec<Vec<Word>>,
    words: Vec<Word>,
    word: Option<Word>,
    quote: Option<char>,
    is_escaped: bool,
    is_comment: bool,
}

impl State {
    fn step(&mut self, c: char, at: usize) {
        match (self.quote, c) {
            _ if self.is_comment => {
                self.is_comment = c != '\n';
                if c == '\n' {
                    self.end_command();
                }
            }
            // A backslash continues the line, or takes away the meaning of the next character. Helm's own escapes remain.
            _ if self.is_escaped => {
                self.is_escaped = false;
                match c {
                    '\n' | '\r' => self.is_escaped = c == '\r',
                    '"' | '\'' | '\\' | ' ' | '$' => self.push(c, at),
                    _ => {
                        self.push('\\', at.saturating_sub(1));
                        self.push(c, at);
                    }
                }
            }
            (Some('"') | None, '\\') => self.is_escaped = true,
            (Some(quote), c) if c == quote => self.quote = None,
            (Some(_), c) => self.push(c, at),
            (None, '"' | '\'') => {
                self.quote = Some(c);
                self.word.get_or_insert_default();
            }
            (None, '\n') => self.end_command(),
            (None, '#') if self.word.is_none() => self.is_comment = true,
            (None, c) if c.is_whitespace() => self.end_word(),
            (None, c) => self.push(c, at),
        }
    }

    fn push(&mut self, c: char, at: usize) {
        self.word.get_or_insert_default().push(c, at);
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        match word.value.as_str() {
            "|" | "||" | "&&" | ";" => self.end_command(),
            _ => self.words.push(word),
        }
    }

    fn end_command(&mut self) {
        self.end_word_alone();
        self.commands.push(std::mem::take(&mut self.words));
        self.quote = None;
    }

    fn end_word_alone(&mut self) {
        self.words.extend(self.word.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        let text = "helm upgrade \\\n  --set a=\"b  c\" 'd e' f\\ g # no\ncilium && x |Y| z";
        let found = commands(text);
        let values: Vec<Vec<&str>> =
            found.iter().map(|words| words.iter().map(|word| word.value.as_str()).collect()).collect();
        assert_eq!(
            values,
            [vec!["helm", "upgrade", "--set", "a=b  c", "d e", "f g"], vec!["cilium"], vec!["x", "|Y|", "z"]]
        );
        let (start, end) = found[0][3].written(2, 6);
        assert_eq!(&text[start..end], "b  c");
    }
}
