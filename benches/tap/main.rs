//! The tap's cost: the program's time for each kind of frame, and the throughput of traffic beside it. Needs root.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

mod frames;
mod program;
#[path = "../support/mod.rs"]
mod support;
mod transfers;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use frames::{Frame, KINDS, endpoint, network};
use program::{Counts, Program};
use support::{Figure, Report, Unit};
use transfers::transfers;
use vtep_agent_ebpf::{Endpoint, Network, TARGETS_MAX, Targets};

/// How often the kernel runs the program in one measurement, and the measurements of each kind of frame.
const REPEAT: u32 = 1_000_000;
const MEASUREMENTS: usize = 11;
/// As many as `cilium_vtep_map` holds.
const ENDPOINTS: u8 = 8;

fn main() -> ExitCode {
    support::run(&[
        ("frames", "The tap's time for each kind of frame, above an empty program's", program_times),
        ("transfers", "Throughput of TCP in Gbit/s, with the agent and without, in turns", throughput),
    ])
}

/// The time of each kind of frame above the time of an empty program. Both alternate, so that a machine that becomes slower changes no
/// difference. The program has the agent's capabilities, which decide how much the verifier adds.
fn program_times(report: &mut Report) -> Result<()> {
    let (empty, mut tap) = (Program::empty()?, Program::tap()?);
    tap.watch(targets()?)?;
    let mut empties = Vec::new();
    for frame in KINDS {
        let packet = (frame.packet)();
        goes_its_way(&mut tap, frame, &packet).with_context(|| frame.name.to_owned())?;
        let (mut above, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..MEASUREMENTS {
            let nothing = empty.run(&packet, REPEAT)?.nanoseconds;
            let time = tap.run(&packet, REPEAT)?.nanoseconds;
            above.push(time - nothing);
            ratios.push(time / nothing);
            empties.push(nothing);
        }
        let name = format!("tap-{}", frame.name);
        let figure = Figure::new(name.clone(), Unit::Nanoseconds, above);
        report.figure(&frame.goal.into_iter().fold(figure, |figure, goal| figure.promise(goal.into())));
        report.ratio(&name, "empty-program", &ratios, &[1.0]);
    }
    report.figure(&Figure::new("empty-program", Unit::Nanoseconds, empties));
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

fn throughput(report: &mut Report) -> Result<()> {
    for (name, transfers) in transfers()? {
        report.figure(&Figure::new(format!("{name}-without-agent"), Unit::Gigabits, transfers.without));
        report.figure(&Figure::new(format!("{name}-with-agent"), Unit::Gigabits, transfers.with));
        report.ratio(&format!("{name}-without-agent"), "with-agent", &transfers.ratios, &[1.0]);
    }
    Ok(())
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
