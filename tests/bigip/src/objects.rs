//! Builders for the objects of a BIG-IP. Each has the fields that iControl shows for it, with BIG-IP's defaults.
//!
//! A name without a slash is in `/Common`. Other folders are written out: `/k8s/cilium`. Values are not checked, so that a test can also
//! have a BIG-IP that nobody would configure.

use serde_json::{Map, Value, json};

/// The absolute name.
pub(crate) fn full(name: &str) -> String {
    if name.starts_with('/') { name.to_owned() } else { format!("/Common/{name}") }
}

/// The fields that every named object has.
fn named(kind: &str, name: &str) -> Value {
    let full = full(name);
    let (folder, short) = full.rsplit_once('/').unwrap_or(("/Common", name));
    let partition = folder.trim_start_matches('/').split('/').next().unwrap_or_default();
    json!({ "kind": kind, "name": short, "partition": partition, "fullPath": full, "generation": 1 })
}

fn with(mut object: Value, fields: Value) -> Value {
    if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields) {
        object.extend(fields);
    }
    object
}

macro_rules! object {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name(pub(crate) Value);

        impl $name {
            /// Sets a field, by its name in JSON; null removes it.
            #[must_use]
            pub fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
                let mut fields = Map::new();
                let value = value.into();
                if value.is_null() {
                    self.0.as_object_mut().map(|object| object.remove(field));
                } else {
                    fields.insert(field.to_owned(), value);
                }
                self.0 = with(self.0, Value::Object(fields));
                self
            }
        }
    };
}

object! {
    /// `net tunnels vxlan`, `net tunnels geneve`.
    Profile
}
object! {
    /// `net tunnels tunnel`.
    Tunnel
}
object! {
    /// `net self`.
    SelfIp
}
object! {
    /// `net route`.
    Route
}

impl Profile {
    /// Port 4789, `flooding-type multicast`.
    #[must_use]
    pub fn vxlan(name: &str) -> Self {
        let fields = json!({
            "defaultsFrom": "/Common/vxlan", "encapsulationType": "vxlan", "floodingType": "multicast", "port": 4789,
        });
        Self(with(named("tm:net:tunnels:vxlan:vxlanstate", name), fields))
    }

    /// Port 6081.
    #[must_use]
    pub fn geneve(name: &str) -> Self {
        let fields = json!({ "defaultsFrom": "/Common/geneve", "floodingType": "multipoint", "port": 6081 });
        Self(with(named("tm:net:tunnels:geneve:genevestate", name), fields))
    }

    #[must_use]
    pub fn port(self, port: u16) -> Self {
        self.set("port", port)
    }

    #[must_use]
    pub fn flooding(self, kind: &str) -> Self {
        self.set("floodingType", kind)
    }

    pub(crate) fn is_geneve(&self) -> bool {
        self.0["kind"] == "tm:net:tunnels:geneve:genevestate"
    }
}

impl Tunnel {
    /// Key 0, MTU 0.
    #[must_use]
    pub fn new(name: &str, profile: &str, local_address: &str) -> Self {
        let fields = json!({
            "autoLasthop": "default", "idleTimeout": 300, "ifIndex": 160, "key": 0, "localAddress": local_address,
            "mode": "bidirectional", "mtu": 0, "profile": full(profile), "remoteAddress": "any6", "secondaryAddress": "any6",
            "tos": "preserve", "transparent": "disabled", "usePmtu": "enabled",
        });
        Self(with(named("tm:net:tunnels:tunnel:tunnelstate", name), fields))
    }

    #[must_use]
    pub fn key(self, key: u32) -> Self {
        self.set("key", key)
    }
}

impl SelfIp {
    /// `address` with its prefix length, for example `10.1.6.34/24` or `10.1.6.34%20/24`. `allow-service none`, which iControl does not show.
    #[must_use]
    pub fn new(name: &str, address: &str, vlan: &str) -> Self {
        let fields = json!({
            "address": address, "floating": "disabled", "inheritedTrafficGroup": "false", "vlan": full(vlan),
            "trafficGroup": "/Common/traffic-group-local-only", "unit": 0,
        });
        Self(with(named("tm:net:self:selfstate", name), fields))
    }

    /// For example `default` or `tcp:443`.
    #[must_use]
    pub fn allow(self, services: &[&str]) -> Self {
        self.set("allowService", services)
    }

    #[must_use]
    pub fn allow_all(self) -> Self {
        self.set("allowService", "all")
    }

    /// Moves to the other unit of a pair.
    #[must_use]
    pub fn floating(self) -> Self {
        self.set("floating", "enabled").set("trafficGroup", "/Common/traffic-group-1").set("unit", 1)
    }
}

impl Route {
    /// By a tunnel or a VLAN.
    #[must_use]
    pub fn interface(name: &str, network: &str, interface: &str) -> Self {
        let fields = json!({ "network": network, "mtu": 0, "tmInterface": full(interface) });
        Self(with(named("tm:net:route:routestate", name), fields))
    }

    /// By a next hop.
    #[must_use]
    pub fn gateway(name: &str, network: &str, gateway: &str) -> Self {
        let fields = json!({ "network": network, "mtu": 0, "gw": gateway });
        Self(with(named("tm:net:route:routestate", name), fields))
    }
}

/// A record of `net fdb tunnel`.
pub(crate) fn record(mac: &str, endpoint: &str) -> Value {
    json!({
        "kind": "tm:net:fdb:tunnel:records:recordsstate", "name": mac, "fullPath": mac, "generation": 1,
        "endpoint": endpoint,
    })
}

/// A static entry of `net arp`.
pub(crate) fn arp(address: &str, mac: &str) -> Value {
    with(named("tm:net:arp:arpstate", address), json!({ "ipAddress": address, "macAddress": mac }))
}
