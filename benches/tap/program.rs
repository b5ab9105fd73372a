//! Programs that the kernel runs on a given frame: the tap, and an empty one.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

use anyhow::{Context, Result};
use aya::{
    EbpfLoader, Pod, include_bytes_aligned,
    maps::{Array, HashMap, PerCpuArray},
    programs::SocketFilter,
};
use nix::libc;
use vtep_agent_ebpf::{COUNTERS, EndpointStats, TARGETS_MAP, Targets, UnexpectedSource};

use crate::frames::Way;

static TAP: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tap"));

/// `BPF_PROG_LOAD` and `BPF_PROG_TEST_RUN` of `linux/bpf.h`, and the type of a socket filter.
const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;
const SOCKET_FILTER: u32 = 1;

pub(crate) struct Program {
    fd: OwnedFd,
    /// Its maps, if it has some.
    ebpf: Option<aya::Ebpf>,
}

pub(crate) struct RunResult {
    /// The mean of a run, with what the kernel does before and after it.
    pub(crate) nanoseconds: f64,
    /// How many bytes of the frame the program passes on.
    pub(crate) kept: u32,
}

/// What the tap's maps have counted, over all endpoints.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    tunnel: u64,
    arp_requests: u64,
    arp_replies: u64,
    echo_replies: u64,
    others: u64,
    unexpected: u64,
    counters: u64,
}

impl Counts {
    /// What this many frames of a kind add.
    pub(crate) fn of(way: Way, frames: u64) -> Self {
        let count = |ways: &[Way]| if ways.contains(&way) { frames } else { 0 };
        Self {
            tunnel: count(&[Way::Tunnel, Way::ArpRequest, Way::ArpReply, Way::EchoReply]),
            arp_requests: count(&[Way::ArpRequest]),
            arp_replies: count(&[Way::ArpReply]),
            echo_replies: count(&[Way::EchoReply]),
            others: count(&[Way::OtherStream]),
            unexpected: 0,
            counters: 0,
        }
    }

    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            tunnel: self.tunnel - before.tunnel,
            arp_requests: self.arp_requests - before.arp_requests,
            arp_replies: self.arp_replies - before.arp_replies,
            echo_replies: self.echo_replies - before.echo_replies,
            others: self.others - before.others,
            unexpected: self.unexpected - before.unexpected,
            counters: self.counters - before.counters,
        }
    }
}

/// The records belong to another crate, as the trait does.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Record<T>(T);

#[expect(unsafe_code, reason = "integers and byte arrays without padding, as the record's crate asserts by its size")]
// SAFETY: as the reason says.
unsafe impl Pod for Record<Targets> {}
#[expect(unsafe_code, reason = "integers and byte arrays without padding, as the record's crate asserts by its size")]
// SAFETY: as the reason says.
unsafe impl Pod for Record<EndpointStats> {}
#[expect(unsafe_code, reason = "integers and byte arrays without padding, as the record's crate asserts by its size")]
// SAFETY: as the reason says.
unsafe impl Pod for Record<UnexpectedSource> {}

impl Program {
    /// The tap, loaded as the agent loads it, with the agent's capabilities alone: the kernel makes a program of another process slower,
    /// because it must not help to read the kernel's memory.
    pub(crate) fn tap() -> Result<Self> {
        let _confined = Confined::start()?;
        let mut ebpf = EbpfLoader::new().btf(None).load(TAP).context("failed to load the tap's maps")?;
        let program: &mut SocketFilter = ebpf.program_mut("tap").context("a program")?.try_into()?;
        program.load().context("the kernel refused the tap")?;
        let fd = program.fd()?.as_fd().try_clone_to_owned()?;
        Ok(Self { fd, ebpf: Some(ebpf) })
    }

    /// A program that does nothing and keeps nothing.
    pub(crate) fn empty() -> Result<Self> {
        const LICENSE: &[u8; 4] = b"GPL\0";
        // `r0 = 0; exit`
        const CODE: [u64; 2] = [0xb7, 0x95];
        #[repr(C)]
        struct Load {
            kind: u32,
            instructions: u32,
            code: u64,
            license: u64,
        }
        let load = Load {
            kind: SOCKET_FILTER,
            instructions: CODE.len() as u32,
            code: CODE.as_ptr() as u64,
            license: LICENSE.as_ptr() as u64,
        };
        let _confined = Confined::start()?;
        let fd = bpf(PROG_LOAD, &mut { load }).context("failed to load an empty program")?;
        #[expect(unsafe_code, reason = "the kernel returns a number")]
        // SAFETY: the kernel has just opened the descriptor for this process, and nothing else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, ebpf: None })
    }

    /// Runs the program again and again, with this frame from its Ethernet header on. The kernel takes the header off, so that the program
    /// sees the frame as on the tap's socket.
    pub(crate) fn run(&self, frame: &[u8], repeat: u32) -> Result<RunResult> {
        #[repr(C)]
        #[derive(Default)]
        struct TestRun {
            program: u32,
            returned: u32,
            size_in: u32,
            size_out: u32,
            data_in: u64,
            data_out: u64,
            repeat: u32,
            nanoseconds: u32,
        }
        let mut run = TestRun {
            program: self.fd.as_raw_fd().cast_unsigned(),
            size_in: u32::try_from(frame.len())?,
            data_in: frame.as_ptr() as u64,
            repeat,
            ..TestRun::default()
        };
        bpf(PROG_TEST_RUN, &mut run).context("failed to run a program")?;
        Ok(RunResult { nanoseconds: run.nanoseconds.into(), kept: run.returned })
    }

    pub(crate) fn watch(&mut self, targets: Targets) -> Result<()> {
        let map = self.ebpf.as_mut().and_then(|ebpf| ebpf.map_mut(TARGETS_MAP)).context("a map")?;
        Ok(Array::try_from(map)?.set(0, Record(targets), 0)?)
    }

    pub(crate) fn counts(&self) -> Result<Counts> {
        let map = |name: &str| self.ebpf.as_ref().and_then(|ebpf| ebpf.map(name)).context("a map");
        let mut counts = Counts::default();
        for stats in PerCpuArray::<_, Record<EndpointStats>>::try_from(map("ENDPOINTS")?)?.iter() {
            for Record(stats) in stats?.iter() {
                counts.tunnel += stats.tunnel.packets;
                counts.arp_requests += stats.arp_requests;
                counts.arp_replies += stats.arp_replies;
                counts.echo_replies += stats.echo_replies;
                counts.others += stats.other_packets;
            }
        }
        counts.unexpected +=
            HashMap::<_, [u8; 4], Record<UnexpectedSource>>::try_from(map("UNEXPECTED")?)?.keys().count() as u64;
        let counters = PerCpuArray::<_, u64>::try_from(map("COUNTERS")?)?;
        for counter in 0..COUNTERS {
            counts.counters += counters.get(&counter, 0)?.iter().sum::<u64>();
        }
        Ok(counts)
    }
}

/// A call of bpf(2), which no crate in use has: it returns what the kernel returns.
#[expect(unsafe_code, reason = "no crate in use runs a program with BPF_PROG_TEST_RUN")]
fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the attributes are a prefix of `union bpf_attr` for this command, and the pointers in them are valid during the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// While it exists, this thread has only the agent's capabilities.
struct Confined([CapabilitySet; 2]);

/// `struct __user_cap_data_struct` of `linux/capability.h`, of which version 3 has two.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilitySet {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

impl Confined {
    /// `NET_ADMIN`, `NET_RAW` and `BPF`, in the lower and the upper half of the set.
    const AGENT: [u32; 2] = [1 << 12 | 1 << 13, 1 << (39 - 32)];

    fn start() -> Result<Self> {
        let mut before = [CapabilitySet::default(); 2];
        capabilities(libc::SYS_capget, &mut before).context("failed to read the capabilities")?;
        let mut confined = before;
        confined.iter_mut().zip(Self::AGENT).for_each(|(set, mask)| set.effective &= mask);
        capabilities(libc::SYS_capset, &mut confined).context("failed to drop capabilities")?;
        Ok(Self(before))
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        let _ = capabilities(libc::SYS_capset, &mut self.0);
    }
}

#[expect(unsafe_code, reason = "no crate in use has these two calls")]
fn capabilities(call: libc::c_long, sets: &mut [CapabilitySet; 2]) -> io::Result<()> {
    /// `_LINUX_CAPABILITY_VERSION_3`, and this thread.
    const HEADER: [u32; 2] = [0x2008_0522, 0];
    let mut header = HEADER;
    // SAFETY: the header and the two sets have the layout of `linux/capability.h`, and live during the call.
    let result = unsafe { libc::syscall(call, header.as_mut_ptr(), sets.as_mut_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
