use super::*;

pub(super) const FAULTS: &[Row] = &[
    (
        "an unknown layout",
        |case| {
            case.datapath.model = Layout::Unsupported;
            case.datapath.map_problem = Some("a hash with 4-byte keys".into());
        },
        Some(Cause::DatapathMissing),
        Verdict::Misconfigured,
        "a hash with 4-byte keys",
    ),
    (
        "a map that takes no entry",
        |case| {
            let op = Op::AddEntry { cidr: case.vtep.cidr, value: VtepValue::new(case.vtep.mac, case.vtep.endpoint) };
            case.datapath.pending.push(op);
            case.datapath.failures.push(Failure { op, error: "argument list too long".into() });
        },
        Some(Cause::DatapathMissing),
        Verdict::Misconfigured,
        "argument list too long",
    ),
    (
        "a fight",
        |case| {
            let cidr = case.vtep.cidr;
            let found = VtepValue::new(case.vtep.mac, [10, 169, 72, 99].into());
            let value = VtepValue::new(case.vtep.mac, case.vtep.endpoint);
            case.contend(Some(found));
            case.datapath.backed_off.insert(cidr);
            case.datapath.pending.push(Op::ReplaceEntry { cidr, found, value });
        },
        Some(Cause::DatapathContended),
        Verdict::Degraded,
        "10.169.72.99",
    ),
    (
        "a full map",
        |case| _ = case.datapath.over_capacity.insert(case.vtep.cidr),
        Some(Cause::DatapathMissing),
        Verdict::Misconfigured,
        "no room for 10.1.6.0/24",
    ),
    (
        "a pod in BIG-IP's network",
        |case| {
            let entry = IpcacheEntry { identity: 4711, endpoint: Some([10, 169, 72, 233].into()) };
            let inside = Inside { prefix: "10.1.6.77/32".parse().expect("a prefix"), entry };
            case.datapath.ipcache_conflicts.insert(case.vtep.cidr, vec![inside]);
        },
        Some(Cause::VtepCidrInUse),
        Verdict::Degraded,
        "10.1.6.77/32 (identity 4711 behind 10.169.72.233)",
    ),
];

#[test]
fn each_fault_of_the_entry_is_named() {
    assert_named(FAULTS);
}

/// The value in the map shows the writer: Cilium writes the values that it was started with, and deletes nothing.
#[test]
fn cilium_is_named_only_where_it_fits() {
    let found = |n: u8| Some(VtepValue::new([0, 0x50, 0x56, 0xa0, 0x7d, 0xd8].into(), [10, 169, 72, n].into()));
    let table: [(&str, Option<u8>, Option<VtepValue>, &str); 8] = [
        ("its own older value", Some(99), found(99), "this Cilium was started with"),
        ("another value", Some(34), found(99), "not Cilium, which would write endpoint 10.169.72.34"),
        ("a deletion", Some(99), None, "not Cilium, which would write endpoint 10.169.72.99"),
        ("a deletion, Cilium's values unknown", None, None, "not Cilium, which deletes no entry"),
        (
            "a value, Cilium's values unknown",
            None,
            found(99),
            "a Cilium that was started with an older configuration does",
        ),
        ("a deletion, its lists undisclosed", Some(255), None, "not Cilium, which deletes no entry"),
        (
            "a value, its lists undisclosed",
            Some(255),
            found(99),
            "a Cilium that was started with an older configuration does",
        ),
        ("a value of a CIDR that it does not know", Some(0), found(99), "not Cilium, which does not know 10.1.6.0/24"),
    ];
    for (what, runs, found, words) in table {
        let mut case = Case::healthy();
        case.contend(found);
        match runs {
            Some(0) => {
                let vteps = Some(BTreeMap::new());
                case.facts.running = Running::Known(RunningConfig { vteps, ..RunningConfig::default() });
            }
            // Cilium 1.19 and newer.
            Some(255) => case.facts.running = Running::Known(RunningConfig::default()),
            Some(n) => case.run_with([10, 169, 72, n].into()),
            None => {}
        }
        let diagnosis = case.diagnose();
        assert_eq!(diagnosis.cause, Some(Cause::DatapathContended), "{what}");
        let hint = diagnosis.hint.unwrap_or_default();
        assert!(hint.contains(words), "{what}: {hint}");
        assert_eq!(hint.contains("cilium DaemonSet"), !words.starts_with("not Cilium"), "{what}: {hint}");
    }
}
