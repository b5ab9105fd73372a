//! What `tmsh list net` of a BIG-IP prints after the commands of `vtep-agent bigip`.

use std::{fmt::Write, net::Ipv4Addr};

use ipnet::Ipv4Net;

/// The objects of one tunnel. `None` is BIG-IP's default, which is not printed.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    pub(crate) hostname: Option<String>,
    kind: String,
    profile: String,
    pub(crate) port: Option<u16>,
    pub(crate) flooding: Option<&'static str>,
    tunnel: String,
    pub(crate) key: Option<u32>,
    pub(crate) local_address: Option<Ipv4Addr>,
    pub(crate) mtu: Option<u16>,
    /// As `show net tunnels tunnel … all-properties` prints it.
    pub(crate) mac: Option<&'static str>,
    pub(crate) self_ip: Option<Ipv4Net>,
    pub(crate) allow_service: Option<&'static str>,
    /// The self IP on the VLAN of the nodes.
    pub(crate) underlay: Ipv4Net,
    /// Networks, and how they are reached.
    pub(crate) routes: Vec<(Ipv4Net, String)>,
    /// MACs and endpoints.
    pub(crate) records: Vec<(String, String)>,
}

impl Listing {
    /// After these commands, on a BIG-IP that has the self IP `underlay`.
    pub(crate) fn after(commands: &[String], underlay: Ipv4Addr) -> Self {
        let mut list = Self {
            hostname: None,
            kind: String::new(),
            profile: String::new(),
            port: None,
            flooding: None,
            tunnel: String::new(),
            key: None,
            local_address: None,
            mtu: None,
            mac: None,
            self_ip: None,
            allow_service: None,
            underlay: Ipv4Net::new(underlay, 24).expect("a prefix length"),
            routes: Vec::new(),
            records: Vec::new(),
        };
        for command in commands {
            let words: Vec<&str> = command.split(' ').collect();
            match words.as_slice() {
                ["create", "net", "tunnels", "tunnel", name, "key", key, "profile", _, "local-address", address] => {
                    list.tunnel = (*name).to_owned();
                    list.key = key.parse().ok();
                    list.local_address = address.parse().ok();
                }
                ["create", "net", "tunnels", kind, name, "port", port, "flooding-type", "multipoint"] => {
                    (list.kind, list.profile) = ((*kind).to_owned(), (*name).to_owned());
                    list.port = port.parse().ok();
                    list.flooding = Some("multipoint");
                }
                ["create", "net", "self", _, "address", address, "allow-service", "default", "vlan", _] => {
                    list.self_ip = address.parse().ok();
                    list.allow_service = Some("default");
                }
                ["create", "net", "route", _, "network", network, "interface", name] => {
                    list.routes.push((network.parse().expect("a network"), format!("interface {name}")));
                }
                ["modify", "net", "fdb", .., "{", mac, "{", "endpoint", endpoint, "}", "}"] => {
                    list.records.push(((*mac).to_owned(), (*endpoint).to_owned()));
                }
                ["save", "sys", "config"] => {}
                _ => panic!("an unknown command: {command}"),
            }
        }
        list
    }

    pub(crate) fn text(&self) -> String {
        let Self { kind, profile, tunnel, .. } = self;
        let mut text = String::new();
        let mut block = |head: &str, lines: &[Option<String>]| {
            writeln!(text, "{head} {{").expect("memory");
            lines.iter().flatten().for_each(|line| writeln!(text, "    {line}").expect("memory"));
            text += "}\n";
        };
        if let Some(hostname) = &self.hostname {
            block("sys global-settings", &[Some(format!("hostname {hostname}"))]);
        }
        for (network, via) in &self.routes {
            let (interface, gateway) = (via.strip_prefix("interface "), via.strip_prefix("gw "));
            let name = format!("{}_{}", network.addr(), network.prefix_len());
            block(
                &format!("net route {name}"),
                &[
                    gateway.map(|gateway| format!("gw {gateway}")),
                    interface.map(|name| format!("interface /Common/{name}")),
                    Some(format!("network {network}")),
                ],
            );
        }
        // A route of another VLAN, which every BIG-IP has.
        block("net route outside", &[Some("gw 192.0.2.254".to_owned()), Some("network 203.0.113.0/24".to_owned())]);
        block(
            "net self nodes",
            &[
                Some(format!("address {}", self.underlay)),
                Some("allow-service all".to_owned()),
                Some("vlan nodes".to_owned()),
            ],
        );
        if let Some(address) = self.self_ip {
            block(
                &format!("net self {tunnel}_self"),
                &[
                    Some(format!("address {address}")),
                    self.allow_service.map(|service| format!("allow-service {{\n        {service}\n    }}")),
                    Some("traffic-group traffic-group-local-only".to_owned()),
                    Some(format!("vlan {tunnel}")),
                ],
            );
        }
        block(
            &format!("net tunnels {kind} {profile}"),
            &[
                Some("app-service none".to_owned()),
                self.flooding.map(|flooding| format!("flooding-type {flooding}")),
                self.port.map(|port| format!("port {port}")),
            ],
        );
        block(
            &format!("net tunnels tunnel {tunnel}"),
            &[
                Some("if-index 160".to_owned()),
                self.key.map(|key| format!("key {key}")),
                self.local_address.map(|address| format!("local-address {address}")),
                self.mtu.map(|mtu| format!("mtu {mtu}")),
                Some(format!("profile {profile}")),
            ],
        );
        let records = self
            .records
            .iter()
            .map(|(mac, endpoint)| format!("        {mac} {{\n            endpoint {endpoint}\n        }}\n"));
        let records: String = records.collect();
        let records = (!records.is_empty()).then(|| format!("records {{\n{records}    }}"));
        block(&format!("net fdb tunnel {tunnel}"), &[records]);
        if let Some(mac) = self.mac {
            write!(text, "\nNet::Tunnel: {tunnel}\n  MAC Address  {mac}\n").expect("memory");
        }
        text
    }
}
