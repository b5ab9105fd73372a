use super::*;

/// `asm-generic/errno.h`.
const ENOBUFS: i32 = 105;
/// `asm-generic/errno-base.h`.
const EPERM: i32 = 1;

pub(super) const FAULTS: &[Row] = &[
    (
        "an old kernel",
        |case| case.kernel = Kernel { release: "5.3.18".into(), supported: false, reasons: vec!["too old".into()] },
        Some(Cause::NodeKernelUnsupported),
        Verdict::Misconfigured,
        "5.3.18",
    ),
    (
        "no tunnel device",
        |case| case.facts.cilium.tunnel = None,
        Some(Cause::CiliumNotRunning),
        Verdict::Unknown,
        "cilium_vxlan",
    ),
    (
        "a tunnel device that is down",
        |case| {
            case.facts.cilium.tunnel.iter_mut().for_each(|device| device.up = false);
            case.lose(&[InArp, Icmp], 3);
        },
        Some(Cause::CiliumDeviceDown),
        Verdict::Misconfigured,
        "`ip link set cilium_vxlan up`",
    ),
    (
        "a broken release of Cilium",
        |case| case.facts.version = Some(CiliumVersion::new(1, 18, 3)),
        Some(Cause::CiliumBrokenRelease),
        Verdict::Misconfigured,
        "upgrade Cilium to 1.18.8",
    ),
    (
        "a Cilium started with another mask",
        |case| case.differ(|running| running.vtep_mask = Some([255, 255, 0, 0].into())),
        Some(Cause::CiliumRestartRequired),
        Verdict::Misconfigured,
        "Cilium runs with 255.255.0.0",
    ),
    (
        "a Cilium started with another endpoint",
        |case| {
            case.differ(|running| {
                let endpoint = Some([10, 169, 72, 99].into());
                let vteps = running.vteps.iter_mut().flat_map(BTreeMap::values_mut);
                vteps.for_each(|vtep| vtep.endpoint = endpoint);
            });
        },
        Some(Cause::CiliumRestartRequired),
        Verdict::Degraded,
        "Cilium runs with 10.169.72.99",
    ),
    (
        "a Cilium that knows another VTEP instead",
        |case| {
            case.differ(|running| running.vteps = Some([([10, 1, 9, 0].into(), RunningVtep::default())].into()));
            assert_eq!(case.differences.len(), 2);
        },
        None,
        Verdict::Healthy,
        "",
    ),
    (
        "no pinned map",
        |case| {
            case.datapath.model = Layout::None;
            case.datapath.map_problem = Some("no map is pinned".into());
        },
        Some(Cause::CiliumVtepDisabled),
        Verdict::Degraded,
        "no map is pinned; packets still pass, because Cilium's programs keep their map",
    ),
    (
        "no pinned map, and no answer",
        |case| {
            case.datapath.model = Layout::None;
            case.datapath.map_problem = Some("no map is pinned".into());
            case.lose(&[Icmp], 3);
        },
        Some(Cause::CiliumVtepDisabled),
        Verdict::Misconfigured,
        "so that it starts with enable-vtep: no map is pinned",
    ),
    (
        "ARP replies without a MAC",
        |case| case.probes.answered = Some((Instant::now(), Mac::default())),
        Some(Cause::CiliumArpZeroMac),
        Verdict::Misconfigured,
        "1.18.8",
    ),
    (
        "a program that drops what is sent, though the entry is there",
        |case| {
            let dropped = std::io::Error::from_raw_os_error(ENOBUFS);
            (0..3).for_each(|_| case.probes.icmp.on_send_error(&dropped, Instant::now()));
        },
        Some(Cause::CiliumRestartRequired),
        Verdict::Misconfigured,
        "drop what is sent to 10.1.6.0/24",
    ),
    (
        "no router address",
        |case| case.facts.cilium.router = None,
        Some(Cause::CiliumNotRunning),
        Verdict::Unknown,
        "router address on cilium_host",
    ),
    (
        "a firewall that drops the answers",
        |case| {
            case.lose(&[Icmp], 3);
            case.arrive(Kinds { echo_replies: 23, ..Kinds::default() });
        },
        Some(Cause::DroppedOnNode),
        Verdict::Misconfigured,
        "at least 20 answers to ping reached eth0, and this node dropped them",
    ),
    (
        "a firewall that drops the far end's ARP requests, so that no answer comes",
        |case| {
            case.lose(&[Icmp], 3);
            case.arrive(Kinds { arp_replies: 10, arp_requests: 13, asked_for_us: 13, ..Kinds::default() });
        },
        Some(Cause::DroppedOnNode),
        Verdict::Misconfigured,
        "it asks for 10.0.0.126 by ARP again and again",
    ),
    (
        "a strict rp_filter, and no socket for the port",
        |case| {
            case.lose(&[Icmp], 3);
            case.facts.strict_devices = ["cilium_host".into()].into();
            case.probes.udp_errors = UdpErrors { no_ports: 40, in_errors: 2 };
            case.arrive(Kinds { echo_replies: 5, ..Kinds::default() });
        },
        Some(Cause::DroppedOnNode),
        Verdict::Misconfigured,
        "rp_filter is strict on cilium_host; meanwhile this node's UDP errors grew: NoPorts by at least 40",
    ),
    (
        "a firewall that refuses the probes",
        |case| {
            let refused = std::io::Error::from_raw_os_error(EPERM);
            (0..3).for_each(|_| case.probes.icmp.on_send_error(&refused, Instant::now()));
        },
        Some(Cause::DroppedOnNode),
        Verdict::Misconfigured,
        "output rules of nftables or iptables on this node: a probe of",
    ),
    (
        "a firewall that refuses the tunnel's port",
        |case| {
            let refused = std::io::Error::from_raw_os_error(EPERM);
            (0..3).for_each(|_| case.probes.arp.on_send_error(&refused, Instant::now()));
            case.lose(&[Icmp], 3);
        },
        Some(Cause::DroppedOnNode),
        Verdict::Misconfigured,
        "Operation not permitted",
    ),
    (
        "one ARP request for this node, as to refresh an entry",
        |case| {
            case.lose(&[Icmp], 3);
            case.arrive(Kinds { asked_for_us: 1, ..Kinds::default() });
        },
        Some(Cause::NoReturnPath),
        Verdict::Unreachable,
        "FDB record",
    ),
    (
        "a release of Cilium that drops everything",
        |case| {
            case.facts.version = Some(CiliumVersion::new(1, 15, 0));
            case.lose(&[Icmp], 3);
            case.arrive(Kinds { echo_replies: 5, ..Kinds::default() });
        },
        Some(Cause::CiliumBrokenRelease),
        Verdict::Misconfigured,
        "1.15.2",
    ),
];

#[test]
fn each_fault_of_the_node_is_named() {
    assert_named(FAULTS);
}
