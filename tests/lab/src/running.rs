//! Cilium's running configuration, and the files in which its agent records it at a start.

use std::{fs, net::Ipv4Addr, path::Path};

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use ipnet::Ipv4Net;
use serde_json::{Value, json};

use crate::{
    mounts::CILIUM_RUN,
    topology::{Tunnel, Vtep},
};

/// The fields of Cilium's running configuration that concern VTEPs.
#[derive(Debug, Clone)]
pub struct RunningConfig {
    pub enable_vtep: bool,
    pub vteps: Vec<Vtep>,
    /// Whether the configuration has lists of VTEPs at all. Without them, as in releases that read custom resources, `vteps` means nothing.
    pub vtep_lists: bool,
    /// `vtep-mask`: one for all VTEPs, whatever their prefix lengths.
    pub vtep_mask: Ipv4Addr,
    pub enable_l7_proxy: bool,
    pub enable_policy: String,
    pub routing_mode: String,
    pub tunnel: Tunnel,
    pub tunnel_port: u16,
    pub enable_ipsec: bool,
    pub enable_wireguard: bool,
}

impl Default for RunningConfig {
    fn default() -> Self {
        Self {
            enable_vtep: true,
            vteps: Vec::new(),
            vtep_lists: true,
            vtep_mask: Ipv4Addr::new(255, 255, 255, 0),
            enable_l7_proxy: false,
            enable_policy: "never".into(),
            routing_mode: "tunnel".into(),
            tunnel: Tunnel::Vxlan,
            tunnel_port: Tunnel::Vxlan.port(),
            enable_ipsec: false,
            enable_wireguard: false,
        }
    }
}

impl RunningConfig {
    /// The VTEPs of the lists.
    pub(crate) fn listed(&self) -> &[Vtep] {
        if self.vtep_lists { &self.vteps } else { &[] }
    }

    /// Writes `state/agent-runtime-config.json` and `state/globals/node_config.h`. `encap_ifindex` is the tunnel device's index.
    pub(crate) fn write(&self, encap_ifindex: u32) -> Result<()> {
        let state = Path::new(CILIUM_RUN).join("state");
        fs::create_dir_all(state.join("globals")).context("failed to make Cilium's state directory")?;
        let json = serde_json::to_string_pretty(&self.to_json())?;
        replace(&state.join("agent-runtime-config.json"), &json)?;
        replace(&state.join("globals/node_config.h"), &self.to_header(encap_ifindex))
    }

    pub(crate) fn remove() -> Result<()> {
        let state = Path::new(CILIUM_RUN).join("state");
        if state.exists() {
            fs::remove_dir_all(&state).context("failed to remove Cilium's state directory")?;
        }
        Ok(())
    }

    fn to_json(&self) -> Value {
        let mut config = json!({
            "CreationTime": jiff::Timestamp::now().to_string(),
            "BpfDir": "/var/lib/cilium/bpf",
            "RunDir": "/var/run/cilium",
            "StateDir": "/var/run/cilium/state",
            "BPFRoot": "/sys/fs/bpf",
            "EnableTCX": true,
            "DatapathMode": "veth",
            "RoutingMode": self.routing_mode,
            "EnableIPv4": true,
            "EnableIPv6": false,
            "EnableL7Proxy": self.enable_l7_proxy,
            "EnablePolicy": self.enable_policy,
            "EnableIPSec": self.enable_ipsec,
            "EnableWireguard": self.enable_wireguard,
            "EnableVTEP": self.enable_vtep,
            "VtepCidrMask": self.vtep_mask.to_string(),
        });
        if self.vtep_lists {
            let list = |value: fn(&Vtep) -> Value| self.vteps.iter().map(value).collect::<Value>();
            config["VtepEndpoints"] = list(|vtep| json!(vtep.endpoint.to_string()));
            config["VtepCIDRs"] = list(|vtep| cidr(vtep.cidr));
            config["VtepMACs"] = list(|vtep| json!(vtep.mac.to_string().to_lowercase()));
        }
        config
    }

    fn to_header(&self, encap_ifindex: u32) -> String {
        let protocol = match self.tunnel {
            Tunnel::Vxlan => 1,
            Tunnel::Geneve | Tunnel::UserGeneve => 2,
        };
        let mut header = String::new();
        if self.enable_vtep {
            header += "#define ENABLE_VTEP 1\n";
        }
        header += &format!(
            "#define ENCAP_IFINDEX {encap_ifindex}\n\
             #define TUNNEL_MODE 1\n\
             #define TUNNEL_PORT {}\n\
             #define TUNNEL_PROTOCOL {protocol}\n\
             #define TUNNEL_PROTOCOL_GENEVE 2\n\
             #define TUNNEL_PROTOCOL_VXLAN 1\n\
             #define TUNNEL_SRC_PORT_HIGH 0\n\
             #define TUNNEL_SRC_PORT_LOW 0\n",
            self.tunnel_port
        );
        if self.enable_vtep {
            // The bytes of the mask are in network order, read as a number of the machine's order.
            let mask = u32::from_ne_bytes(self.vtep_mask.octets());
            header += &format!("#define VTEP_MAP_SIZE 8\n#define VTEP_MASK {mask:#x}\n");
        }
        header
    }
}

/// A Go `net.IPNet`: the mask is a byte array, and so base64.
fn cidr(cidr: Ipv4Net) -> Value {
    json!({ "IP": cidr.network().to_string(), "Mask": BASE64_STANDARD.encode(cidr.netmask().octets()) })
}

/// Writes a file so that a reader sees either the old or the new content.
fn replace(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text).with_context(|| format!("failed to write {}", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("failed to replace {}", path.display()))
}
