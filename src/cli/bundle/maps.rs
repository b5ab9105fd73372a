//! Cilium's maps, decoded and as bytes. That a map is not there, or has another layout, is what the file then says.

use std::path::Path;

use ipnet::Ipv4Net;
use serde_json::{Value, json};
use vtep_core::{
    config::{spec::Spec, view::View},
    datapath::abi::IpcacheEntry,
    types::error_chain::chain,
};

use crate::kernel::{
    ipcache::{self, Ipcache},
    map_dump::{self, DumpError, dump},
    maps::MapError,
    vtep_map::{self, VtepMap},
};

/// The most raw entries of the VTEP map, which has room for eight, and of the ipcache.
const MOST_VTEPS: usize = 256;
const MOST_IPCACHE: usize = 256;
/// The most ipcache entries inside one VTEP's network.
const MOST_INSIDE: usize = 256;

pub(super) fn vtep(bpffs: &Path, spec: Option<&Spec>) -> anyhow::Result<Vec<u8>> {
    let read = || {
        let map = VtepMap::open(bpffs)?;
        let entries = map.read(|network| spec.map_or(32, |spec| spec.prefix_len(network)))?;
        let entry = |(cidr, value): (Ipv4Net, vtep_core::datapath::abi::VtepValue)| json!({ "cidr": cidr, "endpoint": value.endpoint(), "mac": value.mac() });
        let entries: Vec<_> = entries.into_iter().map(entry).collect();
        Ok(json!({ "id": map.id, "model": map.model(), "capacity": map.capacity, "entries": entries }))
    };
    said(read())
}

pub(super) fn vtep_raw(bpffs: &Path) -> anyhow::Result<Vec<u8>> {
    raw(dump(bpffs, vtep_map::NAME, MOST_VTEPS))
}

pub(super) fn ipcache(bpffs: &Path, view: Option<&View>) -> anyhow::Result<Vec<u8>> {
    let networks = view.and_then(|view| view.effective.as_ref()).map(|spec| spec.vteps.iter().map(|vtep| vtep.cidr));
    let read = || {
        let map = Ipcache::open(bpffs)?;
        let mut found = Vec::new();
        for cidr in networks.into_iter().flatten() {
            let whole = map.resolve(cidr)?.map(entry);
            let inside = map.inside(cidr)?;
            let count = inside.len();
            let inside: Vec<_> = inside
                .into_iter()
                .take(MOST_INSIDE)
                .map(|found| json!({ "prefix": found.prefix, "entry": entry(found.entry) }))
                .collect();
            found.push(json!({ "cidr": cidr, "entry": whole, "inside": inside, "inside_count": count }));
        }
        Ok(json!({ "id": map.id, "version": format!("{:?}", map.version()).to_lowercase(), "vteps": found }))
    };
    said(read())
}

fn entry(entry: IpcacheEntry) -> Value {
    json!({ "identity": entry.identity, "endpoint": entry.endpoint })
}

/// The newer name first, as everywhere.
pub(super) fn ipcache_raw(bpffs: &Path) -> anyhow::Result<Vec<u8>> {
    let [newer, older] = ipcache::NAMES;
    match dump(bpffs, newer, MOST_IPCACHE) {
        Err(DumpError::Map(MapError::Absent { .. })) => raw(dump(bpffs, older, MOST_IPCACHE)),
        dumped => raw(dumped),
    }
}

fn raw(dumped: Result<map_dump::Dump, DumpError>) -> anyhow::Result<Vec<u8>> {
    match dumped {
        Ok(dump) => Ok(serde_json::to_vec_pretty(&dump)?),
        Err(DumpError::Map(error)) => said(Err(error)),
        Err(error @ DumpError::Read(_)) => Err(error.into()),
    }
}

/// An error about the map is knowledge, unless it only shows what this process may not do.
fn said(found: Result<Value, MapError>) -> anyhow::Result<Vec<u8>> {
    let value = match found {
        Ok(value) => value,
        Err(
            error @ (MapError::Absent { .. }
            | MapError::NoBpffs { .. }
            | MapError::UnknownLayout { .. }
            | MapError::NotAMap { .. }),
        ) => json!({ "problem": chain(&error).to_string() }),
        Err(error) => return Err(error.into()),
    };
    Ok(serde_json::to_vec_pretty(&value)?)
}
