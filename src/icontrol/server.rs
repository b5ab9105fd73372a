//! The address of a BIG-IP's REST interface.

use std::{fmt, net::Ipv4Addr};

use hyper::http::uri::{Authority, Scheme, Uri};

/// Scheme, host and port. There is no password in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    scheme: Scheme,
    authority: Authority,
}

/// Why a URL is not accepted. The texts do not quote the URL, because it may contain a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("it contains a user name or a password: remove them, and give --bigip-user and --bigip-password-file")]
    Credentials,
    #[error("it is not a URL: write https://HOST or https://HOST:PORT")]
    NotUrl,
    #[error("http:// would send the password unencrypted: write https://")]
    Unencrypted,
    #[error("it has a path or a query: write only https://HOST or https://HOST:PORT")]
    Path,
}

impl Server {
    /// Accepts `https://HOST[:PORT]`. Without TLS, it accepts only the loopback addresses of IPv4, which a test or a local proxy uses.
    ///
    /// # Errors
    ///
    /// The URL has another form.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        // This check comes first: the other texts must not appear for a URL with a password, which its owner might then paste elsewhere.
        if url.contains('@') {
            return Err(UrlError::Credentials);
        }
        let uri: Uri = url.trim().parse().map_err(|_| UrlError::NotUrl)?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else { return Err(UrlError::NotUrl) };
        let is_loopback = authority.host().parse().is_ok_and(|address: Ipv4Addr| address.is_loopback());
        match scheme.as_str() {
            "https" => {}
            "http" if is_loopback => {}
            "http" => return Err(UrlError::Unencrypted),
            _ => return Err(UrlError::NotUrl),
        }
        match parts.path_and_query {
            Some(path) if path != "/" => Err(UrlError::Path),
            Some(_) | None => Ok(Self { scheme, authority }),
        }
    }

    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// The URI of a path with its query.
    pub(super) fn uri(&self, path_and_query: &str) -> Result<Uri, hyper::http::Error> {
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path_and_query)
            .build()
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_leaves_the_machine() {
        let good = [
            ("https://192.0.2.10", "https://192.0.2.10"),
            ("https://bigip.example:8443/", "https://bigip.example:8443"),
            ("https://[2001:db8::1]", "https://[2001:db8::1]"),
            ("http://127.0.0.1:8100", "http://127.0.0.1:8100"),
            ("http://127.9.9.9", "http://127.9.9.9"),
        ];
        for (url, expected) in good {
            assert_eq!(Server::parse(url).map(|server| server.to_string()), Ok(expected.to_owned()), "{url}");
        }
        let bad = [
            ("https://admin:secret@192.0.2.10", UrlError::Credentials),
            ("admin:secret@192.0.2.10", UrlError::Credentials),
            ("https://admin:se cret@192.0.2.10", UrlError::Credentials),
            ("http://192.0.2.10", UrlError::Unencrypted),
            // The name may have any address.
            ("http://localhost:8100", UrlError::Unencrypted),
            ("http://127.0.0.1.example", UrlError::Unencrypted),
            ("192.0.2.10", UrlError::NotUrl),
            ("ftp://192.0.2.10", UrlError::NotUrl),
            ("https://", UrlError::NotUrl),
            ("", UrlError::NotUrl),
            ("https://192.0.2.10/mgmt/tm", UrlError::Path),
            ("https://192.0.2.10?token=secret", UrlError::Path),
        ];
        for (url, expected) in bad {
            assert_eq!(Server::parse(url), Err(expected), "{url}");
            assert!(!expected.to_string().contains("secret"));
        }
    }
}
