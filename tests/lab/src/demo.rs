//! Runs the agent in the lab and shows its status on the terminal.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use vtep_lab::{Config, Lab, proxy};

use crate::{
    http::{self, Answer},
    stop::Stop,
};

/// The agent's address inside the node.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9808);
const POLL: Duration = Duration::from_millis(200);
/// The timeout of `--once`.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The timeout of the agent's stop.
const FAREWELL: Duration = Duration::from_secs(10);

const HEALTHY: u16 = 200;

pub(crate) fn run(agent: &Path, once: bool, stop: &Stop) -> Result<ExitCode> {
    let agent = agent.canonicalize().with_context(|| format!("no agent at {}", agent.display()))?;
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    let mut child =
        lab.agent_command(&agent, LISTEN).spawn().with_context(|| format!("failed to start {}", agent.display()))?;
    let door = proxy(&lab.node, LISTEN.port())?;
    if !once {
        crate::describe(&lab);
    }
    println!("http://{}", door.address);
    let shown = show(&agent, door.address, once, stop, &mut child);
    let ended = end(&mut child);
    let code = shown?;
    ended?;
    Ok(code)
}

/// Prints the agent's table: once when everything is healthy, or at every change until Ctrl-C.
fn show(agent: &Path, server: SocketAddr, once: bool, stop: &Stop, child: &mut Child) -> Result<ExitCode> {
    let deadline = Instant::now() + TIMEOUT;
    let mut last: Option<Answer> = None;
    while !stop.wait_for(POLL) {
        if let Some(status) = child.try_wait()? {
            bail!("the agent ended by itself: {status}");
        }
        // The agent does not answer yet, or not at the moment: the next poll tries again.
        if let Ok(answer) = http::get(server, "/healthz") {
            let healthy = answer.status == HEALTHY;
            if last.as_ref() != Some(&answer) && (healthy || last.is_some()) {
                print_status(agent, server)?;
            }
            if once && healthy {
                return Ok(ExitCode::SUCCESS);
            }
            if healthy || last.is_some() {
                last = Some(answer);
            }
        }
        if once && Instant::now() > deadline {
            print_status(agent, server)?;
            println!("not healthy within {} seconds", TIMEOUT.as_secs());
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(if once { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print_status(agent: &Path, server: SocketAddr) -> Result<()> {
    // The agent may have its own exit code for "unhealthy"; its message is on the terminal.
    let mut command = Command::new(agent);
    command.args(["status", "--url", &format!("http://{server}")]);
    command.status().with_context(|| format!("failed to run {} status", agent.display()))?;
    Ok(())
}

fn end(child: &mut Child) -> Result<()> {
    if child.try_wait()?.is_some() {
        return Ok(());
    }
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM).context("failed to stop the agent")?;
    let deadline = Instant::now() + FAREWELL;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("the agent did not end within {} seconds of SIGTERM", FAREWELL.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
