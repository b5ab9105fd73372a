//! The lock that lets only one agent write on a node. A second agent, started by mistake or during an update, only observes.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
};

/// The name of an abstract socket. All agents of a node share its network namespace, even with different files. The kernel releases the
/// name when the process ends.
const NAME: &str = "vtep-agent";

/// The lock; dropping it releases it.
#[derive(Debug)]
pub struct NodeLock(#[expect(dead_code, reason = "the socket is held, not used")] UnixListener);

impl NodeLock {
    /// Takes the lock; `None` while another agent has it.
    ///
    /// # Errors
    ///
    /// The kernel refuses for another reason.
    pub fn take() -> io::Result<Option<Self>> {
        let address = SocketAddr::from_abstract_name(NAME)?;
        match UnixListener::bind_addr(&address) {
            Ok(socket) => Ok(Some(Self(socket))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error),
        }
    }
}
