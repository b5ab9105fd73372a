//! The objects of one BIG-IP that its tunnels consist of, as its configuration or its REST interface shows them.
//!
//! Names are absolute (`/Common/cilium`). Properties that the configuration does not print have BIG-IP's defaults, also through a chain of
//! `defaults-from`. Objects with IPv6 addresses are left out: tunnels to Cilium are IPv4.
//!
//! Source: F5, "BIG-IP TMSH Reference", components `net tunnels`, `net self`, `net route`, `net fdb`, `net arp`.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr, sync::Arc};

use ipnet::Ipv4Net;

use crate::types::{location::Location, mac::Mac};

/// One BIG-IP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its hostname where the input has it, otherwise the file or address that the input came from.
    pub name: String,
    /// The kinds of objects that the input shows completely: what it lacks of these does not exist.
    pub covered: BTreeSet<Component>,
    pub profiles: Vec<Profile>,
    pub tunnels: Vec<Tunnel>,
    pub self_ips: Vec<SelfIp>,
    pub routes: Vec<Route>,
    /// The forwarding databases, by tunnel.
    pub fdb: Vec<Fdb>,
    pub arp: Vec<ArpEntry>,
    /// Properties that were left out because their value cannot be read.
    pub unread: Vec<Unread>,
}

/// A kind of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// `net tunnels vxlan`, `net tunnels geneve`.
    Profiles,
    /// `net tunnels tunnel`.
    Tunnels,
    /// `net self`.
    SelfIps,
    /// `net route`.
    Routes,
    /// `net fdb tunnel`.
    Fdb,
}

impl Component {
    pub const ALL: [Self; 5] = [Self::Profiles, Self::Tunnels, Self::SelfIps, Self::Routes, Self::Fdb];
}

/// The absolute name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(Arc<str>);

impl ObjectName {
    /// `name` as the input writes it; one without a folder belongs to `folder`, for example `/Common`.
    #[must_use]
    pub fn new(name: &str, folder: &str) -> Self {
        if name.starts_with('/') { Self(name.into()) } else { Self(format!("{folder}/{name}").into()) }
    }

    #[must_use]
    pub fn absolute(&self) -> &str {
        &self.0
    }

    /// The name as `tmsh list` shows it in `/Common`.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.strip_prefix("/Common/").unwrap_or(&self.0)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// A property's value, and where it stands. A default that is not printed has the location of its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<T> {
    pub value: T,
    pub at: Location,
    /// The object does not set it: it is BIG-IP's default, or comes from the object's `defaults-from`.
    pub is_default: bool,
}

/// An IPv4 address with its route domain: `10.20.121.12%20`. Without `%`, it is in the default route domain of its partition, which is 0
/// unless the partition says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    pub ip: Ipv4Addr,
    pub route_domain: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ip, route_domain } = self;
        if *route_domain == 0 { write!(f, "{ip}") } else { write!(f, "{ip}%{route_domain}") }
    }
}

/// `net tunnels vxlan`, `net tunnels geneve`, or the profile of another kind of tunnel. BIG-IP's own profiles (`/Common/vxlan`,
/// `/Common/geneve`, …) are among them, also where the input does not print them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub name: ObjectName,
    pub at: Location,
    pub kind: ProfileKind,
    /// UDP; by default 4789 for VXLAN and 6081 for Geneve. 0 for other kinds.
    pub port: Setting<u16>,
    /// By default `multicast` for VXLAN.
    pub flooding: Setting<Flooding>,
}

impl Profile {
    /// Whether it is one of those that every BIG-IP has. Nobody should change these: other tunnels inherit from them.
    #[must_use]
    pub fn is_built_in(&self) -> bool {
        ["geneve", "vxlan", "vxlan-gpe", "vxlan-multipoint", "vxlan-ovsdb"].contains(&self.name.short())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProfileKind {
    Vxlan,
    Geneve,
    /// Another component (`gre`, `ipip`, …), or VXLAN with another `encapsulation-type` (`vxlan-gpe`).
    Other(String),
}

impl fmt::Display for ProfileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::Other(name) => name,
        })
    }
}

/// `flooding-type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flooding {
    None,
    Multicast,
    Multipoint,
    Other(String),
}

impl fmt::Display for Flooding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Multicast => "multicast",
            Self::Multipoint => "multipoint",
            Self::Other(name) => name,
        })
    }
}

/// `net tunnels tunnel`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    pub name: ObjectName,
    pub at: Location,
    /// The VNI; 0 by default.
    pub key: Setting<u32>,
    /// The name of its profile.
    pub profile: Setting<ObjectName>,
    /// `None` for `any`, or an address that is not IPv4.
    pub local_address: Setting<Option<Address>>,
    /// The address of this unit of a pair.
    pub secondary_address: Setting<Option<Address>>,
    /// `None` for `any`.
    pub remote_address: Setting<Option<Address>>,
    /// 0, the default, means that BIG-IP derives it.
    pub mtu: Setting<u16>,
    /// As `show net tunnels tunnel … all-properties` prints it; a configuration does not contain it.
    pub mac: Option<Setting<Mac>>,
}

/// `net self`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfIp {
    pub name: ObjectName,
    pub at: Location,
    /// The address with its prefix length: `10.1.6.34/24`, host bits included.
    pub address: Setting<Ipv4Net>,
    pub route_domain: u16,
    pub allow_service: Setting<AllowService>,
    /// The VLAN or tunnel that has it.
    pub vlan: Setting<ObjectName>,
    /// Its traffic group is not `traffic-group-local-only`: it moves to the other unit of a pair.
    pub is_floating: bool,
}

/// `allow-service`: which packets to itself a self IP accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowService {
    None,
    All,
    /// `default`, which has ICMP, and `proto:port`.
    Some(Vec<String>),
}

/// `net route`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub name: ObjectName,
    pub at: Location,
    /// The default route is 0.0.0.0/0.
    pub network: Setting<Ipv4Net>,
    pub route_domain: u16,
    pub via: Setting<Via>,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// `interface`: a VLAN or a tunnel.
    Interface(ObjectName),
    /// `gw`.
    Gateway(Address),
    /// A pool, a blackhole, a gateway that is not IPv4: as the input writes it.
    Other(String),
}

/// `net fdb tunnel`: the records of one tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fdb {
    pub tunnel: ObjectName,
    pub at: Location,
    pub records: Vec<FdbEntry>,
}

/// A record of a forwarding database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FdbEntry {
    pub mac: Mac,
    pub at: Location,
    /// `None` if the record has none, or one that is not IPv4.
    pub endpoint: Option<Setting<Address>>,
    /// BIG-IP learned it: it is in no configuration.
    pub is_dynamic: bool,
}

/// `net arp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArpEntry {
    pub at: Location,
    pub address: Address,
    /// `None` if BIG-IP asks in vain: `incomplete`.
    pub mac: Option<Mac>,
    pub vlan: Option<ObjectName>,
}

/// A property that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    pub at: Location,
    /// The object, the property, and what is wrong with its value.
    pub problem: String,
}
