//! Forwards a port of the caller's loopback to a port of a host.

use std::{
    io,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::{Context, Result};

use crate::host::Host;

/// The proxy; dropping it closes the port. Existing connections continue until one side closes them.
#[derive(Debug)]
pub struct Proxy {
    /// The address to connect to, in the network of the thread that created the proxy.
    pub address: SocketAddr,
    closed: Arc<AtomicBool>,
}

/// Forwards connections to a free port of 127.0.0.1 here to `port` of 127.0.0.1 inside `host`.
///
/// # Errors
///
/// No port is free.
pub fn proxy(host: &Host, port: u16) -> Result<Proxy> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("failed to listen on the loopback")?;
    let address = listener.local_addr()?;
    let closed = Arc::new(AtomicBool::new(false));
    let (host, is_closed) = (host.clone(), Arc::clone(&closed));
    thread::spawn(move || {
        // The listener remains in the network in which it was created; this thread connects in the host's.
        host.run(|| {
            serve(&listener, port, &is_closed);
            Ok(())
        })
    });
    Ok(Proxy { address, closed })
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        // Wakes `accept`.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(listener: &TcpListener, port: u16, closed: &AtomicBool) {
    for client in listener.incoming() {
        if closed.load(Ordering::Relaxed) {
            return;
        }
        // If the server does not listen, the client's connection is closed, as without the proxy.
        let Ok(client) = client else { continue };
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
        let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else { continue };
        thread::spawn(move || forward(client, server));
        thread::spawn(move || forward(server_too, client_too));
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream) {
    // Either side may close at any time; the other one then sees the end.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
