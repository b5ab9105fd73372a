//! What a bundle may have of configurations: a list of names. Everything else stays out, because it may be a secret.

use serde_json::{Map, Value};

use crate::config::Keys;

/// Keys of `cilium-config` that the rules read, or that Cilium's tunnels depend on.
const KEYS: [&str; 28] = [
    "bpf-lb-acceleration",
    "bpf-lb-mode",
    "cluster-pool-ipv4-cidr",
    "cluster-pool-ipv4-mask-size",
    "datapath-mode",
    "devices",
    "enable-bpf-masquerade",
    "enable-endpoint-routes",
    "enable-ipsec",
    "enable-ipv4",
    "enable-ipv4-masquerade",
    "enable-l7-proxy",
    "enable-policy",
    "enable-vtep",
    "enable-wireguard",
    "ipam",
    "ipv4-native-routing-cidr",
    "kube-proxy-replacement",
    "mtu",
    "routing-mode",
    "tunnel",
    "tunnel-port",
    "tunnel-protocol",
    "vtep-cidr",
    "vtep-endpoint",
    "vtep-mac",
    "vtep-mask",
    "vtep-sync-interval",
];

/// Keys of Cilium's `DaemonConfig` (Cilium 1.12 to 1.20).
const RUNNING: [&str; 15] = [
    "CreationTime",
    "EnableIPSec",
    "EnableIPv4",
    "EnableL7Proxy",
    "EnablePolicy",
    "EnableVTEP",
    "EnableWireguard",
    "IPAM",
    "MTU",
    "RoutingMode",
    "TunnelPort",
    "VtepCIDRs",
    "VtepCidrMask",
    "VtepEndpoints",
    "VtepMACs",
];

/// The beginnings of the names of constants.
const CONSTANTS: [&str; 5] = ["ENABLE_VTEP", "ENCAP_", "HAVE_ENCAP", "TUNNEL_", "VTEP_"];

/// The keys of a `cilium-config` that a bundle may have.
#[must_use]
pub fn keys(keys: &Keys) -> Keys {
    keys.iter()
        .filter(|(key, _)| KEYS.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Those of Cilium's `agent-runtime-config.json`.
///
/// # Errors
///
/// The text is not a JSON object.
pub fn running_config(text: &str) -> serde_json::Result<Map<String, Value>> {
    let all: Map<String, Value> = serde_json::from_str(text)?;
    Ok(all.into_iter().filter(|(key, _)| RUNNING.contains(&key.as_str())).collect())
}

/// Those lines of Cilium's `node_config.h`.
#[must_use]
pub fn header(text: &str) -> String {
    let is_allowed = |line: &&str| {
        let name = line.trim_start().strip_prefix("#define").map(str::trim_start);
        name.is_some_and(|name| CONSTANTS.iter().any(|allowed| name.starts_with(allowed)))
    };
    text.lines().filter(is_allowed).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_on_the_list_pass() {
        let config: Keys =
            [("vtep-mac", "m"), ("enable-vtep", "true"), ("vtep-token", "s"), ("azure-client-secret", "s")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into();
        assert_eq!(keys(&config).into_keys().collect::<Vec<_>>(), ["enable-vtep", "vtep-mac"]);
        assert!(KEYS.is_sorted() && RUNNING.is_sorted() && CONSTANTS.is_sorted());
    }

    #[test]
    fn a_real_configuration_keeps_its_vteps() {
        let text = include_str!("../../../tests/fixtures/cilium-1.18/agent-runtime-config.json");
        let running = running_config(text).expect("JSON");
        assert_eq!(running["EnableVTEP"], true);
        assert_eq!(running["VtepMACs"].as_array().map(Vec::len), Some(2));
        assert!(running.len() <= RUNNING.len());
        let header = header(include_str!("../../../tests/fixtures/cilium-1.18/node_config.h"));
        assert!(
            header.contains("#define VTEP_MASK 0xffffff\n") && header.contains("#define ENABLE_VTEP 1\n"),
            "{header}"
        );
        assert!(running_config("[]").is_err());
    }
}
