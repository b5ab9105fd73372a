//! Answers that are errors, and answers that are none.

use crate::*;

#[tokio::test]
async fn a_wrong_password_is_one_sentence_and_one_request() {
    let bigip = start(Device::cilium());
    let failure = read_as(&bigip, password("wrong"), trust(&bigip)).await.expect_err("refused");
    assert_eq!(failure.to_string(), "it does not accept the user name or the password (401)");
    let token = Credentials::Token(Secret::parse("expired").expect("a token"));
    let failure = read_as(&bigip, token, trust(&bigip)).await.expect_err("refused");
    let expected = "it does not accept the token (401): a token expires, by default after 20 minutes";
    assert_eq!(failure.to_string(), expected);
    // A wrong password counts as a failed login, and several of them lock the user.
    assert_eq!(bigip.requests().len(), 2);
}

/// BIG-IP refuses a path with 403, or with 401 and the name of the user.
#[tokio::test]
async fn a_refused_collection_is_a_note_and_the_rest_is_read() {
    for (fault, code) in [(Fault::Forbidden, 403), (Fault::NotAuthorized, 401)] {
        let bigip = start(Device::cilium());
        bigip.misbehave(Matcher::all().path("/mgmt/tm/net/route"), fault.clone(), Times::Always);
        let fetched = read(&bigip).await.expect("the rest");
        let text = format!(
            "net route: not read, this user may not read it ({code}): the role guest in all partitions suffices"
        );
        assert_eq!(fetched.notes, [text]);
        assert_eq!(fetched.responses.len(), COLLECTIONS - 1);
        let text = format!("this user may not read it ({code}): the role guest in all partitions suffices");
        assert_eq!(sentence(fault).await, text, "everything is refused");
    }
}

#[tokio::test]
async fn an_old_version_lacks_a_component() {
    let bigip = start(Device::cilium());
    bigip.misbehave(Matcher::all().path("/mgmt/tm/net/tunnels/geneve"), Fault::Absent, Times::Always);
    let fetched = read(&bigip).await.expect("the rest");
    assert_eq!(fetched.notes, ["net tunnels geneve: not read, it has no such component (404)"]);
}

#[tokio::test]
async fn a_device_that_starts_is_asked_twice() {
    let table = [(Fault::Loading(Some(0)), 503), (Fault::NotRegistered, 404), (Fault::McpdLost, 500)];
    for (fault, code) in table {
        let bigip = start(Device::cilium());
        bigip.misbehave(Matcher::all(), fault.clone(), Times::Next(1));
        let fetched = read(&bigip).await.expect("answers the second time");
        assert_eq!((fetched.responses.len(), fetched.notes), (COLLECTIONS, vec![]));
        assert_eq!(
            sentence(fault).await,
            format!("it is starting, and its mcpd still loads the configuration ({code}): try again in a minute")
        );
    }
}

#[tokio::test]
async fn a_device_that_starts_is_not_waited_for_beyond_the_deadline() {
    let bigip = start(Device::cilium());
    bigip.misbehave(Matcher::all(), Fault::Loading(Some(3600)), Times::Always);
    let failure = read(&bigip).await.expect_err("it starts");
    assert!(matches!(failure, Failure::Loading { status: 503, .. }), "{failure}");
    assert_eq!(bigip.requests().len(), 1);
}

#[tokio::test]
async fn each_answer_that_is_none_has_its_sentence() {
    let table = [
        (Fault::CutJson, "its answer ends too early"),
        (Fault::CutConnection, "its answer ends too early"),
        (Fault::Close, "the connection failed: it closed the connection before it had answered"),
        (Fault::LoginPage, "it answered with a web page instead of JSON: is this the management address of a BIG-IP?"),
        (Fault::OtherJson, "its answer is not that of iControl REST: is this the management address of a BIG-IP?"),
        (
            Fault::Redirect("https://other.example:8443/tmui/login.jsp?secret=1".into()),
            "it redirects to other.example, which may be another host: give the address that answers by itself",
        ),
        (
            Fault::Redirect("/tmui/login.jsp?msgcode=2".into()),
            "it redirects to /tmui/login.jsp, which may be another host: give the address that answers by itself",
        ),
    ];
    for (fault, expected) in table {
        assert_eq!(sentence(fault).await, expected);
    }
}

#[tokio::test]
async fn a_redirect_gets_no_password() {
    let (first, other) = (start(Device::cilium()), start(Device::cilium()));
    first.misbehave(Matcher::all(), Fault::Redirect(other.url()), Times::Always);
    read(&first).await.expect_err("a redirect");
    assert_eq!((first.requests().len(), other.requests().len()), (1, 0));
}

#[tokio::test]
async fn a_message_that_repeats_the_credentials_is_masked() {
    let text = sentence(Fault::Echo).await;
    assert_eq!(text, "it answered 400 Bad Request: I will not have Basic …");
}
