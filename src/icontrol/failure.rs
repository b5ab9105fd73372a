//! What can go wrong with a request, as sentences about the BIG-IP.

use std::time::Duration;

use hyper::StatusCode;

use super::session::{MAX_BYTES, MAX_REQUESTS};

/// Why something could not be read. No text contains a password or a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Unreachable(String),
    #[error(
        "{reason}; its SHA-256 fingerprint is {fingerprint}. Compare that on the BIG-IP (openssl x509 -noout -fingerprint -sha256 -in \
         /config/httpd/conf/ssl.crt/server.crt), then give the certificate, or the authority that signed it, with --bigip-ca FILE. \
         --bigip-insecure accepts any certificate"
    )]
    Certificate { reason: String, fingerprint: String },
    #[error("it does not accept the user name or the password (401)")]
    Password,
    #[error("it does not accept the token (401): a token expires, by default after 20 minutes")]
    Token,
    /// An answer to one path: another may be readable.
    #[error("this user may not read it ({0}): the role guest in all partitions suffices")]
    Refused(u16),
    #[error("it has no such component (404)")]
    Absent,
    #[error("it is starting, and its mcpd still loads the configuration ({status}): try again in a minute")]
    Loading { status: u16, retry_after: Duration },
    #[error("it redirects to {0}, which may be another host: give the address that answers by itself")]
    Redirect(String),
    #[error("it answered {0}{1}")]
    Status(StatusCode, String),
    #[error("it did not answer within {0:?} (--bigip-timeout)")]
    Slow(Duration),
    #[error("the answers took longer than {0:?} together, three times --bigip-timeout")]
    OutOfTime(Duration),
    #[error("that would need more than {MAX_REQUESTS} requests, the limit")]
    OutOfRequests,
    #[error("the connection failed: {0}")]
    Broken(String),
    #[error("its answer ends too early")]
    Truncated,
    #[error("its answer has more than {MAX_BYTES} bytes, the limit")]
    TooLong,
    #[error("it answered with a web page instead of JSON: is this the management address of a BIG-IP?")]
    WebPage,
    #[error("its answer is not JSON")]
    NotJson,
    #[error("its answer is not that of iControl REST: is this the management address of a BIG-IP?")]
    NotIcontrol,
    #[error("the link to the next page leads elsewhere, or back")]
    BadLink,
}

impl Failure {
    /// Whether any other request would fail in the same way.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Certificate { .. } | Self::Password | Self::Token | Self::Redirect(_) => true,
            Self::Refused(_)
            | Self::Absent
            | Self::Loading { .. }
            | Self::Status(..)
            | Self::Slow(_)
            | Self::OutOfTime(_)
            | Self::OutOfRequests
            | Self::Broken(_)
            | Self::Truncated
            | Self::TooLong
            | Self::WebPage
            | Self::NotJson
            | Self::NotIcontrol
            | Self::BadLink => false,
        }
    }

    /// Whether there will be no other request.
    pub(super) fn is_exhausted(&self) -> bool {
        matches!(self, Self::OutOfTime(_) | Self::OutOfRequests)
    }

    /// Whether it is about one path only, even if it is the answer to the first request.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Absent)
    }
}
