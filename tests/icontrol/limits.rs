//! Limits in time, in bytes and in number.

use crate::*;

#[tokio::test]
async fn a_dozen_requests_is_the_end_and_what_is_missing_is_named() {
    let bigip = start(Device::cilium().nodes("cilium", 10).page_size(1));
    let fetched = read(&bigip).await.expect("answers");
    assert_eq!(bigip.requests().len(), usize::try_from(MAX_REQUESTS).expect("a number"));
    // 3 tunnels, 4 profiles, 2 self IPs and 2 routes are eleven requests.
    assert_eq!(
        fetched.notes,
        ["net fdb tunnel, sys global-settings, net arp: not read, that would need more than 12 requests, the limit"]
    );
    assert!(!paths(&fetched).contains(&FDB), "a part of a collection was taken");
}

#[tokio::test]
async fn an_answer_has_a_maximum_length() {
    assert_eq!(sentence(Fault::Endless).await, "its answer has more than 8388608 bytes, the limit");
}

#[tokio::test]
async fn a_silent_device_is_not_waited_for() {
    for fault in [Fault::Hang, Fault::HangInBody] {
        let bigip = start(Device::cilium());
        bigip.misbehave(Matcher::all(), fault, Times::Always);
        let server = Server::parse(&bigip.url()).expect("a URL");
        let short = Duration::from_millis(100);
        let failure = read_icontrol(&server, password(PASSWORD), trust(&bigip), short).await.expect_err("silence");
        assert_eq!(failure.to_string(), "it did not answer within 100ms (--bigip-timeout)");
        assert!(bigip.requests().len() <= 1, "it asked again");
    }
}

#[tokio::test]
async fn all_answers_together_have_a_deadline() {
    let bigip = start(Device::cilium());
    for path in ["/mgmt/tm/net/self", "/mgmt/tm/net/route", "/mgmt/tm/sys/global-settings", "/mgmt/tm/net/arp"] {
        bigip.misbehave(Matcher::all().path(path), Fault::Hang, Times::Always);
    }
    let server = Server::parse(&bigip.url()).expect("a URL");
    let second = Duration::from_secs(1);
    let fetched = read_icontrol(&server, password(PASSWORD), trust(&bigip), second).await.expect("some answers");
    assert_eq!(
        fetched.notes,
        [
            "net self: not read, it did not answer within 1s (--bigip-timeout)",
            "net route: not read, it did not answer within 1s (--bigip-timeout)",
            "sys global-settings, net arp: not read, the answers took longer than 3s together, three times --bigip-timeout",
        ]
    );
}

#[tokio::test]
async fn pages_without_an_end_are_not_followed() {
    let elsewhere = format!("https://localhost{TUNNELS}?$skip=1");
    for link in ["https://localhost/mgmt/tm/auth/user", &elsewhere] {
        let text = sentence(Fault::NextLink(link.to_owned())).await;
        assert_eq!(text, "the link to the next page leads elsewhere, or back", "{link}");
    }
}
