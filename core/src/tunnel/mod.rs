//! The tunnel: the frames in it, and what probes and BIG-IP's own frames say about it.

pub mod flow;
pub mod frames;
pub mod passive;
pub mod path_mtu;
pub mod report;
pub mod rtt;
pub mod self_ip;
pub mod sweep;
pub mod vtep_probes;
pub mod window;
