//! A program with more instructions than kernels before 5.2 accept (`BPF_MAXINSNS`, 4096). The agent loads it once and drops it, to learn
//! whether this kernel accepts it.
//!
//! Cilium's programs with VTEP support are larger than that limit.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

use aya_ebpf::{macros::socket_filter, programs::SkBuffContext};

#[socket_filter]
pub fn large(_: SkBuffContext) -> i64 {
    // SAFETY: the assembly sets one register, and declares it.
    unsafe { core::arch::asm!(".rept 4200", "r0 = 0", ".endr", out("r0") _) };
    0
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
