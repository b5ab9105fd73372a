//! Tokens as nodes.

use std::fmt;

use super::{Dialect, Position, Scanner, Word, scanner::Token};

/// Blocks are not nested deeper in any stanza that is read; the components of `net` have three levels.
const MAX_DEPTH: usize = 16;

/// Words of one line, and the block behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::bigip) struct Node<'a> {
    pub(in crate::bigip) words: Vec<Word<'a>>,
    pub(in crate::bigip) block: Option<Vec<Node<'a>>>,
}

impl Node<'_> {
    fn is_empty(&self) -> bool {
        self.words.is_empty() && self.block.is_none()
    }
}

/// What is wrong with a text, and what was expected instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::bigip) enum Problem {
    #[error("expected {}: the text ends in the middle of this stanza", Braces(*braces))]
    CutOff { braces: usize },
    #[error("expected `}}` before the next stanza begins")]
    Unclosed,
    #[error("expected `\"`: the value that begins here has no end")]
    OpenQuote { at: Position },
    #[error("expected at most {MAX_DEPTH} blocks within each other")]
    TooDeep { at: Position },
    #[error("expected a stanza: this `}}` closes nothing")]
    StrayBrace { at: Position },
}

struct Braces(usize);

impl fmt::Display for Braces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("`\"`"),
            1 => f.write_str("`}`"),
            n => write!(f, "`}}` {n} times"),
        }
    }
}

/// A [`Problem`], and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bigip) struct SyntaxError {
    pub(in crate::bigip) problem: Problem,
    pub(in crate::bigip) at: Position,
}

/// Reads one line, with the lines of the blocks that begin in it.
///
/// # Errors
///
/// The blocks are not closed, or another problem. What follows in the text can be read.
pub(in crate::bigip) fn line<'a>(scanner: &mut Scanner<'a>, dialect: Dialect) -> Result<Vec<Node<'a>>, SyntaxError> {
    let start = scanner.position();
    nodes(scanner, dialect).map_err(|problem| {
        let at = match problem {
            Problem::CutOff { .. } | Problem::Unclosed => start,
            Problem::OpenQuote { at } | Problem::TooDeep { at } | Problem::StrayBrace { at } => at,
        };
        SyntaxError { problem, at }
    })
}

fn nodes<'a>(scanner: &mut Scanner<'a>, dialect: Dialect) -> Result<Vec<Node<'a>>, Problem> {
    // The nodes around the present block: those before it, and the node that it belongs to.
    let mut outer: Vec<(Vec<Node<'a>>, Node<'a>)> = Vec::new();
    let (mut nodes, mut node) = (Vec::new(), Node::default());
    loop {
        // Only a whole command has comments in its lines.
        let token = scanner.next(if outer.is_empty() { dialect } else { Dialect::Stanza })?;
        match token {
            Token::Word(word) => node.words.push(word),
            Token::Open(at) if outer.len() == MAX_DEPTH => return Err(Problem::TooDeep { at }),
            Token::Open(_) => outer.push((std::mem::take(&mut nodes), std::mem::take(&mut node))),
            Token::Close(at) => {
                let (before, owner) = outer.pop().ok_or(Problem::StrayBrace { at })?;
                end(&mut nodes, &mut node);
                let block = std::mem::replace(&mut nodes, before);
                nodes.push(Node { block: Some(block), ..owner });
            }
            Token::Newline if outer.is_empty() => break,
            Token::Newline => end(&mut nodes, &mut node),
            Token::Header if outer.is_empty() => break,
            Token::Header => return Err(Problem::Unclosed),
            Token::End if outer.is_empty() => break,
            Token::End => return Err(Problem::CutOff { braces: outer.len() }),
        }
    }
    end(&mut nodes, &mut node);
    Ok(nodes)
}

fn end<'a>(nodes: &mut Vec<Node<'a>>, node: &mut Node<'a>) {
    if !node.is_empty() {
        nodes.push(std::mem::take(node));
    }
}
