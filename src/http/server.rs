//! The accept loop, and the limits of each connection.
//!
//! At the limit, the server closes the oldest connection. So idle or slow clients cannot keep the kubelet out: its probe comes on a new
//! connection, and the server answers it long before that connection is the oldest. A limit that makes new connections wait cannot promise
//! this: decision record 0011 has the measurements.

use std::{collections::VecDeque, pin::pin, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{self, AbortHandle, JoinSet},
    time::{self, Instant},
};

/// Connections at a time.
const CONNECTION_LIMIT: usize = 128;
/// A younger connection is not closed to make room: its client gets time to send a request. Newer ones wait in the kernel's queue.
const MIN_AGE: Duration = Duration::from_millis(20);
/// A connection is closed at this age. The page opens a new one by itself.
const MAX_AGE: Duration = Duration::from_secs(10 * 60);
/// Time to send the header of the first request, or of the next one on the same connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a header.
const HEADER_LIMIT: usize = 16 << 10;
/// At shutdown, time to finish the answers that have begun.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// Pause after a failed accept, which usually means that the process has no file descriptor left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Serves until `stop` is true, or its sender is gone.
pub(super) async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut oldest_first = VecDeque::new();
    loop {
        let stream = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            },
        };
        make_room(&mut oldest_first).await;
        let connection = connections.spawn(serve_connection(stream, router.clone(), stop.clone()));
        oldest_first.push_back((Instant::now(), connection));
        // All connections are polled between two accepts. So each of them is polled many times before it is the oldest, even if this
        // process had to wait for a CPU and finds a long queue of new connections.
        task::yield_now().await;
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Closes the oldest connection at the limit.
async fn make_room(oldest_first: &mut VecDeque<(Instant, AbortHandle)>) {
    oldest_first.retain(|(_, connection)| !connection.is_finished());
    if oldest_first.len() >= CONNECTION_LIMIT
        && let Some((accepted, oldest)) = oldest_first.pop_front()
    {
        time::sleep_until(accepted + MIN_AGE).await;
        oldest.abort();
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn serve_connection(stream: TcpStream, router: Router, mut stop: watch::Receiver<bool>) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEADER_LIMIT);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    // Errors of a connection concern only its client.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = time::sleep(MAX_AGE) => {}
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            let _ = time::timeout(DRAIN_TIMEOUT, connection).await;
        }
    }
}
