//! Bodies that fail after their head had landed.

use super::*;
use crate::cache::ledger::Evicted;

fn rig() -> Rig {
    Rig::new(table([("a", source("http://h/a"))]))
}

/// Lands a second version over a whole first one, and has its body fail after three bytes.
async fn cut(rig: &Rig) -> (Opened, Opened) {
    rig.will(found("1", b"first"));
    let first = rig.open("a").await.unwrap();
    committed(&first).await;
    later().await;
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(head(Some("2"), Some(6)), sent));
    let second = rig.open("a").await.unwrap();
    body.send(Ok(b"sec"[..].into())).unwrap();
    body.send(Err(failure(FailureKind::BadAnswer))).unwrap();
    until("the failure", || second.version.blob.broken().is_some()).await;
    (first, second)
}

#[tokio::test]
async fn the_whole_version_comes_back_when_the_one_that_replaced_it_fails() {
    let rig = rig();
    let (first, second) = cut(&rig).await;
    let id = first.version.blob.id();
    until("its return", || rig.entry("a").version().is_some_and(|v| v.blob.id() == id)).await;
    assert_eq!(rig.open("a").await.unwrap().version.blob.id(), id, "the failure is remembered");
    assert_eq!(rig.asked(), 2);
    drop((first, second));
    until("the broken one to go", || rig.cache.ledger().balance().blobs == 1).await;
    later().await;
    rig.will(Reply::NotModified);
    let again = rig.open("a").await.unwrap();
    assert_eq!(again.version.blob.id(), id);
    assert_eq!(bytes_of(&again).await, b"first");
    assert_eq!(rig.last_condition().unwrap().etag.as_deref(), Some("\"1\""));
}

#[tokio::test]
async fn what_was_replaced_goes_once_its_successor_is_whole() {
    let rig = rig();
    rig.will(found("1", b"first"));
    drop(rig.open("a").await.unwrap());
    until("the commit", || rig.entry("a").version().is_some_and(|v| v.complete())).await;
    later().await;
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(head(Some("2"), Some(6)), sent));
    let second = rig.open("a").await.unwrap();
    assert_eq!(rig.cache.ledger().balance().blobs, 2, "until then both are there");
    body.send(Ok(b"second"[..].into())).unwrap();
    drop(body);
    committed(&second).await;
    until("the first to go", || rig.cache.ledger().balance().blobs == 1).await;
    assert_eq!(bytes_of(&second).await, b"second");
}

#[tokio::test]
async fn a_name_that_is_gone_keeps_nothing_back() {
    let rig = rig();
    let (first, second) = cut(&rig).await;
    drop((first, second));
    later().await;
    rig.will(Reply::Fail(FailureKind::Gone));
    assert_eq!(errno(rig.open("a").await), libc::ENOENT);
    until("both to go", || rig.cache.ledger().balance().blobs == 0).await;
}

/// They are the same files under another number.
#[tokio::test]
async fn a_reader_of_a_part_that_is_gone_on_with_holds_the_whole() {
    const LENGTH: usize = 3 << 20;
    let all = Arc::new((0..LENGTH).map(|at| (at * 7 % 251) as u8).collect::<Vec<u8>>());
    let rig = Rig::new(table([("a", source("http://h/a"))]));
    let ranged = Head { ranges: true, offered: true, ..head(Some("1"), Some(LENGTH as u64)) };
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(ranged, sent));
    let reader = rig.open("a").await.unwrap();
    let reference = rig.cache.ledger().refer(reader.version.blob.id()).unwrap();
    rig.will(Reply::Fail(FailureKind::Unreachable));
    body.send(Ok(bytes::Bytes::copy_from_slice(&all[..2 << 20]))).unwrap();
    until("the bytes", || reader.version.blob.filled() == 2 << 20).await;
    body.send(Err(failure(FailureKind::BadAnswer))).unwrap();
    until("the part", || rig.entry("a").state().unfinished.is_some()).await;
    later().await;
    rig.will(Reply::NotModified);
    rig.origin.parts.lock().unwrap().push_back(PartReply::Of(all.clone()));
    let again = rig.open("a").await.unwrap();
    assert!(bytes_of(&again).await == *all);
    let blob = again.version.blob.id();
    assert_ne!(blob, reader.version.blob.id());
    until("the commit", || again.version.complete()).await;
    drop(again);
    let ledger = rig.cache.ledger();
    until("the download to let go", || ledger.pins(blob) == 1).await;
    assert!(matches!(ledger.evict(blob), Evicted::Pinned(1)));
    assert!(ledger.pin(reader.version.blob.id()).is_some(), "by the number it had");
    let opened = reader.pin.clone();
    drop(reader);
    assert_eq!(ledger.pins(blob), 1);
    drop(opened);
    assert!(!ledger.alone(blob), "the kernel refers to it");
    drop(reference);
    assert!(ledger.alone(blob));
    assert!(matches!(ledger.evict(blob), Evicted::Now(_)));
}
