//! The thread that accepts connections, and stops and resumes listening on the same port.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, mpsc::SyncSender},
};

use tokio::{
    net::{TcpListener, TcpSocket},
    sync::mpsc,
    task::JoinSet,
    time::{self, Duration, Instant},
};

use crate::{connection, shared::Shared};

/// The backlog of the socket: enough for all agents of a large cluster at once.
const BACKLOG: u32 = 4096;
/// How long a process may take from its creation to its program.
const RELEASED_WITHIN: Duration = Duration::from_secs(10);

/// Commands of the handle to the thread; the thread answers each when it has executed it.
#[derive(Debug)]
pub(crate) enum Control {
    Stop(SyncSender<io::Result<()>>),
    Resume(SyncSender<io::Result<()>>),
}

/// A socket that holds an address without listening, so that connections to the address are refused.
pub(crate) fn hold(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// The same, once nobody listens there any more: a process that another thread is starting keeps a copy of the closed socket until it
/// executes its program.
async fn hold_soon(address: SocketAddr) -> io::Result<TcpSocket> {
    let deadline = Instant::now() + RELEASED_WITHIN;
    loop {
        match hold(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                time::sleep(Duration::from_millis(5)).await;
            }
            result => return result,
        }
    }
}

/// Listens and serves until the handle is dropped.
pub(crate) async fn run(listener: TcpListener, mut control: mpsc::UnboundedReceiver<Control>, shared: Arc<Shared>) {
    let Ok(address) = listener.local_addr() else { return };
    let mut listener = Some(listener);
    let mut held = None;
    let mut connections = JoinSet::new();
    loop {
        let command = match &listener {
            Some(listening) => accept(listening, &mut control, &mut connections, &shared).await,
            None => control.recv().await,
        };
        let (result, answer) = match command {
            None => return,
            Some(Control::Stop(answer)) => {
                drop(listener.take());
                connections.shutdown().await;
                let socket = match held.take() {
                    Some(socket) => Ok(socket),
                    None => hold_soon(address).await,
                };
                (socket.map(|socket| held = Some(socket)), answer)
            }
            Some(Control::Resume(answer)) => {
                let resumed = held
                    .take()
                    .map_or(Ok(()), |socket| socket.listen(BACKLOG).map(|listening| listener = Some(listening)));
                (resumed, answer)
            }
        };
        // The handle waits for this answer; an error means that the handle was dropped.
        let _ = answer.send(result);
    }
}

/// Starts to listen.
pub(crate) fn listen(socket: TcpSocket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)
}

/// Accepts connections until a command arrives.
async fn accept(
    listener: &TcpListener,
    control: &mut mpsc::UnboundedReceiver<Control>,
    connections: &mut JoinSet<()>,
    shared: &Arc<Shared>,
) -> Option<Control> {
    loop {
        tokio::select! {
            biased;
            command = control.recv() => return command,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            Ok((stream, peer)) = listener.accept() => {
                // Without TCP_NODELAY, small events wait for acknowledgements; a failure only costs time.
                let _ = stream.set_nodelay(true);
                connections.spawn(connection::serve(stream, peer, Arc::clone(shared)));
            }
        }
    }
}
