//! What the agent reports: the status, its history, Events, and how often a change is worth a line.

pub mod assembly;
pub mod correlator;
pub mod event;
pub mod flap_damping;
pub mod history;
pub mod status;
