//! `vtep-agent bundle`: complete in every lab, without a secret, and with other addresses if asked.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write as _},
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use serde_json::Value;
use vtep_apiserver::{Exec, Resource, objects};
use vtep_lab::{CILIUM_RUN, CONFIG, Config, Lab};

use crate::{
    api::{KUBECONFIG, NAMESPACE, NODE, api_server, apply, start},
    capture::{SOURCE, leaves_nothing, opens},
    configured_lab::{ConfiguredLab, Source},
    faults::{FAULTS, FAULTS_WITH_LISTS},
    privileges,
    support::{AGENT, Agent, HEALTHY_WITHIN, LISTEN, all_healthy},
};

/// Everything that a complete bundle has.
const FILES: [&str; 25] = [
    "README.md",
    "capture.pcapng",
    "capture.txt",
    "cilium/agent-runtime-config.json",
    "cilium/node_config.h",
    "cilium/version.json",
    "configuration.json",
    "findings.json",
    "health.txt",
    "history.json",
    "log.txt",
    "maps/ipcache-raw.json",
    "maps/ipcache.json",
    "maps/vtep-raw.json",
    "maps/vtep.json",
    "metrics.txt",
    "net/links.json",
    "net/neighbours.json",
    "net/routes.json",
    "net/rules.json",
    "plan.json",
    "preflight.json",
    "probe.json",
    "status.json",
    "status.txt",
];

/// The probes of the lab have a target each, so that none needs to be learned.
const TARGETS: [&str; 2] = ["--probe-target", "10.1.6.0/24=10.1.6.34,10.1.5.0/24=10.1.5.36"];

struct Bundle {
    output: Output,
    files: BTreeMap<String, Vec<u8>>,
}

impl Bundle {
    fn make(mut command: Command) -> Result<Self> {
        let output = command.output()?;
        let files =
            if output.stdout.is_empty() { BTreeMap::new() } else { unpack(GzDecoder::new(&output.stdout[..]))? };
        Ok(Self { output, files })
    }

    fn text(&self, file: &str) -> Result<String> {
        Ok(String::from_utf8(self.files.get(file).with_context(|| format!("no {file}"))?.clone())?)
    }

    fn json(&self, file: &str) -> Result<Value> {
        serde_json::from_str(&self.text(file)?).with_context(|| file.to_owned())
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Every file is there, and is what its name says.
    fn is_complete(&self) -> Result<()> {
        ensure!(self.output.status.code() == Some(0), "{}", self.said());
        ensure!(self.files.keys().map(String::as_str).eq(FILES), "{:?}", self.files.keys());
        let readme = self.text("README.md")?;
        ensure!(readme.contains("It is complete."), "{readme}");
        for (file, bytes) in &self.files {
            ensure!(!bytes.is_empty(), "{file} is empty");
            ensure!(file == "README.md" || readme.contains(&format!("| `{file}` |")), "{file} is not in\n{readme}");
            if Path::new(file).extension().is_some_and(|extension| extension == "json") {
                self.json(file)?;
            }
        }
        Ok(())
    }
}

fn unpack(tar: impl Read) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.strip_prefix("vtep-bundle")?.to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        files.insert(path, bytes);
    }
    Ok(files)
}

fn command(lab: &Lab, args: &[&str]) -> Command {
    let mut command = lab.node.command(AGENT);
    command.args(["bundle", "--output", "-", "--node-name", NODE]).args(TARGETS).args(args);
    if !args.contains(&"--seconds") {
        command.args(["--seconds", "2"]);
    }
    command
}

fn of_directory(lab: &Lab, args: &[&str]) -> Result<Bundle> {
    let mut command = command(lab, args);
    command.args(SOURCE);
    Bundle::make(command)
}

#[test]
fn a_healthy_node_has_everything_with_the_rights_of_the_manifest() -> Result<()> {
    let lab = Lab::builder().fill_map(true).start()?;
    let _agent = Agent::healthy(&lab)?;
    let confined = privileges::confined(&privileges::granted()?);
    let mut command = lab.node.command(&confined[0]);
    command.args(&confined[1..]).args([AGENT, "bundle", "--output", "-", "--seconds", "2"]).args(TARGETS).args(SOURCE);
    let bundle = Bundle::make(command)?;
    bundle.is_complete()?;
    ensure!(opens(&bundle.files["capture.pcapng"])? > 4, "{}", bundle.text("capture.txt")?);
    let endpoint = "10.169.72.34";
    ensure!(bundle.json("status.json")?["vteps"][0]["verdict"] == "healthy");
    ensure!(bundle.json("probe.json")?[0]["verdict"] == "healthy");
    ensure!(bundle.json("plan.json")?["in_sync"] == true, "{}", bundle.text("plan.json")?);
    ensure!(bundle.json("preflight.json")?["fit"] == true, "{}", bundle.text("preflight.json")?);
    ensure!(bundle.json("configuration.json")?["keys"]["vtep-mask"] == "255.255.255.0");
    ensure!(bundle.json("maps/vtep.json")?["entries"][1]["endpoint"] == endpoint, "{}", bundle.text("maps/vtep.json")?);
    // The network, and then MAC and endpoint with their padding.
    let raw = bundle.text("maps/vtep-raw.json")?;
    ensure!(raw.contains("0a010600") && raw.contains("005056a07dd800000aa9482200000000"), "{raw}");
    let ipcache = bundle.json("maps/ipcache.json")?;
    ensure!(ipcache["vteps"][0]["cidr"] == "10.1.6.0/24", "{ipcache:#}");
    for (file, words) in [
        ("status.txt", "10.1.6.0/24"),
        ("health.txt", "/livez?verbose: 200 OK"),
        ("metrics.txt", "vtep_agent_"),
        ("log.txt", "started"),
        ("cilium/version.json", "1.18.8"),
        ("cilium/agent-runtime-config.json", "VtepEndpoints"),
        ("cilium/node_config.h", "#define VTEP_MASK"),
        ("net/links.json", "cilium_vxlan"),
        ("net/routes.json", "\"table\": 2021"),
        ("net/rules.json", "\"priority\": 113"),
        ("net/neighbours.json", endpoint),
        ("capture.txt", "[probe of vtep-agent: echo through the tunnel, 84 bytes]"),
    ] {
        let text = bundle.text(file)?;
        ensure!(text.contains(words), "{words:?} is not in {file}:\n{text}");
    }
    Ok(())
}

/// A bundle of every fault takes as long as its probes, which wait for answers that do not come: some seconds each.
#[test]
fn a_broken_node_has_everything_too() -> Result<()> {
    let mut lab = ConfiguredLab::with(Source::Lists, Lab::builder().other_node(true))?;
    let _agent = lab.healthy_agent()?;
    for fault in FAULTS.iter().chain(FAULTS_WITH_LISTS) {
        (fault.inject)(&mut lab)?;
        let traffic = fault.traffic.map(|start| start(&lab)).transpose()?;
        let bundle = of_directory(&lab, &["--seconds", "1"]);
        drop(traffic);
        (fault.repair)(&mut lab)?;
        bundle?.is_complete().with_context(|| format!("fault: {}", fault.name))?;
    }
    Ok(())
}

#[test]
fn what_is_missing_is_named() -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    let bundle = of_directory(&lab, &[])?;
    ensure!(bundle.output.status.code() == Some(1), "{}", bundle.said());
    let readme = bundle.text("README.md")?;
    for file in ["status.json", "status.txt", "history.json", "health.txt", "metrics.txt", "log.txt"] {
        ensure!(!bundle.files.contains_key(file), "{file}");
        ensure!(readme.contains(&format!("- `{file}`, ")), "{file} is not in\n{readme}");
        ensure!(
            bundle.said().contains(&format!("missing: {file}: no answer from http://127.0.0.1:9808/")),
            "{}",
            bundle.said()
        );
    }
    ensure!(bundle.files.len() == FILES.len() - 6, "{:?}", bundle.files.keys());

    fs::remove_dir_all(CONFIG).or_else(|_| fs::remove_file(CONFIG))?;
    let bundle = of_directory(&lab, &[])?;
    ensure!(bundle.output.status.code() == Some(1), "{}", bundle.said());
    for file in ["plan.json", "probe.json", "capture.pcapng", "capture.txt", "net/neighbours.json"] {
        ensure!(
            bundle.said().contains(&format!("missing: {file}: no usable configuration")),
            "{file}: {}",
            bundle.said()
        );
    }
    ensure!(bundle.files.contains_key("net/routes.json") && bundle.files.contains_key("maps/vtep.json"));
    Ok(())
}

/// It is in everything that the program could read by mistake.
const SECRET: &str = "s3cr3t-hunter2";

fn holds(bytes: &[u8], words: &[u8]) -> bool {
    bytes.windows(words.len()).any(|window| window == words)
}

#[test]
fn no_secret_is_in_it() -> Result<()> {
    let lab = Lab::builder().fill_map(true).start()?;
    let server = api_server(&lab)?;
    let mut keys = Config::seed_keys();
    for key in ["azure-client-secret", "etcd-config", "vtep-token", "enable-vtep-password"] {
        keys.insert(key.into(), SECRET.into());
    }
    apply(&server, &keys)?;
    for file in ["agent-runtime-config.json", "globals/node_config.h"] {
        let path = Path::new(CILIUM_RUN).join("state").join(file);
        let text = fs::read_to_string(&path)?;
        let text = match text.strip_prefix('{') {
            Some(rest) => format!("{{\"KVStoreOpt\": {{\"password\": \"{SECRET}\"}},{rest}"),
            None => format!("#define TOKEN \"{SECRET}\"\n{text}"),
        };
        fs::write(path, text)?;
    }
    server.require_token(Some(SECRET));
    let agent = start(&lab, &server, &[])?;
    ensure!(fs::read_to_string(KUBECONFIG)?.contains(SECRET), "the token");
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    let mut command = command(&lab, &["--config-source", "kube", "--cilium-run", CILIUM_RUN]);
    command.env("KUBECONFIG", KUBECONFIG).env("BIGIP_PASSWORD", SECRET).env("VTEP_AGENT_BIGIP_PASSWORD", SECRET);
    let bundle = Bundle::make(command)?;
    bundle.is_complete()?;
    for (file, bytes) in &bundle.files {
        ensure!(!holds(bytes, SECRET.as_bytes()), "{file}:\n{}", String::from_utf8_lossy(bytes));
    }
    ensure!(!holds(&bundle.output.stderr, SECRET.as_bytes()));
    Ok(())
}

/// Neither the addresses of the lab nor the node's name are in any file.
fn without_addresses(lab: &Lab, bundle: &Bundle) -> Result<()> {
    let topology = &lab.topology;
    let mut addresses = vec![topology.node_ip, topology.router_ip, topology.pod_ip];
    let mut macs = vec![lab.node.link("eth0")?.mac, lab.node.link("cilium_vxlan")?.mac];
    for bigip in &topology.bigips {
        addresses.extend([bigip.underlay_ip, bigip.self_ip.addr(), bigip.self_ip.network()]);
        macs.push(bigip.mac);
    }
    for (file, bytes) in &bundle.files {
        let text = String::from_utf8_lossy(bytes).to_lowercase();
        for address in &addresses {
            ensure!(!text.contains(&address.to_string()) && !holds(bytes, &address.octets()), "{address} is in {file}");
        }
        for mac in &macs {
            ensure!(!text.contains(&mac.to_string().to_lowercase()) && !holds(bytes, &mac.0), "{mac} is in {file}");
        }
        ensure!(!text.contains(NODE), "the node's name is in {file}:\n{text}");
    }
    Ok(())
}

#[test]
fn addresses_are_replaced_by_the_same_ones_everywhere() -> Result<()> {
    let lab = Lab::builder().fill_map(true).start()?;
    let agent = Agent::healthy(&lab)?;
    let bundle = of_directory(&lab, &["--redact"])?;
    ensure!(bundle.output.status.code() == Some(0), "{}", bundle.said());
    let is_raw = |file: &&str| file.ends_with("-raw.json");
    let expected = FILES.iter().copied().filter(|file| !is_raw(file));
    ensure!(bundle.files.keys().map(String::as_str).eq(expected), "{:?}", bundle.files.keys());
    ensure!(bundle.text("README.md")?.contains("## Left out\n\n- `maps/vtep-raw.json`"));

    without_addresses(&lab, &bundle)?;
    // The same ones: the files still fit together.
    let endpoint = bundle.json("status.json")?["vteps"][0]["endpoint"].as_str().context("an endpoint")?.to_owned();
    ensure!(endpoint.starts_with("240."), "{endpoint}");
    for file in ["configuration.json", "maps/vtep.json", "net/neighbours.json", "capture.txt", "status.txt"] {
        ensure!(bundle.text(file)?.contains(&endpoint), "{endpoint} is not in {file}");
    }
    ensure!(opens(&bundle.files["capture.pcapng"])? > 4);
    ensure!(holds(&bundle.files["capture.pcapng"], &endpoint.parse::<std::net::Ipv4Addr>()?.octets()));
    ensure!(holds(&bundle.files["capture.pcapng"], b"probe of vtep-agent: echo through the tunnel"));
    drop(agent);
    Ok(())
}

#[test]
fn zstd_has_the_same_files() -> Result<()> {
    let lab = Lab::builder().fill_map(true).start()?;
    let _agent = Agent::healthy(&lab)?;
    let mut command = command(&lab, &["--zstd"]);
    let output = command.args(SOURCE).output()?;
    ensure!(output.status.code() == Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let mut packed = tempfile::NamedTempFile::new()?;
    packed.write_all(&output.stdout)?;
    let files = unpack(ruzstd::decoding::StreamingDecoder::new(&output.stdout[..])?)?;
    ensure!(files.keys().map(String::as_str).eq(FILES), "{:?}", files.keys());
    Ok(())
}

#[test]
fn an_interruption_leaves_nothing() -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    leaves_nothing(&lab, "bundle")
}

/// The bundle of a real node through `fleet bundle`: its archive fits, and nothing of its addresses remains.
#[test]
fn a_bundle_of_the_fleet_replaces_the_addresses_of_a_real_node() -> Result<()> {
    let lab = Lab::builder().fill_map(true).start()?;
    let agent = Agent::healthy(&lab)?;
    let bundle = of_directory(&lab, &[])?;
    bundle.is_complete()?;
    let server = api_server(&lab)?;
    let pod =
        objects::pod(NAMESPACE, "vtep-agent-x7f2k", NODE, "vtep-agent", [("app.kubernetes.io/name", "vtep-agent")]);
    server.apply(Resource::Pods, pod)?;
    server.run_pod("vtep-agent-x7f2k", Some(LISTEN));
    server.on_exec(
        "vtep-agent-x7f2k",
        Exec::Ends { stdout: bundle.output.stdout.clone(), stderr: String::new(), code: 0 },
    );
    fs::write(KUBECONFIG, server.kubeconfig())?;
    let made = |args: &[&str]| {
        let mut command = lab.node.command(AGENT);
        command.args(["fleet", "bundle", "--kubeconfig", KUBECONFIG, "--node", NODE, "--output", "-"]).args(args);
        Bundle::make(command)
    };
    let plain = made(&[])?;
    ensure!(plain.output.status.code() == Some(0), "{}", plain.said());
    for (file, bytes) in &bundle.files {
        ensure!(plain.files.get(&format!("nodes/{NODE}/{file}")) == Some(bytes), "{file}");
    }
    let redacted = made(&["--redact"])?;
    ensure!(redacted.output.status.code() == Some(0), "{}", redacted.said());
    let of_node = redacted.files.keys().filter_map(|file| file.strip_prefix("nodes/node-1/"));
    ensure!(
        of_node.eq(FILES.iter().copied().filter(|file| !file.ends_with("-raw.json"))),
        "{:?}",
        redacted.files.keys()
    );
    without_addresses(&lab, &redacted)?;
    let endpoint = redacted.json("fleet.json")?["vteps"][0]["endpoint"].as_str().context("an endpoint")?.to_owned();
    ensure!(endpoint.starts_with("240."), "{endpoint}");
    for file in ["status.json", "maps/vtep.json", "net/neighbours.json", "capture.txt"] {
        ensure!(redacted.text(&format!("nodes/node-1/{file}"))?.contains(&endpoint), "{endpoint} is not in {file}");
    }
    let capture = &redacted.files["nodes/node-1/capture.pcapng"];
    ensure!(opens(capture)? > 4 && holds(capture, &endpoint.parse::<std::net::Ipv4Addr>()?.octets()));
    drop(agent);
    Ok(())
}
