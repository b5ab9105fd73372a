//! The handle of a running stand-in, and the thread that serves it.

use std::{
    io,
    net::{self, Ipv4Addr, SocketAddr},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::{oneshot, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    certificate::{Certificate, Identity, identity},
    device::Device,
    fault::{Fault, Faults, Matcher, Times},
    handler::{self, Request},
};

/// The user that every stand-in has, its password, and a token. A test can look for them where they must not be.
pub const USER: &str = "reader";
pub const PASSWORD: &str = "pa55word-of-the-stand-in: ä\"\\";
pub const TOKEN: &str = "T0KEN0F7HES7ANDIN";

/// How long [`BigIp::wait_for`] waits at most.
const WAIT: Duration = Duration::from_secs(60);

/// How a stand-in is reached.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    pub certificate: Certificate,
    /// No TLS 1.3.
    pub tls12: bool,
    /// No TLS at all.
    pub plain: bool,
}

/// A running stand-in. Dropping it closes its port and all connections.
///
/// It has a thread and a runtime of its own, so that tests without a runtime can use it.
pub struct BigIp {
    shared: Arc<Shared>,
    address: SocketAddr,
    scheme: &'static str,
    trusted_pem: String,
    fingerprint: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the handle and the connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    device: Device,
    state: Mutex<State>,
    arrived: Condvar,
    released: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    faults: Faults,
    requests: Vec<Request>,
}

impl BigIp {
    /// Starts a BIG-IP with the certificate from the factory on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// The certificate, the socket or the thread could not be created.
    pub fn start(device: Device) -> Result<Self> {
        Self::start_with(device, Options::default())
    }

    /// Like [`BigIp::start`], reached in another way.
    ///
    /// # Errors
    ///
    /// As [`BigIp::start`].
    pub fn start_with(device: Device, options: Options) -> Result<Self> {
        let Identity { config, trusted_pem, fingerprint } = identity(options.certificate, options.tls12)?;
        let acceptor = (!options.plain).then(|| TlsAcceptor::from(config));
        let runtime = Builder::new_current_thread().enable_all().build().context("failed to make the runtime")?;
        let listener = {
            let _entered = runtime.enter();
            listen().context("failed to listen")?
        };
        let address = listener.local_addr().context("failed to learn the port")?;
        let state = Mutex::default();
        let shared = Arc::new(Shared { device, state, arrived: Condvar::new(), released: watch::Sender::new(false) });
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("bigip".to_owned())
            .spawn(move || runtime.block_on(serve(listener, acceptor, served, stopped)))
            .context("failed to start the server's thread")?;
        let scheme = if options.plain { "http" } else { "https" };
        Ok(Self { shared, address, scheme, trusted_pem, fingerprint, stop: Some(stop), thread: Some(thread) })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https://address:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// What a client must trust, as PEM: the authority, or the certificate itself if it is self-signed.
    #[must_use]
    pub fn trusted_pem(&self) -> &str {
        &self.trusted_pem
    }

    /// Of the certificate that the stand-in shows: SHA-256, as `openssl x509 -fingerprint` prints it.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Applies a fault to later requests.
    pub fn misbehave(&self, matcher: Matcher, fault: Fault, times: Times) {
        self.shared.state().faults.add(matcher, fault, times);
    }

    /// Ends the wait of requests with [`Fault::Hang`] and [`Fault::HangInBody`], now and later.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }

    /// All requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// Waits until this many requests have arrived.
    ///
    /// # Errors
    ///
    /// They did not arrive within a minute.
    pub fn wait_for(&self, requests: usize) -> Result<()> {
        let state = self.shared.state();
        let waited = self.shared.arrived.wait_timeout_while(state, WAIT, |state| state.requests.len() < requests);
        let (_state, result) = waited.unwrap_or_else(PoisonError::into_inner);
        ensure!(!result.timed_out(), "fewer than {requests} requests arrived");
        Ok(())
    }
}

impl Drop for BigIp {
    fn drop(&mut self) {
        // A thread that has panicked is gone, and the panic was printed.
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Records a request, and takes the fault for it.
    pub(crate) fn record(&self, request: &Request) -> Option<Fault> {
        let mut state = self.state();
        state.requests.push(request.clone());
        self.arrived.notify_all();
        state.faults.take(request)
    }

    pub(crate) fn with_device<T>(&self, work: impl FnOnce(&Device) -> T) -> T {
        work(&self.device)
    }

    /// Waits for [`BigIp::release`].
    pub(crate) async fn released(&self) {
        // The sender lives as long as `self`, so the wait ends with the release.
        let _ = self.released.subscribe().wait_for(|is_released| *is_released).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without tokio's `bind`, which a test inside another runtime could not wait for.
fn listen() -> io::Result<TcpListener> {
    let listener = net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Accepts connections until the handle is dropped.
async fn serve(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => return,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            Ok((stream, _)) = listener.accept() => {
                connections.spawn(accept(stream, acceptor.clone(), Arc::clone(&shared)));
            }
        }
    }
}

async fn accept(stream: TcpStream, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) {
    match acceptor {
        None => answer(stream, shared).await,
        // An error means that the client does not accept the certificate: it sends no request.
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                answer(stream, shared).await;
            }
        }
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>) {
    let service = service_fn(move |request| handler::handle(Arc::clone(&shared), request));
    // An error means that the client disconnected, or that a fault ended the connection.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
