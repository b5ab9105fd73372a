//! A capture in words: one line for each frame, and for each question whether it was answered.

mod answers;
mod words;

use jiff::{SignedDuration, Timestamp};

use self::answers::{Answers, Outcome};
use super::{Capture, Captured, Direction, Known, packet::Packet};

/// One line for each frame, in the order of time.
#[must_use]
pub fn explain(capture: &Capture, known: &Known) -> Vec<String> {
    let decoded: Vec<_> = capture.frames.iter().map(|captured| (captured, captured.decode(known.tunnel))).collect();
    let answers = Answers::of(&decoded, capture.ended);
    let begin = decoded.first().map_or(capture.ended, |(captured, _)| captured.at);
    let width = capture.interfaces.iter().map(|interface| interface.name.len()).max().unwrap_or_default();
    let line = |(captured, packet): &(&Captured, Packet)| {
        let interface = capture.interfaces.get(captured.interface).map_or("?", |interface| interface.name.as_str());
        let direction = match captured.direction {
            Direction::In => "in ",
            Direction::Out => "out",
        };
        let words = words::of(packet, captured.direction, known);
        let outcome = answers.outcome(captured, packet).map(|outcome| outcome_words(outcome, captured, packet, known));
        let probe = packet.probe(captured.direction, known).map(|words| format!(" [{words}]")).unwrap_or_default();
        let seconds = since(begin, captured.at).as_secs_f64();
        format!("{seconds:>10.6} {interface:<width$} {direction} {words}{}{probe}", outcome.unwrap_or_default())
    };
    decoded.iter().map(line).collect()
}

fn since(begin: Timestamp, at: Timestamp) -> SignedDuration {
    at.duration_since(begin)
}

/// What became of a question.
fn outcome_words(outcome: Outcome, captured: &Captured, packet: &Packet, known: &Known) -> String {
    let is_asked_of_us = matches!(packet, Packet::Tunnel(_)) && captured.direction == Direction::In;
    match outcome {
        Outcome::Answered(after) => format!("; answered after {:.2} ms", after.as_secs_f64() * 1e3),
        Outcome::Open => "; the capture ends before an answer".to_owned(),
        Outcome::Unanswered if is_asked_of_us || words::is_on_tunnel_device(packet, known) => {
            "; nobody on this node answers".to_owned()
        }
        Outcome::Unanswered => "; nobody answers".to_owned(),
    }
}

#[cfg(test)]
mod tests;
