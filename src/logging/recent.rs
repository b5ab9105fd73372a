//! The last lines of the log, kept in memory: a container does not see its own log.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use tracing_subscriber::fmt::MakeWriter;

/// The most bytes that are kept: some hours of a quiet agent.
const MOST: usize = 64 << 10;

/// Writes to standard output, and keeps the last lines.
#[derive(Clone, Debug, Default)]
pub struct Recent(Arc<Mutex<VecDeque<u8>>>);

impl Recent {
    /// The lines, oldest first, without colours.
    #[must_use]
    pub fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, second) = lines.as_slices();
        String::from_utf8_lossy(&[first, second].concat()).into_owned()
    }

    fn keep(&self, line: &[u8]) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        anstream::adapter::strip_bytes(line).for_each(|part| lines.extend(part));
        if lines.len() > MOST {
            // Whole lines go.
            let least = lines.len() - MOST;
            let end = lines.iter().skip(least).position(|byte| *byte == b'\n').map_or(lines.len(), |at| least + at + 1);
            lines.drain(..end);
        }
    }
}

impl MakeWriter<'_> for Recent {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Each call has a whole line.
impl Write for Recent {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.keep(line);
        // A log that nobody takes any more must not stop the agent.
        let _ = io::stdout().write_all(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_lines_are_kept_without_colours() {
        let recent = Recent::default();
        recent.keep(b"\x1b[32mfirst\x1b[0m\n");
        assert_eq!(recent.text(), "first\n");
        let line = format!("{}\n", "x".repeat(999));
        (0..100).for_each(|_| recent.keep(line.as_bytes()));
        let text = recent.text();
        assert!(text.len() <= MOST && text.len() > MOST - 2000, "{}", text.len());
        assert!(text.lines().all(|line| line.len() == 999), "whole lines");
        recent.keep(&[b'y'; MOST + 1]);
        assert_eq!(recent.text(), "", "a line without an end that is too long");
    }
}
