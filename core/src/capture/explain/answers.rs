//! Which questions of a capture were answered: ARP requests and pings.

use std::{collections::BTreeMap, net::Ipv4Addr};

use jiff::{SignedDuration, Timestamp};

use crate::{
    capture::{
        Captured,
        packet::{Content, Inner, Ip, Packet},
    },
    tunnel::frames::{Arp, ArpKind, Echo},
};

/// A question that has no answer after this time will get none.
const WITHIN: SignedDuration = SignedDuration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered(SignedDuration),
    Unanswered,
    /// The capture ended too early to know.
    Open,
}

/// Question and answer have this in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Arp { asker: Ipv4Addr, target: Ipv4Addr },
    Echo { asker: Ipv4Addr, target: Ipv4Addr, id: u16, sequence: u16 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Question,
    Answer,
}

/// Where it passes: an interface, inside or outside the tunnel.
type Place = (usize, bool);

pub(super) struct Answers {
    at: BTreeMap<(Place, Subject), Vec<Timestamp>>,
    ended: Timestamp,
}

impl Answers {
    /// The frames are in the order of time.
    pub(super) fn of(frames: &[(&Captured, Packet)], ended: Timestamp) -> Self {
        let mut at: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (captured, packet) in frames {
            if let Some((place, Side::Answer, subject)) = subject(captured, packet) {
                at.entry((place, subject)).or_default().push(captured.at);
            }
        }
        Self { at, ended }
    }

    /// What became of this frame; `None` if it asks nothing.
    pub(super) fn outcome(&self, captured: &Captured, packet: &Packet) -> Option<Outcome> {
        let (place, Side::Question, subject) = subject(captured, packet)? else { return None };
        let answers = self.at.get(&(place, subject)).map_or(&[][..], Vec::as_slice);
        let after = answers.get(answers.partition_point(|at| *at < captured.at)..).and_then(<[_]>::first);
        let after = after.map(|at| at.duration_since(captured.at)).filter(|after| *after <= WITHIN);
        Some(match after {
            Some(after) => Outcome::Answered(after),
            None if self.ended.duration_since(captured.at) < WITHIN => Outcome::Open,
            None => Outcome::Unanswered,
        })
    }
}

fn subject(captured: &Captured, packet: &Packet) -> Option<(Place, Side, Subject)> {
    let place = |is_inside| (captured.interface, is_inside);
    match packet {
        Packet::Arp(kind, arp) => of_arp(*kind, arp).map(|(side, subject)| (place(false), side, subject)),
        Packet::Ip(ip) => of_ip(ip).map(|(side, subject)| (place(false), side, subject)),
        Packet::Tunnel(frame) => {
            let found = match &frame.inner {
                Inner::Arp(kind, arp) => of_arp(*kind, arp),
                Inner::Ip(ip) => of_ip(ip),
                Inner::Other => None,
            };
            found.map(|(side, subject)| (place(true), side, subject))
        }
        Packet::Other => None,
    }
}

fn of_arp(kind: ArpKind, arp: &Arp) -> Option<(Side, Subject)> {
    // An announcement asks nothing.
    if arp.sender == arp.target {
        return None;
    }
    Some(match kind {
        ArpKind::Request => (Side::Question, Subject::Arp { asker: arp.sender, target: arp.target }),
        ArpKind::Reply => (Side::Answer, Subject::Arp { asker: arp.target, target: arp.sender }),
    })
}

fn of_ip(ip: &Ip) -> Option<(Side, Subject)> {
    let subject = |asker, target, Echo { id, sequence }: Echo| Subject::Echo { asker, target, id, sequence };
    match ip.content {
        Content::EchoRequest(message) => Some((Side::Question, subject(ip.source, ip.destination, message.echo))),
        Content::EchoReply(message) => Some((Side::Answer, subject(ip.destination, ip.source, message.echo))),
        Content::Icmp { .. } | Content::Tcp { .. } | Content::Udp { .. } | Content::Fragment | Content::Other(_) => {
            None
        }
    }
}
