//! The tables that `tmsh show` prints.
//!
//! ```text
//! Net::FDB
//! Tunnel   Mac Address        Member                    Dynamic
//! cilium   0a:0a:0a:a9:48:ef  endpoint:10.169.72.239%0  no
//!
//! Net::Arp
//! Name        Address     HWaddress          Vlan            Expire-in-sec  Status
//! 10.0.0.130  10.0.0.130  06:a6:6e:b5:69:2c  /Common/cilium  289            resolved
//!
//! Net::Tunnel: cilium
//! MAC Address                     00:50:56:a0:7d:d8
//! ```

use super::part::{ArpRow, FdbRow, Part, TunnelMac};
use crate::bigip::{device::Component, tmsh::Position};

/// The table that the next line can belong to.
#[derive(Debug, Default)]
pub(super) enum Tables {
    #[default]
    None,
    Fdb,
    Arp,
    /// What `show net tunnels tunnel` prints of this tunnel.
    Tunnel(String),
    /// A table that is not read, such as `Net::Routes`.
    Other,
}

impl Tables {
    pub(super) fn end(&mut self) {
        *self = Self::None;
    }

    /// Reads a line, if it is part of a table.
    pub(super) fn row(&mut self, part: &mut Part<'_>, text: &str, at: Position) -> bool {
        let text = text.trim();
        // Markdown sets values in bold with asterisks.
        let words: Vec<&str> = text.split_ascii_whitespace().map(|word| word.trim_matches('*')).collect();
        match words.as_slice() {
            ["Tunnel", "Mac", "Address", "Member", "Dynamic"] => *self = Self::Fdb,
            ["Name", "Address", "HWaddress", "Vlan", "Expire-in-sec", "Status"] => *self = Self::Arp,
            ["Net::Tunnel:", name] => *self = Self::Tunnel((*name).to_owned()),
            ["Net::FDB" | "Net::Arp"] => {}
            [title, ..] if title.starts_with("Net::") => *self = Self::Other,
            [rule] if rule.bytes().all(|byte| byte == b'-') => {}
            words => return self.content(part, words, at),
        }
        true
    }

    fn content(&mut self, part: &mut Part<'_>, words: &[&str], at: Position) -> bool {
        match (self, words) {
            (Self::Fdb, [tunnel, mac, member, dynamic]) => {
                let (Ok(mac), Some(endpoint)) = (mac.parse(), member.strip_prefix("endpoint:")) else { return false };
                let (tunnel, endpoint) = ((*tunnel).to_owned(), endpoint.to_owned());
                part.fdb_rows.push(FdbRow { tunnel, mac, endpoint, is_dynamic: *dynamic == "yes", at });
                part.covered.insert(Component::Fdb);
            }
            (Self::Arp, [_, address, mac, vlan, _, _]) => {
                let (address, mac, vlan) = ((*address).to_owned(), mac.parse().ok(), (*vlan).to_owned());
                part.arp_rows.push(ArpRow { address, mac, vlan, at });
            }
            (Self::Tunnel(tunnel), ["MAC", "Address", mac]) => {
                let Ok(mac) = mac.parse() else { return false };
                part.tunnel_macs.push(TunnelMac { tunnel: tunnel.clone(), mac, at });
            }
            // Its other lines are counters.
            (Self::Tunnel(_) | Self::Other, _) => {}
            (Self::None | Self::Fdb | Self::Arp, _) => return false,
        }
        true
    }
}
