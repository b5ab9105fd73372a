// A headless Chromium, driven by look.mjs beside this file. Two test programs include it.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

pub(crate) struct Driver {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Driver {
    /// Starts it with a command that runs `node`, perhaps in another network namespace.
    pub(crate) fn start(mut node: Command) -> Result<Self> {
        let node = node.arg(Path::new(ROOT).join("tests/page/look.mjs")).arg(Path::new(ROOT).join("target/page"));
        let mut child =
            node.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("no Node.js: `make setup` brings it")?;
        let commands = child.stdin.take().context("a pipe")?;
        let answers = BufReader::new(child.stdout.take().context("a pipe")?);
        Ok(Self { child, commands, answers })
    }

    pub(crate) fn ask(&mut self, command: &Value) -> Result<Value> {
        writeln!(self.commands, "{command}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the browser is gone: `make setup` brings Chromium and what drives it");
        let answer: Value = serde_json::from_str(&line)?;
        if let Some(failed) = answer["failed"].as_str() {
            bail!("{command}: {failed}");
        }
        Ok(answer)
    }

    pub(crate) fn click(&mut self, selector: &str) -> Result<()> {
        self.ask(&json!({"do": "click", "selector": selector})).map(drop)
    }

    pub(crate) fn wait(&mut self, text: &str) -> Result<()> {
        self.ask(&json!({"do": "wait", "text": text})).map(drop)
    }

    /// A screenshot of the whole page in target/screens.
    pub(crate) fn shot(&mut self, name: &str) -> Result<()> {
        let screens = PathBuf::from(ROOT).join("target/screens");
        fs::create_dir_all(&screens)?;
        self.ask(&json!({"do": "shot", "file": screens.join(format!("{name}.png"))})).map(drop)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
