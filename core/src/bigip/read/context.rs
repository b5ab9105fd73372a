//! What the properties of one BIG-IP's objects are read with.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use super::part::{self, Object, Value, location};
use crate::{
    bigip::device::{Address, ObjectName, Setting, Unread},
    types::location::Location,
};

/// The partitions of a BIG-IP, and the problems found so far.
#[derive(Debug, Default)]
pub(super) struct Context {
    pub(super) partitions: BTreeSet<String>,
    /// The default route domains that are not 0.
    pub(super) route_domains: BTreeMap<String, u16>,
    pub(super) unread: Vec<Unread>,
}

impl Context {
    /// The absolute form of a name in `object`, or of its own name.
    pub(super) fn name(&self, text: &str, object: &Object<'_>) -> ObjectName {
        part::absolute(text, &object.folder, &self.partitions)
    }

    /// The route domain of addresses without one, in this object.
    pub(super) fn route_domain(&self, object: &Object<'_>) -> u16 {
        let name = self.name(&object.name, object);
        let partition = name.absolute().trim_start_matches('/').split('/').next().unwrap_or_default();
        self.route_domains.get(partition).copied().unwrap_or(0)
    }

    pub(super) fn parse<T: FromStr>(
        &mut self,
        text: &str,
        at: &Location,
        object: &Object<'_>,
        property: &str,
        expected: &str,
    ) -> Option<T> {
        let value = text.parse().ok();
        if value.is_none() {
            self.unread(at.clone(), object, property, format_args!("{text:?} is not {expected}"));
        }
        value
    }

    pub(super) fn unread(&mut self, at: Location, object: &Object<'_>, property: &str, problem: impl fmt::Display) {
        let (kind, name) = (object.kind.words(), self.name(&object.name, object));
        self.unread.push(Unread { at, problem: format!("{kind} {name}, {property}: {problem}") });
    }

    /// A property that is a number.
    pub(super) fn number<T: FromStr>(
        &mut self,
        object: &Object<'_>,
        property: &str,
        default: T,
        expected: &str,
    ) -> Setting<T> {
        let read = word(object, property)
            .and_then(|(text, at)| Some((self.parse(text, &at, object, property, expected)?, at)));
        match read {
            Some((value, at)) => Setting { value, at, is_default: false },
            None => self::default(default, &object.location()),
        }
    }

    /// A property that is an address; `None` for `any`, and for an address that is not IPv4.
    pub(super) fn address(&mut self, object: &Object<'_>, property: &str) -> Setting<Option<Address>> {
        let Some((text, at)) = word(object, property) else { return default(None, &object.location()) };
        match HostAddress::read(text, self.route_domain(object)) {
            Some(HostAddress::V4(address)) => Setting { value: Some(address), at, is_default: false },
            Some(HostAddress::Any | HostAddress::V6) => Setting { value: None, at, is_default: false },
            None => {
                self.unread(at.clone(), object, property, format_args!("{text:?} is not an address"));
                default(None, &at)
            }
        }
    }

    /// A property that names another object.
    pub(super) fn reference(&self, object: &Object<'_>, property: &str) -> Option<Setting<ObjectName>> {
        let (text, at) = word(object, property).filter(|(text, _)| *text != "none")?;
        Some(Setting { value: self.name(text, object), at, is_default: false })
    }
}

/// BIG-IP's default, or what stands for a value that cannot be read.
pub(super) fn default<T>(value: T, at: &Location) -> Setting<T> {
    Setting { value, at: at.clone(), is_default: true }
}

/// A property with one word as its value.
pub(super) fn word<'o>(object: &'o Object<'_>, property: &str) -> Option<(&'o str, Location)> {
    match part::property(&object.body, property)?.1 {
        Value::Word(word) => Some((&word.text, location(&object.files, word.at))),
        Value::Block(_) | Value::Edit(..) | Value::Flag => None,
    }
}

/// The address of a host, or `any`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostAddress {
    V4(Address),
    Any,
    V6,
}

impl HostAddress {
    /// `10.20.121.12`, `10.20.121.12%20`, `any`, `any6%1`, `none`.
    pub(super) fn read(text: &str, route_domain: u16) -> Option<Self> {
        let (text, route_domain) = split_domain(text, route_domain)?;
        if matches!(text, "any" | "any6" | "none" | "::" | "0.0.0.0") {
            return Some(Self::Any);
        }
        match text.parse().ok()? {
            std::net::IpAddr::V4(ip) => Some(Self::V4(Address { ip, route_domain })),
            std::net::IpAddr::V6(_) => Some(Self::V6),
        }
    }
}

/// A network, or an address with the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    V4(ipnet::Ipv4Net, u16),
    V6,
}

impl Network {
    /// `10.1.6.34%20/24`, `10.0.0.0/255.255.0.0`, `default`; without a length, one address.
    pub(super) fn read(text: &str, route_domain: u16) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let (address, route_domain) = split_domain(address, route_domain)?;
        match address {
            "default" | "any" => return Some(Self::V4(ipnet::Ipv4Net::default(), route_domain)),
            "default-inet6" | "any6" => return Some(Self::V6),
            _ => {}
        }
        let std::net::IpAddr::V4(ip) = address.parse().ok()? else { return Some(Self::V6) };
        let net = match length {
            None => ipnet::Ipv4Net::new(ip, 32),
            Some(length) if length.contains('.') => ipnet::Ipv4Net::with_netmask(ip, length.parse().ok()?),
            Some(length) => ipnet::Ipv4Net::new(ip, length.parse().ok()?),
        };
        Some(Self::V4(net.ok()?, route_domain))
    }
}

fn split_domain(text: &str, default: u16) -> Option<(&str, u16)> {
    match text.split_once('%') {
        None => Some((text, default)),
        Some((text, domain)) => Some((text, domain.parse().ok()?)),
    }
}
