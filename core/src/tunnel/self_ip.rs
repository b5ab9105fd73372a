//! The tunnel self IPs that have answered, as they are remembered.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::types::mac::Mac;

/// What has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    pub self_ip: Ipv4Addr,
    /// What answered ARP last; `None` where only echoes were answered.
    #[serde(default)]
    pub mac: Option<Mac>,
    /// Echoes were answered: the self IP lets them in, and there was a way back.
    #[serde(default)]
    pub echo: bool,
}

/// The record of one VTEP CIDR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfIp {
    pub endpoint: Ipv4Addr,
    #[serde(flatten)]
    pub known: Known,
    pub learned_at: Timestamp,
}

/// All records.
pub type Learned = BTreeMap<Ipv4Net, SelfIp>;
