//! The tunnel: its frames, and the evidence from probes and from BIG-IP's own frames. Sockets and the tap are the agent's part.

pub mod delivery;
pub mod echo_pace;
pub mod failover;
pub mod flow;
pub mod frames;
pub mod mac_learning;
pub mod owners;
pub mod passive;
pub mod path_mtu;
pub mod report;
pub mod rtt;
pub mod self_ip;
pub mod send_error;
pub mod strays;
pub mod sweep;
pub mod tcp_probe;
pub mod vtep_probes;
pub mod window;
