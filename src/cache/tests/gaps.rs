//! Bodies whose rest is asked for by range, and downloads that are gone on with.

use super::*;

const LEN: usize = 3 << 20;

fn rig() -> Rig {
    Rig::new(table([("a", source("http://h/a"))]))
}

fn bytes() -> Arc<Vec<u8>> {
    Arc::new((0..LEN).map(|at| (at * 7 % 251) as u8).collect())
}

/// The one range from a byte to the end.
fn rest(from: u64) -> [std::ops::Range<u64>; 1] {
    std::array::from_fn(|_| from..LEN as u64)
}

fn ranged() -> Head {
    Head { ranges: true, offered: true, ..head(Some("1"), Some(LEN as u64)) }
}

/// Opens a name whose body fails after so many bytes; `then` answers the next question.
async fn open_cut(rig: &Rig, at: usize, then: Option<Reply>) -> Opened {
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(ranged(), sent));
    let opened = rig.open("a").await.unwrap();
    if let Some(reply) = then {
        rig.will(reply);
    }
    body.send(Ok(bytes::Bytes::copy_from_slice(&bytes()[..at]))).unwrap();
    until("the bytes", || opened.version.blob.filled() == at as u64).await;
    body.send(Err(failure(FailureKind::BadAnswer))).unwrap();
    opened
}

#[tokio::test]
async fn the_rest_of_a_cut_body_is_asked_for() {
    let rig = rig();
    rig.origin.parts.lock().unwrap().push_back(PartReply::Of(bytes()));
    let opened = open_cut(&rig, 1 << 20, None).await;
    assert!(bytes_of(&opened).await == *bytes());
    assert_eq!(rig.origin.ranges.lock().unwrap()[..], rest(1 << 20));
}

#[tokio::test]
async fn what_is_checked_first_is_fetched_whole_whatever_is_read() {
    let checked = Source {
        digest: sha256(&bytes()),
        fill: crate::source::Fill::OnRead,
        ..source("http://h/a")
    };
    let rig = Rig::new(table([("a", checked)]));
    let first = bytes()[..1 << 20].to_vec();
    rig.will(Reply::Body(Head { part: Some(0..1 << 20), ..ranged() }, first));
    rig.origin.parts.lock().unwrap().push_back(PartReply::Of(bytes()));
    let opened = tokio::time::timeout(Duration::from_secs(5), rig.open("a")).await;
    assert!(bytes_of(&opened.expect("soon").unwrap()).await == *bytes());
    assert_eq!(rig.origin.ranges.lock().unwrap()[..], rest(1 << 20));
}

#[tokio::test]
async fn ranges_are_to_blame_where_the_pieces_are_wrong_and_one_answer_of_the_version_is_right() {
    let other = Arc::new(vec![9u8; LEN]);
    let whole = |head: Head, bytes: &[u8]| Reply::Body(head, bytes.to_vec());
    let piece = || {
        let first = bytes()[..1 << 20].to_vec();
        Reply::Body(Head { part: Some(0..1 << 20), ..ranged() }, first)
    };
    let (right, wrong) = (sha256(&bytes()), sha256(b"something else"));
    let cases = [
        ("the catalog may be wrong", &wrong, whole(ranged(), &bytes()), bytes(), false, 0),
        ("the same in pieces", &wrong, piece(), bytes(), false, 0),
        ("a piece was wrong", &right, piece(), other.clone(), true, 1),
    ];
    for (what, digest, first, rest_of, fits, lies) in cases {
        let declared = Source { digest: digest.clone(), ..source("http://h/a") };
        let rig = Rig::new(table([("a", declared)]));
        rig.will(first);
        rig.will(whole(ranged(), &bytes()));
        rig.origin.parts.lock().unwrap().push_back(PartReply::Of(rest_of));
        let opened = rig.open("a").await;
        assert_eq!(opened.is_ok(), fits, "{what}");
        assert_eq!(rig.asked(), 2, "{what}");
        until(what, || rig.origin.lies.load(Ordering::Relaxed) == lies).await;
    }
    // What is right the second time is another version: the first may have been right as well.
    let declared = Source { digest: right, ..source("http://h/a") };
    let rig = Rig::new(table([("a", declared)]));
    rig.will(piece());
    let newer = Head { ranges: true, offered: true, ..head(Some("2"), Some(LEN as u64)) };
    rig.will(whole(newer, &bytes()));
    rig.origin.parts.lock().unwrap().push_back(PartReply::Of(other));
    rig.open("a").await.unwrap();
    assert_eq!(rig.origin.ranges.lock().unwrap()[..], rest(1 << 20));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.origin.lies.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn another_version_ends_the_download_and_the_next_open_gets_it() {
    let rig = rig();
    rig.origin.parts.lock().unwrap().push_back(PartReply::Changed);
    let opened = open_cut(&rig, 1 << 20, None).await;
    until("the end", || opened.version.blob.broken().is_some()).await;
    assert_eq!(opened.version.blob.broken().unwrap().errno, libc::EIO);
    until("the name to be free", || rig.entry("a").version().is_none()).await;
    rig.will(found("2", b"second"));
    let second = rig.open("a").await.unwrap();
    assert_eq!(bytes_of(&second).await, b"second");
}

#[tokio::test]
async fn an_origin_without_ranges_is_asked_for_the_whole_once_more() {
    let rig = rig();
    rig.origin.parts.lock().unwrap().push_back(PartReply::NotServed);
    let opened = open_cut(&rig, 1 << 20, None).await;
    rig.will(Reply::Body(ranged(), bytes().to_vec()));
    assert!(bytes_of(&opened).await == *bytes());
}

#[tokio::test]
async fn a_whole_body_of_another_version_does_not_fill_the_gaps() {
    let rig = rig();
    rig.origin.parts.lock().unwrap().push_back(PartReply::NotServed);
    let opened = open_cut(&rig, 1 << 20, None).await;
    let other = Head { ranges: true, ..head(Some("2"), Some(LEN as u64)) };
    rig.will(Reply::Body(other, vec![0; LEN]));
    until("the end", || opened.version.blob.broken().is_some()).await;
    assert_eq!(opened.version.blob.filled(), 1 << 20);
}

#[tokio::test]
async fn what_is_left_of_a_download_is_gone_on_with() {
    let rig = rig();
    // The rest cannot be had: the origin serves no ranges, and then nothing at all.
    let opened = open_cut(&rig, 2 << 20, Some(Reply::Fail(FailureKind::Unreachable))).await;
    until("the end", || opened.version.blob.broken().is_some()).await;
    drop(opened);
    until("the part", || rig.entry("a").state().unfinished.is_some()).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    rig.will(Reply::NotModified);
    rig.origin.parts.lock().unwrap().push_back(PartReply::Of(bytes()));
    rig.origin.ranges.lock().unwrap().clear();
    let again = rig.open("a").await.unwrap();
    assert_eq!(rig.last_condition().unwrap().etag.as_deref(), Some("\"1\""));
    assert!(bytes_of(&again).await == *bytes());
    assert_eq!(rig.origin.ranges.lock().unwrap()[..], rest(2 << 20));
    until("the account to be settled", || rig.cache.ledger().balance().reserved == 0).await;
    assert_eq!(rig.cache.ledger().balance().blobs, 1);
}

#[tokio::test]
async fn a_successor_goes_on_with_what_a_stopped_daemon_left() {
    let rig = rig();
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(ranged(), sent));
    let opened = rig.open("a").await.unwrap();
    body.send(Ok(bytes::Bytes::copy_from_slice(&bytes()[..2 << 20]))).unwrap();
    until("the bytes", || opened.version.blob.filled() == 2 << 20).await;
    rig.cache.stop().await;
    drop(opened);
    let Rig { dir, cache, .. } = rig;
    cache.store.close().unwrap();
    until("the end of the first", || Arc::strong_count(&cache) == 1).await;
    drop(cache);
    let limits = Limits { quota: 64 * MIB, hard: 80 * MIB, min_free: 0 };
    let rig = Rig::over(dir, limits, table([("a", source("http://h/a"))]));
    rig.will(Reply::NotModified);
    rig.origin.parts.lock().unwrap().push_back(PartReply::Of(bytes()));
    let again = rig.open("a").await.unwrap();
    assert!(bytes_of(&again).await == *bytes());
    assert_eq!(rig.origin.ranges.lock().unwrap()[..], rest(2 << 20));
}

#[tokio::test]
async fn another_version_takes_the_place_of_what_was_left() {
    let rig = rig();
    let opened = open_cut(&rig, 2 << 20, Some(Reply::Fail(FailureKind::Unreachable))).await;
    until("the end", || opened.version.blob.broken().is_some()).await;
    drop(opened);
    until("the part", || rig.entry("a").state().unfinished.is_some()).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    rig.will(found("2", b"second"));
    let second = rig.open("a").await.unwrap();
    assert_eq!(bytes_of(&second).await, b"second");
    until("the part to go", || rig.cache.ledger().balance().blobs == 1).await;
}

/// It is the first to go where room is needed, but not for its own rest.
#[tokio::test]
async fn what_is_gone_on_with_does_not_make_room_for_itself() {
    let limits = Limits { quota: 4 * MIB, hard: 8 * MIB, min_free: 0 };
    let on_read = Source { fill: crate::source::Fill::OnRead, ..source("http://h/a") };
    let rig = Rig::with(limits, table([("a", on_read), ("b", source("http://h/b"))]));
    let part = Head { part: Some(0..2 << 20), ..ranged() };
    rig.will(Reply::Body(part, bytes()[..2 << 20].to_vec()));
    rig.origin.parts.lock().unwrap().push_back(PartReply::Fail(FailureKind::Tls));
    let opened = rig.open("a").await.unwrap();
    rig.will(Reply::Fail(FailureKind::Tls));
    until("the part", || opened.version.blob.filled() == 2 << 20).await;
    let rest_of = opened.version.blob.wait_for(2 << 20..LEN as u64, Duration::from_secs(5));
    assert!(rest_of.await.is_err());
    drop(opened);
    until("it to be put aside", || rig.entry("a").state().unfinished.is_some()).await;
    rig.will(found("1", &vec![0; 3 << 19]));
    let held = rig.open("b").await.unwrap();
    committed(&held).await;
    later().await;
    rig.will(Reply::Body(ranged(), bytes().to_vec()));
    rig.origin.parts.lock().unwrap().push_back(PartReply::Of(bytes()));
    rig.origin.ranges.lock().unwrap().clear();
    let opened = rig.open("a").await.unwrap();
    opened.version.blob.want_all();
    assert!(bytes_of(&opened).await == *bytes());
    assert_eq!(rig.origin.ranges.lock().unwrap()[..], rest(2 << 20));
}

/// The place of each part says where it ends.
#[tokio::test]
async fn parts_that_end_with_their_connections_make_a_whole() {
    let partly = Source { fill: crate::source::Fill::OnRead, ..source("http://h/a") };
    let rig = Rig::new(table([("a", partly)]));
    let first = Head { part: Some(0..1 << 20), framing: Framing::Close, ..ranged() };
    rig.will(Reply::Body(first, bytes()[..1 << 20].to_vec()));
    rig.origin.parts.lock().unwrap().push_back(PartReply::Of(bytes()));
    let opened = rig.open("a").await.unwrap();
    opened.version.blob.want_all();
    assert!(bytes_of(&opened).await == *bytes());
}
