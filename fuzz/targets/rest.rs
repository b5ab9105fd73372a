//! Reads arbitrary text as an answer of iControl REST, twice. Names must be absolute, and places must exist.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use vtep_core::bigip::{ReadResult, device::Device, read};

fuzz_target!(|text: &str| {
    // Without a bracket it is no JSON, which the target `tmsh` has.
    let text = &*format!("[{text}");
    let ReadResult { devices, .. } = read(&[(Arc::from("first"), text), (Arc::from("second"), text)]);
    for Device { tunnels, self_ips, routes, fdb, unread, .. } in &devices {
        assert!(tunnels.iter().all(|tunnel| tunnel.name.absolute().starts_with('/')));
        assert!(self_ips.iter().all(|self_ip| self_ip.at.line > 0 && self_ip.at.column > 0));
        assert!(routes.iter().all(|route| route.name.absolute().starts_with('/')));
        assert!(fdb.iter().all(|fdb| fdb.tunnel.absolute().starts_with('/')));
        assert!(unread.iter().all(|unread| !unread.problem.is_empty() && unread.at.line > 0));
    }
});
