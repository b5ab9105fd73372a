//! `vtep-agent bigip --bigip FILE`: what differs, and only the commands that are missing.

use std::io::Write;

use serde::Serialize;
use vtep_core::bigip::{
    BigIp, SiteValues,
    compare::{CiliumEnd, Comparison},
    plan::{DevicePlan, absent, for_shell, in_one_line, plan},
};

use super::{Output, ensure_one};
use crate::cli::{check, far_end::BigIps, json};

/// Everything for a program.
#[derive(Serialize)]
struct Report<'r> {
    differences: Vec<check::Found<'r>>,
    /// The missing commands of each BIG-IP.
    plan: &'r [DevicePlan],
    /// The VTEPs whose BIG-IP is not in the input, with all that it needs.
    absent: &'r [BigIp],
    notes: &'r [String],
}

pub(super) fn print(
    out: &mut impl Write,
    output: Output,
    (cilium, bigips): (&CiliumEnd, &BigIps),
    comparison: &Comparison,
    (site, is_printed): (&SiteValues, &dyn Fn(usize) -> bool),
) -> anyhow::Result<()> {
    let all = plan(&bigips.devices, comparison);
    let plan: Vec<_> =
        all.into_iter().enumerate().filter(|(index, _)| is_printed(*index)).map(|(_, plan)| plan).collect();
    let absent = absent(cilium, comparison, site);
    let findings = bigips.findings(comparison);
    match output {
        Output::Text => {
            write!(out, "{}", check::render_located(&findings))?;
            write!(out, "{}", check::render_notes(&comparison.notes))?;
            commands(out, &plan, &absent, str::to_owned)?;
        }
        Output::Tmsh => {
            let changed = plan.iter().filter(|plan| !plan.commands.is_empty()).map(|plan| in_one_line(&plan.bigip));
            ensure_one(changed.chain(absent.iter().map(|bigip| bigip.local_address.to_string())).collect())?;
            commands(out, &plan, &absent, for_shell)?;
        }
        Output::Json => {
            let differences = findings.iter().map(check::Found::of).collect();
            let report = Report { differences, plan: &plan, absent: &absent, notes: &comparison.notes };
            write!(out, "{}", json::pretty(&report)?)?;
        }
    }
    Ok(())
}

fn commands(
    out: &mut impl Write,
    plan: &[DevicePlan],
    absent: &[BigIp],
    line: fn(&str) -> String,
) -> std::io::Result<()> {
    for DevicePlan { bigip, commands, optional } in plan {
        let bigip = in_one_line(bigip);
        match commands.as_slice() {
            [] => writeln!(out, "# {bigip}: nothing is missing")?,
            commands => {
                writeln!(out, "# {bigip}")?;
                commands.iter().try_for_each(|command| writeln!(out, "{}", line(command)))?;
            }
        }
        if !optional.is_empty() {
            writeln!(out, "# FDB records of no node, to delete if the list of nodes is complete:")?;
            optional.iter().try_for_each(|command| writeln!(out, "#   {}", line(command)))?;
        }
    }
    for BigIp { local_address, network, commands, notes, .. } in absent {
        writeln!(out, "# BIG-IP {local_address}, tunnel network {network}: not in the input")?;
        commands.iter().try_for_each(|command| writeln!(out, "{}", line(command)))?;
        notes.iter().try_for_each(|note| writeln!(out, "# {note}"))?;
    }
    Ok(())
}
