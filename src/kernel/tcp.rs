//! TCP SYNs over a raw socket, through the tunnel. The kernel's TCP knows nothing of them, so no connection is completed.

use std::{io, net::SocketAddrV4};

use vtep_core::tunnel::tcp_probe::{Answer, answer, syn};

use super::socket::{EventSocket, Path};

/// A raw TCP socket that receives only segments to the probes' source ports.
pub struct TcpSocket {
    socket: EventSocket,
    path: Path,
}

impl TcpSocket {
    /// # Errors
    ///
    /// The process lacks `CAP_NET_RAW`, or `path.source` is not an address of this node.
    pub fn open(path: Path) -> io::Result<Self> {
        let socket = EventSocket::tcp()?;
        socket.get().bind(&SocketAddrV4::new(path.source, 0).into())?;
        Ok(Self { socket, path })
    }

    #[must_use]
    pub fn path(&self) -> Path {
        self.path
    }

    /// Sends one SYN, without waiting.
    ///
    /// # Errors
    ///
    /// The kernel's error about this packet.
    pub fn send(&self, id: u16, sequence: u16, to: SocketAddrV4) -> io::Result<()> {
        self.socket.forget_errors();
        self.socket.send(&syn(id, sequence, self.path.source, to), Some(self.path), *to.ip())
    }

    /// Waits for the next answer.
    ///
    /// # Errors
    ///
    /// The socket fails.
    pub async fn receive(&self) -> io::Result<Answer> {
        let mut buffer = [0; 128];
        loop {
            let length = self.socket.receive(&mut buffer).await?;
            if let Some(answer) = buffer.get(..length).and_then(answer) {
                return Ok(answer);
            }
        }
    }
}
