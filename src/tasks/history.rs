//! The loop that records the history: changes of verdicts at once, and points at fixed intervals.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{self, MissedTickBehavior},
};
use vtep_core::report::history::{History, STEP};

use super::monitor::AgentState;

/// Records the history until all its receivers are dropped.
pub async fn keep(mut state: AgentState, history: watch::Sender<Arc<History>>) {
    let mut current = History::default();
    let mut step = time::interval(STEP);
    step.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = history.closed() => return,
            changed = state.diagnoses.changed() => {
                if changed.is_err() {
                    return;
                }
                current.note_changes(&state.status(), Timestamp::now());
            }
            _ = step.tick() => {
                let (status, at) = (state.status(), Timestamp::now());
                current.note_changes(&status, at);
                current.note_points(&status, at);
            }
        }
        history.send_replace(Arc::new(current.clone()));
    }
}
