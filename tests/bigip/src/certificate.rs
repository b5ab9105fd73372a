//! The keys and certificates of the stand-in.

use std::sync::Arc;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    version::{TLS12, TLS13},
};

/// The certificate that a BIG-IP shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Certificate {
    /// As from the factory: self-signed, for `localhost.localdomain`.
    #[default]
    Factory,
    /// Signed by an authority, for the address that the stand-in listens on.
    Signed,
    /// Signed by an authority, for another name.
    OtherName,
    /// Signed by an authority, but expired.
    Expired,
}

/// What a stand-in has for TLS.
pub(crate) struct Identity {
    pub(crate) config: Arc<ServerConfig>,
    /// The authority, or the certificate itself if it is self-signed.
    pub(crate) trusted_pem: String,
    pub(crate) fingerprint: String,
}

/// Only TLS 1.2 with `tls12`, as a BIG-IP of many versions.
pub(crate) fn identity(kind: Certificate, tls12: bool) -> Result<Identity> {
    let key = KeyPair::generate()?;
    let (certificate, trusted_pem) = match kind {
        Certificate::Factory => {
            let mut params = authority("localhost.localdomain");
            params.not_before = date_time_ymd(2020, 1, 1);
            let certificate = params.self_signed(&key)?;
            let pem = certificate.pem();
            (certificate, pem)
        }
        Certificate::Signed | Certificate::OtherName | Certificate::Expired => {
            let authority_key = KeyPair::generate()?;
            let authority = authority("an authority");
            let pem = authority.clone().self_signed(&authority_key)?.pem();
            let issuer = Issuer::new(authority, authority_key);
            (leaf(kind)?.signed_by(&key, &issuer)?, pem)
        }
    };
    let versions: &[&SupportedProtocolVersion] = if tls12 { &[&TLS12] } else { &[&TLS13, &TLS12] };
    let fingerprint = Sha256::digest(certificate.der()).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    Ok(Identity { config: Arc::new(config), trusted_pem, fingerprint: fingerprint.join(":") })
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn leaf(kind: Certificate) -> Result<CertificateParams> {
    let name = if kind == Certificate::OtherName { "other.example" } else { "127.0.0.1" };
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    if kind == Certificate::Expired {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    }
    Ok(params)
}
