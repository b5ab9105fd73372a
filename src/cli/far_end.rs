//! The far end of `check` and `bigip`: BIG-IPs' configurations and REST interfaces, compared with Cilium's configuration.

mod rest;
mod text;

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, ensure};
use serde::Serialize;
use vtep_core::{
    bigip::{
        compare::{CiliumEnd, ClusterNode, Comparison, Difference, compare},
        device::Device,
        nodes, read,
    },
    config::finding::{Finding, Severity},
};

use super::args::{bigip::fetch, far_end::FarEnd};
use crate::icontrol::Fetched;

pub(super) use self::text::{notes, render};

/// The largest file that is read; larger ones are hardly configurations.
const MAX_BYTES: u64 = 512 << 20;
/// The largest list of nodes: 5,000 nodes with all their images take some 100 MB.
const MAX_NODES_BYTES: u64 = 256 << 20;

/// The texts that locations point into, by their names.
pub(super) type Sources = BTreeMap<Arc<str>, String>;

/// The BIG-IPs that a person gave.
#[derive(Default)]
pub(super) struct BigIps {
    pub(super) devices: Vec<Device>,
    pub(super) sources: Sources,
    /// What could not be read of them.
    notes: Vec<String>,
}

impl BigIps {
    /// Whether there is something to compare with.
    pub(super) fn is_given(args: &FarEnd) -> bool {
        !args.bigip.is_empty() || args.address.is_given()
    }

    /// # Errors
    ///
    /// A file or a BIG-IP cannot be read, or no text has an object of a tunnel.
    pub(super) async fn read(args: &FarEnd) -> anyhow::Result<Self> {
        let mut texts: Vec<(Arc<str>, String)> = Vec::new();
        let mut notes = Vec::new();
        for path in &args.bigip {
            let bytes = read_file(path, MAX_BYTES)?;
            texts.push((path.display().to_string().into(), String::from_utf8_lossy(&bytes).into_owned()));
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

    pub(super) fn names(&self) -> Vec<String> {
        self.devices.iter().map(|device| device.name.clone()).collect()
    }

    /// Compares Cilium's end with them.
    pub(super) fn compare(&self, cilium: &CiliumEnd) -> Comparison {
        let mut comparison = compare(cilium, &self.devices);
        comparison.notes.splice(0..0, self.notes.iter().cloned());
        comparison
    }
}

/// The nodes of `--nodes`.
///
/// # Errors
///
/// The file cannot be read, or has no nodes.
pub(super) fn read_nodes(args: &FarEnd) -> anyhow::Result<Option<Vec<ClusterNode>>> {
    let Some(path) = &args.nodes else { return Ok(None) };
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

/// A difference for a program: the finding, and both ends.
#[derive(Serialize)]
pub(super) struct Row<'d> {
    #[serde(flatten)]
    finding: &'d Finding,
    /// Where BIG-IP's value stands.
    file: Option<&'d str>,
    line: Option<u32>,
    column: Option<u32>,
    /// The CIDR of the VTEP.
    vtep: Option<String>,
    bigip: Option<&'d str>,
    /// Cilium's key and value.
    cilium: Option<&'d str>,
    commands: &'d [String],
}

/// `names` are those of the BIG-IPs.
pub(super) fn rows<'d>(comparison: &'d Comparison, names: &'d [String]) -> Vec<Row<'d>> {
    let row = |difference: &'d Difference| {
        let Difference { finding, at, vtep, device, cilium, commands } = difference;
        Row {
            finding,
            file: at.as_ref().map(|at| &*at.file),
            line: at.as_ref().map(|at| at.line),
            column: at.as_ref().map(|at| at.column),
            vtep: vtep.map(|cidr| cidr.to_string()),
            bigip: device.and_then(|index| names.get(index)).map(String::as_str),
            cilium: cilium.as_deref(),
            commands,
        }
    };
    comparison.differences.iter().map(row).collect()
}

/// Whether the two ends fit: nothing that matters differs.
pub(super) fn fits(comparison: &Comparison) -> bool {
    comparison.differences.iter().all(|difference| difference.finding.severity == Severity::Info)
}
