//! What opens are answered with.

use super::*;

const URL: &str = "http://h/a";

fn rig() -> Rig {
    Rig::new(table([("a", source(URL))]))
}

#[tokio::test]
async fn a_hundred_openers_of_a_cold_name_share_one_get() {
    let rig = rig();
    rig.will_after(30, found("1", b"one"));
    let opens: Vec<_> = (0..100)
        .map(|_| {
            let (cache, entry) = (rig.cache.clone(), rig.entry("a"));
            tokio::spawn(async move { cache.open(&entry).await.unwrap() })
        })
        .collect();
    let mut blobs = Vec::new();
    for open in opens {
        blobs.push(open.await.unwrap().version.blob.id());
    }
    blobs.dedup();
    assert_eq!((rig.asked(), blobs.len()), (1, 1));
}

#[tokio::test]
async fn a_leader_that_dies_is_replaced() {
    let rig = rig();
    rig.will_after(20, Reply::Panic).will(found("1", b"one"));
    let entry = rig.entry("a");
    let (first, second) = tokio::join!(rig.cache.open(&entry), rig.cache.open(&entry));
    assert_eq!(first.unwrap().version.blob.id(), second.unwrap().version.blob.id());
    assert_eq!(rig.asked(), 2);
}

#[tokio::test]
async fn an_opener_that_goes_away_does_not_end_the_flight() {
    let rig = rig();
    rig.will_after(50, found("1", b"one"));
    let entry = rig.entry("a");
    let gone = tokio::time::timeout(Duration::from_millis(10), rig.cache.open(&entry)).await;
    assert!(gone.is_err());
    assert_eq!(bytes_of(&rig.open("a").await.unwrap()).await, b"one");
    assert_eq!(rig.asked(), 1);
}

#[tokio::test]
async fn a_304_keeps_the_blob_and_a_200_replaces_it() {
    let rig = rig();
    rig.will(found("1", b"one"));
    let first = rig.open("a").await.unwrap();
    committed(&first).await;
    assert_eq!(rig.open("a").await.unwrap().version.blob.id(), first.version.blob.id());
    assert_eq!(rig.asked(), 1, "what just landed is a hit");
    later().await;
    rig.will(Reply::NotModified);
    let again = rig.open("a").await.unwrap();
    assert_eq!(again.version.blob.id(), first.version.blob.id());
    assert_eq!(rig.last_condition().unwrap().etag.as_deref(), Some("\"1\""));
    later().await;
    let moved = rig.told.moved.load(Ordering::Relaxed);
    rig.will(found("2", b"two"));
    let second = rig.open("a").await.unwrap();
    assert_ne!(second.version.blob.id(), first.version.blob.id());
    assert!(second.waited && rig.told.moved.load(Ordering::Relaxed) > moved);
    assert_eq!(bytes_of(&second).await, b"two");
    assert_eq!(bytes_of(&first).await, b"one", "who holds the old one reads it to the end");
    drop((first, again));
    until("the old blob to go", || rig.cache.ledger().balance().blobs == 1).await;
}

#[tokio::test]
async fn a_failing_origin_leaves_the_copy_in_service_and_a_refusing_one_does_not() {
    for (kind, wanted) in [
        (FailureKind::Unreachable, None),
        (FailureKind::Status, None),
        (FailureKind::Silent, None),
        (FailureKind::Denied, Some(libc::EACCES)),
        (FailureKind::Gone, Some(libc::ENOENT)),
    ] {
        let rig = rig();
        rig.will(found("1", b"one"));
        committed(&rig.open("a").await.unwrap()).await;
        later().await;
        rig.will(Reply::Fail(kind));
        let opened = rig.open("a").await;
        match wanted {
            None => assert_eq!(bytes_of(&opened.unwrap()).await, b"one", "{kind:?}"),
            Some(wanted) => {
                assert_eq!(errno(opened), wanted, "{kind:?}");
                assert_eq!(errno(rig.open("a").await), wanted, "remembered");
            }
        }
        assert_eq!(rig.asked(), 2, "{kind:?}");
        if kind == FailureKind::Gone {
            until("the blob to go", || rig.cache.ledger().balance().blobs == 0).await;
        }
    }
}

#[tokio::test]
async fn a_cold_failure_is_remembered_and_mended() {
    let rig = rig();
    rig.will(Reply::Fail(FailureKind::Status)).will(found("1", b"one"));
    assert_eq!(errno(rig.open("a").await), libc::EIO);
    assert_eq!(errno(rig.open("a").await), libc::EIO);
    assert_eq!(rig.asked(), 1);
    assert!(rig.entry("a").last_error().is_some());
    later().await;
    assert_eq!(bytes_of(&rig.open("a").await.unwrap()).await, b"one");
    assert!(rig.entry("a").last_error().is_none());
}

#[tokio::test]
async fn the_same_digest_under_a_new_tag_keeps_the_blob() {
    let rig = Rig::new(table([("a", source(URL))]));
    let answer = |tag| {
        let head = Head { digest: sha256(b"body"), ..head(Some(tag), Some(4)) };
        Reply::Body(head, b"body".to_vec())
    };
    rig.will(answer("1"));
    let first = rig.open("a").await.unwrap();
    committed(&first).await;
    later().await;
    rig.will(answer("2"));
    let second = rig.open("a").await.unwrap();
    assert_eq!(second.version.blob.id(), first.version.blob.id());
    assert_eq!(second.version.validators.etag.as_deref(), Some("\"2\""));
    later().await;
    rig.will(Reply::NotModified);
    rig.open("a").await.unwrap();
    assert_eq!(rig.last_condition().unwrap().etag.as_deref(), Some("\"2\""));
}

#[tokio::test]
async fn a_strict_digest_is_checked_before_anybody_is_answered() {
    let declared = Source { digest: sha256(b"right"), ..source(URL) };
    let rig = Rig::new(table([("a", declared)]));
    rig.will(found("1", b"wrong"));
    assert_eq!(errno(rig.open("a").await), libc::EIO);
    until("the bytes to go", || rig.cache.ledger().balance().blobs == 0).await;
    let balance = rig.cache.ledger().balance();
    assert_eq!((balance.stored, balance.reserved), (0, 0));
    later().await;
    rig.will(found("2", b"right"));
    let opened = rig.open("a").await.unwrap();
    assert!(opened.version.complete());
}

#[tokio::test]
async fn a_stat_adopts_nothing_and_the_open_that_follows_adopts_its_body() {
    let rig = rig();
    rig.will(found("1", b"one"));
    assert_eq!(rig.size("a").await.unwrap().length, 3);
    assert_eq!(rig.size("a").await.unwrap().length, 3);
    assert_eq!(bytes_of(&rig.open("a").await.unwrap()).await, b"one");
    assert_eq!(rig.asked(), 1);
}

#[tokio::test]
async fn an_open_does_not_wait_for_the_end_of_an_unknown_length_and_a_stat_does() {
    let rig = rig();
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(head(Some("1"), None), sent));
    let opened = rig.open("a").await.unwrap();
    assert_eq!(opened.version.blob.length(), None);
    let entry = rig.entry("a");
    let stat = rig.cache.size(&entry);
    let send = async {
        for _ in 0..40 {
            body.send(Ok(vec![7u8; 100_000].into())).unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        drop(body);
    };
    let (size, ()) = tokio::join!(stat, send);
    assert_eq!(size.unwrap().length, 4_000_000);
    committed(&opened).await;
    until("the account", || rig.cache.ledger().balance().reserved == 0).await;
    let balance = rig.cache.ledger().balance();
    assert_eq!(balance.stored, rig.cache.store.resident().unwrap());
}

#[tokio::test]
async fn a_version_that_broke_is_not_confirmed_by_a_304() {
    let rig = rig();
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(head(Some("1"), Some(10)), sent));
    let held = rig.open("a").await.unwrap();
    later().await;
    rig.will_after(150, Reply::NotModified).will(found("1", b"0123456789"));
    let entry = rig.entry("a");
    let cut = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        body.send(Err(failure(FailureKind::BadAnswer))).unwrap();
        until("the failure", || held.version.blob.broken().is_some()).await;
    };
    let (opened, ()) = tokio::join!(rig.cache.open(&entry), cut);
    if let Ok(opened) = opened {
        assert!(opened.version.blob.broken().is_none(), "a broken version was handed out");
    }
    later().await;
    rig.will(found("1", b"0123456789"));
    let after = rig.open("a").await.unwrap();
    assert!(after.version.blob.broken().is_none(), "a broken version stays in service");
}

#[tokio::test]
async fn a_broken_version_is_not_served_as_stale() {
    let rig = rig();
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(head(Some("1"), Some(10)), sent));
    let held = rig.open("a").await.unwrap();
    later().await;
    rig.will_after(150, Reply::Fail(FailureKind::Status));
    let entry = rig.entry("a");
    let cut = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        body.send(Err(failure(FailureKind::BadAnswer))).unwrap();
        until("the failure", || held.version.blob.broken().is_some()).await;
    };
    let (opened, ()) = tokio::join!(rig.cache.open(&entry), cut);
    assert_eq!(errno(opened), libc::EIO);
}

#[tokio::test]
async fn a_wrong_size_in_the_catalog_names_both() {
    let rig = Rig::new(table([("a", Source { size: Some(4), ..source(URL) })]));
    rig.will(found("1", b"one"));
    let error = rig.open("a").await.err().unwrap();
    assert_eq!(error.errno, libc::EIO);
    assert!(error.message.contains('4') && error.message.contains('3'), "{error}");
}

/// The copy is confirmed in this process, so no clock that is set takes it away or keeps it fresh.
#[tokio::test]
async fn a_clock_that_is_set_neither_takes_a_copy_away_nor_keeps_it_fresh() {
    let rig = Rig::new(table([("a", source(URL))]));
    rig.will(found("1", b"one"));
    committed(&rig.open("a").await.unwrap()).await;
    later().await;
    let hours = |count: u64| Duration::from_secs(3600 * count);
    let error = OpenError::from(&failure(FailureKind::Unreachable));
    let entry = rig.entry("a");
    for set in [SystemTime::now() + hours(1), SystemTime::now() - hours(48)] {
        entry.state().validated_at = set;
        assert!(entry.state().may_be_stale(&error), "{set:?}");
    }
    // Nothing but the wall clock tells of a predecessor.
    entry.state().validated = None;
    assert!(!entry.state().may_be_stale(&error));

    // A machine that was suspended: the clock that is never set stood still.
    let rarely = Source { revalidate: crate::source::Revalidate::After(hours(1)), ..source(URL) };
    let rig = Rig::new(table([("a", rarely)]));
    rig.will(found("1", b"one"));
    committed(&rig.open("a").await.unwrap()).await;
    later().await;
    rig.open("a").await.unwrap();
    assert_eq!(rig.asked(), 1);
    rig.entry("a").state().validated_at = SystemTime::now() - hours(2);
    rig.will(Reply::NotModified);
    rig.open("a").await.unwrap();
    assert_eq!(rig.asked(), 2);
}

#[tokio::test]
async fn a_length_that_was_heard_long_ago_is_asked_about_with_its_validators() {
    let rig = Rig::new(table([("a", source(URL))]));
    rig.will(found("1", b"one"));
    let first = rig.size("a").await.unwrap();
    later().await;
    later().await;
    rig.will(Reply::NotModified);
    let second = rig.size("a").await.unwrap();
    assert_eq!(rig.last_condition().unwrap().etag.as_deref(), Some("\"1\""));
    assert_eq!((second.length, second.shown_at), (first.length, first.shown_at));
}

/// While it is asked whether a length still holds, nobody is told it.
#[tokio::test]
async fn a_stat_beside_a_stat_is_not_told_a_length_heard_long_ago() {
    let rig = Rig::new(table([("a", source(URL))]));
    rig.will(found("1", b"one"));
    rig.size("a").await.unwrap();
    later().await;
    rig.will_after(200, found("2", b"three"));
    let (first, second) = tokio::join!(rig.size("a"), rig.size("a"));
    assert_eq!((first.unwrap().length, second.unwrap().length), (5, 5));
    assert_eq!(rig.asked(), 2);
}

/// A body that is checked first, and whose length is not announced.
#[tokio::test]
async fn a_stat_is_not_told_a_length_of_another_body_while_one_comes() {
    let strict = Source { digest: sha256(b"three"), ..source(URL) };
    let rig = Rig::new(table([("a", strict)]));
    rig.will(found("1", b"one"));
    assert_eq!(rig.size("a").await.unwrap().length, 3);
    later().await;
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(head(Some("2"), None), sent));
    let send = async {
        until("the question", || rig.asked() == 2).await;
        body.send(Ok(b"three".to_vec().into())).unwrap();
        drop(body);
    };
    let (first, second, ()) = tokio::join!(rig.size("a"), rig.size("a"), send);
    assert_eq!((first.unwrap().length, second.unwrap().length), (5, 5));
}

/// It came before the head, for which an open waits too.
#[tokio::test]
async fn a_stat_beside_an_open_waits_for_the_head_and_not_for_the_digest() {
    let strict = Source { digest: sha256(b"three"), ..source(URL) };
    let rig = Rig::new(table([("a", strict)]));
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(head(Some("1"), Some(5)), sent));
    let size = async {
        let length = rig.size("a").await.unwrap().length;
        body.send(Ok(b"three".to_vec().into())).unwrap();
        drop(body);
        length
    };
    let (opened, length) = tokio::join!(rig.open("a"), size);
    assert_eq!((opened.unwrap().version.blob.length(), length), (Some(5), 5));
    assert_eq!(rig.asked(), 1);
}

#[tokio::test]
async fn a_stat_is_not_told_the_length_of_a_body_that_was_refused() {
    let strict = Source { digest: sha256(b"three"), ..source(URL) };
    let rig = Rig::new(table([("a", strict)]));
    rig.will(found("1", b"one"));
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(head(Some("2"), None), sent));
    let size = async {
        until("the second question", || rig.asked() == 2).await;
        rig.size("a").await.unwrap().length
    };
    let send = async {
        until("the second question", || rig.asked() == 2).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        body.send(Ok(b"three".to_vec().into())).unwrap();
        drop(body);
    };
    let (opened, length, ()) = tokio::join!(rig.open("a"), size, send);
    assert_eq!((opened.unwrap().version.blob.length(), length), (Some(5), 5));
}
