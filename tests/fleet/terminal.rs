//! A real terminal: `script` of util-linux gives one to a command, with its standard input as the keyboard.

use std::{
    io::{Read, Write},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::cluster::{Agent, Cluster, healthy, silent};

/// Long enough for any answer on a busy machine.
const WITHIN: Duration = Duration::from_secs(60);
const SINCE: &str = "2026-11-27T08:00:00Z";
const BROKEN: &str = "10.1.5.0/24";
/// Clears the screen: what a round of `--watch` begins with.
const CLEAR: &str = "\x1b[H\x1b[2J";
/// Colours and styles; not the end of a style, nor what moves the cursor.
const COLOURS: [&str; 4] = ["\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m"];
/// What a terminal sends for Ctrl-C.
const CTRL_C: &[u8] = b"\x03";

struct Terminal {
    child: Child,
    screen: Receiver<Vec<u8>>,
    shown: String,
}

impl Terminal {
    fn start(command: &Command, no_color: Option<&str>) -> Result<Self> {
        let words = [command.get_program()].into_iter().chain(command.get_args());
        // Neither paths nor arguments of these tests have a quote.
        let line = words.map(|word| format!("'{}'", word.to_string_lossy())).collect::<Vec<_>>().join(" ");
        let mut script = Command::new("script");
        // Quiet, with the exit status of the command, which is `exec`ed so that no shell is between; and without a file.
        script.args(["--quiet", "--return", "--command", &format!("exec {line}"), "/dev/null"]);
        script.env("TERM", "xterm-256color").env("SHELL", "/bin/sh").env_remove("KUBECONFIG");
        for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            script.env_remove(variable);
        }
        script.envs(no_color.map(|value| ("NO_COLOR", value)));
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("failed to run script")?;
        let mut output = child.stdout.take().context("a pipe")?;
        let (sender, screen) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, screen, shown: String::new() })
    }

    /// Reads until the screen has shown something.
    fn wait(&mut self, is_shown: impl Fn(&str) -> bool) -> Result<()> {
        let end = Instant::now() + WITHIN;
        while !is_shown(&self.shown) {
            match self.screen.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.shown += &String::from_utf8_lossy(&bytes),
                Err(error) => bail!("{error}: {:?}", self.shown),
            }
        }
        Ok(())
    }

    fn press(&mut self, keys: &[u8]) -> Result<()> {
        let keyboard = self.child.stdin.as_mut().context("a pipe")?;
        keyboard.write_all(keys)?;
        Ok(keyboard.flush()?)
    }

    /// Everything that was shown until the command ended, and its exit status.
    fn end(mut self) -> Result<(String, Option<i32>)> {
        let end = Instant::now() + WITHIN;
        while let Ok(bytes) = self.screen.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.shown += &String::from_utf8_lossy(&bytes);
        }
        ensure!(Instant::now() < end, "it did not end: {:?}", self.shown);
        let code = self.child.wait()?.code();
        Ok((std::mem::take(&mut self.shown), code))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cluster() -> Result<Cluster> {
    let cluster = Cluster::start()?;
    cluster.add("worker-1", "a", Agent::Answers(healthy("worker-1")))?;
    cluster.add("worker-2", "a", Agent::Answers(silent("worker-2", BROKEN, SINCE)))?;
    Ok(cluster)
}

fn has_colours(shown: &str) -> bool {
    COLOURS.iter().any(|colour| shown.contains(colour))
}

#[test]
fn the_bar_is_on_a_terminal_only_and_disappears() -> Result<()> {
    let cluster = cluster()?;
    let (shown, code) = Terminal::start(&cluster.command([""; 0]), None)?.end()?;
    assert_eq!(code, Some(1), "{shown:?}");
    let (bar, report) = shown.split_once("\r\x1b[K").with_context(|| format!("the bar disappears: {shown:?}"))?;
    ensure!(bar.contains("\r[") && bar.ends_with("] 2 of 2 nodes asked"), "{bar:?}");
    ensure!(report.contains("1 of 2 nodes healthy") && !report.contains("nodes asked"), "{report:?}");
    // Through pipes, there is neither a bar nor a colour.
    let outcome = cluster.fleet(&[])?;
    ensure!(outcome.err.is_empty() && !outcome.out.contains('\x1b'), "{outcome:?}");
    Ok(())
}

#[test]
fn a_bundle_has_a_bar_of_its_own() -> Result<()> {
    let cluster = cluster()?;
    cluster.server.on_exec("vtep-agent-worker-2", vtep_apiserver::Exec::Hangs);
    let mut terminal = Terminal::start(&cluster.bundle(&["--output", "/nowhere/x"]), None)?;
    terminal.wait(|shown| shown.contains("cannot write to /nowhere/x"))?;
    assert_eq!(terminal.end()?.1, Some(2));
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("bundle").to_string_lossy().into_owned();
    let mut terminal = Terminal::start(&cluster.bundle(&["--output", &file]), None)?;
    terminal.wait(|shown| shown.contains("] 0 of 1 bundles made"))?;
    terminal.press(CTRL_C)?;
    let (shown, code) = terminal.end()?;
    assert_eq!(code, Some(2), "{shown:?}");
    ensure!(shown.ends_with("\r\x1b[Kerror: interrupted: nothing is written\r\n"), "{shown:?}");
    assert_eq!(std::fs::read_dir(dir.path())?.count(), 0);
    // A terminal would take the bytes of an archive for its own.
    let (shown, code) = Terminal::start(&cluster.bundle(&["--output", "-"]), None)?.end()?;
    ensure!(code == Some(2) && shown.contains("standard output is a terminal"), "{shown:?}");
    Ok(())
}

#[test]
fn colours_are_on_and_no_color_switches_them_off() -> Result<()> {
    let cluster = cluster()?;
    let agent = cluster.listen("worker-2", Agent::Answers(silent("worker-2", BROKEN, SINCE)))?;
    let mut status = Command::new(env!("CARGO_BIN_EXE_vtep-agent"));
    status.args(["status", "--url", &format!("http://{agent}")]);
    for (command, words) in [(&status, "worker-2"), (&cluster.command([""; 0]), "1 of 2 nodes healthy")] {
        for (no_color, is_coloured) in [(None, true), (Some("1"), false), (Some(""), true)] {
            let (shown, code) = Terminal::start(command, no_color)?.end()?;
            ensure!(code == Some(1) && shown.contains(words), "{shown:?}");
            assert_eq!(has_colours(&shown), is_coloured, "NO_COLOR={no_color:?}: {shown:?}");
        }
    }
    Ok(())
}

/// The second round comes after five seconds.
#[test]
fn a_watch_draws_again_and_ends_with_ctrl_c() -> Result<()> {
    let cluster = cluster()?;
    let mut terminal = Terminal::start(&cluster.command(["--watch"]), None)?;
    terminal.wait(|shown| shown.contains("1 of 2 nodes healthy"))?;
    cluster.add("worker-3", "a", Agent::Answers(healthy("worker-3")))?;
    // On a screen of its own: what was there before is cleared.
    terminal.wait(|shown| shown.rsplit(CLEAR).next().is_some_and(|screen| screen.contains("2 of 3 nodes healthy")))?;
    terminal.press(CTRL_C)?;
    let (shown, code) = terminal.end()?;
    // The exit status of the last round: a node has trouble.
    assert_eq!(code, Some(1), "{shown:?}");
    let screen = shown.rsplit(CLEAR).next().unwrap_or_default();
    ensure!(screen.contains("of 3 nodes") || screen.contains("of 2 nodes"), "{screen:?}");
    // Neither another screen nor a hidden cursor remains, because none is used.
    ensure!(!shown.contains("\x1b[?"), "{shown:?}");
    Ok(())
}
