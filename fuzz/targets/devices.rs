//! What holds for every text of a BIG-IP, for the targets `tmsh` and `rest`.

use std::sync::Arc;

use vtep_core::bigip::{ReadResult, device::Device, read};

/// Reads the text twice. Names must be absolute, and places must exist.
pub fn assert_sound(text: &str) {
    let ReadResult { devices, .. } = read(&[(Arc::from("first"), text), (Arc::from("second"), text)]);
    for Device { tunnels, self_ips, routes, fdb, unread, .. } in &devices {
        assert!(tunnels.iter().all(|tunnel| tunnel.name.absolute().starts_with('/')));
        assert!(self_ips.iter().all(|self_ip| self_ip.at.line > 0 && self_ip.at.column > 0));
        assert!(routes.iter().all(|route| route.name.absolute().starts_with('/')));
        assert!(fdb.iter().all(|fdb| fdb.tunnel.absolute().starts_with('/')));
        assert!(unread.iter().all(|unread| !unread.problem.is_empty() && unread.at.line > 0));
    }
}
