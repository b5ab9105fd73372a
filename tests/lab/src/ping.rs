//! Pings between hosts of the lab, with iputils.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result};

use crate::host::Host;

/// The time that ping waits for the last answer.
const LINGER: &str = "0.5";

/// The result of a ping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PingResult {
    pub sent: u32,
    pub received: u32,
    /// The mean round-trip time of the answered requests.
    pub rtt: Option<Duration>,
    /// Ping's error messages, such as "No buffer space available"; usually empty.
    pub errors: String,
}

impl PingResult {
    /// Parses the summary that iputils' ping prints at its end, also when it is interrupted.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let summary = text.lines().find(|line| line.contains("packets transmitted"))?;
        let number = |part: &str| summary.split(", ").find(|item| item.contains(part))?.split(' ').next()?.parse().ok();
        let mean = text
            .lines()
            .find(|line| line.starts_with("rtt "))
            .and_then(|line| line.split('/').nth(4)?.parse::<f64>().ok());
        Some(Self {
            sent: number("transmitted")?,
            received: number("received")?,
            rtt: mean.map(|milliseconds| Duration::from_secs_f64(milliseconds / 1e3)),
            errors: String::new(),
        })
    }

    /// Whether every request was answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.sent > 0 && self.received == self.sent
    }
}

/// Sends `count` echo requests, `interval` apart, and waits for the answers; half a second for the last one.
///
/// # Errors
///
/// Ping could not run, or printed no summary. Unanswered requests are a result, not an error.
pub fn ping(from: &Host, source: Option<Ipv4Addr>, to: Ipv4Addr, count: u32, interval: Duration) -> Result<PingResult> {
    let mut command = from.command("ping");
    command.args(["-n", "-W", LINGER, "-c", &count.to_string(), "-i", &interval.as_secs_f64().to_string()]);
    if let Some(source) = source {
        command.args(["-I", &source.to_string()]);
    }
    let output = command.arg(to.to_string()).output().context("failed to run ping (is iputils-ping installed?)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let result = PingResult::parse(&text).map(|result| PingResult { errors, ..result });
    result.with_context(|| format!("ping from {} to {to} gave no result: {text}", from.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_read() {
        let text = "3 packets transmitted, 2 received, +1 duplicates, 33.3333% packet loss, time 20ms\n\
                    rtt min/avg/max/mdev = 0.031/0.064/0.128/0.045 ms\n";
        let expected = PingResult { sent: 3, received: 2, rtt: Some(Duration::from_micros(64)), errors: String::new() };
        assert_eq!(PingResult::parse(text), Some(expected));
        assert_eq!(PingResult::parse("ping: unknown host"), None);
    }
}
