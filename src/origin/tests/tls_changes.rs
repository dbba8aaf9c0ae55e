//! TLS files that change while connections are made.

use std::path::Path;

use super::tls_origins::{Identity, pem, serve_with};
use super::*;

/// Longer than the files are believed without a look.
const A_LOOK: Duration = Duration::from_millis(1050);

/// A directory with a CA, a certificate and a key, of one party or the other.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        let files = Files(tempfile::tempdir().expect("a directory"));
        files.put("ca.pem", "ca.pem");
        files.put("client.pem", "client.pem");
        files.put("client.key", "client.key");
        files
    }

    /// Replaces a file as tools do that rotate certificates.
    fn put(&self, to: &str, from: &str) {
        let new = self.path("new");
        std::fs::copy(pem(from), &new).expect("copied");
        std::fs::rename(new, self.path(to)).expect("renamed");
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        Path::join(self.0.path(), name)
    }

    fn origin(&self, address: std::net::SocketAddr) -> HttpOrigin {
        let tls = OriginTls {
            ca_file: Some(self.path("ca.pem")),
            ca_only: true,
            cert_file: Some(self.path("client.pem")),
            key_file: Some(self.path("client.key")),
            insecure_skip_verify: false,
        };
        origin(OriginSettings {
            head_timeout: Duration::from_secs(5),
            per_origin: [(address.to_string(), tls)].into(),
            ..quick()
        })
    }
}

/// Fetches the body; each answer closes its connection, so each fetch is a handshake.
async fn fetch(origin: &HttpOrigin, address: std::net::SocketAddr) -> Result<Vec<u8>, Failure> {
    match origin.get(cold(&format!("https://{address}/x"))).await? {
        Answer::Found(_, mut body) => read(&mut *body).await,
        Answer::NotModified(_) => panic!("304, a body is expected"),
    }
}

#[tokio::test]
async fn a_ca_that_is_replaced_is_trusted_and_the_old_one_is_not() {
    let files = Files::new();
    let (old, new) = (serve_with(2, Identity::First), serve_with(2, Identity::Other));
    let old_origin = files.origin(old);
    let new_origin = files.origin(new);
    fetch(&old_origin, old).await.expect("trusted");
    let failure = fetch(&new_origin, new).await.expect_err("not yet trusted");
    assert_eq!(failure.kind, FailureKind::Tls, "{failure}");

    files.put("ca.pem", "other-ca.pem");
    tokio::time::sleep(A_LOOK).await;
    fetch(&new_origin, new).await.expect("trusted now");
    // The first session could be resumed, if that were on.
    let failure = fetch(&old_origin, old).await.expect_err("no longer trusted");
    assert_eq!(failure.kind, FailureKind::Tls, "{failure}");
}

#[tokio::test]
async fn a_certificate_and_a_key_of_two_pairs_are_not_used() {
    let files = Files::new();
    let address = serve_with(5, Identity::First);
    let origin = files.origin(address);
    let fetch = || async { fetch(&origin, address).await.expect("a body") };
    assert_eq!(fetch().await, b"client");

    files.put("client.pem", "other-client.pem");
    origin.look_again();
    assert_eq!(fetch().await, b"client", "the old pair, until the new one is whole");
    let problems = origin.problems();
    assert!(problems.len() == 1 && problems[0].contains("client.pem"), "{problems:?}");

    files.put("client.key", "other-client.key");
    origin.look_again();
    assert_eq!(fetch().await, b"other client");
    assert!(origin.problems().is_empty());
}

#[tokio::test]
async fn files_that_are_gone_or_half_written_leave_the_last_good_ones() {
    let files = Files::new();
    let address = serve_with(4, Identity::First);
    let origin = files.origin(address);
    let half = std::fs::read(pem("ca.pem")).expect("a CA");
    std::fs::write(files.path("ca.pem"), &half[..half.len() / 2]).expect("written");
    origin.look_again();
    fetch(&origin, address).await.expect("the whole file counts");
    std::fs::remove_file(files.path("ca.pem")).expect("removed");
    std::fs::remove_file(files.path("client.key")).expect("removed");
    origin.look_again();
    fetch(&origin, address).await.expect("the files that were there count");
    assert_eq!(origin.problems().len(), 2, "{:?}", origin.problems());
    files.put("ca.pem", "other-ca.pem");
    origin.look_again();
    fetch(&origin, address).await.expect_err("a good CA counts, whatever the key is");
}

#[tokio::test]
async fn other_origins_keep_their_connections() {
    let files = Files::new();
    let plain = Raw::start(|_, _| vec![answer("200 OK", "", "x")]).await;
    let address = serve_with(2, Identity::First);
    let origin = files.origin(address);
    for from in ["ca.pem", "other-ca.pem"] {
        files.put("ca.pem", from);
        origin.look_again();
        let (_, mut body) = found(origin.get(cold(&plain.url("/x"))).await);
        read(&mut *body).await.expect("a body");
    }
    let connections: Vec<_> = plain.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 0]);
}
