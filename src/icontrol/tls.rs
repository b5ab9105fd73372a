//! TLS to a BIG-IP: which certificate is accepted, and what is known about one that is not.

use std::{
    fmt::Write,
    sync::{Arc, OnceLock},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem, pem::PemObject},
};
use sha2::{Digest, Sha256};

/// The certificates that are accepted.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Those that an authority of this machine signed.
    System,
    /// Those that one of these signed, and these themselves.
    Authorities(Vec<CertificateDer<'static>>),
    /// Any.
    Anything,
}

/// The certificates in a PEM file.
///
/// # Errors
///
/// The text is not PEM, or there is no certificate in it.
pub fn authorities(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
    if found.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(found) }
}

/// The certificate that the server showed.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// SHA-256, as `openssl x509 -fingerprint` prints it.
    pub(super) fingerprint: String,
    pub(super) verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Verified,
    /// Accepted, like any other.
    Unverified,
    Refused,
}

/// What the first handshake showed.
pub(super) type FirstShown = Arc<OnceLock<Shown>>;

/// The client's side of TLS, and the place where it leaves the certificate that the server shows first.
pub(super) fn config(trust: Trust) -> Result<(ClientConfig, FirstShown), Error> {
    let provider = Arc::new(ring::default_provider());
    let shown = FirstShown::default();
    let verifier = Verifier::new(trust, &provider, Arc::clone(&shown))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok((config, shown))
}

#[derive(Debug)]
struct Verifier {
    /// `None` if there are no authorities.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// Accepted without a look at name and date. BIG-IP's default certificate is for `localhost.localdomain`: an authority that consists of
    /// that certificate could verify nothing.
    pinned: Vec<CertificateDer<'static>>,
    accepts_any: bool,
    provider: Arc<CryptoProvider>,
    shown: FirstShown,
}

impl Verifier {
    fn new(trust: Trust, provider: &Arc<CryptoProvider>, shown: FirstShown) -> Result<Self, Error> {
        let (roots, pinned, accepts_any) = match trust {
            Trust::System => (rustls_native_certs::load_native_certs().certs, Vec::new(), false),
            Trust::Authorities(given) => (given.clone(), given, false),
            Trust::Anything => (Vec::new(), Vec::new(), true),
        };
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots);
        let authorities = if store.is_empty() {
            None
        } else {
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider));
            Some(builder.build().map_err(|error| Error::Other(OtherError(Arc::new(error))))?)
        };
        Ok(Self { authorities, pinned, accepts_any, provider: Arc::clone(provider), shown })
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.accepts_any || self.pinned.iter().any(|pinned| pinned == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.authorities {
            Some(known) => known.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.verify(end_entity, intermediates, server_name, ocsp_response, now);
        let verdict = match verified {
            Ok(_) if self.accepts_any => Verdict::Unverified,
            Ok(_) => Verdict::Verified,
            Err(_) => Verdict::Refused,
        };
        // A later connection cannot replace what the first one showed.
        let _ = self.shown.set(Shown { fingerprint: fingerprint(end_entity), verdict });
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Without a known certificate, a valid signature shows nothing; and the certificate may have a form that cannot be read.
        if self.accepts_any {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.accepts_any {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// `AB:CD:…`, the form of `openssl x509 -fingerprint -sha256`.
fn fingerprint(certificate: &[u8]) -> String {
    let mut text = String::new();
    for (n, byte) in Sha256::digest(certificate).iter().enumerate() {
        let colon = if n == 0 { "" } else { ":" };
        // A String takes any text.
        let _ = write!(text, "{colon}{byte:02X}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_as_openssl_prints_it() {
        let text = fingerprint(b"abc");
        assert!(text.starts_with("BA:78:16:BF:8F:01:CF:EA:") && text.ends_with(":F2:00:15:AD"), "{text}");
        assert_eq!(text.len(), 32 * 3 - 1);
    }

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        assert!(authorities(b"").is_err());
        assert!(authorities(b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n").is_err());
    }
}
