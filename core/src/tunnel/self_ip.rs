//! The tunnel self IPs that have answered, in the form of the state file. The agent reads and writes the file.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::mac_learning;
use crate::types::mac::Mac;

/// A self IP that has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    pub self_ip: Ipv4Addr,
    /// The MAC that last answered ARP; `None` if only echoes were answered.
    #[serde(default)]
    pub mac: Option<Mac>,
    /// Echoes were answered: the self IP accepts them, and BIG-IP had a path back.
    #[serde(default)]
    pub echo: bool,
}

/// The record of one VTEP CIDR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfIp {
    pub endpoint: Ipv4Addr,
    #[serde(flatten)]
    pub known: Known,
    pub learned_at: Timestamp,
    /// The MAC of the entry under `--mac learned`.
    #[serde(default)]
    pub entry_mac: mac_learning::Record,
}

/// All records.
pub type Learned = BTreeMap<Ipv4Net, SelfIp>;
