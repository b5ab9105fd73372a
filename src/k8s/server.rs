//! The location of the API server: host, port and proxy of the client's configuration, and their addresses.

use std::{
    collections::BTreeSet,
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hyper::Uri;
use tokio::{net, time};
use vtep_core::config::merge::Located;

use super::words;

/// The timeout of a name lookup, and of a TCP connection.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Host and port of the API server, and of the proxy that leads there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server(Arc<Hosts>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Hosts {
    host: Option<Host>,
    proxy: Option<Host>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    name: String,
    port: u16,
}

impl Server {
    #[must_use]
    pub fn of(config: &kube::Config) -> Self {
        let (host, proxy) = (Host::of(&config.cluster_url), config.proxy_url.as_ref().and_then(Host::of));
        Self(Arc::new(Hosts { host, proxy }))
    }

    /// The TCP addresses that the client connects to: those of the proxy if there is one. Empty while the name cannot be resolved.
    pub async fn tcp_addresses(&self) -> Vec<SocketAddr> {
        let target = self.0.proxy.as_ref().or(self.0.host.as_ref());
        match target {
            Some(host) => host.resolve().await.unwrap_or_default(),
            None => Vec::new(),
        }
    }

    /// The IPv4 addresses of the API server and of its proxy, as far as this node can resolve their names.
    pub async fn addresses(&self) -> BTreeSet<Ipv4Addr> {
        self.locate().await.addresses
    }

    /// Like [`Self::addresses`], and whether the client's own target could be resolved. Behind a proxy, only the proxy may be able to
    /// resolve the API server's name.
    pub(super) async fn locate(&self) -> Located {
        let mut located = Located::default();
        // The client's target comes last, so that `unresolved` is about it.
        for host in [&self.0.host, &self.0.proxy].into_iter().flatten() {
            let resolved = host.resolve().await;
            located.unresolved = resolved.as_ref().err().map(|error| self.unreachable(&error.to_string()));
            located.addresses.extend(resolved.unwrap_or_default().iter().filter_map(|address| ipv4(address.ip())));
        }
        located
    }

    /// Whether the addresses can change: a name may resolve to other addresses later.
    pub(super) fn is_named(&self) -> bool {
        [&self.0.host, &self.0.proxy].into_iter().flatten().any(|host| host.name.parse::<IpAddr>().is_err())
    }

    /// Opens a TCP connection to one of the addresses, and closes it. This is the cheapest check whether the server is there.
    ///
    /// # Errors
    ///
    /// No address accepts a connection; the error is a reason in plain words.
    pub(super) async fn reach(&self) -> Result<(), String> {
        let Some(host) = self.0.proxy.as_ref().or(self.0.host.as_ref()) else { return Ok(()) };
        let addresses = host.resolve().await.map_err(|error| words::of_io(&error))?;
        let mut last = "its name has no address".to_owned();
        for address in addresses {
            match time::timeout(TIMEOUT, net::TcpStream::connect(address)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => last = words::of_io(&error),
                Err(_) => last = words::of_io(&io::ErrorKind::TimedOut.into()),
            }
        }
        Err(last)
    }

    /// The sentence that reports a failed connection with its reason.
    pub(super) fn unreachable(&self, reason: &str) -> String {
        format!("the API server{self} cannot be reached: {reason}")
    }
}

/// ` at 10.0.0.1:6443`; empty if the location is unknown.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Host { name, port }) = &self.0.host {
            write!(f, " at {name}:{port}")?;
        }
        if let Some(Host { name, port }) = &self.0.proxy {
            write!(f, " through the proxy {name}:{port}")?;
        }
        Ok(())
    }
}

impl Host {
    fn of(uri: &Uri) -> Option<Self> {
        // A URI has an IPv6 address in brackets.
        let name = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let by_scheme = if uri.scheme_str() == Some("http") { 80 } else { 443 };
        Some(Self { name, port: uri.port_u16().unwrap_or(by_scheme) })
    }

    async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let lookup = time::timeout(TIMEOUT, net::lookup_host((self.name.as_str(), self.port)));
        let found = lookup.await.map_err(|_| io::Error::other("the name service does not answer"))?;
        let failed = |error: io::Error| io::Error::other(format!("its name cannot be resolved: {error}"));
        found.map(Iterator::collect).map_err(failed)
    }
}

/// The IPv4 address, also of one that is mapped into IPv6.
fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address.to_canonical() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str, proxy: Option<&str>) -> Server {
        let mut config = kube::Config::new(url.parse().expect("a URL"));
        config.proxy_url = proxy.map(|proxy| proxy.parse().expect("a URL"));
        Server::of(&config)
    }

    #[tokio::test]
    async fn literal_addresses_are_known_at_once() {
        let addresses = async |server: Server| -> Vec<String> {
            server.addresses().await.iter().map(ToString::to_string).collect()
        };
        let tcp = async |server: Server| -> Vec<String> {
            server.tcp_addresses().await.iter().map(ToString::to_string).collect()
        };
        let direct = || server("https://10.96.0.1", None);
        assert_eq!(addresses(direct()).await, ["10.96.0.1"]);
        assert_eq!(tcp(direct()).await, ["10.96.0.1:443"]);
        assert!(!direct().is_named());
        let proxied = || server("https://10.96.0.1:6443", Some("http://10.1.1.1:3128"));
        assert_eq!(addresses(proxied()).await, ["10.1.1.1", "10.96.0.1"]);
        assert_eq!(tcp(proxied()).await, ["10.1.1.1:3128"]);
        assert_eq!(addresses(server("https://[fd00::1]:6443", None)).await, Vec::<String>::new());
        assert_eq!(tcp(server("https://[fd00::1]:6443", None)).await, ["[fd00::1]:6443"]);
    }

    #[tokio::test]
    async fn a_name_is_resolved() {
        let named = server("https://localhost:6443", None);
        assert!(named.is_named());
        assert_eq!(named.locate().await, Located { addresses: [Ipv4Addr::LOCALHOST].into(), unresolved: None });
    }

    #[tokio::test]
    async fn a_name_that_was_never_resolved_is_told() {
        let unknown = server("https://nobody.invalid:6443", None).locate().await;
        let reason = unknown.unresolved.clone().expect("a reason");
        assert!(reason.starts_with("the API server at nobody.invalid:6443 cannot be reached: "), "{reason}");
        let known = Located { addresses: [Ipv4Addr::LOCALHOST].into(), unresolved: None };
        assert_eq!(known.clone().and(unknown.clone()), known, "it was known before");
        assert_eq!(unknown.clone().and(known.clone()), known, "it is known now");
        assert_eq!(unknown.clone().and(unknown.clone()), unknown);
        // The proxy resolves the API server's name; this node resolves the proxy's name.
        let behind = server("https://nobody.invalid:6443", Some("http://127.0.0.1:3128")).locate().await;
        assert_eq!(behind, known);
        let no_proxy = server("https://127.0.0.1:6443", Some("http://nobody.invalid:3128")).locate().await;
        assert!(no_proxy.unresolved.is_some() && no_proxy.addresses == known.addresses, "{no_proxy:?}");
    }

    #[tokio::test]
    async fn nobody_there_is_said_in_plain_words() {
        // The socket holds the port, but does not listen.
        let socket = net::TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
        let address = socket.local_addr().expect("an address");
        let server = server(&format!("https://{address}"), None);
        let reason = server.reach().await.expect_err("nobody listens");
        assert_eq!(
            server.unreachable(&reason),
            format!("the API server at {address} cannot be reached: connection refused")
        );
        let _listener = socket.listen(1).expect("a listener");
        assert_eq!(server.reach().await, Ok(()));
    }
}
