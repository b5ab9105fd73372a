//! The whole agent in the lab: the real kernel, real maps, real tunnels, real sockets. Needs root, and fails without it.
//!
//! Deadlines are ten times the promised times, so that no test fails on a busy machine; `make bench` prints the real figures.

mod api;
mod bad_edits;
mod bundle;
mod capture;
mod clients;
mod commands;
mod configuration;
mod configured_lab;
mod contention;
mod crashes;
mod events;
mod far_end;
mod faults;
mod files;
mod fitness;
mod geneve;
mod history;
mod image;
mod kubernetes;
mod layouts;
mod lifecycle;
mod migration;
mod misbehaviour;
mod needs;
mod objects;
mod outage;
mod page;
mod passive;
mod privileges;
mod prometheus;
mod rate_limit;
mod readme;
mod repair;
mod restart;
mod rights;
mod routes;
mod start;
mod starvation;
mod support;
mod tap;
mod traffic;
mod truth;
mod upgrade;
mod vlan;
