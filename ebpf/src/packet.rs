//! Reads a packet with packet-load instructions (`BPF_LD | BPF_IND`): each leaves one number in a register.
//!
//! `bpf_skb_load_bytes` writes to the stack, and without `CAP_PERFMON` the verifier puts a speculation barrier behind every such write,
//! which takes longer than all else that the tap does with a packet. A packet-load instruction that reaches beyond the packet ends the
//! program, so each is preceded by a comparison of the length. A program with such instructions must be in one piece: before 5.10, the
//! verifier refuses them beside functions.

use core::ffi::c_void;

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes, programs::SkBuffContext};

unsafe extern "C" {
    // The compiler makes one instruction of each.
    #[link_name = "llvm.bpf.load.byte"]
    fn load_byte(skb: *mut c_void, at: u64) -> u64;
    #[link_name = "llvm.bpf.load.half"]
    fn load_half(skb: *mut c_void, at: u64) -> u64;
    #[link_name = "llvm.bpf.load.word"]
    fn load_word(skb: *mut c_void, at: u64) -> u64;
}

/// A packet. Its numbers are in host order, whatever their order in the packet.
#[derive(Clone, Copy)]
pub struct Packet(*mut __sk_buff);

impl Packet {
    #[inline(always)]
    pub fn new(ctx: &SkBuffContext) -> Self {
        Self(ctx.skb.skb)
    }

    /// The same packet, as if nothing of it had been read: otherwise the compiler would save what has been read.
    #[inline(always)]
    pub fn again(self) -> Self {
        let same;
        // SAFETY: the assembly sets one register, and declares it.
        unsafe { core::arch::asm!("{0} = {1}", lateout(reg) same, in(reg) self.0, options(nomem, nostack)) };
        Self(same)
    }

    #[inline(always)]
    pub fn kind(self) -> u32 {
        // SAFETY: the kernel passes a valid __sk_buff for the time of the call.
        unsafe { (*self.0).pkt_type }
    }

    /// The length. The volatile read prevents the compiler from keeping it: to read it again costs less.
    #[inline(always)]
    pub fn length(self) -> u64 {
        // SAFETY: as above.
        u64::from(unsafe { (&raw const (*self.0).len).read_volatile() })
    }

    #[inline(always)]
    pub fn byte(self, at: u64) -> u64 {
        // SAFETY: as above; the program ends if the packet has no such byte.
        unsafe { load_byte(self.0.cast(), at) }
    }

    #[inline(always)]
    pub fn half(self, at: u64) -> u64 {
        // SAFETY: as above.
        unsafe { load_half(self.0.cast(), at) }
    }

    #[inline(always)]
    pub fn word(self, at: u64) -> u64 {
        // SAFETY: as above.
        unsafe { load_word(self.0.cast(), at) }
    }

    /// An IPv4 address, in network order.
    #[inline(always)]
    pub fn address(self, at: u64) -> u32 {
        (self.word(at) as u32).to_be()
    }

    /// Copies bytes to a value of a map; on the stack, they would cost the barrier.
    ///
    /// # Safety
    ///
    /// The pointer leads to a value of a map.
    #[inline(always)]
    pub unsafe fn copy<const N: usize>(self, at: u64, to: *mut [u8; N]) {
        // SAFETY: as the caller promises. If the packet has no such bytes, the helper writes zeros.
        unsafe { bpf_skb_load_bytes(self.0.cast(), at as u32, to.cast(), N as u32) };
    }

    #[inline(always)]
    pub fn as_ptr(self) -> *mut c_void {
        self.0.cast()
    }
}
