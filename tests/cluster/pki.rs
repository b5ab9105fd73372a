//! The keys and certificates of a cluster, as kubeadm would make them.

use std::{fs, net::IpAddr, path::Path};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

/// Files of [`write()`].
pub(crate) const CA: &str = "ca.crt";
pub(crate) const SERVICE_ACCOUNTS: &str = "sa.key";
pub(crate) const SERVICE_ACCOUNTS_PUBLIC: &str = "sa.pub";

/// Writes into a directory: the CA, the API server's certificate for these addresses, its certificate as a client of the kubelet, and the
/// key of service-account tokens.
pub(crate) fn write(directory: &Path, addresses: &[IpAddr]) -> Result<()> {
    fs::create_dir_all(directory)?;
    let save = |name: &str, text: String| {
        fs::write(directory.join(name), text).with_context(|| format!("failed to write {name}"))
    };
    let key = KeyPair::generate()?;
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    ca.distinguished_name = subject("kubernetes", None);
    save(CA, ca.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(ca, key);

    let mut server = leaf(subject("kube-apiserver", None), ExtendedKeyUsagePurpose::ServerAuth);
    server.subject_alt_names = addresses.iter().copied().map(SanType::IpAddress).collect();
    let client =
        leaf(subject("kube-apiserver-kubelet-client", Some("system:masters")), ExtendedKeyUsagePurpose::ClientAuth);
    for (name, params) in [("apiserver", server), ("kubelet-client", client)] {
        let key = KeyPair::generate()?;
        save(&format!("{name}.crt"), params.signed_by(&key, &issuer)?.pem())?;
        save(&format!("{name}.key"), key.serialize_pem())?;
    }
    let key = KeyPair::generate()?;
    save(SERVICE_ACCOUNTS_PUBLIC, key.public_key_pem())?;
    save(SERVICE_ACCOUNTS, key.serialize_pem())
}

fn subject(name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    subject
}

fn leaf(subject: DistinguishedName, purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![purpose];
    params
}
