//! The FDB, if it does not come with its tunnels.

use crate::*;

fn refuses_to_expand(device: Device) -> BigIp {
    let bigip = start(device);
    bigip.misbehave(Matcher::all().query("expandSubcollections"), Fault::Forbidden, Times::Always);
    bigip
}

#[tokio::test]
async fn are_read_in_pages_if_they_do_not_come_with_their_tunnels() {
    let bigip = refuses_to_expand(Device::cilium().nodes("cilium", 2998));
    let fetched = read(&bigip).await.expect("answers");
    assert_eq!((items(&fetched, RECORDS), fetched.notes), (3000, vec![]));
    // Tunnels that are no overlays have no FDB that matters.
    let requests = bigip.requests();
    assert!(!requests.iter().any(|request| request.path.contains("http-tunnel")), "{requests:?}");
    assert_eq!(requests.len(), COLLECTIONS + 3);
}

#[tokio::test]
async fn are_left_out_if_they_are_refused_and_the_rest_is_read() {
    let bigip = refuses_to_expand(Device::cilium());
    bigip.misbehave(Matcher::all().path(RECORDS), Fault::Forbidden, Times::Always);
    let fetched = read(&bigip).await.expect("answers");
    assert_eq!(
        fetched.notes,
        [
            "net fdb tunnel /Common/cilium: not read, this user may not read it (403): the role guest in all partitions suffices"
        ]
    );
    assert_eq!(fetched.responses.len(), COLLECTIONS - 1);
}

/// A part of the records would look as if BIG-IP lacked the others.
#[tokio::test]
async fn are_read_whole_or_not_at_all() {
    let bigip = refuses_to_expand(Device::cilium().nodes("cilium", 2998));
    bigip.misbehave(Matcher::all().query("skip=2000"), Fault::CutJson, Times::Always);
    let fetched = read(&bigip).await.expect("answers");
    assert_eq!(fetched.notes, ["net fdb tunnel /Common/cilium: not read, its answer ends too early"]);
    assert!(!paths(&fetched).contains(&RECORDS));
}
