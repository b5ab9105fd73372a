//! Runs README's commands and compares their output. Both sides mask times, which differ from run to run.

use std::fs;

use anyhow::{Context, Result, ensure};
use vtep_lab::Lab;

use crate::{
    placeholders::placeholders,
    support::{AGENT, Agent},
};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

#[test]
fn the_commands_of_the_readme_print_what_it_says() -> Result<()> {
    let readme = fs::read_to_string(README)?;
    let examples = examples(&readme);
    ensure!(examples.len() >= 4, "found {examples:?}");
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    // The table has ARP's time and Cilium's version as soon as the first answers have arrived.
    agent.wait_for("ARP and Cilium have answered", crate::support::HEALTHY_WITHIN, |status| {
        status.cilium.version.is_some() && status.vteps.iter().all(|vtep| vtep.probes.arp.rtt_us.is_some())
    })?;
    for Example { command, expected } in examples {
        let printed = run(&lab, &agent, &command)?;
        ensure!(mask(&printed) == mask(&expected), "`{command}` printed\n{printed}\nand README says\n{expected}");
    }
    Ok(())
}

#[derive(Debug)]
struct Example {
    command: String,
    expected: String,
}

/// The commands in the blocks marked `console`, each with its output.
fn examples(readme: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        match (inside, line.strip_prefix("$ ")) {
            (_, _) if line.starts_with("```") => inside = line == "```console",
            (true, Some(command)) => examples.push(Example { command: command.into(), expected: String::new() }),
            (true, None) => {
                if let Some(example) = examples.last_mut() {
                    example.expected.push_str(line);
                    example.expected.push('\n');
                }
            }
            (false, _) => {}
        }
    }
    examples
}

fn run(lab: &Lab, agent: &Agent, command: &str) -> Result<String> {
    if let Some(args) = command.strip_prefix("vtep-agent ") {
        let mut command = lab.node.command(AGENT);
        command.env("VTEP_AGENT_CILIUM_RUN", vtep_lab::CILIUM_RUN);
        let output = command.args(args.split_whitespace()).current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
        return Ok(String::from_utf8(output.stdout)?);
    }
    let path =
        command.strip_prefix("curl -s http://127.0.0.1:9808").with_context(|| format!("cannot run {command}"))?;
    let (_, body) = agent.get(path)?.context("an answer")?;
    Ok(body)
}

/// The words, with placeholders for what differs from run to run.
fn mask(text: &str) -> Vec<Vec<String>> {
    placeholders(text).lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}
