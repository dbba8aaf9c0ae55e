//! `revalidate = "http"`: the origin's own header decides how long its answers hold.

use super::*;
use crate::source::{Header, HeaderValue, Revalidate};

fn http() -> Source {
    Source { revalidate: Revalidate::Http, ..source("http://h/a") }
}

fn rig() -> Rig {
    Rig::new(table([("a", http())]))
}

/// What these fields say of an answer that came this long ago.
fn lifetime_of(fields: &[(&str, &str)], ago: Duration) -> Lifetime {
    let at = SystemTime::now() - ago;
    Lifetime::read(fields.iter().map(|(name, value)| (*name, value.as_bytes())), at, at)
}

pub(super) fn lifetime(control: &str) -> Lifetime {
    lifetime_of(&[("cache-control", control)], Duration::ZERO)
}

/// 200 with this tag, if any, and this lifetime; the body is the tag.
fn lasting(tag: Option<&str>, lifetime: Lifetime) -> Reply {
    let bytes = tag.unwrap_or("none").as_bytes();
    Reply::Body(Head { lifetime, ..head(tag, Some(bytes.len() as u64)) }, bytes.to_vec())
}

/// Opens the name, and waits until what it got is committed.
async fn opened(rig: &Rig) -> Opened {
    let opened = rig.open("a").await.unwrap();
    committed(&opened).await;
    opened
}

#[tokio::test]
async fn an_answer_is_used_without_asking_for_as_long_as_it_says() {
    let rig = rig();
    let aged = |age: u64| {
        lifetime_of(&[("cache-control", "max-age=60"), ("age", &age.to_string())], Duration::ZERO)
    };
    rig.will(lasting(Some("one"), aged(0)));
    opened(&rig).await;
    later().await;
    assert_eq!(bytes_of(&rig.open("a").await.unwrap()).await, b"one");
    assert_eq!(rig.asked(), 1, "fresh");

    rig.cache.bind(table([("a", source("http://h/a"))]));
    rig.will(Reply::Lasts(aged(60)));
    rig.open("a").await.unwrap();
    assert_eq!(rig.asked(), 2, "the policy is another one");
    rig.cache.bind(table([("a", http())]));
    later().await;
    rig.will(Reply::Lasts(lifetime_of(&[], Duration::ZERO)));
    rig.open("a").await.unwrap();
    assert_eq!(rig.asked(), 3, "the 304 was as old as the answer may be");
    later().await;
    assert_eq!(bytes_of(&rig.open("a").await.unwrap()).await, b"one");
    assert_eq!(rig.asked(), 3, "the next 304 left the lifetime as it was");
}

#[tokio::test]
async fn a_lifetime_outlives_the_daemon() {
    let limits = Limits { quota: 64 * MIB, hard: 80 * MIB, min_free: 0 };
    let over = |dir: Place| Rig::over(dir, limits, table([("a", http())]));
    let end = |rig: Rig| async move {
        let Rig { cache, dir, .. } = rig;
        let gone = Arc::downgrade(&cache);
        drop(cache);
        until("the predecessor to end", || gone.strong_count() == 0).await;
        dir
    };
    let rig = over(tempfile::tempdir().unwrap().into());
    // Without a validator it is its lifetime alone that makes it worth keeping.
    rig.will(lasting(None, lifetime("max-age=60")));
    opened(&rig).await;
    let rig = over(end(rig).await);
    assert_eq!(bytes_of(&rig.open("a").await.unwrap()).await, b"none");
    assert_eq!(rig.asked(), 0);

    let rig = Rig::over(end(rig).await, limits, table([("a", source("http://h/a"))]));
    until("the blob to go", || rig.cache.ledger().balance() == Balance::default()).await;
}

#[tokio::test]
async fn what_is_not_to_be_stored_goes_with_its_last_holder() {
    let rig = rig();
    rig.will(lasting(Some("one"), lifetime("no-store, max-age=60")));
    let held = rig.open("a").await.unwrap();
    later().await;
    assert!(!held.version.keep);
    assert_eq!(rig.cache.ledger().balance().blobs, 1, "held");
    drop(held);
    until("the body to go", || rig.cache.ledger().balance().blobs == 0).await;

    rig.will(lasting(Some("two"), lifetime("max-age=0")));
    let held = opened(&rig).await;
    later().await;
    rig.will(Reply::Lasts(lifetime("no-store")));
    drop(rig.open("a").await.unwrap());
    assert_eq!(rig.told.leaving.load(Ordering::Relaxed), 1);
    assert_eq!(bytes_of(&held).await, b"two");
    drop(held);
    until("the body to go", || rig.cache.ledger().balance().blobs == 0).await;
    until("its file to go", || rig.cache.store.resident().unwrap() == 0).await;

    // Where the origin is not followed, its word on this is not asked for.
    rig.cache.bind(table([("a", source("http://h/a"))]));
    rig.will(lasting(Some("three"), lifetime("no-store")));
    assert!(rig.open("a").await.unwrap().version.keep);
}

#[tokio::test]
async fn a_stale_version_is_served_while_one_flight_asks_behind() {
    let rig = rig();
    let grace = "max-age=0, stale-while-revalidate=60";
    rig.will(lasting(Some("one"), lifetime(grace)));
    opened(&rig).await;
    later().await;
    let (body, sent) = mpsc::unbounded_channel();
    rig.will_after(
        300,
        Reply::Slow(Head { lifetime: lifetime(grace), ..head(Some("two"), Some(3)) }, sent),
    );
    for _ in 0..3 {
        let opened = rig.open("a").await.unwrap();
        assert_eq!(bytes_of(&opened).await, b"one");
        assert!(!opened.waited);
        assert!(rig.entry("a").flying());
    }
    until("the answer", || rig.entry("a").version().is_some_and(|v| !v.complete())).await;
    assert_eq!(rig.asked(), 2, "one flight");
    body.send(Ok(b"two"[..].into())).unwrap();
    drop(body);
    assert_eq!(bytes_of(&rig.open("a").await.unwrap()).await, b"two");
    assert!(rig.told.moved.load(Ordering::Relaxed) > 0);

    // A failure behind is no failure of the open, nor of those that follow.
    committed(&rig.open("a").await.unwrap()).await;
    later().await;
    rig.will(Reply::Fail(FailureKind::Status));
    for _ in 0..3 {
        assert_eq!(bytes_of(&rig.open("a").await.unwrap()).await, b"two");
        until("the flight to end", || !rig.entry("a").flying()).await;
    }
    assert_eq!(rig.asked(), 3, "the failure is remembered");
}

#[tokio::test]
async fn the_origin_may_say_whether_its_failure_is_covered() {
    let hour = Duration::from_secs(3600);
    let covered = async |control: &str, ago: Duration| {
        let rig = rig();
        rig.will(lasting(Some("one"), lifetime_of(&[("cache-control", control)], ago)));
        opened(&rig).await;
        later().await;
        rig.will(Reply::Fail(FailureKind::Status));
        let opened = rig.open("a").await.is_ok();
        assert_eq!(rig.asked(), 2, "{control}");
        // As long as the failure is remembered, the answer is the same.
        assert_eq!(rig.open("a").await.is_ok(), opened, "{control}");
        opened
    };
    assert!(covered("max-age=0", Duration::ZERO).await, "the catalog's 24 hours");
    assert!(!covered("max-age=0, must-revalidate", Duration::ZERO).await);
    assert!(!covered("max-age=60, no-cache", Duration::ZERO).await);
    assert!(covered("max-age=0, stale-if-error=4000", hour).await);
    assert!(!covered("max-age=0, stale-if-error=3000", hour).await);
}

#[tokio::test]
async fn an_answer_chosen_by_a_header_of_the_catalog_is_asked_about() {
    let header =
        Header { name: "x-tenant".to_owned(), value: HeaderValue::Literal("a".to_owned()) };
    let rig = Rig::new(table([("a", Source { headers: vec![header], ..http() })]));
    let varying =
        |by| lifetime_of(&[("cache-control", "max-age=60"), ("vary", by)], Duration::ZERO);
    rig.will(lasting(Some("one"), varying("X-Tenant")));
    opened(&rig).await;
    later().await;
    rig.will(Reply::Lasts(varying("Accept")));
    rig.open("a").await.unwrap();
    assert_eq!(rig.asked(), 2);
    later().await;
    rig.open("a").await.unwrap();
    assert_eq!(rig.asked(), 2, "a field that is always the same");
}

/// Its field may have had another value when the copy was chosen by it.
#[tokio::test]
async fn a_copy_chosen_by_a_header_of_the_catalog_is_not_served_unasked() {
    let by = |value: &str| {
        let value = HeaderValue::Literal(value.to_owned());
        Source { headers: vec![Header { name: "x-tenant".to_owned(), value }], ..http() }
    };
    let rig = Rig::new(table([("a", by("one"))]));
    let fields = [("cache-control", "max-age=60, stale-if-error=60"), ("vary", "x-tenant")];
    rig.will(lasting(Some("one"), lifetime_of(&fields, Duration::ZERO)));
    opened(&rig).await;
    later().await;
    rig.cache.bind(table([("a", by("two"))]));
    rig.will(Reply::Fail(FailureKind::Status));
    assert_eq!(rig.open("a").await.err().map(|error| error.errno), Some(libc::EIO));
    later().await;
    rig.will(Reply::NotModified);
    assert_eq!(bytes_of(&rig.open("a").await.unwrap()).await, b"one");
}
