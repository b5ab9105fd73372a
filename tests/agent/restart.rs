//! Cilium 1.19 and newer do not disclose their lists: the agent's own record shows whether a restart is due.

use std::{
    fs::{self, File},
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Result, ensure};
use serde_json::json;
use vtep_apiserver::{ApiServer, Resource, objects};
use vtep_core::report::status::Status;
use vtep_lab::{CILIUM_RUN, Config, Lab, STATE, Vtep};

use crate::{
    api::{NAME, NAMESPACE, api_server, start},
    support::{Agent, HEALTHY_WITHIN, NOTICED_WITHIN, all_healthy, eventually, in_kernel},
};

const HOUR: Duration = Duration::from_secs(3600);

/// Cilium 1.20 as of a start this long ago.
fn cilium_started(ago: Duration) -> Result<()> {
    let config = json!({ "EnableVTEP": true, "VtepCidrMask": "255.255.255.0" });
    fs::write(Path::new(CILIUM_RUN).join("state/agent-runtime-config.json"), config.to_string())?;
    let pid = File::create(Path::new(CILIUM_RUN).join("cilium.pid"))?;
    Ok(pid.set_modified(SystemTime::now() - ago)?)
}

/// Writes the ConfigMap; its owner last changed the lists this long ago.
fn apply(server: &ApiServer, vteps: &[Vtep], ago: Duration) -> Result<()> {
    let keys = Config::keys_for(vteps);
    let data = keys.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let mut object = objects::config_map(NAMESPACE, NAME, data);
    let fields: serde_json::Map<_, _> = keys.keys().map(|key| (format!("f:{key}"), json!({}))).collect();
    let time = jiff::Timestamp::try_from(SystemTime::now() - ago)?;
    object["metadata"]["managedFields"] = json!([{
        "manager": "kubectl-edit", "operation": "Update", "apiVersion": "v1", "time": format!("{time:.0}"),
        "fieldsType": "FieldsV1", "fieldsV1": { "f:data": fields },
    }]);
    server.apply(Resource::ConfigMaps, object).map(drop)
}

fn settled(agent: &Agent, what: &str, within: Duration, required: bool) -> Result<Status> {
    agent.wait_for(what, within, |status| {
        let read = status.cilium.vtep_mask.is_some() && status.datapath.in_sync && status.vteps.len() == 2;
        read && status.cilium.restart_required == required
    })
}

#[test]
fn a_restart_is_due_when_the_lists_changed_after_ciliums_start() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    apply(&server, &lab.topology.vteps(), 2 * HOUR)?;
    cilium_started(HOUR)?;
    let mut agent = start(&lab, &server, &[])?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    settled(&agent, "no restart is due", NOTICED_WITHIN, false)?;

    let mut edited = lab.topology.vteps();
    edited[0].mac = "00:50:56:a0:7d:d9".parse()?;
    apply(&server, &edited, Duration::ZERO)?;
    eventually("the edit is programmed", HEALTHY_WITHIN, || Ok(in_kernel(&lab, &edited)?.then_some(())))?;
    let status = settled(&agent, "a restart is due", NOTICED_WITHIN, true)?;
    let [reason] = &status.cilium.reasons[..] else { anyhow::bail!("one reason: {:?}", status.cilium) };
    ensure!(reason.contains("vtep-mac: Cilium runs with 00:50:56:a0:7d:d8 for 10.1.6.0/24"), "{reason}");
    ensure!(reason.contains("by this agent's record of the lists at Cilium's start ("), "{reason}");

    ensure!(agent.terminate()?.success(), "a clean end");
    agent = start(&lab, &server, &[])?;
    let after = settled(&agent, "the state file has the record", HEALTHY_WITHIN, true)?;
    ensure!(after.cilium.reasons == status.cilium.reasons, "{:?}", after.cilium);
    cilium_started(Duration::ZERO)?;
    settled(&agent, "Cilium has restarted", NOTICED_WITHIN, false)?;

    // Nobody recorded the lists of that start: it is not known whether a restart is due.
    ensure!(agent.terminate()?.success(), "a clean end");
    fs::remove_file(Path::new(STATE).join("last-good.json"))?;
    cilium_started(HOUR)?;
    let agent = start(&lab, &server, &[])?;
    let status = settled(&agent, "the agent knows Cilium's files", HEALTHY_WITHIN, false)?;
    ensure!(status.cilium.reasons.is_empty(), "{:?}", status.cilium);
    Ok(())
}
