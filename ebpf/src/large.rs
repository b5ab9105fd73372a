//! More instructions than kernels before 5.2 take (`BPF_MAXINSNS`, 4096): loaded once and dropped, to learn whether this one does.
//!
//! Cilium's programs with VTEP support are larger than that.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

use aya_ebpf::{macros::socket_filter, programs::SkBuffContext};

#[socket_filter]
pub fn large(_: SkBuffContext) -> i64 {
    // SAFETY: sets one register, and says so.
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
