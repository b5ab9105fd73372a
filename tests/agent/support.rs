//! The agent as a child process inside the lab's node, and ways to wait for its acts.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use vtep_core::{diagnosis::Verdict, report::status::Status};
use vtep_lab::{Config, Host, Lab};

/// The program under test.
pub(crate) const AGENT: &str = env!("CARGO_BIN_EXE_vtep-agent");
/// Each node has a namespace of its own, so any port is free.
pub(crate) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9808);

/// The documents promise 3 s.
pub(crate) const HEALTHY_WITHIN: Duration = Duration::from_secs(30);
/// The documents promise 150 ms.
pub(crate) const REPAIRED_WITHIN: Duration = Duration::from_millis(1500);
/// The documents promise 5 s.
pub(crate) const NOTICED_WITHIN: Duration = Duration::from_secs(50);

/// The factor for every deadline on an emulated machine: `make test-kernels`.
pub(crate) fn timeout_factor() -> u32 {
    std::env::var("VTEP_TEST_TIMEOUT_FACTOR").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

/// Calls `probe` until it returns a value.
pub(crate) fn eventually<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + within * timeout_factor();
    loop {
        if let Some(value) = probe().with_context(|| format!("while waiting until {what}"))? {
            return Ok(value);
        }
        ensure!(Instant::now() < deadline, "not within {within:?}: {what}");
        // The kernel sends a test no events about maps and routes, so poll.
        thread::sleep(Duration::from_millis(5));
    }
}

/// The running agent. It ends with the test.
pub(crate) struct Agent {
    child: Child,
    node: Host,
    log: Arc<Mutex<Vec<String>>>,
}

impl Agent {
    /// Starts it with the seed's configuration and waits until both VTEPs are healthy.
    pub(crate) fn healthy(lab: &Lab) -> Result<Self> {
        let agent = Self::start_with_seed(lab)?;
        agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
        Ok(agent)
    }

    /// Starts it with the seed's configuration, for the lab's kind of tunnel.
    pub(crate) fn start_with_seed(lab: &Lab) -> Result<Self> {
        let mut keys = Config::seed_keys();
        keys.insert("tunnel-protocol".into(), lab.topology.tunnel.protocol().into());
        lab.config.write(&keys)?;
        Self::start(lab)
    }

    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        Self::spawn(lab, lab.agent_command(Path::new(AGENT), LISTEN))
    }

    pub(crate) fn spawn(lab: &Lab, mut command: Command) -> Result<Self> {
        // By default, use another directory than an agent of this machine would.
        command.env("VTEP_AGENT_STATE_DIR", vtep_lab::STATE);
        let mut child = command.stdout(Stdio::piped()).spawn().context("failed to start the agent")?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stdout.take().context("the agent has a standard output")?).lines();
        let sink = Arc::clone(&log);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Ok(Self { child, node: lab.node.clone(), log })
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lines that contain `text`.
    pub(crate) fn lines(&self, text: &str) -> Vec<String> {
        self.log().into_iter().filter(|line| line.contains(text)).collect()
    }

    /// Status code and body; `None` while the agent does not listen.
    pub(crate) fn get(&self, path: &str) -> Result<Option<(u16, String)>> {
        let path = path.to_owned();
        let answer = self.node.run(move || {
            let Ok(mut stream) = TcpStream::connect(LISTEN) else { return Ok(None) };
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: {LISTEN}\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(Some(answer))
        })?;
        let Some(answer) = answer else { return Ok(None) };
        let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
        let code = head.split(' ').nth(1).context("the answer has no status code")?.parse()?;
        Ok(Some((code, body.to_owned())))
    }

    /// Sends these bytes, and reads until the agent closes the connection.
    pub(crate) fn request(&self, bytes: &str) -> Result<String> {
        let bytes = bytes.to_owned();
        self.node.run(move || {
            let mut stream = TcpStream::connect(LISTEN)?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            stream.write_all(bytes.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
    }

    /// Occupies a listener's place while the stream exists.
    pub(crate) fn listen(&self) -> Result<TcpStream> {
        self.node.run(|| {
            let mut stream = TcpStream::connect(LISTEN)?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            stream.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")?;
            let mut head = [0; 12];
            stream.read_exact(&mut head)?;
            ensure!(&head == b"HTTP/1.1 200", "{}", String::from_utf8_lossy(&head));
            Ok(stream)
        })
    }

    /// The status code of an endpoint that must answer.
    pub(crate) fn code(&self, path: &str) -> Result<u16> {
        Ok(self.get(path)?.with_context(|| format!("nobody answers {path}"))?.0)
    }

    pub(crate) fn status(&self) -> Result<Option<Status>> {
        match self.get("/status")? {
            Some((200, body)) => {
                Ok(Some(serde_json::from_str(&body).context("/status is not what the agent says it is")?))
            }
            Some((code, body)) => bail!("/status answered {code}: {body}"),
            None => Ok(None),
        }
    }

    /// Waits for a status; on a timeout, prints the last one and the log.
    pub(crate) fn wait_for(&self, what: &str, within: Duration, wanted: impl Fn(&Status) -> bool) -> Result<Status> {
        let mut last = None;
        let status = eventually(what, within, || {
            last = self.status()?;
            Ok(last.clone().filter(&wanted))
        });
        // What did not happen comes first, because test-kernels prints one line of an error.
        status.map_err(|error| {
            anyhow!("last status: {last:#?}\nlog:\n{}", self.log().join("\n")).context(format!("{error:#}"))
        })
    }

    pub(crate) fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }

    /// User and system time so far.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // After the name in parentheses, utime and stime are the 12th and 13th word, in hundredths of a second.
        let words: Vec<_> = stat.rsplit_once(')').context("a name in parentheses")?.1.split_whitespace().collect();
        let ticks = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).context("a number of ticks");
        Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
    }

    /// Sends SIGTERM, and waits until the agent has ended.
    pub(crate) fn terminate(&mut self) -> Result<ExitStatus> {
        kill(self.pid()?, Signal::SIGTERM)?;
        self.wait_for_end()
    }

    /// Waits until it has ended, by itself or by a signal. The documents promise 2 s.
    pub(crate) fn wait_for_end(&mut self) -> Result<ExitStatus> {
        eventually("the agent ends", Duration::from_secs(20), || Ok(self.child.try_wait()?))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // A failed test leaves the process running; a successful one has already seen its end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn all_healthy(status: &Status) -> bool {
    status.vteps.len() == 2 && status.vteps.iter().all(|vtep| vtep.verdict == Verdict::Healthy)
}

/// Runs a command of the agent to its end, inside the node.
pub(crate) fn run(lab: &Lab, args: &[&str]) -> Result<Output> {
    lab.node.command(AGENT).args(args).output().context("failed to run the agent")
}

/// Changes maps with another tool, as a person on the node would. The words are in bpftool's form.
pub(crate) fn bpftool(lab: &Lab, words: &str) -> Result<String> {
    let output =
        lab.node.command("bpftool").args(words.split_whitespace()).output().context("failed to run bpftool")?;
    ensure!(output.status.success(), "bpftool {words}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// The VTEP map has exactly the entries of these VTEPs.
pub(crate) fn in_kernel(lab: &Lab, vteps: &[vtep_lab::Vtep]) -> Result<bool> {
    let wanted = vteps.iter().map(|vtep| (vtep.key(), vtep.value())).collect();
    Ok(lab.cilium.vtep_entries()? == wanted)
}
