//! The grammar of tmsh text: stanzas, as `tmsh list` prints them and configuration files hold them, and commands.
//!
//! ```text
//! line  = node* newline            node  = word* [ block ]
//! block = "{" (node | newline)* "}"      word = bare | quoted
//! ```
//!
//! A node ends with its block or with its line, so that `network 10.0.0.0/8 gw 10.1.1.1` is one node of four words: which of them are
//! properties, the reader of the component decides. `\` at the end of a line continues it, `#` as the first character of a line begins a
//! comment. Reading takes linear time, and needs no recursion.
//!
//! Real files contain text that is no tmsh: the bodies of iRules. Whoever wants only some stanzas passes over the others with
//! [`Scanner::skip`], which counts braces. After broken text, reading resumes with the next line that begins like a stanza of a
//! configuration file: not indented, with the name of a module first.

mod scanner;
mod tree;

pub(super) use self::{
    scanner::{Counter, Dialect, Position, Scanner},
    tree::{Node, Problem, line},
};

/// A word, without its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) text: std::borrow::Cow<'a, str>,
    pub(super) at: Position,
}

/// The modules of tmsh, the first word of each stanza. Source: F5, "BIG-IP TMSH Reference".
const MODULES: &[&str] = &[
    "analytics",
    "api-protection",
    "apm",
    "asm",
    "auth",
    "cli",
    "cm",
    "gtm",
    "ilx",
    "ltm",
    "net",
    "pem",
    "saas",
    "security",
    "sys",
    "vcmp",
    "wam",
    "wom",
];

pub(super) fn is_module(word: &str) -> bool {
    MODULES.binary_search(&word).is_ok()
}

#[cfg(test)]
mod tests;
