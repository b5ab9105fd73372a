//! What the agent configures: constants of the loaded program, and the addresses to match.
//!
//! The addresses are data of the program, which it reads without a look-up, and which the agent writes through their map while the program
//! runs. So a change of the configuration needs no other program: no frame is missed, and all counters remain.

use vtep_agent_ebpf::{Endpoint, Network, TARGETS_MAX, Targets};

use crate::headers::Tunnel;

const PORT_VXLAN_IANA: u16 = 4789;
const PORT_VXLAN_LINUX: u16 = 8472;
const PORT_GENEVE: u16 = 6081;

/// The configured tunnel port and its protocol. The agent sets them when it loads the program.
#[unsafe(no_mangle)]
static TUNNEL_PORT: u16 = PORT_VXLAN_LINUX;
#[unsafe(no_mangle)]
static TUNNEL_IS_GENEVE: u8 = 0;

/// `TARGETS_MAP` names this section.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".data.targets")]
static mut TARGETS: Targets = Targets {
    endpoints: [Endpoint::NONE; TARGETS_MAX],
    nobody: Endpoint::NONE,
    networks: [Network::NONE; TARGETS_MAX],
    around: Network::NONE,
    router: 0,
    echo_id: 0,
    reserved: [0; 4],
    sieve: 0,
};

/// The endpoint with this address, if the caller asks at once whether it is one.
#[inline(always)]
pub fn endpoint(address: u32) -> Option<&'static Endpoint> {
    // SAFETY: the agent may write the value at the same time, but the bits of endpoints that remain do not change. The volatile read prevents
    // the compiler from using the initial value.
    let sieve = unsafe { (&raw const TARGETS.sieve).read_volatile() };
    if sieve >> Targets::sieve_place(address) & 1 == 0 {
        return None;
    }
    let mut known = endpoints();
    for _ in 0..TARGETS_MAX {
        if is(known, address) {
            // SAFETY: the pointer leads to one of the endpoints, and the data lives as long as the program. The agent may write other values to
            // it at the same time; the next frame finds them.
            return Some(unsafe { &*known });
        }
        known = next(known);
    }
    None
}

/// The endpoint with this address, or `Targets::nobody`. Until 6.15, without `CAP_PERFMON`, the verifier refuses an optional pointer of the
/// compiler: it also follows the way with no pointer to where there must be one, as a processor might do.
#[inline(always)]
pub fn endpoint_or_nobody(address: u32) -> &'static Endpoint {
    let mut known = endpoints();
    for _ in 0..TARGETS_MAX {
        if is(known, address) {
            break;
        }
        known = next(known);
    }
    // SAFETY: as above. After the last endpoint comes `nobody`.
    unsafe { &*known }
}

#[inline(always)]
fn endpoints() -> *const Endpoint {
    // SAFETY: this takes an address.
    opaque(unsafe { &raw const TARGETS.endpoints }.cast())
}

#[inline(always)]
fn is(endpoint: *const Endpoint, address: u32) -> bool {
    // SAFETY: the pointer leads to one of the endpoints. The rest as above.
    unsafe { (&raw const (*endpoint).address).read_volatile() == address }
}

/// The pointer to the next one of an array. The compiler must not see how it comes about: it would otherwise calculate the pointer from a
/// number, and without `CAP_PERFMON`, the verifier of 5.10 refuses a calculation that has several results.
#[inline(always)]
fn next<T>(one: *const T) -> *const T {
    let mut next = one;
    // SAFETY: the assembly has one addition. Behind the last one of the array, nothing reads at the pointer.
    unsafe { core::arch::asm!("{0} += {1}", inout(reg) next, const size_of::<T>(), options(pure, nomem, nostack)) };
    next
}

/// The same pointer. The compiler must not see that it leads to initial values.
#[inline(always)]
fn opaque<T>(one: *const T) -> *const T {
    let same;
    // SAFETY: the assembly sets one register, and declares it.
    unsafe { core::arch::asm!("{0} = {1}", lateout(reg) same, in(reg) one, options(pure, nomem, nostack)) };
    same
}

/// Whose VTEP CIDR an inner source is in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The VTEP that has sent it.
    Sender,
    Another,
    /// It is in no VTEP CIDR.
    Nobody,
    /// The frame has no inner source.
    Unknown,
}

/// `sender` is the outer source.
#[inline(always)]
pub fn owner_of(address: u32, sender: u32) -> Owner {
    // SAFETY: this takes an address.
    let mut known = opaque(unsafe { &raw const TARGETS.networks }.cast::<Network>());
    let mut owner = Owner::Nobody;
    // The compiler unrolls this loop, and it must: without `CAP_PERFMON`, the verifier also follows a loop beyond its end, as a processor might
    // do.
    for _ in 0..TARGETS_MAX {
        // SAFETY: as above.
        let network = unsafe { known.read_volatile() };
        if network.is_none() {
            break;
        }
        if network.contains(address) {
            owner = Owner::Another;
            if network.endpoint == sender {
                return Owner::Sender;
            }
        }
        known = next(known);
    }
    owner
}

/// Whether no VTEP CIDR is near this address. It may be in none of them all the same.
#[inline(always)]
pub fn is_far(address: u32) -> bool {
    // SAFETY: as above.
    !unsafe { (&raw const TARGETS.around).read_volatile() }.contains(address)
}

/// This node's address inside the tunnel.
#[inline(always)]
pub fn router() -> u32 {
    // SAFETY: as above.
    unsafe { (&raw const TARGETS.router).read_volatile() }
}

/// The identifier of the agent's own echoes.
#[inline(always)]
pub fn echo_id() -> u32 {
    // SAFETY: as above.
    unsafe { (&raw const TARGETS.echo_id).read_volatile() }
}

/// The protocol of a tunnel port.
#[inline(always)]
pub fn tunnel_of(port: u64) -> Option<Tunnel> {
    if port == configured_port() {
        return Some(configured_tunnel());
    }
    match port as u16 {
        PORT_VXLAN_IANA | PORT_VXLAN_LINUX => Some(Tunnel::Vxlan),
        PORT_GENEVE => Some(Tunnel::Geneve),
        _ => None,
    }
}

#[inline(always)]
pub fn configured_tunnel() -> Tunnel {
    // SAFETY: as in `configured_port`.
    let geneve = unsafe { (&raw const TUNNEL_IS_GENEVE).read_volatile() };
    if geneve != 0 { Tunnel::Geneve } else { Tunnel::Vxlan }
}

#[inline(always)]
pub fn configured_port() -> u64 {
    // SAFETY: it is a constant of the loaded program. The volatile read prevents the compiler from using the initial value above.
    u64::from(unsafe { (&raw const TUNNEL_PORT).read_volatile() })
}
