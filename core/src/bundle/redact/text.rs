//! Addresses in texts: JSON, logs, headers of C.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;

use super::Redactor;
use crate::types::mac::Mac;

impl Redactor {
    /// Replaces every address and the node's name.
    #[must_use]
    pub fn text(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            let (replaced, length) = match self.at_start(&out, text, rest) {
                Some(found) => found,
                None => (next.to_string(), next.len_utf8()),
            };
            out += &replaced;
            rest = rest.get(length..).unwrap_or_default();
        }
        self.replace_names(&out)
    }

    /// The replacement of the address with which `rest` begins, and the length of that address.
    fn at_start(&mut self, out: &str, text: &str, rest: &str) -> Option<(String, usize)> {
        let before = text.get(..text.len() - rest.len()).unwrap_or_default();
        rest.chars().next().filter(|c| c.is_ascii_hexdigit() || *c == ':')?;
        let is_in_word = before.ends_with(|c: char| c.is_ascii_alphanumeric());
        if let Some((mac, length)) = mac(rest).filter(|_| !before.ends_with(|c: char| c.is_ascii_hexdigit())) {
            return Some((self.mac(mac).to_string(), length));
        }
        if let Some((address, length)) = ipv4(rest, '.').filter(|_| !is_in_number(before)) {
            let prefix_len = prefix_len(rest.get(length..).unwrap_or_default());
            return Some((self.network(address, prefix_len).to_string(), length));
        }
        if out.ends_with("ip-") {
            // The name of a node in a cloud.
            let (address, length) = ipv4(rest, '-')?;
            return Some((self.ipv4(address).to_string().replace('.', "-"), length));
        }
        let (address, length) = ipv6(rest).filter(|_| !is_in_word && !is_behind_group(before))?;
        Some((self.ip(address.into()).to_string(), length))
    }

    /// The address before a prefix length.
    fn network(&mut self, address: Ipv4Addr, prefix_len: Option<u8>) -> Ipv4Addr {
        match prefix_len.and_then(|length| Ipv4Net::new(address, length).ok()) {
            Some(net) => self.net(net).addr(),
            None => self.ipv4(address),
        }
    }

    fn replace_names(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, replacement) in &self.names {
            let mut out = String::with_capacity(text.len());
            let mut rest = text.as_str();
            while let Some((before, after)) = rest.split_once(name.as_str()) {
                // A longer name is another one.
                let is_whole = !before.ends_with(is_of_name) && !after.starts_with(is_of_name);
                out += before;
                out += if is_whole { replacement } else { name };
                rest = after;
            }
            text = out + rest;
        }
        text
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-'
}

/// Behind a digit, or behind a digit and a dot: the middle of a longer number, such as that of an object.
fn is_in_number(before: &str) -> bool {
    let before = before.strip_suffix('.').unwrap_or(before);
    before.ends_with(|c: char| c.is_ascii_digit())
}

/// Behind a group of IPv6 and its colon: the middle of something longer, which is no address.
fn is_behind_group(before: &str) -> bool {
    let Some(before) = before.strip_suffix(':') else { return false };
    let word = before.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    word.len() <= 4 && word.chars().all(|c| c.is_ascii_hexdigit())
}

/// A MAC in one of its notations, and its length.
fn mac(text: &str) -> Option<(Mac, usize)> {
    // `00:50:56:a0:7d:d8`, `00-50-…`, and `0050.56a0.7dd8`.
    [17, 14].into_iter().find_map(|length| {
        let mac = text.get(..length)?.parse().ok()?;
        let after = text.get(length..)?;
        // Longer ones are addresses of another kind.
        let mut next = after.chars();
        let is_longer = match (next.next(), next.next()) {
            (Some(c), _) if c.is_ascii_hexdigit() => true,
            (Some(':' | '-'), Some(c)) => c.is_ascii_hexdigit(),
            (_, _) => false,
        };
        (!is_longer).then_some((mac, length))
    })
}

/// Four numbers with this separator, and their length.
fn ipv4(text: &str, separator: char) -> Option<(Ipv4Addr, usize)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != separator).unwrap_or(text.len());
    let run = text.get(..end)?;
    // A full stop ends a sentence.
    let run = run.trim_end_matches(separator);
    let octets: Vec<u8> = run.split(separator).map(str::parse).collect::<Result<_, _>>().ok()?;
    let octets: [u8; 4] = octets.try_into().ok()?;
    Some((octets.into(), run.len()))
}

/// An IPv6 address, and its length.
fn ipv6(text: &str) -> Option<(Ipv6Addr, usize)> {
    let end = text.find(|c: char| !c.is_ascii_hexdigit() && c != ':' && c != '.').unwrap_or(text.len());
    let run = text.get(..end)?;
    let trimmed = run.trim_end_matches(['.', ':']);
    // `fe80::` ends with its colons.
    // The path of a module may look like one: `client::client`.
    let is_in_word = text.get(end..)?.starts_with(|c: char| c.is_ascii_alphanumeric());
    [run, trimmed].into_iter().filter(|_| !is_in_word).find_map(|run| Some((run.parse().ok()?, run.len())))
}

/// The prefix length that an address has behind it: `/24`.
fn prefix_len(after: &str) -> Option<u8> {
    let digits = after.strip_prefix('/')?.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}
