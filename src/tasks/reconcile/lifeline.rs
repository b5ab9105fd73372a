//! What the node must not lose by a change of routes: the API server, or, without one, its default gateway.

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

/// How long a connection may take: longer than a lost SYN takes to be sent again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How the node is corrected.
#[derive(Clone, Debug)]
pub enum Lifeline {
    /// By the API server.
    ApiServer(Server),
    /// By a directory, which somebody reaches through the default gateway.
    Gateway(Handle),
    /// Nothing is written, so nothing is cut off.
    None,
}

/// What to ask, as it was before a change: a node that is cut off may not even resolve a name.
#[derive(Clone, Debug)]
pub(super) enum Targets {
    Sockets(Vec<SocketAddr>),
    /// Each with the index of its device.
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
    /// `None` where it cannot be read.
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
    /// Whether one of them is there; `None` where nothing can be asked.
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
