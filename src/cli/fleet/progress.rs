//! The progress of a round, on a terminal: a bar on standard error, so that the output stays clean.

use std::io::{self, IsTerminal, Write};

/// The width of the bar, in columns.
const WIDTH: usize = 40;

pub(super) struct Progress {
    is_terminal: bool,
    /// The filled columns that were drawn last.
    drawn: Option<usize>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), drawn: None }
    }

    /// A failed write costs only the bar.
    pub(super) fn show(&mut self, done: usize, of: usize) {
        let filled = filled(done, of);
        if self.is_terminal && (self.drawn != Some(filled) || done == of) {
            self.drawn = Some(filled);
            let _ = write!(io::stderr(), "\r{}", line(done, of));
        }
    }

    /// Removes the bar.
    pub(super) fn clear(&mut self) {
        if self.drawn.take().is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn filled(done: usize, of: usize) -> usize {
    (WIDTH * done).checked_div(of).unwrap_or(WIDTH)
}

fn line(done: usize, of: usize) -> String {
    let filled = filled(done, of);
    format!("[{}{}] {done} of {of} nodes asked", "#".repeat(filled), " ".repeat(WIDTH - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_grows_to_its_end() {
        assert_eq!(line(0, 500), format!("[{}] 0 of 500 nodes asked", " ".repeat(WIDTH)));
        assert_eq!(line(250, 500), format!("[{}{}] 250 of 500 nodes asked", "#".repeat(20), " ".repeat(20)));
        assert_eq!(line(0, 0), format!("[{}] 0 of 0 nodes asked", "#".repeat(WIDTH)));
        assert!(line(9999, 10000).chars().count() < 80);
    }
}
