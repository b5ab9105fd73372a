//! Words for the far end. A VTEP from the lists in `cilium-config` is a BIG-IP, and a hint may use the words of its configuration. A VTEP
//! from a custom resource has a name and may be any gateway, so its hints say what it must do and not how. Pure.

use super::Evidence;

/// A value of the configuration that a hint may ask to correct.
#[derive(Clone, Copy)]
pub(super) enum Setting {
    Endpoint,
    Mac,
}

impl Evidence<'_> {
    /// The far end with its endpoint: `BIG-IP 10.169.72.34` or `VTEP vpc-gateway (10.169.72.34)`.
    pub(super) fn peer(&self) -> String {
        let endpoint = self.vtep.endpoint;
        self.name.map_or_else(|| format!("BIG-IP {endpoint}"), |name| format!("VTEP {name} ({endpoint})"))
    }

    /// The far end in short: `BIG-IP` or `VTEP vpc-gateway`.
    pub(super) fn peer_name(&self) -> String {
        self.name.map_or_else(|| "BIG-IP".to_owned(), |name| format!("VTEP {name}"))
    }

    /// The endpoint, with the VTEP's name if it has one.
    pub(super) fn endpoint(&self) -> String {
        self.name.map_or_else(|| self.vtep.endpoint.to_string(), |_| self.peer())
    }

    /// The VTEP as an entry of Cilium's map: `10.1.6.0/24` or `VTEP vpc-gateway (10.1.6.0/24)`.
    pub(super) fn entry(&self) -> String {
        let cidr = self.vtep.cidr;
        self.name.map_or_else(|| cidr.to_string(), |name| format!("VTEP {name} ({cidr})"))
    }

    /// The place of a value in the configuration.
    pub(super) fn place(&self, setting: Setting) -> String {
        let of = |field: &str, name| format!("{field} of the endpoint {name} in its CiliumVTEPConfig");
        match (setting, self.name) {
            (Setting::Endpoint, None) => "vtep-endpoint".to_owned(),
            (Setting::Mac, None) => format!("vtep-mac for {}", self.vtep.cidr),
            (Setting::Endpoint, Some(name)) => of("tunnelEndpoint", name),
            (Setting::Mac, Some(name)) => of("mac", name),
        }
    }

    /// This node, with the address that the far end sends to.
    pub(super) fn this_node(&self) -> String {
        let node = self.facts.underlay.get(&self.vtep.endpoint).and_then(|underlay| underlay.source);
        node.map_or_else(|| "this node".to_owned(), |node| format!("this node ({node})"))
    }
}
