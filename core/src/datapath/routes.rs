//! The routes and rules of the kernel, ours and foreign ones.

use std::fmt;

use ipnet::Ipv4Net;

use super::state::{CiliumRoutes, HostRoute, HostRule};

/// A route in a table that may be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub cidr: Ipv4Net,
    pub route: HostRoute,
    /// `rtm_protocol`.
    pub protocol: u8,
    /// It has the scope, type and metric that we write. Our delete requests match no other route.
    pub like_ours: bool,
    /// It prevents ours: the kernel has only one route to a network for each metric and type of service.
    pub in_the_way: bool,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} protocol {}", self.cidr, self.route, self.protocol)
    }
}

/// The host routes and rules of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostRoutes {
    /// All routes of the requested tables.
    pub routes: Vec<Found>,
    /// Rules `to CIDR lookup <table>` to those tables and to Cilium's, each with its protocol.
    pub rules: Vec<(HostRule, u8)>,
    pub cilium: CiliumRoutes,
}
