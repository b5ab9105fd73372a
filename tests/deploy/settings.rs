//! The agent reads every variable that the chart sets: each belongs to a setting, with a valid value.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use clap::{CommandFactory, Parser};
use ipnet::Ipv4Net;
use serde_json::Value;
use vtep_agent::cli::Cli;

use crate::tools::{DEFAULTS, EVERYTHING, Objects, render};

/// Variables for use in other variables, and for the client of the API server.
const NOT_OURS: [&str; 2] = ["NODE_IP", "KUBERNETES_SERVICE_HOST"];

#[test]
fn every_variable_is_a_setting_with_a_value_that_the_agent_takes() -> Result<()> {
    let cases: [&[&str]; 4] =
        [DEFAULTS, EVERYTHING, &["config.source=dir"], &["cilium.version=1.18.8", "hostRoutes=off"]];
    for values in cases {
        try_out(&render(values)?).with_context(|| format!("with {values:?}"))?;
    }
    Ok(())
}

/// The value that decides about routes is rendered unchanged.
#[test]
fn values_about_routes_reach_the_agent() -> Result<()> {
    let rendered: BTreeMap<_, _> = variables(&render(EVERYTHING)?)?.into_iter().collect();
    let of = |name: &str| rendered.get(name).map(String::as_str);
    ensure!(of("VTEP_AGENT_ALLOW_OVERLAP") == Some("172.17.0.0/24,10.9.0.0/24"), "{rendered:?}");
    ensure!(of("VTEP_AGENT_ROUTE_TABLE") == Some("2099"), "{rendered:?}");
    Ok(())
}

/// In the form of the chart, and in the form of a person.
#[test]
fn overlaps_are_allowed_in_one_list_or_one_by_one() -> Result<()> {
    let both: [Ipv4Net; 2] = ["172.17.0.0/24".parse()?, "10.9.0.0/24".parse()?];
    let cases: [&[&str]; 2] = [
        &["--allow-overlap=172.17.0.0/24,10.9.0.0/24"],
        &["--allow-overlap", "172.17.0.0/24", "--allow-overlap", "10.9.0.0/24"],
    ];
    for flags in cases {
        let matches = Cli::command().try_get_matches_from(["vtep-agent", "run"].iter().chain(flags))?;
        let run = matches.subcommand_matches("run").context("the command")?;
        let allowed: Vec<Ipv4Net> = run.get_many("allow_overlap").context("the flag")?.copied().collect();
        ensure!(allowed == both, "{flags:?}: {allowed:?}");
    }
    ensure!(Cli::try_parse_from(["vtep-agent", "run", "--allow-overlap", "x"]).is_err(), "x is no CIDR");
    Ok(())
}

/// Each variable as the corresponding flag, after the container's arguments.
fn try_out(objects: &Objects) -> Result<()> {
    let args = objects.container()?["args"].as_array().context("args")?.iter().filter_map(Value::as_str);
    let mut calls = BTreeMap::from([("run".to_owned(), args.skip(1).map(str::to_owned).collect::<Vec<_>>())]);
    for (name, value) in variables(objects)?.into_iter().filter(|(name, _)| !NOT_OURS.contains(&&**name)) {
        let (command, flag) = flag(&name, &value).with_context(|| format!("no setting reads {name}"))?;
        calls.entry(command).or_default().push(flag);
    }
    ensure!(calls["run"].len() >= 10, "{calls:?}");
    for (command, flags) in calls {
        Cli::try_parse_from(["vtep-agent".to_owned(), command].into_iter().chain(flags))?;
    }
    Ok(())
}

/// Replaces references by the kubelet's values.
fn variables(objects: &Objects) -> Result<Vec<(String, String)>> {
    let mut known: Vec<(String, String)> = Vec::new();
    for variable in objects.container()?["env"].as_array().context("env")? {
        let name = variable["name"].as_str().context("a name")?;
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("spec.nodeName") => "worker-1",
            Some("status.hostIP") => "10.169.72.239",
            _ => variable["value"].as_str().with_context(|| format!("no text in {variable}"))?,
        };
        let value =
            known.iter().fold(value.to_owned(), |value, (name, text)| value.replace(&format!("$({name})"), text));
        ensure!(!value.contains("$("), "{name}={value} refers to what comes later");
        known.push((name.to_owned(), value));
    }
    Ok(known)
}

/// The command that reads a variable, and the corresponding flag.
fn flag(variable: &str, value: &str) -> Option<(String, String)> {
    let cli = Cli::command();
    // `run` comes first, because other commands share some of its settings.
    let mut commands: Vec<_> = cli.get_subcommands().collect();
    commands.sort_by_key(|command| command.get_name() != "run");
    commands.into_iter().find_map(|command| {
        let reads = |arg: &&clap::Arg| arg.get_env().is_some_and(|name| name == variable);
        let arg = command.get_arguments().find(reads)?;
        let long = arg.get_long()?;
        let flag = if arg.get_action().takes_values() { format!("--{long}={value}") } else { format!("--{long}") };
        Some((command.get_name().to_owned(), flag))
    })
}
