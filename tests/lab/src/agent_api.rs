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
    thread,
};

use anyhow::{Context, Result};
use serde_json::json;

use crate::mounts::CILIUM_RUN;

/// Answers requests until it is dropped; dropping it removes the socket.
#[derive(Debug)]
pub(crate) struct AgentApi {
    path: PathBuf,
    ended: Arc<AtomicBool>,
}

impl AgentApi {
    /// Listens on `cilium.sock` in the run directory. Each call creates a new socket.
    pub(crate) fn serve(version: &str) -> Result<Self> {
        let path = Path::new(CILIUM_RUN).join("cilium.sock");
        let body = json!({"cilium": {"state": "Ok", "msg": format!("{version} (v{version}-c6a7b1f2)")}}).to_string();
        let listener = UnixListener::bind(&path).context("failed to make Cilium's socket")?;
        let ended = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&ended);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                // An error of one client does not concern the others.
                let _ = answer(&client, &body);
            }
        });
        Ok(Self { path, ended })
    }
}

impl Drop for AgentApi {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread.
        let _ = UnixStream::connect(&self.path);
        let _ = fs::remove_file(&self.path);
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
