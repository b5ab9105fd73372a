//! The objects of one BIG-IP.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde_json::{Value, json};

use crate::objects::{Profile, Route, SelfIp, Tunnel, arp, full, record};

/// A BIG-IP with the objects that each has from the factory: two tunnels that are no overlays, and the profiles `vxlan` and `geneve`.
#[derive(Debug, Clone)]
pub struct Device {
    hostname: String,
    version: &'static str,
    profiles: Vec<Profile>,
    tunnels: Vec<Tunnel>,
    self_ips: Vec<SelfIp>,
    routes: Vec<Route>,
    /// By the full name of the tunnel.
    records: BTreeMap<String, Vec<Value>>,
    arp: Vec<Value>,
    page_size: Option<usize>,
}

/// A collection: the kind of its items without `state` or `collectionstate`, and the items.
pub(crate) struct Collection {
    pub(crate) kind: &'static str,
    pub(crate) items: Vec<Value>,
}

impl Device {
    #[must_use]
    pub fn new(hostname: &str) -> Self {
        Self {
            hostname: hostname.to_owned(),
            version: "16.1.4",
            profiles: vec![
                Profile::vxlan("vxlan").set("defaultsFrom", Value::Null),
                Profile::vxlan("vxlan-multipoint").flooding("multipoint"),
                Profile::geneve("geneve").set("defaultsFrom", Value::Null),
            ],
            tunnels: ["http-tunnel", "socks-tunnel"].map(|name| Tunnel::new(name, "tcp-forward", "any6")).into(),
            self_ips: Vec::new(),
            routes: Vec::new(),
            records: BTreeMap::new(),
            arp: Vec::new(),
            page_size: None,
        }
    }

    /// A BIG-IP with a working tunnel to Cilium, for two nodes.
    #[must_use]
    pub fn cilium() -> Self {
        Self::new("bigip-1.example")
            .profile(Profile::vxlan("cilium_vxlan").port(8472).flooding("multipoint"))
            .tunnel(Tunnel::new("cilium", "cilium_vxlan", "10.169.72.34").key(2))
            .self_ip(SelfIp::new("underlay", "10.169.72.34/24", "internal").allow(&["default"]))
            .self_ip(SelfIp::new("cilium_self", "10.1.6.34/24", "cilium").allow(&["default"]))
            .route(Route::interface("cilium_pods_1", "10.0.0.0/16", "cilium"))
            .route(Route::gateway("default", "default", "10.169.72.1"))
            .record("cilium", "0a:0a:0a:a9:48:ef", "10.169.72.239%0")
            .record("cilium", "0a:0a:0a:a9:48:f0", "10.169.72.240%0")
    }

    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profiles.push(profile);
        self
    }

    #[must_use]
    pub fn tunnel(mut self, tunnel: Tunnel) -> Self {
        self.tunnels.push(tunnel);
        self
    }

    #[must_use]
    pub fn self_ip(mut self, self_ip: SelfIp) -> Self {
        self.self_ips.push(self_ip);
        self
    }

    #[must_use]
    pub fn route(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    /// A record in the FDB of a tunnel. `endpoint` has its route domain, as BIG-IP shows it: `10.169.72.239%0`.
    #[must_use]
    pub fn record(mut self, tunnel: &str, mac: &str, endpoint: &str) -> Self {
        self.records.entry(full(tunnel)).or_default().push(record(mac, endpoint));
        self
    }

    /// So many records, as CIS writes them for the nodes from 10.200.0.1 on.
    #[must_use]
    pub fn nodes(mut self, tunnel: &str, count: u32) -> Self {
        let first = u32::from(Ipv4Addr::new(10, 200, 0, 1));
        for node in (first..first + count).map(Ipv4Addr::from) {
            let [a, b, c, d] = node.octets();
            self = self.record(tunnel, &format!("0a:0a:{a:02x}:{b:02x}:{c:02x}:{d:02x}"), &format!("{node}%0"));
        }
        self
    }

    #[must_use]
    pub fn arp(mut self, address: &str, mac: &str) -> Self {
        self.arp.push(arp(address, mac));
        self
    }

    /// Delivers collections in pages of this size, also if a request has no `$top`.
    #[must_use]
    pub fn page_size(mut self, size: usize) -> Self {
        self.page_size = Some(size);
        self
    }

    pub(crate) fn version(&self) -> &str {
        self.version
    }

    pub(crate) fn forced_page_size(&self) -> Option<usize> {
        self.page_size
    }

    /// The collection at a path, without those inside tunnels.
    pub(crate) fn collection(&self, path: &str) -> Option<Collection> {
        let of_profiles = |is_geneve: bool| {
            self.profiles.iter().filter(|profile| profile.is_geneve() == is_geneve).map(|one| one.0.clone()).collect()
        };
        let (kind, items) = match path {
            "/mgmt/tm/net/tunnels/tunnel" => {
                ("tm:net:tunnels:tunnel:tunnel", self.tunnels.iter().map(|one| one.0.clone()).collect())
            }
            "/mgmt/tm/net/tunnels/vxlan" => ("tm:net:tunnels:vxlan:vxlan", of_profiles(false)),
            "/mgmt/tm/net/tunnels/geneve" => ("tm:net:tunnels:geneve:geneve", of_profiles(true)),
            "/mgmt/tm/net/self" => ("tm:net:self:self", self.self_ips.iter().map(|one| one.0.clone()).collect()),
            "/mgmt/tm/net/route" => ("tm:net:route:route", self.routes.iter().map(|one| one.0.clone()).collect()),
            "/mgmt/tm/net/fdb/tunnel" => {
                ("tm:net:fdb:tunnel:tunnel", self.tunnels.iter().map(|one| fdb(&one.0)).collect())
            }
            "/mgmt/tm/net/arp" => ("tm:net:arp:arp", self.arp.clone()),
            _ => return None,
        };
        Some(Collection { kind, items })
    }

    /// The records of a tunnel, `None` if there is no such tunnel.
    pub(crate) fn records(&self, tunnel: &str) -> Option<Collection> {
        self.tunnels.iter().find(|one| one.0["fullPath"] == tunnel)?;
        let items = self.records.get(tunnel).cloned().unwrap_or_default();
        Some(Collection { kind: "tm:net:fdb:tunnel:records:records", items })
    }

    pub(crate) fn global_settings(&self) -> Value {
        json!({
            "kind": "tm:sys:global-settings:global-settingsstate", "hostname": self.hostname, "guiSetup": "disabled",
            "mgmtDhcp": "disabled",
        })
    }
}

/// A tunnel as `net fdb tunnel` shows it.
fn fdb(tunnel: &Value) -> Value {
    let mut item = json!({ "kind": "tm:net:fdb:tunnel:tunnelstate" });
    for field in ["name", "partition", "fullPath", "generation"] {
        item[field] = tunnel[field].clone();
    }
    item
}
