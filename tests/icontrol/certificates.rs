//! Which certificates are accepted.

use crate::*;

fn start(certificate: Certificate) -> BigIp {
    BigIp::start_with(Device::cilium(), Options { certificate, ..Options::default() }).expect("a BIG-IP")
}

fn refused(bigip: &BigIp, reason: &str) -> String {
    format!(
        "{reason}; its SHA-256 fingerprint is {}. Compare that on the BIG-IP (openssl x509 -noout -fingerprint -sha256 -in \
         /config/httpd/conf/ssl.crt/server.crt), then give the certificate, or the authority that signed it, with --bigip-ca FILE. \
         --bigip-insecure accepts any certificate",
        bigip.fingerprint()
    )
}

#[tokio::test]
async fn one_that_is_not_trusted_gets_no_password() {
    let another = start(Certificate::Signed);
    let table = [
        (Certificate::Factory, "its certificate is self-signed, or that of an authority"),
        (Certificate::Signed, "its certificate is signed by an authority that is not trusted"),
    ];
    for (certificate, reason) in table {
        let bigip = start(certificate);
        for trust in [Trust::System, trust(&another)] {
            let failure = read_as(&bigip, password(PASSWORD), trust).await.expect_err("not trusted");
            assert_eq!(failure.to_string(), refused(&bigip, reason));
        }
        assert_eq!(bigip.requests(), []);
    }
}

#[tokio::test]
async fn name_and_date_have_to_be_right() {
    let table = [
        (Certificate::OtherName, "its certificate is for another name"),
        (Certificate::Expired, "its certificate has expired"),
    ];
    for (certificate, reason) in table {
        let bigip = start(certificate);
        let failure = read(&bigip).await.expect_err("not trusted");
        assert_eq!((failure.to_string(), bigip.requests()), (refused(&bigip, reason), vec![]));
    }
}

/// That from the factory is self-signed, and names another host.
#[tokio::test]
async fn the_authority_or_the_certificate_itself_can_be_trusted() {
    for certificate in [Certificate::Factory, Certificate::Signed] {
        for tls12 in [false, true] {
            let options = Options { certificate, tls12, plain: false };
            let bigip = BigIp::start_with(Device::cilium(), options).expect("a BIG-IP");
            assert_eq!(read(&bigip).await.expect("trusted").notes, [""; 0], "{options:?}");
        }
    }
}

#[tokio::test]
async fn any_can_be_accepted_but_is_named() {
    for certificate in [Certificate::Factory, Certificate::Expired] {
        let bigip = start(certificate);
        let fetched = read_as(&bigip, password(PASSWORD), Trust::Anything).await.expect("accepted");
        let note = format!(
            "the certificate of {} was not verified (--bigip-insecure); its SHA-256 fingerprint is {}",
            bigip.url(),
            bigip.fingerprint()
        );
        assert_eq!(fetched.notes, [note]);
    }
}

#[tokio::test]
async fn who_does_not_speak_tls_or_does_not_listen_is_named() {
    let plain = BigIp::start_with(Device::cilium(), Options { plain: true, ..Options::default() }).expect("a BIG-IP");
    let address = plain.address();
    let at = async |url: &str| {
        let server = Server::parse(url).expect("a URL");
        read_icontrol(&server, password(PASSWORD), Trust::System, TIMEOUT).await.map_err(|failure| failure.to_string())
    };
    let tls = at(&format!("https://{address}")).await.map(|fetched| fetched.objects);
    assert_eq!(tls, Err("TLS: the server there does not speak TLS".into()));
    assert!(at(&format!("http://{address}")).await.is_ok(), "on loopback, TLS is not needed");
    drop(plain);
    let gone = at(&format!("http://{address}")).await.map(|fetched| fetched.objects);
    assert_eq!(gone, Err("connection refused".into()));
    let name = at("https://nobody.invalid").await.expect_err("no such name");
    assert!(name.starts_with("failed to lookup address information"), "{name}");
}
