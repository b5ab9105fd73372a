//! The agent's `/history`, as a test reads it.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::support::{Agent, HEALTHY_WITHIN, eventually};

/// The changes in `/history` of the first VTEP, newest first. They are complete once a point has followed the last status.
pub(crate) fn changes(agent: &Agent) -> Result<Vec<Value>> {
    let history = || -> Result<Value> {
        serde_json::from_str(&agent.get("/history")?.context("an answer")?.1).context("/history is JSON")
    };
    let points = |history: &Value| history["vteps"][0]["points"].as_array().map_or(0, Vec::len);
    let before = points(&history()?);
    let history =
        eventually(
            "another point",
            HEALTHY_WITHIN,
            || Ok(Some(history()?).filter(|history| points(history) > before)),
        )?;
    let changes = history["changes"].as_array().context("changes")?.iter();
    Ok(changes.filter(|change| change["cidr"] == "10.1.6.0/24").cloned().collect())
}
