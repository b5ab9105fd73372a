//! The rtnetlink connection, and what its error codes mean.

use std::io;

use futures_util::StreamExt;
use nix::errno::Errno;
use rtnetlink::{Error as NetlinkError, Handle, MulticastGroup};
use tokio::sync::mpsc;

/// Opens a connection that makes the kernel filter listings, and runs it in the background.
///
/// # Errors
///
/// When the netlink socket cannot be opened.
pub fn connect() -> io::Result<Handle> {
    let (connection, handle, _) = rtnetlink::new_connection_with_strict_check()?;
    tokio::spawn(connection);
    Ok(handle)
}

/// Sends `()` whenever a route, rule, address or link of this node changes. Several changes may come as one: the receiver reads
/// everything anew, so a lost notice behind one that waits costs nothing.
///
/// # Errors
///
/// When the netlink socket cannot be opened.
pub fn watch_changes() -> io::Result<mpsc::Receiver<()>> {
    let groups =
        [MulticastGroup::Ipv4Route, MulticastGroup::Ipv4Rule, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Link];
    let (connection, _, mut messages) = rtnetlink::new_multicast_connection(&groups)?;
    tokio::spawn(connection);
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        while messages.next().await.is_some() {
            // Full means that a notice is waiting already.
            if let Err(mpsc::error::TrySendError::Closed(())) = sender.try_send(()) {
                return;
            }
        }
    });
    Ok(receiver)
}

/// The kernel says that what was asked for, or was to be deleted, is not there.
#[must_use]
pub fn is_absent(error: &NetlinkError) -> bool {
    [Errno::ENOENT, Errno::ESRCH, Errno::ENODEV].into_iter().any(|errno| has_errno(error, errno))
}

/// The kernel says that what was to be added is there.
#[must_use]
pub fn is_present(error: &NetlinkError) -> bool {
    has_errno(error, Errno::EEXIST)
}

/// The kernel answered with this error.
#[must_use]
pub fn has_errno(error: &NetlinkError, errno: Errno) -> bool {
    if let NetlinkError::NetlinkError(message) = error { message.raw_code() == -(errno as i32) } else { false }
}
