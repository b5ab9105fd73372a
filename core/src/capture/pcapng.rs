//! A capture as a pcapng file (draft-ietf-opsawg-pcapng): little endian, one section, times in nanoseconds.
//!
//! The crates for this format are release candidates or several years old, and its four blocks need less code than their use.

use super::{Capture, Captured, Direction, Interface, Known};

// Types of blocks.
pub(crate) const SECTION: u32 = 0x0a0d_0d0a;
pub(crate) const INTERFACE: u32 = 1;
pub(crate) const STATISTICS: u32 = 5;
pub(crate) const PACKET: u32 = 6;

// Codes of options.
const END: u16 = 0;
pub(crate) const COMMENT: u16 = 1;
pub(crate) const SECTION_OS: u16 = 3;
pub(crate) const SECTION_APPLICATION: u16 = 4;
pub(crate) const INTERFACE_NAME: u16 = 2;
pub(crate) const INTERFACE_RESOLUTION: u16 = 9;
pub(crate) const PACKET_FLAGS: u16 = 2;
const STATISTICS_RECEIVED: u16 = 4;
const STATISTICS_DROPPED: u16 = 5;

pub(crate) const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const LINK_ETHERNET: u16 = 1;
/// Ten to the minus ninth of a second.
const NANOSECONDS: u8 = 9;

/// The most bytes of a block beside its frame's: its lengths and fields, and the longest comment on a probe.
const AROUND: usize = 160;

/// The file. `application` names the program and its version; `snap` is the number of bytes that the capture keeps of a frame.
#[must_use]
pub fn write(capture: &Capture, known: &Known, application: &str, snap: u32) -> Vec<u8> {
    // At once, because a vector that grows may take twice of what it has.
    let mut file = Vec::with_capacity(capture.frames.iter().map(|of| of.bytes.len() + AROUND).sum());
    section(application, capture).append_to(&mut file, SECTION);
    capture.interfaces.iter().for_each(|of| interface(of, snap).append_to(&mut file, INTERFACE));
    capture.frames.iter().for_each(|of| packet(of, known).append_to(&mut file, PACKET));
    for (index, of) in (0_u32..).zip(&capture.interfaces) {
        statistics(index, of, nanoseconds(capture.ended)).append_to(&mut file, STATISTICS);
    }
    file
}

/// The body of a block: fixed fields, and then options.
#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn field<const N: usize>(&mut self, bytes: [u8; N]) {
        self.0.extend_from_slice(&bytes);
    }

    /// Pads to 32 bits.
    fn data(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// Cuts what is too long for an option.
    fn option(&mut self, code: u16, value: &[u8]) {
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        self.field(code.to_le_bytes());
        self.field(length.to_le_bytes());
        self.data(value.get(..usize::from(length)).unwrap_or_default());
    }

    fn text(&mut self, code: u16, value: &str) {
        self.option(code, value.as_bytes());
    }

    fn append_to(mut self, file: &mut Vec<u8>, kind: u32) {
        self.option(END, &[]);
        // Type, both lengths, and the body.
        let length = u32::try_from(self.0.len() + 12).unwrap_or(u32::MAX);
        file.extend_from_slice(&kind.to_le_bytes());
        file.extend_from_slice(&length.to_le_bytes());
        file.extend_from_slice(&self.0);
        file.extend_from_slice(&length.to_le_bytes());
    }
}

fn section(application: &str, capture: &Capture) -> Body {
    let mut body = Body::default();
    body.field(BYTE_ORDER.to_le_bytes());
    // Version 1.0, and a section of unknown length.
    body.field(1_u16.to_le_bytes());
    body.field(0_u16.to_le_bytes());
    body.field((-1_i64).to_le_bytes());
    body.text(SECTION_OS, "Linux");
    body.text(SECTION_APPLICATION, application);
    if let Some(since) = capture.without_bulk_since {
        body.text(COMMENT, &format!("from {since} on only ARP and ICMP, beside and inside the tunnels"));
    }
    if let Some(words) = capture.left_out_words() {
        body.text(COMMENT, &words);
    }
    body
}

fn interface(interface: &Interface, snap: u32) -> Body {
    let mut body = Body::default();
    body.field(LINK_ETHERNET.to_le_bytes());
    body.field([0; 2]);
    body.field(snap.to_le_bytes());
    body.text(INTERFACE_NAME, &interface.name);
    body.option(INTERFACE_RESOLUTION, &[NANOSECONDS]);
    body
}

fn packet(captured: &Captured, known: &Known) -> Body {
    let mut body = Body::default();
    body.field(u32::try_from(captured.interface).unwrap_or(u32::MAX).to_le_bytes());
    body.field(time(nanoseconds(captured.at)));
    body.field(u32::try_from(captured.bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    body.field(captured.length.to_le_bytes());
    body.data(&captured.bytes);
    let inbound_or_outbound: u32 = match captured.direction {
        Direction::In => 1,
        Direction::Out => 2,
    };
    body.option(PACKET_FLAGS, &inbound_or_outbound.to_le_bytes());
    if let Some(probe) = captured.decode(known.tunnel).probe(captured.direction, known) {
        body.text(COMMENT, &probe);
    }
    body
}

fn statistics(index: u32, interface: &Interface, ended: u64) -> Body {
    let mut body = Body::default();
    body.field(index.to_le_bytes());
    body.field(time(ended));
    body.option(STATISTICS_RECEIVED, &interface.received.to_le_bytes());
    body.option(STATISTICS_DROPPED, &interface.dropped.to_le_bytes());
    body
}

/// The upper half comes first.
fn time(nanoseconds: u64) -> [u8; 8] {
    nanoseconds.rotate_left(32).to_le_bytes()
}

/// Since 1970; a time before that, or after 2554, is 0.
fn nanoseconds(at: jiff::Timestamp) -> u64 {
    u64::try_from(at.as_nanosecond()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8]) -> u32 {
        u32::from_le_bytes(bytes.try_into().expect("four bytes"))
    }

    /// Type and body of each block.
    fn blocks(mut file: &[u8]) -> Vec<(u32, &[u8])> {
        let mut blocks = Vec::new();
        while !file.is_empty() {
            let (kind, length) = (number(&file[..4]), number(&file[4..8]) as usize);
            assert!(length.is_multiple_of(4) && number(&file[length - 4..length]) as usize == length, "both lengths");
            blocks.push((kind, &file[8..length - 4]));
            file = &file[length..];
        }
        blocks
    }

    /// Code and value of each option.
    fn options(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let mut options = Vec::new();
        loop {
            let [code, length] = [0, 2].map(|at| u16::from_le_bytes([bytes[at], bytes[at + 1]]));
            if code == END {
                assert_eq!(bytes.len(), 4, "the end is the end");
                return options;
            }
            options.push((code, bytes[4..4 + usize::from(length)].to_vec()));
            bytes = &bytes[4 + usize::from(length).next_multiple_of(4)..];
        }
    }

    #[test]
    fn blocks_are_as_the_format_says() {
        let interface = |name: &str, received, dropped| Interface { name: name.to_owned(), received, dropped };
        let at: jiff::Timestamp = "2026-11-27T12:00:00.123456789Z".parse().expect("a time");
        let captured = Captured { at, interface: 1, direction: Direction::Out, length: 1500, bytes: vec![7; 5] };
        let capture = Capture {
            interfaces: vec![interface("eth0", 1, 2), interface("cilium_vxlan", 3, 4)],
            frames: vec![captured],
            ended: at,
            without_bulk_since: Some(at),
            left_out: Vec::new(),
        };
        let file = write(&capture, &Known::default(), "vtep-agent 0.1.0", 128);
        let blocks = blocks(&file);
        let kinds: Vec<_> = blocks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [SECTION, INTERFACE, INTERFACE, PACKET, STATISTICS, STATISTICS]);
        let text = |code, value: &str| (code, value.as_bytes().to_vec());
        assert_eq!(
            options(&blocks[0].1[16..]),
            [
                text(SECTION_OS, "Linux"),
                text(SECTION_APPLICATION, "vtep-agent 0.1.0"),
                text(COMMENT, &format!("from {at} on only ARP and ICMP, beside and inside the tunnels")),
            ]
        );
        assert_eq!(options(&blocks[2].1[8..]), [text(INTERFACE_NAME, "cilium_vxlan"), (INTERFACE_RESOLUTION, vec![9])]);
        let packet = blocks[3].1;
        let time = u64::from(number(&packet[4..8])) << 32 | u64::from(number(&packet[8..12]));
        assert_eq!(i128::from(time), at.as_nanosecond());
        assert_eq!([0, 12, 16].map(|from| number(&packet[from..from + 4])), [1, 5, 1500]);
        assert_eq!(packet[20..28], [7, 7, 7, 7, 7, 0, 0, 0]);
        assert_eq!(options(&packet[28..]), [(PACKET_FLAGS, vec![2, 0, 0, 0])]);
        assert_eq!(
            options(&blocks[5].1[12..]),
            [(STATISTICS_RECEIVED, vec![3, 0, 0, 0, 0, 0, 0, 0]), (STATISTICS_DROPPED, vec![4, 0, 0, 0, 0, 0, 0, 0])]
        );
    }
}
