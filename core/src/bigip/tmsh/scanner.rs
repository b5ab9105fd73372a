//! Text as tokens.

use std::borrow::Cow;

use super::{Problem, Word, is_module};

/// A place: the number of a text, from 0, and line and column in it, both from 1, the column in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::bigip) struct Position {
    pub(in crate::bigip) text: u32,
    pub(in crate::bigip) line: u32,
    pub(in crate::bigip) column: u32,
}

/// How a line is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bigip) enum Dialect {
    /// A stanza.
    Stanza,
    /// A command: `#` behind a blank begins a comment, `;` and `|` end the command, and `<a placeholder>` is one word.
    Command,
}

pub(super) enum Token<'a> {
    Word(Word<'a>),
    Open(Position),
    Close(Position),
    Newline,
    /// A new stanza begins, although the previous one is not closed.
    Header,
    End,
}

/// Reads a text from its beginning to its end.
#[derive(Clone, Debug)]
pub(in crate::bigip) struct Scanner<'a> {
    text: &'a str,
    offset: usize,
    /// The end of the part that is read.
    limit: usize,
    counter: Counter<'a>,
}

/// Counts lines and columns. Each count continues from the one before, so that all of them together take linear time if they are in order.
#[derive(Clone, Debug)]
pub(in crate::bigip) struct Counter<'a> {
    text: &'a str,
    offset: usize,
    at: Position,
}

impl<'a> Counter<'a> {
    /// `number` is that of the text in its positions.
    pub(in crate::bigip) fn new(text: &'a str, number: u32) -> Self {
        // A byte order mark, as editors write it, has no column.
        let offset = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Self { text, offset, at: Position { text: number, line: 1, column: 1 } }
    }

    pub(in crate::bigip) fn position(&mut self, offset: usize) -> Position {
        if offset < self.offset {
            *self = Self::new(self.text, self.at.text);
        }
        let end = offset.clamp(self.offset, self.text.len());
        for byte in &self.text.as_bytes()[self.offset..end] {
            match byte {
                b'\n' => (self.at.line, self.at.column) = (self.at.line.saturating_add(1), 1),
                // The second and later bytes of a character.
                0x80..=0xbf => {}
                _ => self.at.column = self.at.column.saturating_add(1),
            }
        }
        self.offset = end;
        self.at
    }
}

impl<'a> Scanner<'a> {
    /// `number` is that of the text in its positions.
    pub(in crate::bigip) fn new(text: &'a str, number: u32) -> Self {
        let counter = Counter::new(text, number);
        Self { text, offset: counter.offset, limit: text.len(), counter }
    }

    pub(in crate::bigip) fn is_at_end(&self) -> bool {
        self.offset >= self.limit
    }

    /// The rest of the line, without its end.
    pub(in crate::bigip) fn rest_of_line(&self) -> &'a str {
        let rest = &self.text[self.offset..self.limit];
        let rest = rest.split_once('\n').map_or(rest, |(line, _)| line);
        rest.strip_suffix('\r').unwrap_or(rest)
    }

    /// The next words of the line. Unlike [`Self::rest_of_line`], it takes no longer for a long line.
    pub(in crate::bigip) fn beginning_of_line(&self) -> &'a str {
        const LENGTH: usize = 256;
        let rest = &self.text[self.offset..self.limit];
        let end = rest.char_indices().nth(LENGTH).map_or(rest.len(), |(end, _)| end);
        let rest = &rest[..end];
        rest.split_once('\n').map_or(rest, |(line, _)| line)
    }

    /// Moves on by as many bytes, which must be in the rest of the line.
    pub(in crate::bigip) fn advance(&mut self, bytes: usize) {
        self.offset = (self.offset + bytes).min(self.limit);
    }

    pub(in crate::bigip) fn next_line(&mut self) {
        let rest = &self.text[self.offset..self.limit];
        self.offset = rest.find('\n').map_or(self.limit, |end| self.offset + end + 1);
    }

    /// The text up to the next `quote` that no backslash precedes; `None` if there is none.
    pub(in crate::bigip) fn until(&self, quote: char) -> Option<Self> {
        let rest = &self.text[self.offset..self.limit];
        let mut is_escaped = false;
        let end = rest.char_indices().find(|&(_, c)| {
            let is_end = c == quote && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            is_end
        })?;
        Some(Self { limit: self.offset + end.0, ..self.clone() })
    }

    /// Moves on to the end of `inner`, which [`Self::until`] returned.
    pub(in crate::bigip) fn resume_behind(&mut self, inner: Self) {
        self.offset = inner.limit;
        self.counter = inner.counter;
    }

    pub(in crate::bigip) fn position(&mut self) -> Position {
        self.counter.position(self.offset)
    }

    /// Passes over a stanza, up to the end of its last line, and returns what is wrong with it. In `is_script`, the body is TCL: only braces
    /// and backslashes count, as for TCL itself.
    pub(in crate::bigip) fn skip(&mut self, is_script: bool) -> Result<(), Problem> {
        let bytes = &self.text.as_bytes()[..self.limit];
        let (mut depth, mut is_quoted, mut at) = (0_usize, false, self.offset);
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'\\' => at += 1,
                b'\n' => {
                    if depth == 0 && !is_quoted {
                        break;
                    }
                    self.offset = at + 1;
                    if self.is_at_header() {
                        return Err(Problem::Unclosed);
                    }
                    if !is_script && !is_quoted && self.is_at_comment() {
                        at = self.offset + self.rest_of_line().len();
                        continue;
                    }
                }
                b'"' if is_quoted => is_quoted = false,
                b'"' if !is_script && is_separator(bytes[at.saturating_sub(1)]) => is_quoted = true,
                b'{' if !is_quoted => depth += 1,
                b'}' if !is_quoted => depth = depth.saturating_sub(1),
                _ => {}
            }
            at += 1;
        }
        self.offset = at.min(self.limit);
        if depth > 0 || is_quoted { Err(Problem::CutOff { braces: depth }) } else { Ok(()) }
    }

    /// Whether this is the beginning of a line that begins like a stanza of a configuration file.
    fn is_at_header(&self) -> bool {
        let bytes = self.text.as_bytes();
        if !bytes.get(self.offset).is_some_and(u8::is_ascii_lowercase) {
            return false;
        }
        let word = &bytes[self.offset..self.limit.min(self.offset + 20)];
        let end = word.iter().position(|&byte| byte == b' ').unwrap_or(0);
        if !std::str::from_utf8(&word[..end]).is_ok_and(is_module) {
            return false;
        }
        self.rest_of_line().trim_end().ends_with(['{', '}'])
    }

    fn is_at_comment(&self) -> bool {
        self.text.as_bytes()[self.offset..self.limit].iter().find(|byte| !b" \t".contains(byte)) == Some(&b'#')
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes()[..self.limit].get(self.offset).copied()
    }

    pub(super) fn next(&mut self, dialect: Dialect) -> Result<Token<'a>, Problem> {
        self.skip_blanks();
        let Some(byte) = self.peek() else { return Ok(Token::End) };
        match byte {
            b'\n' => {
                self.offset += 1;
                if self.is_at_header() {
                    return Ok(Token::Header);
                }
                if self.is_at_comment() {
                    self.offset += self.rest_of_line().len();
                }
                Ok(Token::Newline)
            }
            b'{' => {
                let at = self.position();
                self.offset += 1;
                Ok(Token::Open(at))
            }
            b'}' => {
                let at = self.position();
                self.offset += 1;
                Ok(Token::Close(at))
            }
            b'"' => self.quoted(),
            b'#' if dialect == Dialect::Command => {
                self.offset += self.rest_of_line().len();
                Ok(Token::Newline)
            }
            b';' | b'|' if dialect == Dialect::Command => Ok(Token::End),
            _ => Ok(Token::Word(self.bare(dialect))),
        }
    }

    fn skip_blanks(&mut self) {
        while let Some(byte) = self.peek() {
            let rest = &self.text[self.offset..self.limit];
            match byte {
                b' ' | b'\t' | b'\r' => self.offset += 1,
                b'\\' if rest.starts_with("\\\n") => self.offset += 2,
                b'\\' if rest.starts_with("\\\r\n") => self.offset += 3,
                _ => return,
            }
        }
    }

    /// A word in quotes. It may contain ends of lines.
    fn quoted(&mut self) -> Result<Token<'a>, Problem> {
        let at = self.position();
        let start = self.offset + 1;
        let bytes = &self.text.as_bytes()[..self.limit];
        let (mut end, mut has_escapes) = (start, false);
        loop {
            match bytes.get(end) {
                None => {
                    self.offset = self.limit;
                    return Err(Problem::OpenQuote { at });
                }
                Some(b'"') => break,
                Some(b'\\') => {
                    has_escapes = true;
                    end += 1;
                }
                Some(b'\n') => {
                    self.offset = end + 1;
                    if self.is_at_header() {
                        return Err(Problem::OpenQuote { at });
                    }
                }
                Some(_) => {}
            }
            end += 1;
        }
        self.offset = end + 1;
        let text = &self.text[start..end];
        Ok(Token::Word(Word { text: if has_escapes { unescaped(text) } else { text.into() }, at }))
    }

    fn bare(&mut self, dialect: Dialect) -> Word<'a> {
        let at = self.position();
        let rest = &self.text[self.offset..self.limit];
        let (mut is_escaped, mut is_placeholder, mut has_escapes) = (false, false, false);
        let end = rest.char_indices().find(|&(_, c)| {
            if is_escaped {
                is_escaped = false;
                return c == '\n';
            }
            is_escaped = c == '\\';
            has_escapes |= is_escaped;
            if dialect == Dialect::Command {
                is_placeholder = (is_placeholder || c == '<') && c != '>' && c != '\n';
            }
            let is_end = c == ';' && dialect == Dialect::Command;
            (matches!(c, ' ' | '\t' | '\r' | '\n' | '{' | '}') || is_end) && !is_placeholder
        });
        let text = &rest[..end.map_or(rest.len(), |(end, _)| end)];
        self.offset += text.len();
        // A backslash that continues the line belongs to no word.
        let text = text.strip_suffix('\\').unwrap_or(text);
        Word { text: if has_escapes { unescaped(text) } else { text.into() }, at }
    }
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'{' | b'}')
}

fn unescaped(text: &str) -> Cow<'static, str> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    Cow::Owned(out)
}
