//! Turns the client's errors into plain words. The libraries' own texts nest debug output, repeat themselves, and name internal types.

use std::{
    error::Error,
    io::{self, ErrorKind},
};

/// The maximum length of a quoted message, in characters. A proxy may answer with a whole page.
const LONGEST: usize = 300;

/// The reason of a failed request, as a whole sentence.
#[must_use]
pub fn sentence(error: &kube::Error) -> String {
    if is_unreadable(error) {
        return "the API server sent an unreadable answer".to_owned();
    }
    let what = if matches!(error, kube::Error::Api(_)) { "refuses" } else { "cannot be reached" };
    format!("the API server {what}: {}", plain(error))
}

/// Whether the server answered with something unreadable. The client turns an unreadable line of a watch into an empty status.
pub(super) fn is_unreadable(error: &kube::Error) -> bool {
    if let kube::Error::Api(status) = error {
        return status.message.is_empty() && status.code == 0;
    }
    matches!(error, kube::Error::SerdeError(_) | kube::Error::FromUtf8(_))
}

/// The reason without the subject: the end of [`sentence`].
pub(super) fn plain(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error { refusal(status) } else { cause(error) }
}

/// Describes an answer that is an error: `it answered 503 Service Unavailable: apiserver not ready`.
pub(super) fn refusal(status: &kube::core::Status) -> String {
    let code = hyper::StatusCode::from_u16(status.code).ok();
    let name = code.and_then(|code| code.canonical_reason()).unwrap_or("without a name");
    let detail = message(status);
    let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    let meaning = match status.code {
        401 => " (this agent's credentials are not accepted)",
        403 => " (this agent's ServiceAccount lacks the right)",
        429 => " (too many requests: it is overloaded)",
        502..=504 => " (it is starting, stopping or overloaded)",
        _ => "",
    };
    format!("it answered {} {name}{meaning}{detail}", status.code)
}

/// The server's own message in an error answer; empty if there is none.
pub(crate) fn message(status: &kube::core::Status) -> String {
    let text = status.message.trim();
    // HTML is a proxy's page, not a message of the API server.
    if text.starts_with('<') { String::new() } else { line(text) }
}

/// The reason of a failed connection.
pub(super) fn of_io(error: &io::Error) -> String {
    cause(error)
}

/// The deepest cause with a known meaning, or else the deepest cause.
pub(crate) fn cause(error: &(dyn Error + 'static)) -> String {
    let causes = causes(error);
    let known = causes.iter().rev().find_map(|cause| known(*cause));
    known.unwrap_or_else(|| causes.last().map(|cause| line(&cause.to_string())).unwrap_or_default())
}

/// The error and all its causes, including errors inside an [`io::Error`].
fn causes<'e>(error: &'e (dyn Error + 'static)) -> Vec<&'e (dyn Error + 'static)> {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        causes.push(error);
        // `source` of an I/O error skips the error inside it, so take that one explicitly.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    causes
}

fn known(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return of_http(error);
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return of_kind(error.kind()).map(str::to_owned);
    }
    let text = error.to_string();
    let is_tls = ["invalid peer certificate", "peer sent", "received corrupt message", "received fatal alert"]
        .iter()
        .any(|start| text.starts_with(start));
    is_tls.then(|| of_tls(&text))
}

fn of_http(error: &hyper::Error) -> Option<String> {
    let words = if error.is_timeout() {
        "it does not answer in time"
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        "it closed the connection before it had answered"
    } else if error.is_parse() {
        "the server there does not speak HTTP"
    } else {
        return None;
    };
    Some(words.to_owned())
}

fn of_kind(kind: ErrorKind) -> Option<&'static str> {
    // No `match`: the enum is the standard library's, and a connection cannot cause most of its kinds.
    Some(if kind == ErrorKind::ConnectionRefused {
        "connection refused"
    } else if kind == ErrorKind::TimedOut {
        "it does not answer in time"
    } else if kind == ErrorKind::UnexpectedEof {
        "it closed the connection before it had answered"
    } else if [ErrorKind::ConnectionReset, ErrorKind::ConnectionAborted, ErrorKind::BrokenPipe].contains(&kind) {
        "it broke the connection"
    } else if [ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable].contains(&kind) {
        "there is no route to it"
    } else if kind == ErrorKind::NetworkDown {
        "this node's network is down"
    } else {
        return None;
    })
}

fn of_tls(text: &str) -> String {
    let meanings = [
        ("UnknownIssuer", "its certificate is signed by an authority that is not trusted"),
        // An authority of the same name, with another key.
        ("BadSignature", "its certificate is signed by an authority that is not trusted"),
        ("CaUsedAsEndEntity", "its certificate is self-signed, or that of an authority"),
        ("NotValidForName", "its certificate is for another name"),
        ("not valid for name", "its certificate is for another name"),
        ("expired", "its certificate has expired"),
        ("Expired", "its certificate has expired"),
        ("not valid yet", "its certificate is not valid yet: is this node's clock right?"),
        ("NotValidYet", "its certificate is not valid yet: is this node's clock right?"),
        ("corrupt message", "the server there does not speak TLS"),
    ];
    let meaning = meanings.iter().find(|(word, _)| text.contains(word)).map(|(_, meaning)| (*meaning).to_owned());
    format!("TLS: {}", meaning.unwrap_or_else(|| line(text)))
}

/// Reduces text to one line without debug output, of limited length.
pub(crate) fn line(text: &str) -> String {
    let plain = text.split(" { ").next().unwrap_or_default();
    let words = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let plain = words.trim_end_matches([':', ',']);
    match plain.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", plain.get(..end).unwrap_or_default()),
        None => plain.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use kube::core::Status;
    use tokio::{io::AsyncWriteExt, net::TcpListener};
    use vtep_apiserver::{After, ApiServer, Fault, Matcher, Resource, Times, objects};

    use super::*;

    /// The words for a fault, made from the error chain of the real client.
    async fn described(fault: Fault) -> String {
        let server = ApiServer::start().expect("a server");
        server.apply(Resource::ConfigMaps, objects::config_map("ns", "name", [])).expect("an object");
        server.misbehave(Matcher::all(), fault, Times::Always);
        described_at(&server.url()).await
    }

    async fn described_at(url: &str) -> String {
        let mut config = kube::Config::new(url.parse().expect("a URL"));
        config.default_retry = false;
        config.connect_timeout = Some(std::time::Duration::from_millis(200));
        let client = kube::Client::try_from(config).expect("a client");
        let maps = kube::Api::<k8s_openapi::api::core::v1::ConfigMap>::namespaced(client, "ns");
        plain(&maps.get("name").await.expect_err("a fault"))
    }

    #[tokio::test]
    async fn each_failure_is_a_plain_sentence() {
        let table = [
            (Fault::Reset, "it broke the connection"),
            (Fault::Close, "it closed the connection before it had answered"),
            (Fault::HalfLine(After::Close), "it closed the connection before it had answered"),
            (Fault::NotHttp, "the server there does not speak HTTP"),
            (
                Fault::Unauthorized,
                "it answered 401 Unauthorized (this agent's credentials are not accepted): Unauthorized",
            ),
            (
                Fault::TooManyRequests(1),
                "it answered 429 Too Many Requests (too many requests: it is overloaded): Too many requests",
            ),
            (Fault::InternalError, "it answered 500 Internal Server Error: Internal error occurred"),
            (
                Fault::Unavailable,
                "it answered 503 Service Unavailable (it is starting, stopping or overloaded): apiserver not ready",
            ),
            (Fault::End, "EOF while parsing a value at line 1 column 0"),
            (Fault::Garbage, "invalid utf-8 sequence of 1 bytes from index 1"),
        ];
        for (fault, expected) in table {
            let text = described(fault.clone()).await;
            assert!(text.starts_with(expected), "{fault:?}: {text}");
        }
        let forbidden = described(Fault::Forbidden).await;
        assert!(forbidden.starts_with("it answered 403 Forbidden (this agent's ServiceAccount lacks the right): "));
    }

    #[tokio::test]
    async fn each_connection_that_fails_is_a_plain_sentence() {
        let server = ApiServer::start().expect("a server");
        server.stop().expect("it stops");
        assert_eq!(described_at(&server.url()).await, "connection refused");
        let name = described_at("http://nobody.invalid").await;
        assert!(name.starts_with("failed to lookup address information"), "{name}");
        // A TLS client connects to a server that speaks plain HTTP.
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            }
        });
        assert_eq!(described_at(&format!("https://{address}")).await, "TLS: the server there does not speak TLS");
    }

    #[test]
    fn no_kind_of_io_error_is_debug_output() {
        let inner = io::Error::new(ErrorKind::UnexpectedEof, "unexpected EOF during chunk size line");
        let wrapped = io::Error::new(ErrorKind::UnexpectedEof, io::Error::other(inner));
        let odd = io::Error::other("Custom { kind: Other, error: \"odd\" }");
        let table = [
            (kube::Error::ReadEvents(wrapped), "it closed the connection before it had answered"),
            (kube::Error::ReadEvents(io::Error::from_raw_os_error(104)), "it broke the connection"),
            (kube::Error::ReadEvents(io::Error::from_raw_os_error(113)), "there is no route to it"),
            (kube::Error::ReadEvents(io::Error::from_raw_os_error(110)), "it does not answer in time"),
            (
                kube::Error::ReadEvents(io::Error::other("invalid peer certificate: UnknownIssuer")),
                "TLS: its certificate is signed by an authority that is not trusted",
            ),
            (
                kube::Error::ReadEvents(io::Error::other(
                    "invalid peer certificate: certificate expired: verification time 2",
                )),
                "TLS: its certificate has expired",
            ),
            (kube::Error::ReadEvents(odd), "Custom"),
        ];
        for (error, expected) in table {
            assert_eq!(plain(&error), expected, "{error:?}");
        }
    }

    #[test]
    fn what_a_proxy_answers_is_no_message() {
        let status = |text: &str| Status::failure(text, "").with_code(502);
        let begin = "it answered 502 Bad Gateway (it is starting, stopping or overloaded)";
        assert_eq!(refusal(&status("<html><body>oops</body></html>")), begin);
        assert_eq!(refusal(&status("no backend\n  today")), format!("{begin}: no backend today"));
        assert!(refusal(&status(&"x".repeat(5000))).len() < 500);
    }
}
