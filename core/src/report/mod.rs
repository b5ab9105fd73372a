//! The agent's reports: the status, its history, Events, and the limits on how often a change is reported. Writing them out is the agent's
//! part.

pub mod assembly;
pub mod correlator;
pub mod event;
pub mod flap_damping;
pub mod history;
pub mod status;
