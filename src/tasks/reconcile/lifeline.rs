//! The lifeline: the connection that no change of routes may cut off. It is the API server, or with a mounted directory the default
//! gateway. This module only tests the connection; `route_guard` in the core decides.

use std::{
    collections::BTreeSet,
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use rtnetlink::Handle;
use tokio::{net::TcpStream, time};
use vtep_core::datapath::route_guard::Reach;

use crate::{k8s::server::Server, kernel::neighbour, tasks::node::networks};

/// The timeout of a connection. It is longer than the time after which the kernel repeats a lost SYN.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The way on which a person corrects the configuration of this node.
#[derive(Clone, Debug)]
pub enum Lifeline {
    /// Through the API server.
    ApiServer(Server),
    /// Through a directory, which a person reaches over the default gateway.
    Gateway(Handle),
    /// Not needed: the agent writes nothing, so it can cut nothing off.
    None,
}

/// The addresses to test, resolved before a change: a node that is cut off may not be able to resolve names.
#[derive(Clone, Debug)]
pub(super) enum Targets {
    Sockets(Vec<SocketAddr>),
    /// The gateways, each with the index of its device.
    Gateways(Handle, BTreeSet<(u32, Ipv4Addr)>),
}

impl fmt::Display for Lifeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApiServer(_) => "the API server",
            Self::Gateway(_) | Self::None => "the default gateway",
        })
    }
}

impl Lifeline {
    /// The addresses to test; `None` if they cannot be read.
    pub(super) async fn targets(&self) -> Option<Targets> {
        match self {
            Self::ApiServer(server) => Some(Targets::Sockets(server.tcp_addresses().await)),
            Self::Gateway(netlink) => {
                let networks = networks::read_networks(netlink, &BTreeSet::new()).await.ok()?;
                Some(Targets::Gateways(netlink.clone(), networks.default_gateways))
            }
            Self::None => None,
        }
    }
}

impl Targets {
    /// The best result of testing each address; `None` if there is nothing to test.
    pub(super) async fn reach(&self) -> Option<Reach> {
        let mut best = None;
        match self {
            Self::Sockets(addresses) => {
                for &address in addresses {
                    match connect(address).await {
                        Reach::Answered => return Some(Reach::Answered),
                        Reach::Refused => best = Some(Reach::Refused),
                        Reach::Lost => best = best.or(Some(Reach::Lost)),
                    }
                }
            }
            Self::Gateways(netlink, gateways) => {
                for &(device, gateway) in gateways {
                    match neighbour::is_resolved(netlink, device, gateway).await.ok().flatten() {
                        Some(true) => return Some(Reach::Answered),
                        Some(false) => best = Some(Reach::Lost),
                        None => {}
                    }
                }
            }
        }
        best
    }
}

async fn connect(address: SocketAddr) -> Reach {
    match time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Reach::Answered,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Reach::Refused,
        Ok(Err(_)) | Err(_) => Reach::Lost,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_answer_is_told_from_a_refusal() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let reach = async |addresses| Targets::Sockets(addresses).reach().await;
        assert_eq!(reach(vec![address]).await, Some(Reach::Answered));
        drop(listener);
        assert_eq!(reach(vec![address]).await, Some(Reach::Refused));
        assert_eq!(reach(vec![]).await, None);
    }
}
