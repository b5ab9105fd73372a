//! Takes connections and bounds what each may cost. Nothing that a client does reaches the loops that do the agent's work.
//!
//! When all places are taken, the oldest connection gives way: whoever holds a hundred connections open, or asks slowly, keeps nobody out,
//! least of all the kubelet, whose question is the newest and answered at once.

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
const CONNECTIONS: usize = 128;
/// Nobody gives way before that: enough to send a request and be answered, however many come at once. They wait in the kernel's queue.
const GRACE: Duration = Duration::from_millis(20);
/// Nor before everybody had so many turns after that: to hear of a request, to read it, to make the answer, and to send it. Where this process
/// itself had to wait for a CPU, the time alone gives nobody one.
const TURNS: usize = 4;
/// To send a request's header, or the next one's.
const HEADER_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a header.
const HEADER_LIMIT: usize = 16 << 10;
/// A connection's whole life. A page that is open for longer comes back by itself.
const LIFE: Duration = Duration::from_secs(10 * 60);
/// What is being answered at the end has so long.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// After the system has no file for another connection.
const BREATH: Duration = Duration::from_millis(100);

/// Serves until `stop` is true, or its sender is gone.
pub(super) async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<(Instant, AbortHandle)> = VecDeque::new();
    loop {
        let stream = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    time::sleep(BREATH).await;
                    continue;
                }
            },
        };
        oldest_first.retain(|(_, connection)| !connection.is_finished());
        if oldest_first.len() >= CONNECTIONS
            && let Some((began, oldest)) = oldest_first.pop_front()
        {
            time::sleep_until(began + GRACE).await;
            for _ in 0..TURNS {
                task::yield_now().await;
            }
            oldest.abort();
        }
        let connection = connections.spawn(converse(stream, router.clone(), stop.clone()));
        oldest_first.push_back((Instant::now(), connection));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // That its sender is gone is a stop, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One connection from beginning to end.
async fn converse(stream: TcpStream, router: Router, mut stop: watch::Receiver<bool>) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_WITHIN).max_buf_size(HEADER_LIMIT);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    // How a client ends is its own affair.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = time::sleep(LIFE) => {}
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            let _ = time::timeout(LAST_WORDS, connection).await;
        }
    }
}
