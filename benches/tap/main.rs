//! The tap's cost: the program's time for each kind of frame, and the throughput of traffic beside it. Needs root.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

mod frames;
mod program;
mod transfers;

use anyhow::{Context, Result, ensure};
use frames::{Frame, KINDS, endpoint, network};
use program::{Counts, Program};
use transfers::{PAIRS, transfers};
use vtep_agent_ebpf::{Endpoint, Network, TARGETS_MAX, Targets};

/// How often the kernel runs the program in one measurement, and the measurements of each kind of frame.
const REPEAT: u32 = 1_000_000;
const MEASUREMENTS: usize = 11;
/// As many as `cilium_vtep_map` holds.
const ENDPOINTS: u8 = 8;

fn main() -> Result<()> {
    program_times()?;
    throughput()
}

/// The time of each kind of frame above the time of an empty program. Both alternate, so that a machine that becomes slower changes no
/// difference.
fn program_times() -> Result<()> {
    println!("the tap, {ENDPOINTS} endpoints; ns above an empty program, of {MEASUREMENTS} times {REPEAT} runs");
    println!("{:<52} {:>8} {:>8} {:>8}   goal", "with the agent's capabilities", "min", "median", "max");
    let (empty, mut tap) = (Program::empty()?, Program::tap()?);
    tap.watch(targets()?)?;
    for frame in KINDS {
        let packet = (frame.packet)();
        goes_its_way(&mut tap, frame, &packet).with_context(|| frame.name.to_owned())?;
        let mut above = Vec::new();
        for _ in 0..MEASUREMENTS {
            let nothing = empty.run(&packet, REPEAT)?.nanoseconds;
            above.push(tap.run(&packet, REPEAT)?.nanoseconds - nothing);
        }
        print(frame.name, &mut above, frame.goal);
    }
    let mut empties = Vec::new();
    for _ in 0..MEASUREMENTS {
        empties.push(empty.run(&(KINDS[0].packet)(), REPEAT)?.nanoseconds);
    }
    print("an empty program, with what the kernel does for it", &mut empties, None);
    Ok(())
}

/// A figure counts only if the program does with the frame what it is meant to: the maps and the returned value show it.
fn goes_its_way(tap: &mut Program, frame: &Frame, packet: &[u8]) -> Result<()> {
    const RUNS: u32 = 100;
    let before = tap.counts()?;
    let result = tap.run(packet, RUNS)?;
    let seen = tap.counts()?.since(&before);
    let wanted = Counts::of(frame.way, RUNS.into());
    ensure!(seen == wanted, "the tap counted {seen:?}, not {wanted:?}");
    ensure!(result.kept == frame.way.kept(), "the tap keeps {} bytes of it", result.kept);
    Ok(())
}

fn throughput() -> Result<()> {
    println!(
        "{:<52} {:>8} {:>8} {:>8}",
        format!("throughput in Gbit/s, {PAIRS} pairs in turns"),
        "min",
        "median",
        "max"
    );
    for (name, mut transfers) in transfers()? {
        let columns = |what: &str, values: &mut [f64]| {
            let [min, median, max] = spread(values);
            println!("{:<52} {min:>8.2} {median:>8.2} {max:>8.2}", format!("{name}{what}"));
        };
        columns(", without the agent", &mut transfers.without);
        columns(", with it", &mut transfers.with);
        columns(", with / without, per pair", &mut transfers.ratios);
    }
    Ok(())
}

fn print(name: &str, values: &mut [f64], goal: Option<u32>) {
    let [min, median, max] = spread(values);
    let goal = goal.map(|goal| format!("{goal} ns")).unwrap_or_default();
    println!("{name:<52} {min:>8.0} {median:>8.0} {max:>8.0}   {goal}");
}

/// The smallest value, the median and the largest one.
fn spread(values: &mut [f64]) -> [f64; 3] {
    values.sort_unstable_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

/// The endpoint that sends the frames is the last one.
fn targets() -> Result<Targets> {
    let around =
        Network { address: u32::from_ne_bytes(network(0)), mask: u32::from_ne_bytes([255, 255, 240, 0]), endpoint: 0 };
    let mut targets = Targets {
        router: u32::from_ne_bytes(frames::ROUTER),
        echo_id: frames::ECHO_ID.into(),
        around,
        ..Targets::default()
    };
    for n in 0..ENDPOINTS {
        let (address, mask) = (u32::from_ne_bytes(network(n)), u32::from_ne_bytes([255, 255, 255, 0]));
        let sender = u32::from_ne_bytes(endpoint(n));
        // The tap compares with all places, so the last one costs most.
        let place = TARGETS_MAX - usize::from(ENDPOINTS - n);
        targets.endpoints[place] =
            Endpoint { address: sender, place: u32::try_from(place)?, home_address: address, home_mask: mask };
        targets.sieve |= 1 << Targets::sieve_place(sender);
        targets.networks[usize::from(n)] = Network { address, mask, endpoint: sender };
    }
    // The sender has another VTEP CIDR, the last one of the list.
    targets.networks[usize::from(ENDPOINTS)] = Network {
        address: u32::from_ne_bytes(network(ENDPOINTS)),
        mask: u32::from_ne_bytes([255, 255, 255, 0]),
        endpoint: u32::from_ne_bytes(endpoint(frames::SENDER)),
    };
    Ok(targets)
}
