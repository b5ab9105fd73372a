//! The far end of `check` and `bigip`: BIG-IPs' configurations and REST interfaces, compared with Cilium's configuration.

mod rest;

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, ensure};
use vtep_core::{
    bigip::{
        compare::{CiliumEnd, ClusterNode, Comparison, Difference, compare},
        device::Device,
        nodes, read,
    },
    config::{
        checked::{BothEnds, Located},
        finding::Severity,
        text::{Excerpt, Spot},
    },
    types::location::Location,
};

use super::args::{bigip::fetch, far_end::FarEnd};
use crate::{
    bigip_archive::{Text, load},
    icontrol::Fetched,
    k8s,
};

/// The largest file that is read; larger ones are hardly configurations.
const MAX_BYTES: u64 = 512 << 20;
/// The largest list of nodes: 5,000 nodes with all their images take some 100 MB.
const MAX_NODES_BYTES: u64 = 256 << 20;

/// The longest head of an object that is marked.
const HEAD: usize = 80;

/// The BIG-IPs that a person gave.
#[derive(Default)]
pub(super) struct BigIps {
    pub(super) devices: Vec<Device>,
    /// The texts that locations point into, by their names.
    sources: BTreeMap<Arc<str>, String>,
    /// What could not be read of them.
    notes: Vec<String>,
}

impl BigIps {
    /// Whether there is something to compare with.
    pub(super) fn is_given(args: &FarEnd) -> bool {
        !args.bigip.is_empty() || args.address.is_given()
    }

    /// `reads_stdin`: something else comes from standard input.
    ///
    /// # Errors
    ///
    /// A file or a BIG-IP cannot be read, or no text has an object of a tunnel.
    pub(super) async fn read(args: &FarEnd, reads_stdin: bool) -> anyhow::Result<Self> {
        let is_stdin = |path: &PathBuf| path == Path::new("-");
        let files = args.bigip.iter().chain(&args.nodes).filter(|path| is_stdin(path)).count();
        let readers = files + usize::from(reads_stdin) + usize::from(args.address.reads_stdin());
        ensure!(
            readers < 2,
            "standard input can be only one of the configuration, a BIG-IP, the nodes, and the password"
        );
        let mut texts: Vec<(Arc<str>, String)> = Vec::new();
        let mut notes = Vec::new();
        for path in &args.bigip {
            let name = path.display().to_string();
            let loaded = load(&name, &read_file(path, MAX_BYTES)?).with_context(|| format!("failed to read {name}"))?;
            texts.extend(loaded.into_iter().map(|Text { name, text }| (name, text)));
        }
        if args.address.is_given() {
            let Fetched { server, responses, notes: of_server, .. } = fetch(&args.address).await?;
            // One text, because all of it is one BIG-IP.
            texts.push((server.into(), rest::text(&responses)));
            notes.extend(of_server);
        }
        let named: Vec<_> = texts.iter().map(|(name, text)| (Arc::clone(name), text.as_str())).collect();
        let read = read(&named);
        notes.extend(read.notes);
        ensure!(!read.devices.is_empty(), "the input shows no object of a BIG-IP's tunnel: {}", notes.join("; "));
        Ok(Self { devices: read.devices, sources: texts.into_iter().collect(), notes })
    }

    /// Compares Cilium's end with them.
    pub(super) fn compare(&self, cilium: &CiliumEnd) -> Comparison {
        let mut comparison = compare(cilium, &self.devices);
        comparison.notes.splice(0..0, self.notes.iter().cloned());
        comparison
    }

    /// The differences as findings, each with the text that it is about.
    pub(super) fn findings(&self, comparison: &Comparison) -> Vec<Located> {
        comparison.differences.iter().map(|difference| self.finding(difference)).collect()
    }

    fn finding(&self, difference: &Difference) -> Located {
        let Difference { finding, at, vtep, device, cilium, commands } = difference;
        let bigip = device.and_then(|index| self.devices.get(index)).map(|device| device.name.clone());
        let both = BothEnds { vtep: *vtep, bigip, cilium: cilium.clone(), commands: commands.clone() };
        let path = finding.key.clone();
        let spot = at.as_ref().map(|at| Spot { location: at.clone(), path, excerpt: self.excerpt(at) });
        Located { spot, difference: Some(both), ..Located::from(finding.clone()) }
    }

    /// The line, and in it the word at the location, or the head of an object.
    fn excerpt(&self, at: &Location) -> Option<Excerpt> {
        let line = self.sources.get(&at.file)?.lines().nth(usize::try_from(at.line).ok()?.checked_sub(1)?)?;
        let column = usize::try_from(at.column).ok()?.checked_sub(1)?;
        let rest = || line.chars().skip(column);
        let from_here: String = rest().take(HEAD).collect();
        let width = match from_here.strip_prefix("net ").and(from_here.split(" {").next()) {
            Some(head) => head.chars().count(),
            None => rest().take_while(|c| !c.is_whitespace()).count(),
        };
        Some(Excerpt { line: line.to_owned(), column, width })
    }
}

/// The nodes of `--nodes`.
///
/// # Errors
///
/// The file cannot be read, or has no nodes, or the API server does not list them.
pub(super) async fn read_nodes(args: &FarEnd) -> anyhow::Result<Option<Vec<ClusterNode>>> {
    let Some(path) = &args.nodes else { return Ok(None) };
    if path == Path::new("cluster") {
        let listed = k8s::nodes::list(args.kubeconfig.as_deref(), args.context.as_deref()).await;
        return listed.context("--nodes cluster").map(Some);
    }
    let text = String::from_utf8(read_file(path, MAX_NODES_BYTES)?).context("the nodes are not text in UTF-8")?;
    nodes::read(&text).with_context(|| format!("--nodes {}", path.display())).map(Some)
}

fn read_file(path: &PathBuf, limit: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let shown = path.display();
    let open = || {
        if path == Path::new("-") {
            Ok(Box::new(std::io::stdin()) as Box<dyn Read>)
        } else {
            File::open(path).map(|file| Box::new(file) as Box<dyn Read>)
        }
    };
    open()
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .with_context(|| format!("failed to read {shown}"))?;
    ensure!(bytes.len() as u64 <= limit, "{shown} has more than {} MB", limit >> 20);
    Ok(bytes)
}

/// Whether the two ends fit: nothing that matters differs.
pub(super) fn fits(comparison: &Comparison) -> bool {
    comparison.differences.iter().all(|difference| difference.finding.severity == Severity::Info)
}
