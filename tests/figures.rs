//! The pure parts of the benchmarks: figures, their baseline, and the model of a fleet.
#![allow(dead_code, reason = "the benchmarks use the rest")]

#[path = "../benches/support/baseline.rs"]
mod baseline;
#[path = "../benches/support/document.rs"]
mod document;
#[path = "../benches/support/figure.rs"]
mod figure;
#[path = "../benches/support/fleet_model.rs"]
mod fleet_model;
