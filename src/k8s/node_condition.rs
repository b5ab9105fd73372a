//! The Node's condition `VtepTunnelsHealthy`, written by server-side apply of that one condition. Off by default (`--node-condition`).
//!
//! The condition only informs. The agent sets no taint and never changes `Ready`: otherwise one failed BIG-IP would evict the pods of every
//! node.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Node, apimachinery::pkg::apis::meta::v1::Time};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::{sync::watch, time};
use tracing::warn;
use vtep_core::diagnosis::{Cause, Diagnosis, Verdict};

use super::words::sentence;

const TYPE: &str = "VtepTunnelsHealthy";
/// The field manager of the server-side apply.
const MANAGER: &str = "vtep-agent";
/// The kubelet renews its own conditions at the same interval.
const HEARTBEAT: Duration = Duration::from_secs(300);
/// The pause after a change before the condition is written, so that a burst of changes causes one write.
const SETTLE: Duration = Duration::from_secs(10);
/// The timeout of one request.
const TIMEOUT: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(30);

/// The condition without its timestamps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// CamelCase.
    pub reason: String,
    pub message: String,
}

impl Condition {
    #[must_use]
    pub fn of(diagnoses: &BTreeMap<Ipv4Net, Diagnosis>) -> Self {
        let describe = |(&cidr, diagnosis): (&Ipv4Net, &Diagnosis)| {
            let cause = diagnosis.cause.map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("{} is {}{cause}", diagnosis.label(cidr), diagnosis.verdict)
        };
        let is_trouble = |(_, diagnosis): &(&Ipv4Net, &Diagnosis)| diagnosis.verdict != Verdict::Healthy;
        let message = diagnoses.iter().filter(is_trouble).map(describe).collect::<Vec<_>>().join("; ");
        // A known cause takes precedence over an unknown verdict.
        let worst = diagnoses.iter().filter(is_trouble).map(|(_, diagnosis)| diagnosis);
        let worst = worst.min_by_key(|diagnosis| (diagnosis.verdict == Verdict::Unknown, diagnosis.cause));
        match worst {
            None if diagnoses.is_empty() => Self::new("Unknown", "NoVtep", "no VTEP is configured".to_owned()),
            None => Self::new("True", "TunnelsHealthy", format!("{} VTEPs are healthy", diagnoses.len())),
            Some(Diagnosis { verdict, cause, .. }) => {
                let status = if *verdict == Verdict::Unknown { "Unknown" } else { "False" };
                Self::new(status, cause.map_or("TooEarly", Cause::reason), message)
            }
        }
    }

    fn new(status: &'static str, reason: &str, message: String) -> Self {
        Self { status, reason: reason.to_owned(), message }
    }
}

/// Keeps the condition in line with the diagnoses, until their sender is dropped.
pub async fn keep(client: Client, node: String, mut diagnoses: watch::Receiver<Arc<BTreeMap<Ipv4Net, Diagnosis>>>) {
    let nodes = Api::<Node>::all(client);
    let mut written = None;
    let mut since = Timestamp::now();
    let mut fails = false;
    loop {
        let condition = Condition::of(&diagnoses.borrow_and_update());
        if written.as_ref().map(|(condition, _): &(Condition, Instant)| condition.status) != Some(condition.status) {
            since = Timestamp::now();
        }
        let is_due = written.as_ref().is_none_or(|(last, at)| *last != condition || at.elapsed() >= HEARTBEAT);
        let mut next = HEARTBEAT;
        if is_due {
            match time::timeout(TIMEOUT, write(&nodes, &node, &condition, since)).await {
                Ok(Ok(())) => {
                    written = Some((condition, Instant::now()));
                    fails = false;
                }
                refused => {
                    next = RETRY;
                    if !std::mem::replace(&mut fails, true) {
                        let error = match refused {
                            Ok(Err(error)) => sentence(&error),
                            Ok(Ok(())) | Err(_) => format!("no answer within {TIMEOUT:?}"),
                        };
                        warn!(error, "cannot write the Node's condition");
                    }
                }
            }
        }
        // Jitter spreads the heartbeats of a fleet that started at the same time.
        let next = next.mul_f64(0.9 + 0.2 * fastrand::f64());
        tokio::select! {
            changed = diagnoses.changed() => if changed.is_err() { return },
            () = time::sleep(next) => continue,
        }
        time::sleep(SETTLE).await;
    }
}

async fn write(nodes: &Api<Node>, node: &str, condition: &Condition, since: Timestamp) -> kube::Result<()> {
    let Condition { status, reason, message } = condition;
    let patch = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": node },
        "status": { "conditions": [{
            "type": TYPE,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": Time(Timestamp::now()),
            "lastTransitionTime": Time(since),
        }] },
    });
    nodes.patch_status(node, &PatchParams::apply(MANAGER).force(), &Patch::Apply(patch)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnoses(of: &[(&str, Verdict, Option<Cause>)]) -> BTreeMap<Ipv4Net, Diagnosis> {
        let entry =
            |(cidr, verdict, cause): &(&str, _, _)| (cidr.parse().expect("a CIDR"), Diagnosis::of(*verdict, *cause));
        of.iter().map(entry).collect()
    }

    #[test]
    fn one_vtep_in_trouble_decides() {
        let (healthy, wrong) = (("10.1.5.0/24", Verdict::Healthy, None), Cause::WrongVni);
        let table = [
            (vec![], "Unknown", "NoVtep"),
            (vec![healthy], "True", "TunnelsHealthy"),
            (vec![healthy, ("10.1.6.0/24", wrong.verdict(), Some(wrong))], "False", "WrongVni"),
            (vec![healthy, ("10.1.6.0/24", Verdict::Unknown, None)], "Unknown", "TooEarly"),
        ];
        for (of, status, reason) in table {
            let condition = Condition::of(&diagnoses(&of));
            assert_eq!((condition.status, condition.reason.as_str()), (status, reason), "{condition:?}");
        }
    }
}
