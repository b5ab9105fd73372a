//! What the node must not lose by a change of routes: the API server, or, without one, its default gateway.

use std::{collections::BTreeSet, fmt, io, net::SocketAddr, time::Duration};

use rtnetlink::Handle;
use tokio::{net::TcpStream, time};

use super::route_guard::Reach;
use crate::node::{neighbour, networks::Networks};

/// How long a connection may take: longer than a lost SYN takes to be sent again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How the node is corrected.
#[derive(Clone, Debug)]
pub enum Lifeline {
    /// By the API server at one of these addresses.
    ApiServer(Vec<SocketAddr>),
    /// By a directory, which somebody reaches through the default gateway.
    Gateway(Handle),
}

impl fmt::Display for Lifeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApiServer(_) => "the API server",
            Self::Gateway(_) => "the default gateway",
        })
    }
}

impl Lifeline {
    /// Whether it is there; `None` where nothing can be asked.
    pub(super) async fn reach(&self) -> Option<Reach> {
        match self {
            Self::ApiServer(addresses) => {
                let mut best = None;
                for &address in addresses {
                    match connect(address).await {
                        Reach::Answered => return Some(Reach::Answered),
                        Reach::Refused => best = Some(Reach::Refused),
                        Reach::Lost => best = best.or(Some(Reach::Lost)),
                    }
                }
                best
            }
            Self::Gateway(netlink) => {
                let networks = Networks::read(netlink, &BTreeSet::new()).await.ok()?;
                let mut best = None;
                for &(device, gateway) in &networks.default_gateways {
                    if !neighbour::is_unresolved(netlink, device, gateway).await.ok()? {
                        return Some(Reach::Answered);
                    }
                    best = Some(Reach::Lost);
                }
                best
            }
        }
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
        let reach = async |addresses| Lifeline::ApiServer(addresses).reach().await;
        assert_eq!(reach(vec![address]).await, Some(Reach::Answered));
        drop(listener);
        assert_eq!(reach(vec![address]).await, Some(Reach::Refused));
        assert_eq!(reach(vec![]).await, None);
    }
}
