//! Cilium's REST API on its Unix socket, limited to the version.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result};
use serde_json::json;

use crate::mounts::CILIUM_RUN;

/// Answers requests until it is dropped; dropping it removes the socket.
#[derive(Debug)]
pub(crate) struct AgentApi {
    path: PathBuf,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Whether the socket's file remains.
    is_killed: bool,
}

impl AgentApi {
    /// Listens on `cilium.sock` in the run directory. Each call creates a new socket.
    pub(crate) fn serve(version: &str) -> Result<Self> {
        let path = Path::new(CILIUM_RUN).join("cilium.sock");
        let body = json!({"cilium": {"state": "Ok", "msg": format!("{version} (v{version}-c6a7b1f2)")}}).to_string();
        // As Cilium does: a killed one has left its file.
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).context("failed to make Cilium's socket")?;
        let ended = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                // An error of one client does not concern the others.
                let _ = answer(&client, &body);
            }
        });
        Ok(Self { path, ended, thread: Some(thread), is_killed: false })
    }

    /// Ends as after SIGKILL: the file remains, and nobody listens.
    pub(crate) fn kill(mut self) {
        self.is_killed = true;
    }
}

impl Drop for AgentApi {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread.
        let _ = UnixStream::connect(&self.path);
        // A panic there has been printed.
        self.thread.take().map(JoinHandle::join);
        if !self.is_killed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn answer(client: &UnixStream, body: &str) -> Result<()> {
    let mut lines = BufReader::new(client).lines();
    let request = lines.next().context("no request")??;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let code = if request.starts_with("GET /v1/healthz ") { "200 OK" } else { "404 Not Found" };
    let length = body.len();
    let mut out = client;
    write!(out, "HTTP/1.1 {code}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")?;
    Ok(())
}
