//! Bodies that may not be kept: no validator, no digest.

use super::*;

fn rig() -> Rig {
    Rig::new(table([("a", source("http://h/a"))]))
}

fn nameless(bytes: &[u8]) -> Reply {
    Reply::Body(head(None, Some(bytes.len() as u64)), bytes.to_vec())
}

#[tokio::test]
async fn a_body_without_validator_goes_with_its_last_holder() {
    let rig = rig();
    rig.will(nameless(b"one"));
    let opened = rig.open("a").await.unwrap();
    assert!(!opened.version.keep);
    later().await;
    assert_eq!(rig.cache.ledger().balance().blobs, 1, "held");
    drop(opened);
    until("the body to go", || rig.cache.ledger().balance().blobs == 0).await;
    until("its file to go", || rig.cache.store.resident().unwrap() == 0).await;
    rig.will(nameless(b"two"));
    rig.open("a").await.unwrap();
    assert_eq!(rig.last_condition(), None);
    assert_eq!(rig.asked(), 2);
}

#[tokio::test]
async fn a_body_that_nobody_wants_any_more_is_no_failure_of_the_name() {
    let rig = rig();
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(head(None, Some(10)), sent));
    drop(rig.open("a").await.unwrap());
    later().await;
    body.send(Ok(vec![1u8].into())).unwrap();
    until("the download to be given up", || rig.cache.ledger().balance().blobs == 0).await;
    rig.will(nameless(b"two"));
    let opened = rig.open("a").await.map_err(|error| error.errno);
    assert_eq!(opened.map(|o| o.version.keep), Ok(false));
}

#[tokio::test]
async fn what_may_not_be_kept_is_not_served_as_stale() {
    let rig = rig();
    rig.will(nameless(b"one"));
    let _held = rig.open("a").await.unwrap();
    later().await;
    rig.will(Reply::Fail(FailureKind::Status));
    assert_eq!(errno(rig.open("a").await), libc::EIO);
}
