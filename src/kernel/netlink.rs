//! The rtnetlink connection, listings that are whole, and what the kernel's error codes mean.

use std::{io, time::Duration};

use futures_util::{Stream, StreamExt};
use nix::errno::Errno;
use rtnetlink::{
    Error as NetlinkError, Handle, MulticastGroup,
    packet_core::{ErrorMessage, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
};
use tokio::{sync::mpsc, time};

/// How often a listing is read again that another one held up or a change interrupted.
const DUMP_ATTEMPTS: u32 = 10;
/// The pause before each attempt grows by this: what interrupts a listing is over in microseconds, unless routes change all the time.
const DUMP_PAUSE: Duration = Duration::from_millis(1);

#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("what was listed changed meanwhile, {DUMP_ATTEMPTS} times in a row")]
    Interrupted,
}

/// Opens a connection that makes the kernel filter listings, and runs it in the background.
///
/// One loop, one connection: the kernel lists one thing at a time on a socket and answers EBUSY to a second request. Use [`dump`] to list:
/// the end of a listing, which tells whether it is whole, is passed on, and rtnetlink's own listings take it for an error.
///
/// # Errors
///
/// When the netlink socket cannot be opened.
pub fn connect() -> io::Result<Handle> {
    let (mut connection, handle, _) = rtnetlink::new_connection_with_strict_check()?;
    connection.set_forward_done(true);
    tokio::spawn(connection);
    Ok(handle)
}

/// Lists what `request` (a `Get…` message) selects; reads again at once what was refused (EBUSY) or interrupted (`NLM_F_DUMP_INTR`).
///
/// # Errors
///
/// When the kernel refuses the listing, or changes interrupt every attempt.
pub async fn dump(netlink: &Handle, request: &RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, DumpError> {
    fold(netlink, request, Vec::new, |listed, message| listed.push(message)).await
}

/// The same where a listing may be long: `add` takes of each message what is worth keeping. `start` is asked for anew with each attempt.
///
/// # Errors
///
/// As of [`dump`].
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

/// The kernel sets `NLM_F_DUMP_INTR` on any message of a listing, also on the one that ends it (`linux/netlink.h`).
#[expect(clippy::wildcard_enum_match_arm, reason = "the enum is the library's, and not exhaustive")]
async fn read_all(
    mut answers: impl Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Unpin,
    mut add: impl FnMut(RouteNetlinkMessage),
) -> Result<(), DumpError> {
    let (mut whole, mut interrupted) = (false, false);
    // To its end, also when it is of no use: the socket is free for the next listing only then.
    while let Some(NetlinkMessage { header, payload, .. }) = answers.next().await {
        interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
        match payload {
            NetlinkPayload::InnerMessage(message) => add(message),
            NetlinkPayload::Error(error @ ErrorMessage { code: Some(_), .. }) => {
                return Err(NetlinkError::NetlinkError(error).into());
            }
            NetlinkPayload::Done(done) if done.code < 0 => return Err(refused(done.code).into()),
            NetlinkPayload::Done(_) => whole = true,
            // A message that the socket had no room for is missing from the listing.
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

    /// How many attempts the kernel is asked for, and what comes of it.
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

    /// The kernel itself: two listings at a time on one socket, which it refuses, and each comes whole.
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
