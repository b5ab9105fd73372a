//! Addresses in the file of a capture, whose comments are those of the frames as they were.
//!
//! It reads what [`crate::capture::pcapng`] writes. A file with anything else is refused, because nobody knows where that has its addresses.

use super::Redactor;
use crate::{
    capture::{
        Captured, Direction,
        pcapng::{
            BYTE_ORDER, COMMENT, INTERFACE, INTERFACE_NAME, INTERFACE_RESOLUTION, PACKET, PACKET_FLAGS, SECTION,
            SECTION_APPLICATION, SECTION_OS, STATISTICS,
        },
    },
    config::spec::Tunnel,
};

/// Type and both lengths.
const AROUND: usize = 12;
/// Order of bytes, version, and length.
const SECTION_FIELDS: usize = 16;
/// Link type, and the most bytes of a frame.
const INTERFACE_FIELDS: usize = 8;
/// Interface, time, and two lengths.
const PACKET_FIELDS: usize = 20;

/// The options of a block: texts, which may have addresses, and others, which have none.
struct Codes {
    texts: &'static [u16],
    others: &'static [u16],
}

const OF_SECTION: Codes = Codes { texts: &[COMMENT, SECTION_OS, SECTION_APPLICATION], others: &[] };
const OF_INTERFACE: Codes = Codes { texts: &[INTERFACE_NAME], others: &[INTERFACE_RESOLUTION] };
const OF_PACKET: Codes = Codes { texts: &[COMMENT], others: &[PACKET_FLAGS] };

impl Redactor {
    /// The file with replaced addresses in frames and comments; `None` if it is not as this program writes it.
    #[must_use]
    pub fn pcapng(&mut self, mut file: &[u8], tunnel: Tunnel) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(file.len());
        let mut is_first = true;
        while !file.is_empty() {
            let (kind, length) = (number(file, 0)?, usize::try_from(number(file, 4)?).ok()?);
            let block = file.get(..length).filter(|_| length >= AROUND && length.is_multiple_of(4))?;
            if is_first != (kind == SECTION) {
                return None;
            }
            let body = &block[8..length - 4];
            match kind {
                SECTION if number(body, 0)? != BYTE_ORDER => return None,
                SECTION => self.block(kind, body.split_at_checked(SECTION_FIELDS)?, &OF_SECTION, &mut out)?,
                INTERFACE => self.block(kind, body.split_at_checked(INTERFACE_FIELDS)?, &OF_INTERFACE, &mut out)?,
                STATISTICS => out.extend_from_slice(block),
                PACKET => self.packet_block(body, tunnel, &mut out)?,
                _ => return None,
            }
            is_first = false;
            file = &file[length..];
        }
        (!is_first).then_some(out)
    }

    fn packet_block(&mut self, body: &[u8], tunnel: Tunnel, out: &mut Vec<u8>) -> Option<()> {
        let (fields, rest) = body.split_at_checked(PACKET_FIELDS)?;
        let kept = usize::try_from(number(fields, 12)?).ok()?;
        let options = rest.get(kept.checked_next_multiple_of(4)?..)?;
        let mut captured = Captured {
            at: jiff::Timestamp::UNIX_EPOCH,
            interface: 0,
            direction: Direction::In,
            length: number(fields, 16)?,
            bytes: rest.get(..kept)?.to_vec(),
        };
        self.frame(&mut captured, tunnel);
        let mut body = fields[..12].to_vec();
        body.extend_from_slice(&u32::try_from(captured.bytes.len()).ok()?.to_le_bytes());
        body.extend_from_slice(&fields[16..]);
        padded(&mut body, &captured.bytes);
        self.block(PACKET, (&body, options), &OF_PACKET, out)
    }

    /// A block of these fields, which remain, and of these options.
    fn block(&mut self, kind: u32, (fields, options): (&[u8], &[u8]), codes: &Codes, out: &mut Vec<u8>) -> Option<()> {
        let mut body = fields.to_vec();
        self.options(options, codes, &mut body)?;
        let length = u32::try_from(body.len() + AROUND).ok()?.to_le_bytes();
        for bytes in [&kind.to_le_bytes(), &length, &body[..], &length] {
            out.extend_from_slice(bytes);
        }
        Some(())
    }

    fn options(&mut self, mut options: &[u8], codes: &Codes, out: &mut Vec<u8>) -> Option<()> {
        while let Some((header, rest)) = options.split_first_chunk::<4>() {
            let [code, length] = [[header[0], header[1]], [header[2], header[3]]].map(u16::from_le_bytes);
            let length = usize::from(length);
            let value = rest.get(..length)?;
            let value = match code {
                // The end.
                0 => Vec::new(),
                code if codes.texts.contains(&code) => self.text(&String::from_utf8_lossy(value)).into_bytes(),
                code if codes.others.contains(&code) => value.to_vec(),
                _ => return None,
            };
            out.extend_from_slice(&code.to_le_bytes());
            out.extend_from_slice(&u16::try_from(value.len()).ok()?.to_le_bytes());
            padded(out, &value);
            options = rest.get(length.next_multiple_of(4)..)?;
        }
        options.is_empty().then_some(())
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// Appends bytes, padded to 32 bits.
fn padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::capture::{Capture, Interface, pcapng::write, tests};

    const ENDPOINT: Ipv4Addr = Ipv4Addr::new(10, 169, 72, 34);

    fn capture() -> Capture {
        let frames = tests::captured().into_iter().map(|frame| (Direction::Out, frame)).collect();
        let interfaces = vec![Interface { name: "eth0".into(), received: 7, dropped: 0 }];
        Capture { interfaces, ..tests::capture(frames) }
    }

    fn file() -> Vec<u8> {
        write(&capture(), &tests::known(), "vtep-agent 0.1.0", 128)
    }

    fn count(file: &[u8], words: &[u8]) -> usize {
        file.windows(words.len()).filter(|bytes| *bytes == words).count()
    }

    /// A ping of somebody else has lost its data, and looks like one of the agent's.
    #[test]
    fn frames_have_other_addresses_and_the_comments_that_they_had() {
        let before = file();
        let mut redactor = Redactor::new(7, "worker-1");
        let after = redactor.pcapng(&before, Tunnel::default()).expect("our own file");
        assert!(count(&before, &ENDPOINT.octets()) > 0 && count(&after, &ENDPOINT.octets()) == 0);
        assert!(count(&after, &redactor.ipv4(ENDPOINT).octets()) > 0);
        let comment = b"probe of vtep-agent";
        assert_eq!(count(&after, comment), count(&before, comment));
        assert_eq!(redactor.pcapng(&after, Tunnel::default()).as_ref(), Some(&after), "it is a file of ours still");
    }

    #[test]
    fn a_comment_has_the_same_addresses_as_the_frames() {
        let mut redactor = Redactor::new(7, "worker-1");
        let text = format!("BIG-IP {ENDPOINT} of worker-1");
        let mut options = Vec::new();
        for bytes in [&COMMENT.to_le_bytes(), &u16::try_from(text.len()).expect("short").to_le_bytes()] {
            options.extend_from_slice(bytes);
        }
        padded(&mut options, text.as_bytes());
        let mut out = Vec::new();
        assert_eq!(redactor.options(&options, &OF_PACKET, &mut out), Some(()));
        let words = format!("BIG-IP {} of node-1", redactor.ipv4(ENDPOINT));
        assert!(out.windows(words.len()).any(|bytes| bytes == words.as_bytes()), "{out:?}");
    }

    #[test]
    fn the_name_of_a_device_has_no_mac() {
        let mut capture = capture();
        capture.interfaces[0].name = "enx005056a07dd8".into();
        let before = write(&capture, &tests::known(), "vtep-agent 0.1.0", 128);
        let mut redactor = Redactor::new(7, "worker-1");
        let after = redactor.pcapng(&before, Tunnel::default()).expect("our own file");
        assert_eq!([count(&before, b"enx005056a07dd8"), count(&after, b"005056a07dd8")], [1, 0]);
        let name = redactor.text("enx005056a07dd8");
        assert_eq!(count(&after, name.as_bytes()), 1, "{name}");
    }

    #[test]
    fn another_file_is_refused() {
        let ours = file();
        let mut redactor = Redactor::new(7, "worker-1");
        let mut refused = |change: fn(&mut Vec<u8>)| {
            let mut file = ours.clone();
            change(&mut file);
            assert_eq!(redactor.pcapng(&file, Tunnel::default()), None);
        };
        refused(Vec::clear);
        refused(|file| file.truncate(file.len() - 1));
        refused(|file| file[0] = 6);
        refused(|file| file[8..12].reverse());
        // A block of a kind that this program does not write, behind the section.
        refused(|file| file.extend([9, 0, 0, 0, 12, 0, 0, 0, 12, 0, 0, 0]));
        refused(|file| file.extend([9, 0, 0, 0, 0, 0, 0, 0]));
    }

    proptest! {
        #[test]
        fn any_file_is_fine(at in 0_usize..4096, bytes in prop::collection::vec(any::<u8>(), 0..8)) {
            let mut file = file();
            for (offset, byte) in bytes.iter().enumerate() {
                let place = (at + offset) % file.len();
                file[place] = *byte;
            }
            let _ = Redactor::new(7, "worker-1").pcapng(&file, Tunnel::default());
        }
    }
}
