//! A user name with a password, or a token. Nothing in this module prints either.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};

/// A password or a token. `Debug` prints neither it nor its length.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Why a text is no password or token. The texts do not quote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("it is empty")]
    Empty,
    #[error("it has several lines, or a control character: write only the password or the token into it")]
    Control,
}

impl Secret {
    /// The content of a file: the newline that an editor adds at the end does not belong to the secret.
    ///
    /// # Errors
    ///
    /// There is no secret in it, or more than one line.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        match text {
            "" => Err(SecretError::Empty),
            _ if text.contains(char::is_control) => Err(SecretError::Control),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// How a request shows who asks.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// HTTP's basic authentication.
    Password { user: String, password: Secret },
    /// A token that somebody obtained before: a login is a POST, and this client sends none.
    Token(Secret),
}

impl Credentials {
    /// The header of each request. `Debug` does not print its value, and HTTP libraries do not log it.
    pub(super) fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        let (name, value) = match self {
            Self::Password { user, password } => {
                (AUTHORIZATION, format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{}", password.0))))
            }
            Self::Token(token) => (HeaderName::from_static("x-f5-auth-token"), token.0.clone()),
        };
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    }

    /// A server's text without the secret: some errors of BIG-IP repeat the request.
    pub(super) fn mask(&self, text: &str) -> String {
        let (secret, encoded) = match self {
            Self::Password { user, password } => {
                (password, Some(BASE64_STANDARD.encode(format!("{user}:{}", password.0))))
            }
            Self::Token(token) => (token, None),
        };
        let text = encoded.map_or_else(|| text.to_owned(), |encoded| text.replace(&encoded, "…"));
        text.replace(&secret.0, "…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::parse(text).expect("a secret")
    }

    #[test]
    fn one_newline_at_the_end_is_the_editors() {
        for text in ["pa ss:wörd", "pa ss:wörd\n", "pa ss:wörd\r\n"] {
            assert_eq!(Secret::parse(text), Ok(Secret("pa ss:wörd".into())));
        }
        assert_eq!(Secret::parse("\n"), Err(SecretError::Empty));
        assert_eq!(Secret::parse("a\nb"), Err(SecretError::Control));
        assert_eq!(Secret::parse("a\n\n"), Err(SecretError::Control));
        assert_eq!(Secret::parse(" "), Ok(Secret(" ".into())));
    }

    #[test]
    fn no_debug_output_has_the_secret() {
        let all = [
            Credentials::Password { user: "reader".into(), password: secret("hunter2") },
            Credentials::Token(secret("hunter2")),
        ];
        for credentials in all {
            let (name, value) = credentials.header().expect("a header");
            let text = format!("{credentials:?} {name:?} {value:?}");
            assert!(!text.contains("hunter2") && !text.contains("cmVhZGVyOmh1bnRlcjI="), "{text}");
        }
    }

    #[test]
    fn basic_authentication_is_that_of_rfc_7617() {
        let credentials = Credentials::Password { user: "Aladdin".into(), password: secret("open sesame") };
        let (name, value) = credentials.header().expect("a header");
        assert_eq!((name, value.as_bytes()), (AUTHORIZATION, &b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="[..]));
    }

    #[test]
    fn what_a_server_repeats_is_masked() {
        let credentials = Credentials::Password { user: "reader".into(), password: secret("hunter2") };
        let text = credentials.mask("bad password hunter2 in Basic cmVhZGVyOmh1bnRlcjI=");
        assert_eq!(text, "bad password … in Basic …");
        assert_eq!(Credentials::Token(secret("T0KEN")).mask("no such token: T0KEN"), "no such token: …");
    }
}
