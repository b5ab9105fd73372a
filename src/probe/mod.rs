//! Probes: what goes through the tunnel and comes back, and what comes by itself.
//!
//! `frames`, `health`, `rtt`, `passive`, `path_mtu`, `sweep` and `lane` are functions of values and of `now`; `icmp`, `arp` and `tap` are the sockets; `prober` is the loop.

pub mod arp;
pub mod flow;
pub mod frames;
pub mod health;
pub mod icmp;
pub mod lane;
pub mod learned;
pub mod passive;
pub mod path_mtu;
pub mod prober;
pub mod report;
pub mod rtt;
pub mod self_ip;
pub mod socket;
pub mod sweep;
pub mod tap;
mod tap_records;
