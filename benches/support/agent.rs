//! An agent in the lab, and what it says of itself.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use vtep_lab::{Host, Lab};

pub(crate) const AGENT: &str = env!("CARGO_BIN_EXE_vtep-agent");
pub(crate) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9808);
const TIMEOUT: Duration = Duration::from_secs(30);

/// An agent that ends with its measurement.
pub(crate) struct Agent(Child);

impl Agent {
    /// Starts it with these further arguments, and waits until all its VTEPs are healthy.
    pub(crate) fn start(lab: &Lab, args: &[&str]) -> Result<Self> {
        let mut command = lab.agent_command(Path::new(AGENT), LISTEN);
        command.args(args);
        let mut agent = Self::spawn(&mut command)?;
        agent.healthy(lab)?;
        Ok(agent)
    }

    /// Starts this command and does not wait.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        Ok(Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }

    /// Waits until all its VTEPs are healthy; an agent that refuses its arguments has ended by then.
    pub(crate) fn healthy(&mut self, lab: &Lab) -> Result<Instant> {
        let begin = Instant::now();
        loop {
            let status = status(lab).unwrap_or(Value::Null);
            if verdicts(&status).next().is_some() && verdicts(&status).all(|verdict| verdict == "healthy") {
                return Ok(Instant::now());
            }
            if let Some(status) = self.0.try_wait()? {
                bail!("the agent has ended: {status}");
            }
            ensure!(begin.elapsed() < TIMEOUT, "not healthy within {TIMEOUT:?}: {status:#}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to end, and returns how long that takes.
    pub(crate) fn terminate(mut self) -> Result<Duration> {
        let begin = Instant::now();
        kill(Pid::from_raw(i32::try_from(self.pid())?), Signal::SIGTERM)?;
        self.0.wait()?;
        Ok(begin.elapsed())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn verdicts(status: &Value) -> impl Iterator<Item = &str> {
    status["vteps"].as_array().into_iter().flatten().filter_map(|vtep| vtep["verdict"].as_str())
}

pub(crate) fn status(lab: &Lab) -> Result<Value> {
    Ok(serde_json::from_str(&get(&lab.node, "/status")?.1)?)
}

/// Waits until the status is as wanted and has a VTEP.
pub(crate) fn wait(lab: &Lab, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Instant> {
    let begin = Instant::now();
    loop {
        let status = status(lab).unwrap_or(Value::Null);
        if verdicts(&status).next().is_some() && wanted(&status) {
            return Ok(Instant::now());
        }
        ensure!(begin.elapsed() < TIMEOUT, "not {what} within {TIMEOUT:?}: {status:#}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A request on a connection of its own; returns the code and the body.
pub(crate) fn get(node: &Host, path: &str) -> Result<(u16, String)> {
    let answer = node.run(|| {
        let mut stream = TcpStream::connect(LISTEN)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").context("not HTTP")?;
    Ok((head.split(' ').nth(1).context("a code")?.parse()?, body.to_owned()))
}
