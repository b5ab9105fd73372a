//! Addresses in texts: JSON, logs, headers of C.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::Bound,
};

use ipnet::Ipv4Net;

use super::Redactor;
use crate::types::mac::Mac;

impl Redactor {
    /// Replaces every address and every name that it was given.
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
        if let Some(mac) = mac_in_name(before, rest) {
            return Some((self.mac(mac).to_string().replace(':', ""), IN_NAME));
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

    /// In one pass, because a replacement may be the name of another node.
    fn replace_names(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        let mut is_in_name = false;
        while let Some(next) = rest.chars().next() {
            // A longer name is another one.
            let found = if is_in_name { None } else { self.name_at(rest) };
            let (length, replacement) = found.unwrap_or((next.len_utf8(), &rest[..next.len_utf8()]));
            out += replacement;
            is_in_name = found.is_some() || is_of_name(next);
            rest = &rest[length..];
        }
        out
    }

    /// The longest name with which `rest` begins: its length, and its replacement.
    fn name_at(&self, rest: &str) -> Option<(usize, &str)> {
        // Every name that `rest` begins with is in front of it in the order of texts; so is every one that a shorter beginning begins with.
        let mut bound = rest;
        while !bound.is_empty() {
            let mut before = self.names.range::<str, _>((Bound::Unbounded, Bound::Included(bound)));
            let (name, replacement) = before.next_back()?;
            match rest.strip_prefix(name.as_str()) {
                Some(after) if !after.starts_with(is_of_name) => return Some((name.len(), replacement)),
                Some(_) => bound = shorter(&rest[..name.len()]),
                None => bound = common(name, bound),
            }
        }
        None
    }
}

fn shorter(text: &str) -> &str {
    let mut chars = text.chars();
    chars.next_back();
    chars.as_str()
}

/// The beginning of `text` that `other` also has.
fn common<'t>(other: &str, text: &'t str) -> &'t str {
    let length: usize =
        text.chars().zip(other.chars()).take_while(|(one, other)| one == other).map(|(c, _)| c.len_utf8()).sum();
    &text[..length]
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

/// The digits of a MAC in the name of a device.
const IN_NAME: usize = 12;

/// The MAC with which `text` begins, behind `enx`: systemd names devices after their MACs.
fn mac_in_name(before: &str, text: &str) -> Option<Mac> {
    let is_of_word = |c: char| c.is_ascii_alphanumeric();
    let kind = before.rsplit(|c: char| !is_of_word(c)).next()?;
    let digits = text.get(..IN_NAME).filter(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()))?;
    if !["enx", "wlx", "wwx"].contains(&kind) || text.get(IN_NAME..)?.starts_with(is_of_word) {
        return None;
    }
    let [_, _, octets @ ..] = u64::from_str_radix(digits, 16).ok()?.to_be_bytes();
    Some(Mac::new(octets))
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
