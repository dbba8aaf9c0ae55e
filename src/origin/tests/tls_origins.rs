//! TLS towards one origin: its CA, a client certificate, none at all.
//!
//! `pem/` holds a CA, a certificate for 127.0.0.1 and localhost, and a client certificate, and the
//! same once more of another CA; all of them P-256 and good for a hundred years. The CAs' keys were
//! thrown away.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::*;

pub(super) fn pem(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/origin/tests/pem").join(name)
}

/// Which of the two certificates a server shows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Identity {
    First,
    Other,
}

/// Starts a server that demands a client certificate of either CA, and answers each connection with
/// the common name in it: `client` or `other client`. Its thread ends after `connections`.
pub(super) fn serve_with(connections: usize, identity: Identity) -> SocketAddr {
    let mut roots = RootCertStore::empty();
    for ca in ["ca.pem", "other-ca.pem"] {
        let ca = CertificateDer::from_pem_file(pem(ca)).expect("a CA");
        roots.add(ca).expect("a root");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
    let (certificate, key) = match identity {
        Identity::First => ("server.pem", "server.key"),
        Identity::Other => ("other-server.pem", "other-server.key"),
    };
    let certificate = CertificateDer::from_pem_file(pem(certificate)).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(pem(key)).expect("a key");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(vec![certificate], key)
        .expect("a configuration");
    let config = Arc::new(config);
    let other = CertificateDer::from_pem_file(pem("other-client.pem")).expect("a certificate");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().take(connections).flatten() {
            let session = ServerConnection::new(Arc::clone(&config)).expect("a session");
            let mut stream = StreamOwned::new(session, stream);
            // Failed handshakes are among the cases.
            let mut request = [0; 4096];
            if stream.read(&mut request).is_ok() {
                let shown = stream.conn.peer_certificates().and_then(|chain| chain.first());
                let name = if shown == Some(&other) { "other client" } else { "client" };
                let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n\r\n{name}").as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    address
}

async fn fetch(address: SocketAddr, tls: OriginTls) -> Result<Vec<u8>, Failure> {
    let origin = origin(OriginSettings {
        head_timeout: Duration::from_secs(5),
        per_origin: [(address.to_string(), tls)].into(),
        ..quick()
    });
    let ask = cold(&format!("https://{address}/x?CANARY"));
    match origin.get(ask).await? {
        Answer::Found(_, mut body) => read(&mut *body).await,
        Answer::NotModified(_) => panic!("304, a body is expected"),
    }
}

#[tokio::test]
async fn a_ca_and_a_client_certificate_belong_to_an_origin() {
    let address = serve_with(4, Identity::First);
    let client = OriginTls {
        ca_file: Some(pem("ca.pem")),
        cert_file: Some(pem("client.pem")),
        key_file: Some(pem("client.key")),
        ..OriginTls::default()
    };
    let body = fetch(address, client.clone()).await;
    assert_eq!(body.expect("trusted on both sides"), b"client");

    let unverified = OriginTls { ca_file: None, insecure_skip_verify: true, ..client.clone() };
    let body = fetch(address, unverified).await;
    assert_eq!(body.expect("told not to verify"), b"client");

    let stranger = OriginTls { ca_file: None, ..client.clone() };
    let failure = fetch(address, stranger).await.expect_err("unknown CA");
    assert_eq!(failure.kind, FailureKind::Tls, "{failure}");
    assert!(failure.message.contains("UnknownIssuer"), "{failure}");
    assert!(!failure.message.contains("CANARY"), "{failure}");

    let anonymous = OriginTls { ca_file: client.ca_file, ..OriginTls::default() };
    let failure = fetch(address, anonymous).await.expect_err("no certificate");
    assert_eq!(failure.kind, FailureKind::Tls, "{failure}");
}

#[tokio::test]
async fn https_to_a_plain_port_fails_as_tls_and_is_not_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = stream.read(&mut [0; 4096]);
    });
    let origin = origin(quick());
    let failure = failed(origin.get(cold(&format!("https://{address}/x"))).await);
    assert_eq!(failure.kind, FailureKind::Tls, "{failure}");
    assert_eq!(origin.stats().snapshot().retries, 0);
    server.join().expect("the server ends");
}
