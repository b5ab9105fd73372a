//! One TCP connection: hyper serves HTTP on it until a fault ends it early.

use std::{
    convert::Infallible,
    future,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::mpsc};

use crate::{handler, shared::Shared, streams::Session};

/// The type of every body that the server sends.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The ways in which a connection ends before HTTP would end it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Abort {
    /// FIN.
    Close,
    /// RST.
    Reset,
    /// The server sends these bytes, which need not be HTTP, then FIN.
    Raw(&'static [u8]),
}

impl Abort {
    /// Ends the connection. Bytes that hyper has already are sent first. Never returns, because the connection drops its caller.
    pub(crate) async fn now(self, connection: &mpsc::UnboundedSender<Self>) -> ! {
        // A closed channel means that the connection has ended already.
        let _ = connection.send(self);
        future::pending().await
    }
}

/// The session for which the handler has switched protocols.
pub(crate) type Upgrade = Arc<Mutex<Option<Session>>>;

/// Serves a connection until either side ends it.
pub(crate) async fn serve(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    let (sender, mut aborts) = mpsc::unbounded_channel();
    let upgrade = Upgrade::default();
    let session = Arc::clone(&upgrade);
    let service = service_fn(move |request| {
        handler::handle(Arc::clone(&shared), peer, sender.clone(), Arc::clone(&session), request)
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let abort = tokio::select! {
        biased;
        // An error here means that the client disconnected or sent no HTTP, so nobody could receive a report of it. After a switch of
        // protocols, hyper leaves the connection open.
        _ = &mut connection => None,
        abort = aborts.recv() => abort,
    };
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner();
    let session = upgrade.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(session) = session {
        return session.run(stream, parts.read_buf.to_vec()).await;
    }
    // The errors below only mean that the client closed the connection first.
    match abort {
        Some(Abort::Reset) => _ = stream.set_zero_linger(),
        Some(Abort::Raw(bytes)) => _ = stream.write_all(bytes).await,
        Some(Abort::Close) | None => {}
    }
}
