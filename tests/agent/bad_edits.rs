//! Edits with errors that would lose VTEPs if the agent applied them unchanged.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use vtep_lab::{Config, Lab};

use crate::support::{Agent, HEALTHY_WITHIN, in_kernel};

type Edit = &'static [(&'static str, &'static str)];

/// Each edit with the rule, the key and the index of its finding.
const EDITS: [(Edit, &str, &str, Option<usize>); 5] = [
    // With this value, Cilium would end at its next start; the agent must not read it as "off".
    (&[("enable-vtep", "ture")], "bool-invalid", "enable-vtep", None),
    (&[("tunnel-port", "847x")], "number-invalid", "tunnel-port", None),
    // This mask is valid, but wrong for every line; it must not put all VTEPs out of effect, or out of the last good configuration.
    (&[("vtep-mask", "255.255.0.0")], "vtep-cidr-mask-mismatch", "vtep-cidr", Some(0)),
    // A renumbering with a typing error: the old network remains in effect until the new one is right.
    (
        &[("vtep-cidr", "10.1.6.0/24 10.1.8.0/24"), ("vtep-mac", "00:50:56:A0:7D:D8 00:50:56:86:6b")],
        "vtep-mac-invalid",
        "vtep-mac",
        Some(1),
    ),
    // The underlay's network in place of the tunnel's: the finding is at this line, not at the good one.
    (
        &[("vtep-cidr", "10.1.6.0/24 10.169.72.0/24"), ("vtep-endpoint", "10.169.72.34 10.170.0.5")],
        "vtep-endpoint-in-vtep-cidr",
        "vtep-cidr",
        Some(1),
    ),
];

#[test]
fn nothing_is_lost() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    for (edit, rule, key, index) in EDITS {
        let mut keys: BTreeMap<String, String> = Config::seed_keys();
        keys.extend(edit.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        lab.config.write(&keys)?;
        let status = agent.wait_for("the finding is reported", HEALTHY_WITHIN, |status| {
            let mut findings = status.config.findings.iter();
            findings.any(|found| (found.rule.id(), found.key.as_str(), found.index) == (rule, key, index))
        })?;
        ensure!(status.config.stale && !status.config.valid, "{:?}", status.config);
        let passes = status.datapath.last_pass.map(|pass| pass.at);
        let later = agent.wait_for("more passes", HEALTHY_WITHIN, |status| {
            status.datapath.last_pass.as_ref().map(|pass| pass.at) > passes && status.datapath.in_sync
        })?;
        ensure!(in_kernel(&lab, &lab.topology.vteps())?, "{rule}: {:?}", lab.cilium.vtep_entries()?);
        ensure!(later.vteps.len() == 2, "{rule}: both are still in force: {:?}", later.vteps);
        let routes = lab.node.ip("route show table 2021")?;
        ensure!(routes.contains("10.1.5.0/24") && routes.contains("10.1.6.0/24"), "{rule}: {routes}");
        ensure!(!routes.contains("10.169.72.0/24") && !routes.contains("10.1.8.0/24"), "{rule}: {routes}");
        lab.config.write(&Config::seed_keys())?;
        agent.wait_for("it is valid again", HEALTHY_WITHIN, |status| status.config.valid && !status.config.stale)?;
    }
    Ok(())
}
