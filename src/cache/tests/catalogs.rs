//! What a change of the catalogs does to what is cached.

use super::*;
use crate::cache::entry::Slot;

#[tokio::test]
async fn another_source_is_fetched_without_the_old_one_s_validators() {
    let rig = Rig::new(table([("a", source("http://h/old"))]));
    rig.will(found("1", b"old"));
    committed(&rig.open("a").await.unwrap()).await;
    rig.cache.bind(table([("a", source("http://h/new"))]));
    rig.will(found("1", b"new"));
    assert_eq!(bytes_of(&rig.open("a").await.unwrap()).await, b"new");
    assert_eq!(rig.last_condition(), None);
}

#[tokio::test]
async fn another_source_that_fails_is_not_answered_with_the_old_one() {
    let rig = Rig::new(table([("a", source("http://h/old"))]));
    rig.will(found("1", b"old"));
    committed(&rig.open("a").await.unwrap()).await;
    rig.cache.bind(table([("a", source("http://h/new"))]));
    rig.will(Reply::Fail(FailureKind::Unreachable));
    assert_eq!(errno(rig.open("a").await), libc::EIO);
    assert_eq!(errno(rig.open("a").await), libc::EIO);
}

#[tokio::test]
async fn a_body_parked_for_the_old_source_is_not_adopted_for_the_new_one() {
    let rig = Rig::new(table([("a", source("http://h/old"))]));
    rig.will(found("1", b"old"));
    rig.size("a").await.unwrap();
    rig.cache.bind(table([("a", source("http://h/new"))]));
    rig.will(found("1", b"newer"));
    assert_eq!(bytes_of(&rig.open("a").await.unwrap()).await, b"newer");
}

#[tokio::test]
async fn a_head_of_the_old_source_says_nothing_of_the_new_one() {
    let rig = Rig::new(table([("a", source("http://h/old"))]));
    rig.will(found("1", b"old"));
    rig.size("a").await.unwrap();
    rig.cache.bind(table([("a", source("http://h/new"))]));
    rig.will(found("1", b"newer"));
    assert_eq!(rig.size("a").await.unwrap().length, 5);
    assert_eq!(rig.last_condition(), None);
}

#[tokio::test]
async fn an_open_after_the_change_does_not_take_what_a_flight_brings_of_the_old_source() {
    let rig = Rig::new(table([("a", source("http://h/old"))]));
    rig.will_after(100, found("1", b"old")).will(found("1", b"new"));
    let entry = rig.entry("a");
    let change = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        rig.cache.bind(table([("a", source("http://h/new"))]));
        rig.open("a").await.unwrap()
    };
    let (_before, after) = tokio::join!(rig.cache.open(&entry), change);
    assert_eq!(bytes_of(&after).await, b"new");
}

#[tokio::test]
async fn a_digest_declared_later_is_checked_against_the_copy() {
    let rig = Rig::new(table([("a", source("http://h/a"))]));
    rig.will(found("1", b"one"));
    let first = rig.open("a").await.unwrap();
    committed(&first).await;
    let declared = |bytes: &[u8]| Source { digest: sha256(bytes), ..source("http://h/a") };
    let never = |source| Source { revalidate: crate::source::Revalidate::Never, ..source };
    rig.cache.bind(table([("a", never(declared(b"one")))]));
    let same = rig.open("a").await.unwrap();
    assert_eq!(same.version.blob.id(), first.version.blob.id());
    assert_eq!(rig.asked(), 1);
    rig.cache.bind(table([("a", never(declared(b"two")))]));
    rig.will(found("2", b"two"));
    assert_eq!(bytes_of(&rig.open("a").await.unwrap()).await, b"two");
    assert_eq!(rig.last_condition(), None);
}

/// All of it was hashed once, and is not at each open of a name whose origin is away.
#[tokio::test]
async fn a_copy_without_the_digest_declared_is_found_out_once() {
    let rig = Rig::new(table([("a", source("http://h/a"))]));
    rig.will(found("1", b"one"));
    let first = rig.open("a").await.unwrap();
    committed(&first).await;
    let verdict = || {
        let (entry, now) = (rig.entry("a"), std::time::Instant::now());
        let state = entry.state();
        freshness::judge(state.facts(&first.version, now, Duration::ZERO))
    };
    rig.cache.bind(table([("a", Source { digest: sha256(b"two"), ..source("http://h/a") })]));
    assert_eq!(verdict(), freshness::Verdict::Verify);
    rig.will(Reply::Fail(FailureKind::Status));
    assert!(rig.open("a").await.is_err());
    assert_eq!(verdict(), freshness::Verdict::Replace);
    later().await;
    rig.will(Reply::Fail(FailureKind::Status));
    assert!(rig.open("a").await.is_err());
    assert_eq!(rig.last_condition(), None);
    // Another digest is another question, and without one it is the copy that it was.
    rig.cache.bind(table([("a", Source { digest: sha256(b"three"), ..source("http://h/a") })]));
    assert_eq!(verdict(), freshness::Verdict::Verify);
    rig.cache.bind(table([("a", source("http://h/a"))]));
    later().await;
    rig.will(Reply::NotModified);
    assert_eq!(bytes_of(&rig.open("a").await.unwrap()).await, b"one");
}

#[tokio::test]
async fn checksums_that_match_do_not_make_a_blob_one_of_the_new_source() {
    let limits = Limits { quota: 64 * MIB, hard: 80 * MIB, min_free: 0 };
    let rig = Rig::with(limits, table([("a", source("http://h/old"))]));
    rig.will(found("1", b"old"));
    committed(&rig.open("a").await.unwrap()).await;
    let entry = rig.entry("a");
    until("the download to end", || {
        rig.cache.ledger().pins(entry.version().unwrap().blob.id()) == 0
    })
    .await;
    rig.cache.bind(table([("a", source("http://h/new"))]));
    {
        // As after a crash in between: the blob is in doubt, and the catalog has changed.
        let mut state = entry.state();
        let old = state.version().unwrap().clone();
        let doubtful = Version {
            blob: old.blob.clone(),
            source: old.source.clone(),
            validators: old.validators.clone(),
            lifetime: old.lifetime.clone(),
            digest: None,
            untrusted: true,
            ..*old
        };
        state.slot = Slot::Ready(Arc::new(doubtful));
    }
    rig.will(found("1", b"new"));
    assert_eq!(bytes_of(&rig.open("a").await.unwrap()).await, b"new");
    assert_eq!(rig.last_condition(), None, "the old source's validators");
}

#[tokio::test]
async fn a_withdrawn_name_is_pruned_once_nobody_holds_it() {
    let rig = Rig::new(table([("a", source("http://h/a")), ("b", source("http://h/b"))]));
    rig.will(found("1", b"one"));
    let held = rig.open("a").await.unwrap();
    committed(&held).await;
    let entry = rig.entry("a");
    let moved = rig.cache.bind(table([("b", source("http://h/b"))]));
    assert_eq!(moved.len(), 1);
    assert!(rig.cache.names().get("a").is_none());
    assert_eq!(bytes_of(&held).await, b"one");
    assert_eq!(errno(rig.cache.open(&entry).await), libc::ENOENT);
    drop(held);
    until("the blob to go", || rig.cache.ledger().balance() == Balance::default()).await;
    assert_eq!(rig.cache.store.resident().unwrap(), 0);
}

#[tokio::test]
async fn a_flight_of_a_withdrawn_name_leaves_nothing_behind() {
    let rig = Rig::new(table([("a", source("http://h/a"))]));
    rig.will_after(50, found("1", b"one"));
    let entry = rig.entry("a");
    let withdraw = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        rig.cache.bind(Table { may_prune: true, ..Table::default() });
    };
    let (opened, ()) = tokio::join!(rig.cache.open(&entry), withdraw);
    drop(opened);
    until("the blob to go", || rig.cache.ledger().balance() == Balance::default()).await;
}

#[tokio::test]
async fn what_was_committed_is_found_again_and_revalidated() {
    let limits = Limits { quota: 64 * MIB, hard: 80 * MIB, min_free: 0 };
    let rig = Rig::with(limits, table([("a", source("http://h/a"))]));
    rig.will(found("1", b"one"));
    committed(&rig.open("a").await.unwrap()).await;
    let Rig { cache, dir, .. } = rig;
    let gone = Arc::downgrade(&cache);
    drop(cache);
    until("the predecessor to end", || gone.strong_count() == 0).await;
    let rig = Rig::over(dir, limits, table([("a", source("http://h/a"))]));
    rig.will(Reply::NotModified);
    assert_eq!(bytes_of(&rig.open("a").await.unwrap()).await, b"one");
    assert_eq!(rig.asked(), 1);
    assert!(rig.dir.path().exists());
}

/// The digest that the origin gave was compared like a declared one; declared later, it is the same
/// bytes under another identity.
#[tokio::test]
async fn a_digest_that_the_origin_gave_may_be_declared_later() {
    let rig = Rig::new(table([("a", source("http://h/a"))]));
    let said = Head { digest: sha256(b"one"), ..head(Some("1"), Some(3)) };
    rig.will(Reply::Body(said, b"one".to_vec()));
    let first = rig.open("a").await.unwrap();
    until("the commit", || first.version.complete()).await;
    let declared = Source { digest: sha256(b"one"), ..source("http://h/a") };
    rig.cache.bind(table([("a", declared)]));
    let opened = tokio::time::timeout(Duration::from_secs(3), rig.open("a")).await;
    let opened = opened.expect("an answer").unwrap();
    assert_eq!(opened.version.blob.id(), first.version.blob.id());
    assert_eq!(rig.asked(), 1);
}

fn moved() -> Table {
    table([("a", source("http://h/new"))])
}

/// Has the catalogs change while the origin is asked.
async fn change(rig: &Rig) {
    until("the question", || rig.asked() > 0).await;
    rig.cache.bind(moved());
}

#[tokio::test]
async fn an_error_of_the_source_before_is_not_told_of_the_new_one() {
    let rig = Rig::new(table([("a", source("http://h/old"))]));
    rig.will_after(300, Reply::Fail(FailureKind::Gone)).will(found("1", b"new"));
    let after = async {
        change(&rig).await;
        let first = rig.open("a").await;
        (first, rig.open("a").await)
    };
    let (before, (first, second)) = tokio::join!(rig.open("a"), after);
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(bytes_of(&before.unwrap()).await, b"new", "who asked before hears of it too");
    assert_eq!(rig.asked(), 2);
}

#[tokio::test]
async fn a_length_of_the_source_before_is_not_told_of_the_new_one() {
    let rig = Rig::new(table([("a", source("http://h/old"))]));
    rig.will_after(300, found("1", b"old")).will(found("1", b"newer"));
    let after = async {
        change(&rig).await;
        rig.size("a").await.unwrap().length
    };
    let (_, length) = tokio::join!(rig.size("a"), after);
    assert_eq!(length, 5);
}

#[tokio::test]
async fn a_download_of_the_source_before_that_breaks_refuses_nobody_the_new_one() {
    let rig = Rig::new(table([("a", source("http://h/old"))]));
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(head(Some("1"), Some(100)), sent));
    let first = rig.open("a").await.unwrap();
    rig.cache.bind(moved());
    body.send(Err(failure(FailureKind::BadAnswer))).unwrap();
    until("the end", || first.version.blob.broken().is_some()).await;
    rig.will(found("1", b"new"));
    assert_eq!(bytes_of(&rig.open("a").await.unwrap()).await, b"new");
}

#[tokio::test]
async fn a_body_that_waits_for_an_open_is_of_the_source_that_it_was_asked_of() {
    let rig = Rig::new(table([("a", source("http://h/old"))]));
    rig.will(found("1", b"old")).will(found("1", b"newer"));
    rig.size("a").await.unwrap();
    let entry = rig.entry("a");
    let mut open = Box::pin(rig.cache.open(&entry));
    tokio::select! {
        biased;
        _ = &mut open => panic!("it cannot be ready"),
        () = std::future::ready(()) => {}
    }
    rig.cache.bind(moved());
    assert_eq!(bytes_of(&open.await.unwrap()).await, b"newer");
}
