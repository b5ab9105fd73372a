//! One node's files with other addresses. A node cannot replace them itself: another node would replace the same address by another one.

use std::collections::BTreeMap;

use serde_json::Value;

use super::NodeBundle;
use crate::{
    bundle::{part::Part, readme, redact::Redactor},
    config::spec::{Tunnel, TunnelProtocol},
};

const README: &str = "README.md";
const UNKNOWN: &str = "this version does not know the file, and so not where it has addresses";

/// Replaces addresses and names in all files. The ones for which that is not possible are left out, and the README says so.
#[must_use]
pub fn redacted(bundle: NodeBundle, redactor: &mut Redactor) -> NodeBundle {
    let NodeBundle { files, extent } = bundle;
    let tunnel = files.get(Part::Status.file()).and_then(|json| tunnel(json)).unwrap_or_default();
    let mut kept = BTreeMap::new();
    let mut left_out = Vec::new();
    let mut own_readme = None;
    for (file, bytes) in files {
        let part = Part::ALL.iter().find(|part| part.file() == file);
        let replaced = match part {
            None if file == README => {
                own_readme = Some(bytes);
                continue;
            }
            None => Err(UNKNOWN),
            Some(part) => redactor.part(*part, &bytes, tunnel),
        };
        match replaced {
            Ok(bytes) => drop(kept.insert(file, bytes)),
            Err(why) => left_out.push((file, why)),
        }
    }
    let text = own_readme.unwrap_or_default();
    let text = readme::redacted(&String::from_utf8_lossy(&text), &left_out, redactor);
    kept.insert(README.to_owned(), text.into_bytes());
    NodeBundle { files: kept, extent }
}

/// The node's tunnel, by its status. Frames of another one lose what is inside them.
fn tunnel(status: &[u8]) -> Option<Tunnel> {
    let status: Value = serde_json::from_slice(status).ok()?;
    let port = u16::try_from(status["cilium"]["tunnel_port"].as_u64()?).ok()?;
    let protocol = match status["cilium"]["tunnel_protocol"].as_str()? {
        "vxlan" => TunnelProtocol::Vxlan,
        "geneve" => TunnelProtocol::Geneve,
        _ => return None,
    };
    Some(Tunnel { protocol, port })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::part::Extent;

    #[test]
    fn the_same_address_is_the_same_one_in_the_files_of_two_nodes() {
        let bundle = |node: &str, files: &[(&str, &str)]| NodeBundle {
            files: files
                .iter()
                .map(|(file, text)| ((*file).to_owned(), text.replace("NODE", node).into_bytes()))
                .collect(),
            extent: Extent::Complete,
        };
        let names = [("worker-1", "node-1"), ("worker-2", "node-2")].map(|(one, other)| (one.into(), other.into()));
        let mut redactor = Redactor::of_names(7, names);
        let [one, other] = [
            bundle(
                "worker-1",
                &[("status.txt", "NODE 10.1.9.9 and 10.169.72.34, not worker-2"), ("README.md", "# Bundle of NODE\n")],
            ),
            bundle(
                "worker-2",
                &[("log.txt", "NODE 10.169.72.34"), ("maps/vtep-raw.json", "0a010600"), ("weather.json", "{}")],
            ),
        ]
        .map(|bundle| redacted(bundle, &mut redactor));
        let text = |bundle: &NodeBundle, file: &str| String::from_utf8(bundle.files[file].clone()).expect("text");
        let (one_text, other_text) = (text(&one, "status.txt"), text(&other, "log.txt"));
        assert!(one_text.starts_with("node-1 240.") && one_text.ends_with(", not node-2"), "{one_text}");
        let address = other_text.strip_prefix("node-2 ").expect("its name");
        assert!(address.ends_with(".34") && one_text.contains(address), "{one_text} {other_text}");
        assert_eq!(text(&one, "README.md"), "# Bundle of node-1\n");
        assert!(other.files.keys().eq(["README.md", "log.txt"]), "{:?}", other.files.keys());
        let readme = text(&other, "README.md");
        assert!(
            readme.contains("- `maps/vtep-raw.json`: the bytes of a map")
                && readme.contains("- `weather.json`: this version does not know"),
            "{readme}"
        );
    }

    #[test]
    fn the_tunnel_is_that_of_the_status() {
        let of = |json: &str| tunnel(json.as_bytes());
        let geneve = r#"{"cilium":{"tunnel_protocol":"geneve","tunnel_port":6082}}"#;
        assert_eq!(of(geneve), Some(Tunnel { protocol: TunnelProtocol::Geneve, port: 6082 }));
        assert!(of(include_str!("../../../../tests/fixtures/status.json")).is_some());
        for text in ["", "{}", r#"{"cilium":{"tunnel_protocol":"stt","tunnel_port":1}}"#] {
            assert_eq!(of(text), None);
        }
    }
}
