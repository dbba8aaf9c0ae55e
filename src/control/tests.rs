//! The server and the client, against each other on a real socket.

use crate::types::Pending;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use super::*;
use crate::types::{Bytes, Name};

#[derive(Default)]
struct Fake {
    stopped: AtomicBool,
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

impl Operator for Fake {
    fn status(&self) -> Status {
        Status { pid: 42, mountpoint: "/mnt".into(), ..Status::default() }
    }

    fn names(&self) -> Vec<NameStatus> {
        vec![NameStatus {
            name: name("a b.zip"),
            state: NameState::Ready,
            conflict: false,
            url: "http://127.0.0.1/a".to_owned(),
            length: Some(Bytes(5)),
            filled: Bytes(5),
            present: Vec::new(),
            version: None,
            etag: Some("\"1\"".to_owned()),
            digest: None,
            pins: 1,
            validated_at: Some(SystemTime::UNIX_EPOCH.into()),
            last_error: None,
            owners: vec!["cc".to_owned()],
            aliases: vec![name("other")],
            form: crate::source::Form::File,
            tree: None,
        }]
    }

    fn evict(&self, name: Name) -> Pending<'_, Result<Evicted, EvictRefused>> {
        Box::pin(async move {
            match name.as_str() {
                "a b.zip" => Ok(Evicted { name, freed: Bytes(7) }),
                "held" => Err(EvictRefused {
                    reason: EvictRefusal::Pinned,
                    message: "held is pinned by 2 handles".to_owned(),
                }),
                _ => Err(EvictRefused {
                    reason: EvictRefusal::UnknownName,
                    message: format!("no catalog binds the name `{name}`"),
                }),
            }
        })
    }

    fn reload(&self) -> ReloadReport {
        ReloadReport { added: 3, ..ReloadReport::default() }
    }

    fn shutdown(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

async fn with_server<F: Future<Output = ()>>(
    work: impl FnOnce(Client, Arc<Fake>, std::path::PathBuf) -> F,
) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("control.sock");
    let server = Server::bind(&path).expect("binds");
    let fake = Arc::new(Fake::default());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.serve(Arc::clone(&fake) as Arc<dyn Operator>, async {
        let _ = stopped.await;
    }));
    work(Client::new(&path), fake, path.clone()).await;
    let _ = stop.send(());
    running.await.expect("no panic").expect("served");
    assert!(!path.exists(), "the socket is removed");
}

#[tokio::test]
async fn every_request_goes_there_and_back() {
    with_server(|client, fake, path| async move {
        let mode = std::fs::metadata(&path).expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(client.status().await.expect("answers").pid, 42);
        assert_eq!(client.names().await.expect("answers"), fake.names());
        let one = client.name(&name("a b.zip")).await.expect("answers");
        assert_eq!(one.pins, 1);
        assert_eq!(client.name(&name("other")).await.expect("answers to an alias"), one);
        let evicted = client.evict(&name("a b.zip")).await.expect("evicts");
        assert_eq!(evicted.freed, Bytes(7));
        assert_eq!(client.reload().await.expect("reloads").added, 3);
        client.shutdown().await.expect("is accepted");
        assert!(fake.stopped.load(Ordering::Relaxed));
    })
    .await;
}

#[tokio::test]
async fn a_refusal_keeps_its_reason_and_words() {
    with_server(|client, _, _| async move {
        for (text, reason) in [("held", "pinned"), ("nobody", "unknown-name")] {
            match client.evict(&name(text)).await {
                Err(ClientError::Refused(error)) => {
                    assert_eq!(error.error, reason);
                    assert!(error.message.contains(text));
                }
                other => panic!("{other:?}"),
            }
        }
        let missing = client.name(&name("nobody")).await;
        assert!(matches!(missing, Err(ClientError::Refused(_))), "{missing:?}");
    })
    .await;
}

#[tokio::test]
async fn a_live_socket_is_kept_and_a_stale_one_replaced() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("control.sock");
    // A listener that is dropped leaves its file, as a killed daemon does.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
    let client = Client::new(&path);
    assert!(matches!(client.status().await, Err(ClientError::NoDaemon(_))));

    let server = Server::bind(&path).expect("replaces the stale one");
    let error = Server::bind(&path).expect_err("is alive");
    assert!(matches!(error, ServerError::InUse(_)), "{error}");
    drop(server);
    assert!(!path.exists());

    std::fs::write(&path, "x").expect("is written");
    let error = Server::bind(&path).expect_err("is a file");
    assert!(matches!(error, ServerError::NotSocket(_)), "{error}");
    assert!(path.exists());

    let error = Server::bind(Path::new("/nowhere/at/all.sock")).expect_err("no directory");
    assert!(error.to_string().contains("/nowhere/at/all.sock"), "{error}");
}
