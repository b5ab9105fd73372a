//! The progress of a round, on a terminal: a bar on standard error, so that the output stays clean.

use std::io::{self, IsTerminal, Write};

/// The width of the bar, in columns.
const WIDTH: usize = 40;

/// It disappears when it is dropped, also by an interruption.
pub(super) struct Progress {
    /// What is counted: `nodes asked`.
    what: &'static str,
    is_terminal: bool,
    /// The filled columns that were drawn last.
    drawn: Option<usize>,
}

impl Progress {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, is_terminal: io::stderr().is_terminal(), drawn: None }
    }

    /// A failed write costs only the bar.
    pub(super) fn show(&mut self, done: usize, of: usize) {
        let filled = filled(done, of);
        if self.is_terminal && (self.drawn != Some(filled) || done == of) {
            self.drawn = Some(filled);
            let _ = write!(io::stderr(), "\r{}", line(self.what, done, of));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn filled(done: usize, of: usize) -> usize {
    (WIDTH * done).checked_div(of).unwrap_or(WIDTH)
}

fn line(what: &str, done: usize, of: usize) -> String {
    let filled = filled(done, of);
    format!("[{}{}] {done} of {of} {what}", "#".repeat(filled), " ".repeat(WIDTH - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_grows_to_its_end() {
        assert_eq!(line("nodes asked", 0, 500), format!("[{}] 0 of 500 nodes asked", " ".repeat(WIDTH)));
        assert_eq!(
            line("nodes asked", 250, 500),
            format!("[{}{}] 250 of 500 nodes asked", "#".repeat(20), " ".repeat(20))
        );
        assert_eq!(line("bundles made", 0, 0), format!("[{}] 0 of 0 bundles made", "#".repeat(WIDTH)));
        assert!(line("nodes asked", 9999, 10000).chars().count() < 80);
    }
}
