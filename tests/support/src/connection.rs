//! One TCP connection: hyper speaks HTTP on it, until somebody wants it to end badly.

use std::{convert::Infallible, future, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::mpsc};

use crate::{handler, shared::Shared};

/// Every body that the server sends.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// How a connection ends before HTTP would end it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Abort {
    /// FIN.
    Close,
    /// RST.
    Reset,
    /// These bytes, whatever HTTP expects, then FIN.
    Raw(&'static [u8]),
}

impl Abort {
    /// Ends the connection. What was handed to hyper before goes out first. Never returns: the connection drops its caller.
    pub(crate) async fn now(self, connection: &mpsc::UnboundedSender<Self>) -> ! {
        // A closed channel means that the connection is already gone.
        let _ = connection.send(self);
        future::pending().await
    }
}

/// Serves a connection until either side ends it.
pub(crate) async fn serve(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    let (sender, mut aborts) = mpsc::unbounded_channel();
    let service = service_fn(move |request| handler::handle(Arc::clone(&shared), peer, sender.clone(), request));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let abort = tokio::select! {
        biased;
        // Whatever ended it, a client that went away or one that speaks no HTTP, there is nobody left to tell.
        _ = &mut connection => return,
        abort = aborts.recv() => abort,
    };
    let mut stream = connection.into_parts().io.into_inner();
    // Errors below only mean that the client was faster.
    match abort {
        Some(Abort::Reset) => _ = stream.set_zero_linger(),
        Some(Abort::Raw(bytes)) => _ = stream.write_all(bytes).await,
        Some(Abort::Close) | None => {}
    }
}
