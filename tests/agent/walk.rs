//! Takes the walk of docs/walk.md: runs its commands in the lab, compares what they do with what it says, takes a picture of the page after
//! each step, and records the terminal. `make docs` makes the pictures and the recording in target/walk.

mod cast;

use std::{env, fs, path::Path, thread};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use vtep_lab::{Host, Lab};

use self::cast::Cast;
use crate::{
    page::driver::Driver,
    placeholders::placeholders,
    support::{AGENT, Agent, LISTEN, NOTICED_WITHIN, eventually},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const TITLE: &str = "vtep-agent in two minutes (# stands for a digit that differs from run to run)";
const PICTURES: &str = "target/walk";

/// One step of the walk.
struct Step {
    /// The picture's name.
    name: &'static str,
    remark: &'static str,
    /// A command of the document, with the host on which it runs.
    command: Option<String>,
    /// What `status` then says.
    status: Vec<String>,
    /// What the page then says, and did not say before: the moment for the picture.
    page: Option<&'static str>,
}

/// Waits for three faults to be noticed, which takes half a minute.
#[test]
fn the_document_says_what_happens() -> Result<()> {
    let steps = steps()?;
    let shown = cast::play(&walk(&steps, false)?.file(TITLE))?;
    has_all(&steps, &shown)
}

/// Twice, because two recordings must be the same. On a busy machine, something else may come between a fault and what the agent says.
#[test]
#[ignore = "make docs"]
fn a_recording_is_reproducible() -> Result<()> {
    let steps = steps()?;
    let (first, second) = thread::scope(|scope| {
        let other = scope.spawn(|| walk(&steps, false));
        let first = walk(&steps, true);
        (first, other.join())
    });
    let (first, second) = (first?, second.map_err(|_| anyhow::anyhow!("a panic"))??);
    let file = first.file(TITLE);
    let shown = cast::play(&file)?;
    ensure!(first == second, "two recordings differ:\n{shown}\n{}", cast::play(&second.file(TITLE))?);
    has_all(&steps, &shown)?;
    fs::write(Path::new(ROOT).join(PICTURES).join("walk.cast"), file)?;
    Ok(())
}

fn has_all(steps: &[Step], shown: &str) -> Result<()> {
    for text in steps.iter().flat_map(|step| step.command.iter().chain(&step.status)) {
        ensure!(shown.contains(text.as_str()), "{text:?} is not in the recording");
    }
    Ok(())
}

fn steps() -> Result<[Step; 6]> {
    let document = read("docs/walk.md")?;
    let commands: Vec<_> =
        document.lines().filter_map(|line| line.strip_prefix("    ")).filter(|line| host_of(line).is_some()).collect();
    let [another_mac, old_mac, delete] = commands[..] else { bail!("docs/walk.md has the commands {commands:#?}") };
    let edits = read("docs/try-without-bigip.md")?;
    let edits: Vec<_> = edits.lines().filter(|line| line.starts_with("node sh -c 'cd /mnt/config")).collect();
    let [typing_error, correction] = edits[..] else { bail!("docs/try-without-bigip.md has the edits {edits:#?}") };
    let table = document.split_once("```console\n").and_then(|(_, rest)| rest.split_once("```")).context("a table")?.0;
    let healthy: Vec<_> = placeholders(table).lines().map(str::to_owned).collect();
    ensure!(healthy.len() == 3, "{healthy:?}");
    let says = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    Ok([
        Step {
            name: "1-healthy",
            remark: "A node with Cilium's datapath, a pod and two BIG-IPs, and the agent on the node",
            command: None,
            status: healthy,
            page: Some("Both tunnels work from worker-1"),
        },
        Step {
            name: "2-another-mac",
            remark: "The first BIG-IP's tunnel gets another MAC",
            command: Some(another_mac.to_owned()),
            status: says(&[
                "misconfigured #.##ms failed",
                "vtep-mac-mismatch",
                "00:50:56:00:00:99",
                "unanswered since",
            ]),
            page: Some("vtep-mac-mismatch"),
        },
        Step {
            name: "3-repaired",
            remark: "It gets its old one",
            command: Some(old_mac.to_owned()),
            status: says(&["10.1.6.0/24        10.169.72.34    healthy       #.##ms #.##ms", "unanswered for #.# s"]),
            page: Some("Both tunnels work from worker-1"),
        },
        Step {
            name: "4-deleted-entry",
            remark: "Somebody deletes its entry from Cilium's VTEP map",
            command: Some(delete.to_owned()),
            status: says(&["datapath  in sync, 1 repair"]),
            page: Some("1 repair of the map entry"),
        },
        Step {
            name: "5-typing-error",
            remark: "A typing error in the list of the second BIG-IP's network",
            command: Some(typing_error.to_owned()),
            status: says(&[
                "last good values in force",
                "error[vtep-cidr-invalid]: vtep-cidr, 2nd value: \"10.1.5.0\"",
            ]),
            page: Some("last good values stay in force."),
        },
        Step {
            name: "6-corrected",
            remark: "It is corrected",
            command: Some(correction.to_owned()),
            status: says(&["config    valid", "datapath  in sync"]),
            page: None,
        },
    ])
}

/// Takes each step, in a lab of its own.
fn walk(steps: &[Step], with_pictures: bool) -> Result<Cast> {
    let lab = Lab::start()?;
    let _agent = Agent::healthy(&lab)?;
    let mut camera = if with_pictures { Some(Camera::start(&lab)?) } else { None };
    let mut cast = Cast::default();
    for step in steps {
        cast.types(&format!("# {}", step.remark));
        if let Some(command) = &step.command {
            cast.types(command);
            cast.prints(&shell(&lab, command)?);
        }
        let mut last = String::new();
        let printed = eventually(step.remark, NOTICED_WITHIN, || {
            last = placeholders(&shell(&lab, "node vtep-agent status")?);
            let is_there = step.status.iter().all(|text| last.contains(text.as_str()));
            Ok(is_there.then(|| last.clone()))
        });
        let printed = printed.with_context(|| format!("the last status was\n{last}\nand not {:#?}", step.status))?;
        cast.types("vtep-agent status");
        cast.prints(&printed);
        if let Some(camera) = &mut camera {
            camera.picture(step)?;
        }
    }
    Ok(cast)
}

/// Runs a line that starts with the name of a host, as the shell functions in docs/try-without-bigip.md do.
fn shell(lab: &Lab, line: &str) -> Result<String> {
    let (host, command) = host_of(line).with_context(|| format!("{line} names no host"))?;
    let host: &Host = match host {
        "node" => &lab.node,
        _ => &lab.bigips[0].host,
    };
    let programs = Path::new(AGENT).parent().context("a directory")?;
    let path = format!("{}:{}", programs.display(), env::var("PATH")?);
    let output = host.command("sh").args(["-c", command]).env("PATH", path).output()?;
    // `status` ends with 1 while something is wrong.
    ensure!(
        output.status.success() || command.ends_with(" status"),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn host_of(line: &str) -> Option<(&str, &str)> {
    line.split_once(' ').filter(|(host, _)| matches!(*host, "node" | "bigip1"))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(Path::new(ROOT).join(path)).with_context(|| path.to_owned())
}

/// The status page in a browser on the node.
struct Camera(Driver);

impl Camera {
    fn start(lab: &Lab) -> Result<Self> {
        let pictures = Path::new(ROOT).join(PICTURES);
        if pictures.exists() {
            fs::remove_dir_all(&pictures)?;
        }
        fs::create_dir_all(&pictures)?;
        let mut browser = Driver::start(lab.node.command("node"))?;
        browser.ask(&json!({"do": "open", "url": format!("http://{LISTEN}/"), "width": 1280, "scheme": "light"}))?;
        Ok(Self(browser))
    }

    fn picture(&mut self, step: &Step) -> Result<()> {
        let Some(text) = step.page else { return Ok(()) };
        self.0.wait(text).with_context(|| format!("the page after: {}", step.remark))?;
        let file = Path::new(ROOT).join(PICTURES).join(format!("{}.png", step.name));
        self.0.ask(&json!({"do": "shot", "file": file})).map(drop)
    }
}
