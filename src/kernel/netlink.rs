//! The rtnetlink connection, complete listings, and the meaning of the kernel's error codes.

use std::{io, time::Duration};

use futures_util::{Stream, StreamExt};
use nix::errno::Errno;
use rtnetlink::{
    Error as NetlinkError, Handle, MulticastGroup,
    packet_core::{ErrorMessage, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
};
use tokio::{sync::mpsc, time};

/// The maximum number of attempts at a listing that another one blocks or a change interrupts.
const DUMP_ATTEMPTS: u32 = 10;
/// The pause between attempts grows by this. An interruption is over in microseconds, unless routes change all the time.
const DUMP_PAUSE: Duration = Duration::from_millis(1);

#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("the list changed during each of {DUMP_ATTEMPTS} reads")]
    Interrupted,
}

/// Opens a connection with strict checking, so that the kernel filters listings, and runs it in the background.
///
/// Each loop needs its own connection, because the kernel runs one listing at a time on a socket and answers EBUSY to a second request.
/// List with [`dump`] only: this connection forwards the message that ends a listing, because only that message shows whether the listing
/// is complete; rtnetlink's own listings would take it for an error.
///
/// # Errors
///
/// The netlink socket cannot be opened.
pub fn connect() -> io::Result<Handle> {
    let (mut connection, handle, _) = rtnetlink::new_connection_with_strict_check()?;
    connection.set_forward_done(true);
    tokio::spawn(connection);
    Ok(handle)
}

/// Lists the objects that `request` (a `Get…` message) selects. A refused (EBUSY) or interrupted (`NLM_F_DUMP_INTR`) listing is repeated.
///
/// # Errors
///
/// The kernel refuses the listing, or changes interrupt every attempt.
pub async fn dump(netlink: &Handle, request: &RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, DumpError> {
    fold(netlink, request, Vec::new, |listed, message| listed.push(message)).await
}

/// Like [`dump`], for long listings: `add` retains only the needed part of each message. Each attempt begins with a new value of `start`.
///
/// # Errors
///
/// Those of [`dump`].
pub async fn fold<T>(
    netlink: &Handle,
    request: &RouteNetlinkMessage,
    start: impl Fn() -> T,
    add: impl FnMut(&mut T, RouteNetlinkMessage),
) -> Result<T, DumpError> {
    let ask = || {
        let mut message = NetlinkMessage::from(request.clone());
        message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        netlink.clone().request(message)
    };
    fold_by(ask, start, add).await
}

async fn fold_by<T, S>(
    mut ask: impl FnMut() -> Result<S, NetlinkError>,
    start: impl Fn() -> T,
    mut add: impl FnMut(&mut T, RouteNetlinkMessage),
) -> Result<T, DumpError>
where
    S: Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Unpin,
{
    for attempt in 1..=DUMP_ATTEMPTS {
        let mut listed = start();
        match read_all(ask()?, |message| add(&mut listed, message)).await {
            Ok(()) => return Ok(listed),
            Err(DumpError::Interrupted) => {}
            Err(DumpError::Netlink(error)) if has_errno(&error, Errno::EBUSY) && attempt < DUMP_ATTEMPTS => {}
            Err(error) => return Err(error),
        }
        time::sleep(DUMP_PAUSE * attempt).await;
    }
    Err(DumpError::Interrupted)
}

/// Reads one listing to its end. The kernel may set `NLM_F_DUMP_INTR` on any of its messages, also on the last (`linux/netlink.h`).
#[expect(clippy::wildcard_enum_match_arm, reason = "the enum is the library's, and not exhaustive")]
async fn read_all(
    mut answers: impl Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Unpin,
    mut add: impl FnMut(RouteNetlinkMessage),
) -> Result<(), DumpError> {
    let (mut whole, mut interrupted) = (false, false);
    // Read an interrupted listing to its end, too: only then is the socket free for the next one.
    while let Some(NetlinkMessage { header, payload, .. }) = answers.next().await {
        interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
        match payload {
            NetlinkPayload::InnerMessage(message) => add(message),
            NetlinkPayload::Error(error @ ErrorMessage { code: Some(_), .. }) => {
                return Err(NetlinkError::NetlinkError(error).into());
            }
            NetlinkPayload::Done(done) if done.code < 0 => return Err(refused(done.code).into()),
            NetlinkPayload::Done(_) => whole = true,
            // The socket's buffer was full, so the listing lacks a message.
            NetlinkPayload::Overrun(_) => interrupted = true,
            _ => {}
        }
    }
    if whole && !interrupted { Ok(()) } else { Err(DumpError::Interrupted) }
}

fn refused(code: i32) -> NetlinkError {
    let mut error = ErrorMessage::default();
    error.code = std::num::NonZeroI32::new(code);
    NetlinkError::NetlinkError(error)
}

/// Sends `()` whenever a route, rule, address or link of this node changes. One notice may stand for several changes: the receiver reads
/// everything again, so it needs no second notice while one is pending.
///
/// # Errors
///
/// The netlink socket cannot be opened.
pub fn watch_changes() -> io::Result<mpsc::Receiver<()>> {
    let groups =
        [MulticastGroup::Ipv4Route, MulticastGroup::Ipv4Rule, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Link];
    let (connection, _, mut messages) = rtnetlink::new_multicast_connection(&groups)?;
    tokio::spawn(connection);
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        while messages.next().await.is_some() {
            // A full channel already has a pending notice.
            if let Err(mpsc::error::TrySendError::Closed(())) = sender.try_send(()) {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Whether the object to read or to delete does not exist.
#[must_use]
pub fn is_absent(error: &NetlinkError) -> bool {
    [Errno::ENOENT, Errno::ESRCH, Errno::ENODEV].into_iter().any(|errno| has_errno(error, errno))
}

/// Whether the object to add exists already.
#[must_use]
pub fn is_present(error: &NetlinkError) -> bool {
    has_errno(error, Errno::EEXIST)
}

/// Whether the kernel answered with this error code.
#[must_use]
pub fn has_errno(error: &NetlinkError, errno: Errno) -> bool {
    if let NetlinkError::NetlinkError(message) = error { message.raw_code() == -(errno as i32) } else { false }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroI32;

    use futures_util::stream;
    use rtnetlink::{
        packet_core::{DoneMessage, NetlinkHeader},
        packet_route::route::RouteMessage,
    };

    use super::*;

    type Answer = NetlinkMessage<RouteNetlinkMessage>;

    fn message(payload: NetlinkPayload<RouteNetlinkMessage>, flags: u16) -> Answer {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        NetlinkMessage::new(header, payload)
    }

    fn route(flags: u16) -> Answer {
        message(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(RouteMessage::default())), flags)
    }

    fn end(flags: u16) -> Answer {
        message(NetlinkPayload::Done(DoneMessage::default()), flags)
    }

    fn error(errno: Errno) -> Answer {
        let mut error = ErrorMessage::default();
        error.code = NonZeroI32::new(-(errno as i32));
        message(NetlinkPayload::Error(error), 0)
    }

    /// The number of attempts, and the result.
    async fn ask(mut script: Vec<Vec<Answer>>) -> (usize, Result<usize, DumpError>) {
        let mut asked = 0;
        let ask = || {
            asked += 1;
            let answers = if script.len() > 1 { script.remove(0) } else { script[0].clone() };
            Ok(stream::iter(answers))
        };
        let listed = fold_by(ask, || 0, |count, _| *count += 1).await;
        (asked, listed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_listing_is_whole_or_read_again() {
        let whole = || vec![route(0), route(0), end(0)];
        let table = [
            ("whole", vec![whole()], 1, Some(2)),
            ("interrupted in the middle", vec![vec![route(0), route(NLM_F_DUMP_INTR), end(0)], whole()], 2, Some(2)),
            ("interrupted, and only the end says so", vec![vec![route(0), end(NLM_F_DUMP_INTR)], whole()], 2, Some(2)),
            ("cut off", vec![vec![route(0)], whole()], 2, Some(2)),
            ("refused", vec![vec![error(Errno::EBUSY)], vec![error(Errno::EBUSY)], whole()], 3, Some(2)),
            ("refused for good", vec![vec![error(Errno::EBUSY)]], DUMP_ATTEMPTS as usize, None),
            ("never whole", vec![vec![route(0), end(NLM_F_DUMP_INTR)]], DUMP_ATTEMPTS as usize, None),
            ("forbidden", vec![vec![error(Errno::EPERM)]], 1, None),
        ];
        for (what, script, attempts, routes) in table {
            let (asked, listed) = ask(script).await;
            assert_eq!((asked, listed.ok()), (attempts, routes), "{what}");
        }
    }

    /// With a real kernel: it refuses concurrent listings on one socket, and yet each listing is complete in the end.
    #[tokio::test]
    async fn listings_on_one_socket_do_not_hurt_each_other() {
        let netlink = connect().expect("a netlink socket");
        let links = &RouteNetlinkMessage::GetLink(Default::default());
        let (first, second, third) = tokio::join!(dump(&netlink, links), dump(&netlink, links), dump(&netlink, links));
        for listed in [first, second, third] {
            assert!(!listed.expect("a listing").is_empty(), "there is a loopback device");
        }
    }
}
