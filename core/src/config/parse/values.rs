//! Parses single values: one endpoint, CIDR, MAC or mask. A wrong value becomes a complaint in plain words.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, ipv4_mask_to_prefix};

use crate::{
    config::{
        finding::{Finding, Rule, Severity},
        spec::is_unicast,
    },
    types::mac::Mac,
};

/// A valid value, possibly with a warning that a person should check.
#[derive(Debug)]
pub(in crate::config) struct Read<T> {
    pub(in crate::config) value: T,
    pub(in crate::config) warning: Option<Complaint>,
}

/// A finding that has no place yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Complaint {
    pub(in crate::config) rule: Rule,
    pub(in crate::config) severity: Severity,
    pub(in crate::config) problem: String,
    remedy: String,
}

impl Complaint {
    pub(in crate::config) fn new(rule: Rule, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { rule, severity: rule.severity(), problem: problem.into(), remedy: remedy.into() }
    }

    pub(in crate::config) fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The same complaint as a warning, with the reason why it is only a warning.
    pub(in crate::config) fn softened(self, why: &str) -> Self {
        Self { severity: Severity::Warning, problem: format!("{}; {why}", self.problem), ..self }
    }

    pub(in crate::config) fn about(self, key: &str, index: Option<usize>, value: &str) -> Finding {
        let Self { rule, severity, problem, remedy } = self;
        Finding { severity, ..Finding::new(rule, key, index, Some(value), problem, remedy) }
    }
}

/// The value in quotes for a message: control characters are escaped, and a long value is cut.
pub(in crate::config) fn quote(value: &str) -> String {
    const SHOWN: usize = 64;
    let shown: String = value.chars().take(SHOWN).flat_map(char_shown).collect();
    let more = if value.chars().nth(SHOWN).is_some() { "…" } else { "" };
    let mark = if shown.contains('"') { '`' } else { '"' };
    format!("{mark}{shown}{more}{mark}")
}

fn char_shown(c: char) -> Box<dyn Iterator<Item = char>> {
    if c.is_control() || is_invisible(c) { Box::new(c.escape_default()) } else { Box::new(std::iter::once(c)) }
}

/// Format characters (Unicode's Cf) that come with text from documents and chats.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

/// Who is at the far end of the tunnel, as far as a source tells: it decides the words of a complaint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum FarEnd {
    /// The lists of `cilium-config` are for BIG-IPs.
    BigIp,
    /// A custom resource may be for any gateway.
    Gateway,
}

impl FarEnd {
    const fn name(self) -> &'static str {
        match self {
            Self::BigIp => "BIG-IP",
            Self::Gateway => "gateway",
        }
    }

    const fn address(self) -> &'static str {
        match self {
            Self::BigIp => "write the BIG-IP's self IP on the underlay, e.g. 10.169.72.34",
            Self::Gateway => "write the gateway's address on the underlay, e.g. 10.169.72.34",
        }
    }

    /// Where a person finds the MAC, for the end of a sentence.
    const fn source_of_mac(self) -> &'static str {
        match self {
            Self::BigIp => ", as `tmsh show net tunnels tunnel … all-properties` prints it",
            Self::Gateway => "",
        }
    }
}

/// Parses an address on the underlay that the far end can have.
pub(in crate::config) fn endpoint(value: &str, far_end: FarEnd) -> Result<Read<Ipv4Addr>, Complaint> {
    let (shown, example) = (quote(value), far_end.address());
    let invalid =
        |remedy: String| Complaint::new(Rule::VtepEndpointInvalid, format!("{shown} is not an IP address"), remedy);
    if let Some(complaint) = disfigured(Rule::VtepEndpointInvalid, value) {
        return Err(complaint);
    }
    if is_ipv6(value) {
        let problem = format!("{shown} is an IPv6 address, and VTEPs are IPv4 only");
        return Err(Complaint::new(Rule::VtepEndpointNotIpv4, problem, example));
    }
    match value.parse::<Ipv4Addr>() {
        Ok(address) if is_unicast(address) => Ok(Read { value: address, warning: None }),
        Ok(_) => {
            let problem = format!("{shown} is not a unicast address, so no {} can have it", far_end.name());
            Err(Complaint::new(Rule::VtepEndpointNotUnicast, problem, example))
        }
        Err(_) => Err(invalid(match lenient_address(value) {
            Some(address) => {
                format!("write {address}: the address alone, without prefix length, port or leading zeros")
            }
            None => example.to_owned(),
        })),
    }
}

/// Parses a network and removes its host bits. The mask is used only for suggestions.
pub(in crate::config) fn cidr(value: &str, mask: Ipv4Addr, far_end: FarEnd) -> Result<Read<Ipv4Net>, Complaint> {
    let shown = quote(value);
    if let Some(complaint) = disfigured(Rule::VtepCidrInvalid, value) {
        return Err(complaint);
    }
    let (address, length) = match value.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (value, None),
    };
    let example = suggested_cidr(address, length, mask);
    if is_ipv6(address) {
        let problem = format!("{shown} is an IPv6 network, and VTEPs are IPv4 only");
        let remedy = format!("write the {}'s IPv4 tunnel network, e.g. 10.1.6.0/24", far_end.name());
        return Err(Complaint::new(Rule::VtepCidrNotIpv4, problem, remedy));
    }
    let net = address.parse().ok().zip(length.and_then(prefix_length));
    let Some(net) = net.and_then(|(address, length)| Ipv4Net::new(address, length).ok()) else {
        let problem = match length {
            None if address.parse::<Ipv4Addr>().is_ok() => format!("{shown} has no prefix length"),
            None | Some(_) => format!("{shown} is not a network in CIDR notation"),
        };
        return Err(Complaint::new(Rule::VtepCidrInvalid, problem, format!("write e.g. {example}")));
    };
    let warning = (net.trunc() != net).then(|| {
        let problem = format!("{shown} has host bits, and is read as {}", net.trunc());
        Complaint::new(Rule::VtepCidrHostBits, problem, format!("write the network, {}", net.trunc()))
    });
    Ok(Read { value: net.trunc(), warning })
}

/// The network that the writer most likely meant.
fn suggested_cidr(address: &str, length: Option<&str>, mask: Ipv4Addr) -> String {
    let written = length.and_then(|length| {
        prefix_length(length).or_else(|| length.parse().ok().and_then(|mask| ipv4_mask_to_prefix(mask).ok()))
    });
    let length = written.unwrap_or_else(|| ipv4_mask_to_prefix(mask).unwrap_or(24));
    let net = lenient_address(address).and_then(|address| Ipv4Net::new(address, length).ok());
    net.map_or_else(|| "10.1.6.0/24".to_owned(), |net| net.trunc().to_string())
}

/// Parses the MAC of the far end's tunnel.
pub(in crate::config) fn mac(value: &str, far_end: FarEnd) -> Result<Read<Mac>, Complaint> {
    const PLACEHOLDER: Mac = Mac::new([0x00, 0x98, 0x76, 0x54, 0x32, 0x10]);
    let (shown, name, source) = (quote(value), far_end.name(), far_end.source_of_mac());
    if let Some(complaint) = disfigured(Rule::VtepMacInvalid, value) {
        return Err(complaint);
    }
    let Ok(mac) = value.parse::<Mac>() else {
        let remedy = match bare_mac(value) {
            Some(mac) => format!("write {mac}, with colons"),
            None => format!("write six octets, e.g. 00:50:56:a0:7d:d8{source}"),
        };
        return Err(Complaint::new(Rule::VtepMacInvalid, format!("{shown} is not a MAC address"), remedy));
    };
    let remedy = format!("write the MAC of the {name}'s tunnel{source}");
    if mac.is_zero() {
        let problem = format!("{shown} is the zero MAC, which the datapath reads as \"no entry\"");
        return Err(Complaint::new(Rule::VtepMacZero, problem, remedy));
    }
    let warning = if mac.is_multicast() {
        let problem = format!(
            "{shown} is a group address (its first octet is odd): no {name} interface can own it, ping may pass, and TCP does not"
        );
        Some(Complaint::new(Rule::VtepMacMulticast, problem, remedy))
    } else if mac == PLACEHOLDER {
        let problem = format!("{shown} is the placeholder that a BIG-IP VE on virtio shows before it has a MAC");
        Some(Complaint::new(Rule::VtepMacPlaceholder, problem, remedy))
    } else {
        None
    };
    Ok(Read { value: mac, warning })
}

/// Twelve digits without separators.
fn bare_mac(value: &str) -> Option<Mac> {
    let digits = (value.len() == 12).then(|| u64::from_str_radix(value, 16).ok()).flatten()?;
    let [_, _, octets @ ..] = digits.to_be_bytes();
    Some(Mac::new(octets))
}

/// Parses a netmask in dotted notation; it must be contiguous and not empty.
pub(in crate::config) fn mask(value: &str, suggestion: Ipv4Addr) -> Result<Ipv4Addr, Complaint> {
    let shown = quote(value);
    if let Some(complaint) = disfigured(Rule::VtepMaskInvalid, value) {
        return Err(complaint);
    }
    if let Some(mask) = value.parse().ok().filter(|&mask| ipv4_mask_to_prefix(mask).is_ok_and(|length| length > 0)) {
        return Ok(mask);
    }
    let meant = value.strip_prefix('/').or(Some(value)).and_then(prefix_length).filter(|&length| length > 0);
    let remedy = format!("write {}", meant.map_or(suggestion, netmask));
    let problem = match (meant, value.parse::<Ipv4Addr>()) {
        (Some(_), _) => format!("{shown} is a prefix length, and Cilium wants a netmask in dotted notation"),
        (None, Ok(Ipv4Addr::UNSPECIFIED)) => format!("{shown} would make all addresses one VTEP"),
        (None, Ok(_)) => format!("{shown} is not a netmask: its bits are not contiguous"),
        (None, Err(_)) => format!("{shown} is not an IPv4 netmask"),
    };
    Err(Complaint::new(Rule::VtepMaskInvalid, problem, remedy))
}

/// The mask of a prefix length up to 32.
pub(in crate::config) fn netmask(length: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0))
}

/// The address that the writer probably meant, without quotes, prefix length, port, zone and leading zeros.
pub(in crate::config) fn lenient_address(value: &str) -> Option<Ipv4Addr> {
    let unquoted = value.trim_matches(is_quote);
    let address = unquoted.split_once(['/', ':', '%']).map_or(unquoted, |(address, _)| address);
    let octets: Option<Vec<u8>> = address.split('.').map(decimal).collect();
    <[u8; 4]>::try_from(octets?).ok().map(Ipv4Addr::from)
}

fn prefix_length(text: &str) -> Option<u8> {
    decimal(text).filter(|&length| length <= 32)
}

fn decimal(text: &str) -> Option<u8> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Accepts also the mapped form of an IPv4 address, and an address with a zone.
fn is_ipv6(text: &str) -> bool {
    text.split_once('%').map_or(text, |(address, _)| address).parse::<Ipv6Addr>().is_ok()
}

/// A value with signs that belong to none.
fn disfigured(rule: Rule, value: &str) -> Option<Complaint> {
    if value.starts_with('#') {
        let problem = format!("{} begins a comment, and Cilium reads each word of it as a value", quote(value));
        return Some(Complaint::new(rule, problem, "remove the comment"));
    }
    let (sign, remedy) = if value.contains(is_quote) {
        ("a quotation mark that is part of the value", "remove the quotes inside the value")
    } else if value.contains(is_invisible) {
        ("an invisible character", "type the value again")
    } else if value.contains(';') {
        ("a semicolon, which separates no values", "separate them with blanks")
    } else {
        return None;
    };
    Some(Complaint::new(rule, format!("{} contains {sign}", quote(value)), remedy))
}

pub(in crate::config) fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '`' | '“' | '”' | '‘' | '’')
}
