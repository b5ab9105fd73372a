//! The agent's `/history`, as a test reads it.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::support::{Agent, HEALTHY_WITHIN, eventually};

/// The changes in `/history` of the first VTEP, newest first. They are complete once a point has followed the last status.
pub(crate) fn changes(agent: &Agent) -> Result<Vec<Value>> {
    let points = |history: &Value| history["vteps"][0]["points"].as_array().map_or(0, Vec::len);
    let before = points(&history(agent)?);
    let later = || Ok(Some(history(agent)?).filter(|history| points(history) > before));
    of_first(&eventually("another point", HEALTHY_WITHIN, later)?)
}

/// The same, as soon as the last of them is a return to health.
pub(crate) fn changes_to_health(agent: &Agent) -> Result<Vec<Value>> {
    eventually("the history has the return to health", HEALTHY_WITHIN, || {
        let changes = of_first(&history(agent)?)?;
        Ok(changes.first().is_some_and(|last| last["to"]["verdict"] == "healthy").then_some(changes))
    })
}

fn history(agent: &Agent) -> Result<Value> {
    serde_json::from_str(&agent.get("/history")?.context("an answer")?.1).context("/history is JSON")
}

fn of_first(history: &Value) -> Result<Vec<Value>> {
    let changes = history["changes"].as_array().context("changes")?.iter();
    Ok(changes.filter(|change| change["cidr"] == "10.1.6.0/24").cloned().collect())
}
