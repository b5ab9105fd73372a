//! The kernel: Cilium's maps, netlink, sockets and the tap. This module carries values to the kernel and back, and decides nothing.

pub mod arp;
pub mod bpf;
pub mod capture;
pub mod devices;
pub mod features;
pub mod fitness;
pub mod icmp;
pub mod ipcache;
pub mod listing;
pub mod lock;
pub mod malloc;
pub mod map_dump;
pub mod map_image;
pub mod maps;
pub mod memory_lock;
pub mod neighbour;
pub mod netlink;
pub mod pins;
pub mod routes;
pub mod socket;
pub mod tap;
pub mod tcp;
pub mod vtep_map;
