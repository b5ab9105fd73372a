//! A recording of a terminal in the form of asciinema (asciicast v2): a header, and what appears at which moment, each as a line of JSON.
//! The moments come from constants, so that a recording depends only on what appears.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

const WIDTH: usize = 100;
const HEIGHT: usize = 32;
/// Milliseconds between two keys, from Enter to the output, and to read it.
const KEY: u64 = 35;
const ANSWER: u64 = 400;
const READING: u64 = 3000;

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Cast {
    /// Milliseconds since the start.
    now: u64,
    events: Vec<(u64, String)>,
}

impl Cast {
    /// Somebody types this line.
    pub(crate) fn types(&mut self, line: &str) {
        self.shows("$ ");
        for key in line.chars() {
            self.now += KEY;
            self.shows(&key.to_string());
        }
        self.now += ANSWER;
        self.shows("\r\n");
    }

    /// The output of the last command, and time to read it.
    pub(crate) fn prints(&mut self, output: &str) {
        if !output.is_empty() {
            self.shows(&output.replace('\n', "\r\n"));
            self.now += READING;
        }
    }

    fn shows(&mut self, text: &str) {
        self.events.push((self.now, text.to_owned()));
    }

    pub(crate) fn file(&self, title: &str) -> String {
        // No time stamp, which would be another one each time.
        let header = json!({"version": 2, "width": WIDTH, "height": HEIGHT, "title": title});
        let event = |(at, text): &(u64, String)| {
            let seconds = f64::from(u32::try_from(*at).unwrap_or(u32::MAX)) / 1000.0;
            format!("{}\n", json!([seconds, "o", text]))
        };
        self.events.iter().fold(format!("{header}\n"), |file, recorded| file + &event(recorded))
    }
}

/// Reads a recording as a player does, and returns everything that it shows. It may last two minutes.
pub(crate) fn play(file: &str) -> Result<String> {
    let mut lines = file.lines().map(serde_json::from_str::<Value>);
    let header = lines.next().context("no header")??;
    ensure!(header["version"] == 2 && header["width"] == WIDTH && header["height"] == HEIGHT, "{header}");
    let (mut last, mut shown) = (0.0, String::new());
    for event in lines {
        let (at, kind, text): (f64, String, String) = serde_json::from_value(event?)?;
        ensure!(kind == "o" && at >= last, "{at} {kind} after {last}");
        (last, shown) = (at, shown + &text);
    }
    ensure!(last < 120.0, "it takes {last} s");
    Ok(shown)
}
