//! The routes and rules that the kernel holds, ours and others'.

use std::fmt;

use ipnet::Ipv4Net;

use super::state::{CiliumRoutes, HostRoute, HostRule};

/// A route of a table that may be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub cidr: Ipv4Net,
    pub route: HostRoute,
    /// `rtm_protocol`.
    pub protocol: u8,
    /// Of the scope, type and metric that we write. No delete of ours would find another.
    pub like_ours: bool,
    /// It keeps ours out: the kernel has one route to a network for each metric and type of service.
    pub in_the_way: bool,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} protocol {}", self.cidr, self.route, self.protocol)
    }
}

/// What the kernel holds of host routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostRoutes {
    /// All routes of the tables that were asked for.
    pub routes: Vec<Found>,
    /// Rules `to CIDR lookup <table>` to those tables and to Cilium's, each with its protocol.
    pub rules: Vec<(HostRule, u8)>,
    pub cilium: CiliumRoutes,
}
