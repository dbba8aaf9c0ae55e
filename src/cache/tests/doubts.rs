//! Versions that cannot be had whole: who is to blame, and what is served meanwhile.

use super::*;
use crate::source::{Fill, Integrity};
use crate::store::Broken;

const LEN: usize = 3 << 20;

fn bytes() -> Arc<Vec<u8>> {
    Arc::new((0..LEN).map(|at| (at * 7 % 251) as u8).collect())
}

fn ranged(tag: &str) -> Head {
    Head { ranges: true, offered: true, ..head(Some(tag), Some(LEN as u64)) }
}

/// Has the next answer bring the beginning, and a piece the rest.
fn in_pieces(rig: &Rig, rest: Arc<Vec<u8>>) {
    let first = bytes()[..1 << 20].to_vec();
    rig.will(Reply::Body(Head { part: Some(0..1 << 20), ..ranged("1") }, first));
    rig.origin.parts.lock().unwrap().push_back(PartReply::Of(rest));
}

/// A digest that is checked at the end: nobody can fetch it once more for those who read already.
#[tokio::test]
async fn a_second_answer_tells_whether_the_pieces_or_the_digest_were_wrong() {
    let wrong = Arc::new([&bytes()[..1 << 20], &vec![9; LEN - (1 << 20)]].concat());
    let cases = [
        ("the digest is wrong", sha256(b"something else"), bytes(), 0),
        ("a piece was wrong", sha256(&bytes()), wrong, 1),
    ];
    for (what, digest, rest, lies) in cases {
        let eventual = Source { digest, integrity: Integrity::Eventual, ..source("http://h/a") };
        let rig = Rig::new(table([("a", eventual)]));
        in_pieces(&rig, rest);
        let opened = rig.open("a").await.unwrap();
        until(what, || opened.version.blob.broken().is_some()).await;
        assert_eq!(rig.origin.lies.load(Ordering::Relaxed), 0, "{what}: one answer alone");
        drop(opened);
        tokio::time::sleep(Duration::from_millis(1100)).await;
        rig.will(Reply::Body(ranged("1"), bytes().to_vec()));
        let opened = rig.open("a").await.unwrap();
        let ended = || opened.version.complete() || opened.version.blob.broken().is_some();
        until(what, ended).await;
        assert_eq!(opened.version.complete(), lies > 0, "{what}");
        until(what, || rig.origin.lies.load(Ordering::Relaxed) == lies).await;
        assert_eq!(rig.origin.ranges.lock().unwrap().len(), 1, "{what}: all in one answer");
    }
}

/// What was wrong was the catalog: that its correction fits says nothing of the pieces.
#[tokio::test]
async fn a_digest_that_is_corrected_is_not_laid_to_the_origin() {
    let eventual =
        |digest| Source { digest, integrity: Integrity::Eventual, ..source("http://h/a") };
    let rig = Rig::new(table([("a", eventual(sha256(b"misspelt")))]));
    in_pieces(&rig, bytes());
    let opened = rig.open("a").await.unwrap();
    until("the end", || opened.version.blob.broken().is_some()).await;
    drop(opened);
    until("it to be noted", || rig.entry("a").last_error().is_some()).await;
    rig.cache.bind(table([("a", eventual(sha256(&bytes())))]));
    rig.will(Reply::Body(ranged("1"), bytes().to_vec()));
    committed(&rig.open("a").await.unwrap()).await;
    later().await;
    assert_eq!(rig.origin.lies.load(Ordering::Relaxed), 0);
}

/// As above, of digests that the answers give.
#[tokio::test]
async fn another_digest_is_another_claim() {
    let rig = Rig::new(table([("a", source("http://h/a"))]));
    let with = |digest| Head { digest, ..ranged("1") };
    let first = Head { part: Some(0..1 << 20), ..with(sha256(b"misspelt")) };
    rig.will(Reply::Body(first, bytes()[..1 << 20].to_vec()));
    rig.origin.parts.lock().unwrap().push_back(PartReply::Of(bytes()));
    let opened = rig.open("a").await.unwrap();
    until("the end", || opened.version.blob.broken().is_some()).await;
    drop(opened);
    until("it to be noted", || rig.entry("a").last_error().is_some()).await;
    assert!(rig.entry("a").state().doubt.is_some());
    later().await;
    rig.will(Reply::Body(with(sha256(&bytes())), bytes().to_vec()));
    committed(&rig.open("a").await.unwrap()).await;
    later().await;
    assert_eq!(rig.origin.lies.load(Ordering::Relaxed), 0);
}

/// What the first answer could not tell is still to be told by the next.
#[tokio::test]
async fn an_answer_that_is_cut_leaves_the_doubt_as_it_was() {
    let digest = sha256(&bytes());
    let eventual = Source { digest, integrity: Integrity::Eventual, ..source("http://h/a") };
    let rig = Rig::new(table([("a", eventual)]));
    let fails = async |what: &str| {
        let opened = rig.open("a").await.unwrap();
        until(what, || opened.version.blob.broken().is_some()).await;
        drop(opened);
        until("it to be noted", || rig.entry("a").last_error().is_some()).await;
        later().await;
    };
    in_pieces(&rig, Arc::new(vec![9; LEN]));
    fails("wrong pieces").await;
    rig.will(Reply::Body(ranged("1"), bytes()[..2 << 20].to_vec()));
    fails("a cut").await;
    assert_eq!(rig.origin.ranges.lock().unwrap().len(), 1, "the rest is not asked for");
    rig.will(Reply::Body(ranged("1"), bytes().to_vec()));
    committed(&rig.open("a").await.unwrap()).await;
    until("who was wrong", || rig.origin.lies.load(Ordering::Relaxed) == 1).await;
}

/// Offers a version, and has another one as soon as a range is asked for.
async fn changes(rig: &Rig, tag: &str) -> bool {
    later().await;
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(ranged(tag), sent));
    rig.origin.parts.lock().unwrap().push_back(PartReply::Changed);
    let opened = rig.open("a").await.unwrap();
    body.send(Ok(vec![2; 1 << 20].into())).unwrap();
    body.send(Err(failure(FailureKind::BadAnswer))).unwrap();
    until("the end", || opened.version.blob.broken().is_some()).await;
    let superseded = opened.version.blob.broken().unwrap().superseded;
    until("what was before", || rig.entry("a").version().is_some_and(|version| version.complete()))
        .await;
    superseded
}

/// Several servers, say, whose tags differ: the origin has another version as soon as it is asked
/// again, and comes back to the one before.
#[tokio::test]
async fn an_origin_that_goes_back_and_forth_does_not_withhold_the_copy_at_hand() {
    let rig = Rig::new(table([("a", source("http://h/a"))]));
    rig.will(found("1", b"one"));
    committed(&rig.open("a").await.unwrap()).await;
    assert!(changes(&rig, "2").await);
    // What changed a moment after it was offered is asked for in one answer.
    later().await;
    rig.will(Reply::Body(ranged("3"), bytes().to_vec()));
    let opened = rig.open("a").await.unwrap();
    committed(&opened).await;
    assert_eq!(rig.origin.ranges.lock().unwrap().len(), 1);
    let wavered = || rig.origin.wavered.load(Ordering::Relaxed);
    assert_eq!(wavered(), 0);
    // Whoever comes upon it again is to take it as a failure, which is excused by the copy.
    assert!(!changes(&rig, "2").await);
    until("it to be noted", || wavered() == 1).await;
    until("the failure to be noted", || rig.entry("a").last_error().is_some()).await;
    let asked = rig.asked();
    let opened = rig.open("a").await.unwrap();
    assert!(bytes_of(&opened).await == *bytes());
    assert_eq!(rig.asked(), asked);
    let (_, error) = rig.entry("a").last_error().unwrap();
    assert!(error.why == Refusal::BadBody && error.message.contains("each time"), "{error:?}");
}

/// As the change of an archive of which little is read: always another version.
#[tokio::test]
async fn what_changes_a_moment_after_it_was_offered_comes_in_one_answer_the_next_time() {
    let partly = Source { fill: Fill::OnRead, ..source("http://h/a") };
    let rig = Rig::new(table([("a", partly)]));
    let all = LEN as u64;
    for tag in ["1", "2"] {
        rig.will(Reply::Ranged(ranged(tag), bytes()));
        rig.origin.parts.lock().unwrap().push_back(PartReply::Changed);
        let opened = rig.open("a").await.unwrap();
        assert!(opened.version.blob.wait_for(all - 1..all, Duration::from_secs(5)).await.is_err());
        until("the end", || opened.version.blob.broken().is_some()).await;
        drop(opened);
        later().await;
        let again = format!("{tag} again");
        rig.will(Reply::Body(ranged(&again), bytes().to_vec()));
        let opened = rig.open("a").await.unwrap();
        assert!(bytes_of(&opened).await == *bytes());
        committed(&opened).await;
        later().await;
    }
    assert_eq!(rig.origin.ranges.lock().unwrap().len(), 2, "none beside the one answer");
    assert_eq!(rig.origin.wavered.load(Ordering::Relaxed), 0);
}

/// The whole version that one with gaps is to replace outlives that, however it ends.
#[tokio::test]
async fn what_was_to_be_replaced_comes_back_where_what_replaces_it_is_evicted() {
    let partly = Source { fill: Fill::OnRead, ..source("http://h/a") };
    let rig = Rig::new(table([("a", partly)]));
    rig.will(found("1", b"one"));
    committed(&rig.open("a").await.unwrap()).await;
    later().await;
    rig.will(Reply::Ranged(ranged("2"), bytes()));
    let opened = rig.open("a").await.unwrap();
    until("the beginning", || opened.version.blob.filled() == 64 << 10).await;
    drop(opened);
    let evict = async || rig.cache.evict(&rig.entry("a")).await;
    let mut outcome = evict().await;
    while matches!(outcome, EvictOutcome::Pinned(_) | EvictOutcome::Held) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        outcome = evict().await;
    }
    assert!(matches!(outcome, EvictOutcome::Evicted(_)), "{outcome:?}");
    let before = rig.entry("a").version().expect("what was before");
    assert_eq!(before.validators.strong(), Some("\"1\""));
    rig.will(Reply::NotModified);
    assert_eq!(bytes_of(&rig.open("a").await.unwrap()).await, b"one");
}

/// What comes back while the next version is asked for stays behind that one.
#[tokio::test]
async fn what_came_back_while_the_origin_was_asked_outlives_what_lands_then() {
    let partly = Source { fill: Fill::OnRead, ..source("http://h/a") };
    let rig = Rig::new(table([("a", partly)]));
    rig.will(found("1", b"one"));
    committed(&rig.open("a").await.unwrap()).await;
    let first = rig.entry("a").version().unwrap().blob.id();
    later().await;
    rig.will(Reply::Ranged(ranged("2"), bytes()));
    let second = rig.open("a").await.unwrap();
    later().await;
    let after = Duration::from_millis(300);
    rig.origin.script.lock().unwrap().push_back((after, Reply::Ranged(ranged("3"), bytes())));
    let third = async {
        let third = rig.open("a").await.unwrap();
        assert_eq!(third.version.validators.strong(), Some("\"3\""));
        third
    };
    let breaks = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        second.version.blob.fail(Broken {
            message: "the origin has another version".to_owned(),
            errno: libc::EIO,
            tainted: false,
            superseded: true,
        });
        let back = || rig.entry("a").version().is_some_and(|v| v.blob.id() == first);
        rig.entry("a").lost(second.version.blob.id(), false);
        until("the first to be back", back).await;
    };
    let (third, ()) = tokio::join!(third, breaks);
    rig.entry("a").lost(third.version.blob.id(), false);
    assert_eq!(rig.entry("a").version().expect("the first").blob.id(), first);
}

/// All of it may not fit where what is read does.
#[tokio::test]
async fn what_is_too_much_in_one_answer_is_asked_for_in_pieces_again() {
    let partly = Source { fill: Fill::OnRead, ..source("http://h/a") };
    let rig = Rig::with(
        Limits { quota: 6 * MIB, hard: 6 * MIB, min_free: 0 },
        table([("a", partly), ("b", source("http://h/b"))]),
    );
    let all = LEN as u64;
    rig.will(Reply::Ranged(ranged("1"), bytes()));
    rig.origin.parts.lock().unwrap().push_back(PartReply::Changed);
    let opened = rig.open("a").await.unwrap();
    assert!(opened.version.blob.wait_for(all - 1..all, Duration::from_secs(5)).await.is_err());
    until("the end", || opened.version.blob.broken().is_some()).await;
    drop(opened);
    rig.will(found("1", &vec![0; 4 << 20]));
    let held = rig.open("b").await.unwrap();
    committed(&held).await;
    later().await;
    rig.will(Reply::Body(ranged("2"), bytes().to_vec()));
    assert_eq!(errno(rig.open("a").await), libc::ENOSPC);
    later().await;
    rig.will(Reply::Ranged(ranged("3"), bytes()));
    let opened = rig.open("a").await.unwrap();
    opened.version.blob.wait_for(all - 1..all, Duration::from_secs(5)).await.unwrap();
}

/// Without a digest nothing but the bytes at hand can tell.
#[tokio::test]
async fn other_bytes_under_the_same_strong_tag_are_noticed_by_what_is_at_hand() {
    let weak = || Head {
        validators: Validators {
            etag: Some("W/\"1\"".to_owned()),
            last_modified: None,
            resource: None,
        },
        ..head(None, Some(3))
    };
    let unannounced = || head(Some("1"), None);
    let cases = [
        ("the same", found("1", b"one"), 0),
        ("the same, in chunks", Reply::Body(unannounced(), b"one".to_vec()), 0),
        ("another tag", found("2", b"two"), 0),
        ("a weak tag", Reply::Body(weak(), b"two".to_vec()), 0),
        ("other bytes", found("1", b"two"), 1),
        ("another length", found("1", b"three"), 1),
        ("other bytes, in chunks", Reply::Body(unannounced(), b"two".to_vec()), 1),
        ("another length, in chunks", Reply::Body(unannounced(), b"three".to_vec()), 1),
    ];
    for (what, again, lies) in cases {
        let rig = Rig::new(table([("a", source("http://h/a"))]));
        rig.will(found("1", b"one"));
        committed(&rig.open("a").await.unwrap()).await;
        later().await;
        let Reply::Body(_, expected) = &again else { unreachable!() };
        let expected = expected.clone();
        rig.will(again);
        let opened = rig.open("a").await.unwrap();
        assert_eq!(bytes_of(&opened).await, expected, "{what}");
        // It is compared before it is all there is.
        until(what, || rig.entry("a").state().fallback.is_none()).await;
        assert_eq!(rig.origin.lies.load(Ordering::Relaxed), lies, "{what}");
    }
}
