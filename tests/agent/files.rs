//! Files and answers that are not as they should be: too long, not a regular file, or from another program.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread,
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::stat::Mode,
    unistd::{Pid, mkfifo},
};
use vtep_apiserver::Matcher;
use vtep_core::{diagnosis::Cause, report::status::Status};
use vtep_lab::{CILIUM_RUN, CONFIG, Config, Lab};

use crate::{
    api::{api_server, apply, start},
    support::{AGENT, Agent, HEALTHY_WITHIN, NOTICED_WITHIN, all_healthy, eventually, run},
};

/// The permitted growth of the agent's memory, in KB: the DaemonSet limits it to 48 MiB, and it uses some 15.
const MORE_KB: u64 = 16 << 10;
const LINE: &str = "cannot read Cilium's running configuration";

fn runtime_config() -> PathBuf {
    Path::new(CILIUM_RUN).join("state/agent-runtime-config.json")
}

/// Measures the agent's memory from now on.
struct Memory {
    pid: Pid,
    before: u64,
}

impl Memory {
    /// The start uses more memory than later work, and would hide it: reset the kernel's high-water mark.
    fn watch(agent: &Agent) -> Result<Self> {
        let pid = agent.pid()?;
        fs::write(format!("/proc/{pid}/clear_refs"), "5").context("failed to reset the peak")?;
        Ok(Self { pid, before: most(pid)? })
    }

    fn did_not_grow(&self) -> Result<()> {
        let grown = most(self.pid)?.saturating_sub(self.before);
        ensure!(grown < MORE_KB, "{grown} KB more than {} KB", self.before);
        Ok(())
    }
}

/// The high-water mark of the agent's memory, in KB.
fn most(pid: Pid) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("a VmHWM line")?;
    line.trim().trim_end_matches(" kB").parse().context("a number of kB")
}

fn says(status: &Status, words: &str) -> bool {
    status.cilium.config_error.as_ref().is_some_and(|error| error.contains(words))
}

#[test]
fn a_runtime_config_of_60_mb_costs_a_line_and_no_memory() -> Result<()> {
    let lab = Lab::builder().fill_map(true).start()?;
    let agent = Agent::healthy(&lab)?;
    let memory = Memory::watch(&agent)?;
    let before = agent.wait_for("what runs is known", HEALTHY_WITHIN, |status| status.cilium.vtep_mask.is_some())?;

    // The file is valid, with keys that the agent does not read.
    let filler = format!("{{\"EnableVTEP\": false, \"Filler\": [{}0]}}", "1234567890, ".repeat(5_000_000));
    ensure!(filler.len() > 60_000_000);
    fs::write(runtime_config(), &filler)?;
    let status = agent.wait_for("it is said", NOTICED_WITHIN, |status| says(status, "more than 1048576 bytes"))?;
    ensure!(says(&status, "agent-runtime-config.json"), "{:?}", status.cilium);
    ensure!(status.cilium.vtep_mask == before.cilium.vtep_mask, "what was known stays: {:?}", status.cilium);
    ensure!(all_healthy(&status) && !status.cilium.restart_required, "{:?}", status.vteps);

    // The file continues to grow; the agent reports that only once.
    fs::OpenOptions::new().append(true).open(runtime_config())?.write_all(filler.as_bytes())?;
    lab.cilium.write_running_config()?;
    agent.wait_for("it can be read again", NOTICED_WITHIN, |status| status.cilium.config_error.is_none())?;
    let lines = (agent.lines(LINE).len(), agent.lines("Cilium's running configuration can be read again").len());
    ensure!(lines == (1, 1), "one line each way:\n{}", agent.log().join("\n"));
    memory.did_not_grow()
}

/// Creates something at a path.
type Make = fn(&Path) -> Result<()>;

fn replace(path: &Path, make: Make) -> Result<()> {
    let new = path.with_extension("new");
    make(&new)?;
    if path.is_dir() {
        fs::remove_dir(path)?;
    } else {
        fs::remove_file(path)?;
    }
    Ok(fs::rename(&new, path)?)
}

#[test]
fn what_is_no_file_holds_nobody_up() -> Result<()> {
    let lab = Lab::builder().fill_map(true).start()?;
    let agent = Agent::healthy(&lab)?;
    let memory = Memory::watch(&agent)?;
    let path = runtime_config();
    let kinds: [(&str, Make); 4] = [
        ("it is a pipe, not a file", |path| Ok(mkfifo(path, Mode::S_IRWXU)?)),
        ("it is a directory, not a file", |path| Ok(fs::create_dir(path)?)),
        ("more than 1048576 bytes", |path| Ok(fs::File::create(path)?.set_len(1 << 40)?)),
        ("it is not JSON", |path| Ok(fs::write(path, "{")?)),
    ];
    for (words, make) in kinds {
        replace(&path, make)?;
        let status = agent.wait_for(words, NOTICED_WITHIN, |status| says(status, words))?;
        ensure!(all_healthy(&status) && agent.code("/livez")? == 200, "{words}: {status:?}");
        ensure!(agent.lines(LINE).iter().filter(|line| line.contains(words)).count() == 1, "{:?}", agent.log());
    }
    memory.did_not_grow()
}

#[test]
fn a_mounted_key_that_is_too_long_or_a_pipe_changes_nothing() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let memory = Memory::watch(&agent)?;
    let extra = Path::new(CONFIG).join("extra");
    fs::File::create(&extra)?.set_len(1 << 40)?;
    // In a mounted ConfigMap the agent reads `..data`; other files beside it do not count.
    lab.config.write(&Config::seed_keys())?;
    agent.wait_for("it is valid", HEALTHY_WITHIN, |status| status.config.valid && all_healthy(status))?;
    let behind = fs::canonicalize(Path::new(CONFIG).join("..data"))?.join("extra");
    fs::File::create(&behind)?.set_len(1 << 40)?;
    // This does not change the directory itself; the agent reads it again within ten seconds.
    let status = agent.wait_for("it is said", NOTICED_WITHIN, |status| !status.config.valid)?;
    let said = format!("{:?} {:?}", status.config.findings, status.config.source_error);
    ensure!(said.contains("extra is too long for a ConfigMap"), "{said}");
    ensure!(status.config.stale && all_healthy(&status), "{status:?}");

    // A third entry is a pipe without a writer, on which an open would block. It is not a key, and the next read skips it.
    mkfifo(&behind.with_file_name("pipe"), Mode::S_IRWXU)?;
    fs::remove_file(&behind)?;
    let valid = |status: &Status| status.config.valid && !status.config.stale && all_healthy(status);
    agent.wait_for("it is valid again beside the pipe", NOTICED_WITHIN, valid)?;
    ensure!(agent.code("/livez")? == 200, "alive");
    memory.did_not_grow()
}

/// An endless answer; it ends when the client closes the connection.
fn answer_for_ever(mut client: impl Read + Write) {
    let _ = client.read(&mut [0; 4096]);
    let _ = client.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n");
    while client.write_all(&[b' '; 65536]).is_ok() {}
}

#[test]
fn an_endless_answer_of_ciliums_socket_is_not_taken_in() -> Result<()> {
    let mut lab = Lab::builder().fill_map(true).start()?;
    lab.cilium.version = None;
    lab.cilium.start()?;
    let listener = UnixListener::bind(Path::new(CILIUM_RUN).join("cilium.sock"))?;
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            counter.fetch_add(1, Relaxed);
            answer_for_ever(client);
        }
    });
    let agent = Agent::healthy(&lab)?;
    let memory = Memory::watch(&agent)?;
    eventually("it is said", NOTICED_WITHIN, || {
        Ok((agent.lines("cannot ask Cilium for its version").len() == 1).then_some(()))
    })?;
    ensure!(agent.lines("more than 1048576 bytes").len() == 1, "{:?}", agent.log());
    eventually("it is asked again and again", NOTICED_WITHIN, || Ok((asked.load(Relaxed) >= 3).then_some(())))?;
    ensure!(agent.lines("cannot ask Cilium for its version").len() == 1, "{:?}", agent.log());
    memory.did_not_grow()
}

/// No API server stores an object of more than 1.5 MiB, but another server at its address may send more.
#[test]
fn an_object_of_60_mb_is_not_taken_in() -> Result<()> {
    let lab = Lab::builder().fill_map(true).start()?;
    let server = api_server(&lab)?;
    let mut agent = start(&lab, &server, &[])?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    let memory = Memory::watch(&agent)?;
    let mut keys = Config::seed_keys();
    keys.insert("filler".into(), "x".repeat(60 << 20));
    apply(&server, &keys)?;
    let words = "more than 4194304 bytes";
    let said = |status: &Status| status.config.source_error.as_ref().is_some_and(|error| error.contains(words));
    let status = agent.wait_for("it is said", NOTICED_WITHIN, said)?;
    ensure!(status.config.stale && all_healthy(&status), "{status:#?}");
    memory.did_not_grow()?;
    ensure!(agent.terminate()?.success(), "a clean end");

    // The first read after a start is a plain answer, not a watch.
    let agent = start(&lab, &server, &[])?;
    agent.wait_for("it is said again", NOTICED_WITHIN, said)?;
    let memory = Memory::watch(&agent)?;
    server.clear_requests();
    server.wait_seen(&Matcher::all().resource("configmaps"), 2, NOTICED_WITHIN)?;
    apply(&server, &Config::seed_keys())?;
    agent.wait_for("it is read again", NOTICED_WITHIN, |status| status.config.source_error.is_none())?;
    ensure!(agent.lines(words).len() == 1, "one line: {:?}", agent.log());
    memory.did_not_grow()
}

/// Another program's server at the agent's address.
#[test]
fn an_endless_answer_ends_the_command_and_not_the_shell() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(answer_for_ever));
    let output = Command::new(AGENT).args(["status", "--url", &url]).output()?;
    let words = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(2) && words.contains("more than 4194304 bytes"), "{words}");
    Ok(())
}

#[test]
fn what_lies_in_the_pins_place_is_named() -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    let agent = Agent::start(&lab)?;
    let pin = lab.cilium.vtep_pin();
    lab.cilium.remove_pin()?;
    fs::create_dir(&pin)?;
    let words = format!("{} is a directory, not a map", pin.display());
    let status = agent.wait_for("it is named", NOTICED_WITHIN, |status| {
        status.datapath.problems.iter().any(|problem| problem.contains(&words))
    })?;
    ensure!(!status.datapath.problems.join("\n").contains("CAP_BPF"), "{:?}", status.datapath.problems);
    let status = agent.wait_for("the cause says so", NOTICED_WITHIN, |status| {
        status.vteps.iter().all(|vtep| vtep.cause == Some(Cause::DatapathMissing)) && status.vteps.len() == 2
    })?;
    ensure!(status.vteps[0].hint.as_ref().is_some_and(|hint| hint.contains("is a directory")), "{:?}", status.vteps[0]);
    ensure!(
        agent.lines(&words).len() <= 1 + status.vteps.len() * 2,
        "said once, and in each verdict: {:?}",
        agent.log()
    );

    let plan = String::from_utf8(run(&lab, &["plan", "--config-dir", CONFIG])?.stdout)?;
    ensure!(plan.contains(&words) && !plan.contains("CAP_BPF"), "{plan}");
    fs::remove_dir(&pin)?;
    Ok(())
}
