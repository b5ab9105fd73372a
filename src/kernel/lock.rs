//! One agent writes on a node: a second one, started by mistake or during an update, only looks.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
};

/// A name in the node's network namespace, which every agent of the node shares, whatever its files. It goes with the process.
const NAME: &str = "vtep-agent";

/// Held until dropped.
#[derive(Debug)]
pub struct NodeLock(#[expect(dead_code, reason = "the socket is held, not used")] UnixListener);

impl NodeLock {
    /// `None` while another agent holds it.
    ///
    /// # Errors
    ///
    /// When the kernel refuses for another reason.
    pub fn take() -> io::Result<Option<Self>> {
        let address = SocketAddr::from_abstract_name(NAME)?;
        match UnixListener::bind_addr(&address) {
            Ok(socket) => Ok(Some(Self(socket))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error),
        }
    }
}
