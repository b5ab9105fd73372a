//! What the benchmarks share: figures and their baseline, an agent in the lab, and the resources of a process.
#![allow(dead_code, unused_imports, reason = "each benchmark uses its part")]

mod agent;
mod baseline;
mod document;
mod figure;
pub(crate) mod fleet_model;
mod machine;
mod map;
mod process;
mod report;
mod shell_loop;

pub(crate) use self::{
    agent::{AGENT, Agent, LISTEN, get, status, verdicts, wait},
    figure::{Figure, Unit, median, percentile},
    map::{disturb, eight_bigips, wait_for},
    process::{cpu_time, idle_process, is_idle_process, resident_mb, share_of, steady_shares, time_with_children},
    report::{Report, run},
    shell_loop::ShellLoop,
};
