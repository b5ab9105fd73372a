//! What a capture takes at its limit. The program's allocator counts, so no other test may run in this one's process.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    net::Ipv4Addr,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use jiff::{SignedDuration, Timestamp};
use vtep_core::capture::{Capture, Captured, Direction, Interface, Known, explain::explain, memory, pcapng};

/// Bytes in use now, and the most since the last reset.
struct Counting {
    now: AtomicUsize,
    peak: AtomicUsize,
}

/// What an allocator adds to each allocation.
const SHARE: usize = 16;

impl Counting {
    fn add(&self, bytes: usize) {
        let now = self.now.fetch_add(bytes, Relaxed) + bytes;
        self.peak.fetch_max(now, Relaxed);
    }
}

#[expect(unsafe_code, reason = "an allocator is unsafe; this one passes everything on")]
// SAFETY: the system's allocator does what is asked; the counts change nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.add(layout.size() + SHARE);
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.now.fetch_sub(layout.size() + SHARE, Relaxed);
        // SAFETY: the caller's promises are the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    /// In place, as large blocks are moved: by their pages.
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.add(size);
        self.now.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are the same.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static MEMORY: Counting = Counting { now: AtomicUsize::new(0), peak: AtomicUsize::new(0) };

const BIGIP: [u8; 4] = [10, 169, 72, 34];
const NODE: [u8; 4] = [10, 169, 72, 239];
const ROUTER: [u8; 4] = [10, 0, 0, 15];

/// A probe of the agent (ARP through the tunnel), or its answer: with a comment in the file, and a long line.
fn frame(number: usize, snap: usize) -> Captured {
    let is_question = number.is_multiple_of(2);
    let [.., high, low] = u32::try_from(number / 2).expect("few").to_be_bytes();
    let target = [10, 1, high, low];
    let (direction, [source, destination], [sender, asked]) = if is_question {
        (Direction::Out, [NODE, BIGIP], [ROUTER, target])
    } else {
        (Direction::In, [BIGIP, NODE], [target, ROUTER])
    };
    let ethernet = |kind: [u8; 2]| [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], &kind[..]].concat();
    let operation = if is_question { 1 } else { 2 };
    let arp = [&[0, 1, 8, 0, 6, 4, 0, operation, 2, 0, 0, 0, 0, 1][..], &sender, &[2, 0, 0, 0, 0, 2], &asked].concat();
    let inside = [&[8, 0, 0, 0, 0, 0, 2, 0], &ethernet([8, 6])[..], &arp].concat();
    let mut bytes = ethernet([8, 0]);
    let builder = etherparse::PacketBuilder::ipv4(source, destination, 64).udp(40000, 8472);
    builder.write(&mut bytes, &inside).expect("a Vec takes all");
    bytes.resize(snap, 0);
    bytes.shrink_to_fit();
    let at = Timestamp::UNIX_EPOCH + SignedDuration::from_micros(number.try_into().expect("few"));
    Captured { at, interface: 0, direction, length: 1500, bytes }
}

fn peak(frames: usize, snap: usize, what: impl FnOnce(&Capture, &Known)) -> usize {
    let known = Known {
        endpoints: [(BIGIP.into(), format!("VTEP a-vtep-with-a-long-name ({})", Ipv4Addr::from(BIGIP)))].into(),
        networks: [("10.1.0.0/16".parse().expect("a network"), BIGIP.into())].into(),
        node: [NODE.into()].into(),
        router: Some(ROUTER.into()),
        ..Known::default()
    };
    let before = MEMORY.now.load(Relaxed);
    MEMORY.peak.store(before, Relaxed);
    let mut captured = Vec::new();
    (0..frames).for_each(|number| captured.push(frame(number, snap)));
    let capture = Capture {
        interfaces: vec![Interface { name: "eth0".into(), received: 0, dropped: 0 }],
        frames: captured,
        ended: Timestamp::UNIX_EPOCH + SignedDuration::from_mins(1),
        without_bulk_since: None,
        left_out: Vec::new(),
    };
    what(&capture, &known);
    MEMORY.peak.load(Relaxed) - before
}

/// One test, because another one beside it would count as well.
#[test]
fn a_capture_takes_no_more_than_it_is_said_to() {
    // Just above a power of two, where the vector of frames has twice the room that it needs.
    for (frames, snap) in [(16_500, 96), (16_500, 128), (4_100, 1500), (130, 65_535)] {
        let most = memory(frames, snap);
        let file = peak(frames, snap, |capture, known| {
            let snap = u32::try_from(snap).expect("small");
            let file = pcapng::write(capture, known, "vtep-agent", snap);
            assert!(file.windows(8).any(|bytes| bytes == b"probe of"), "{} bytes", file.len());
        });
        let words = peak(frames, snap, |capture, known| {
            let lines = explain(capture, known);
            assert!(lines[0].contains("; answered after") && lines[0].contains("[probe of"), "{}", lines[0]);
        });
        assert!(file <= most && words <= most, "{frames} of {snap}: {file} and {words} of {most}");
        // It is not far from the truth either.
        assert!(file.max(words) > most / 2, "{frames} of {snap}: {file} and {words} of {most}");
    }
}
