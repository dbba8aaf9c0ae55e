//! Other bytes under the same strong tag, of which a part is at hand.

use super::*;
use crate::source::{Fill, Revalidate};

const LEN: usize = 3 << 20;
const STALL: Duration = Duration::from_secs(5);

fn bytes() -> Arc<Vec<u8>> {
    Arc::new((0..LEN).map(|at| (at * 7 % 251) as u8).collect())
}

/// The same but for one byte.
fn other(at: usize) -> Arc<Vec<u8>> {
    let mut bytes = bytes().to_vec();
    bytes[at] ^= 1;
    Arc::new(bytes)
}

fn ranged() -> Head {
    Head { ranges: true, offered: true, ..head(Some("1"), Some(LEN as u64)) }
}

fn rig(fill: Fill) -> Rig {
    Rig::new(table([("a", Source { fill, ..source("http://h/a") })]))
}

fn lies(rig: &Rig) -> usize {
    rig.origin.lies.load(Ordering::Relaxed)
}

/// Opens a name whose body ends early, with nothing to be had of the rest, and leaves a part.
async fn leave_a_part(rig: &Rig, length: usize) {
    rig.will(Reply::Body(ranged(), bytes()[..length].to_vec()));
    rig.will(Reply::Fail(FailureKind::Unreachable));
    rig.origin.parts.lock().unwrap().push_back(PartReply::NotServed);
    let opened = rig.open("a").await.unwrap();
    until("the end", || opened.version.blob.broken().is_some()).await;
    drop(opened);
    until("the part", || rig.entry("a").state().unfinished.is_some()).await;
    rig.origin.ranges.lock().unwrap().clear();
    later().await;
}

#[tokio::test]
async fn a_reader_of_a_part_gets_no_byte_of_what_came_in_its_place() {
    for (what, again, lied) in [("the same", bytes(), false), ("other bytes", other(1000), true)] {
        let rig = rig(Fill::OnRead);
        rig.will(Reply::Ranged(ranged(), bytes()));
        let first = rig.open("a").await.unwrap();
        let tail = LEN as u64 - 4096..LEN as u64;
        first.version.blob.wait_for(tail.clone(), STALL).await.unwrap();
        until("the beginning", || first.version.blob.present(0..4096).is_some()).await;
        later().await;
        // The condition is not understood.
        rig.will(Reply::Ranged(ranged(), again.clone()));
        let second = rig.open("a").await.unwrap();
        second.version.blob.wait_for(0..4096, STALL).await.unwrap();
        if lied {
            until(what, || lies(&rig) == 1).await;
            // Then no range is asked for any more.
            rig.origin.parts.lock().unwrap().push_back(PartReply::NotServed);
            rig.will(Reply::Body(ranged(), again.to_vec()));
        }
        second.version.blob.want_all();
        assert!(bytes_of(&second).await == *again, "{what}");
        let middle = first.version.blob.wait_for(1 << 20..2 << 20, STALL).await;
        assert_eq!(middle.is_err(), lied, "{what}");
        let broken = first.version.blob.broken();
        assert_eq!(broken.as_ref().is_some_and(|b| b.superseded && b.errno == libc::EIO), lied);
        assert!(first.version.blob.present(tail).is_some(), "{what}: what is there stays");
        assert_eq!(lies(&rig), usize::from(lied), "{what}");
        drop(first);
        if lied {
            until("the end of the first", || rig.cache.ledger().balance().blobs == 1).await;
            assert!(rig.entry("a").state().unfinished.is_none(), "never gone on with");
        }
    }
}

/// The answer that differs need not be the first: what came before it is of the other body.
#[tokio::test]
async fn a_download_that_differs_from_a_part_in_a_later_answer_is_mixed_itself() {
    let rig = rig(Fill::OnRead);
    rig.will(Reply::Ranged(ranged(), bytes()));
    let first = rig.open("a").await.unwrap();
    let tail = LEN as u64 - 4096..LEN as u64;
    first.version.blob.wait_for(tail.clone(), STALL).await.unwrap();
    later().await;
    let beginning = Head { part: Some(0..64 << 10), ..ranged() };
    rig.will(Reply::Body(beginning, bytes()[..64 << 10].to_vec()));
    rig.origin.parts.lock().unwrap().push_back(PartReply::Of(other(LEN - 1)));
    let second = rig.open("a").await.unwrap();
    until("the beginning", || second.version.blob.filled() == 64 << 10).await;
    assert!(second.version.blob.wait_for(tail, STALL).await.is_err());
    for (which, opened) in [("the first", &first), ("the second", &second)] {
        until(which, || opened.version.blob.broken().is_some_and(|b| b.superseded)).await;
    }
    assert_eq!(lies(&rig), 1);
    drop((first, second));
    until("both to go", || rig.cache.ledger().balance().blobs == 0).await;
}

/// Of which all is to come: its answer goes on as long as it is the same.
#[tokio::test]
async fn a_stream_under_way_ends_where_another_has_other_bytes() {
    let rig = rig(Fill::All);
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(ranged(), sent));
    let first = rig.open("a").await.unwrap();
    body.send(Ok(bytes::Bytes::copy_from_slice(&bytes()[..1 << 20]))).unwrap();
    until("the bytes", || first.version.blob.filled() == 1 << 20).await;
    later().await;
    let instead = other((1 << 20) - 1);
    rig.will(Reply::Body(ranged(), instead.to_vec()));
    let second = rig.open("a").await.unwrap();
    assert!(bytes_of(&second).await == *instead);
    until("the lie", || lies(&rig) == 1).await;
    assert!(first.version.blob.broken().is_some());
    assert_eq!(first.version.blob.filled(), 1 << 20);
    // What still comes of it is not taken.
    let _ = body.send(Ok(bytes::Bytes::copy_from_slice(&bytes()[1 << 20..])));
    let blob = first.version.blob.clone();
    drop(first);
    until("the account", || rig.cache.ledger().balance().blobs == 1).await;
    assert_eq!(blob.filled(), 1 << 20);
    assert!(rig.entry("a").version().is_some_and(|version| version.complete()));
}

/// Answers with the whole, or with its beginning, in frames as they come off a wire.
fn in_frames(part: Option<u64>, bytes: &[u8]) -> Reply {
    let (body, sent) = mpsc::unbounded_channel();
    let all = part.map_or(bytes, |end| &bytes[..end as usize]);
    for frame in all.chunks(4096) {
        body.send(Ok(bytes::Bytes::copy_from_slice(frame))).unwrap();
    }
    Reply::Slow(Head { part: part.map(|end| 0..end), ..ranged() }, sent)
}

#[tokio::test]
async fn what_is_gone_on_with_is_compared_with_what_comes() {
    for part in [None, Some(64 << 10)] {
        let going_on = rig(Fill::All);
        leave_a_part(&going_on, 2 << 20).await;
        going_on.will(in_frames(part, &bytes()));
        going_on.origin.parts.lock().unwrap().push_back(PartReply::Of(bytes()));
        assert!(bytes_of(&going_on.open("a").await.unwrap()).await == *bytes());
        assert_eq!(going_on.origin.ranges.lock().unwrap()[..], [2 << 20..LEN as u64; 1]);
        assert_eq!(lies(&going_on), 0);

        let rig = rig(Fill::All);
        leave_a_part(&rig, 2 << 20).await;
        // In the last of what is compared.
        let instead = other((64 << 10) - 1);
        rig.will(in_frames(part, &instead));
        rig.origin.parts.lock().unwrap().push_back(PartReply::Of(instead.clone()));
        let opened = rig.open("a").await.unwrap();
        until("the end", || opened.version.blob.broken().is_some()).await;
        assert!(opened.version.blob.broken().unwrap().superseded);
        assert_eq!(lies(&rig), 1);
        drop(opened);
        until("the part to go", || rig.cache.ledger().balance().blobs == 0).await;
        rig.will(Reply::Body(ranged(), instead.to_vec()));
        assert!(bytes_of(&rig.open("a").await.unwrap()).await == *instead);
    }
}

#[tokio::test]
async fn a_whole_answer_that_fills_gaps_is_compared_with_what_is_there() {
    let rig = rig(Fill::All);
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(ranged(), sent));
    rig.origin.parts.lock().unwrap().push_back(PartReply::NotServed);
    let opened = rig.open("a").await.unwrap();
    rig.will(Reply::Body(ranged(), other((1 << 20) - 1).to_vec()));
    body.send(Ok(bytes::Bytes::copy_from_slice(&bytes()[..1 << 20]))).unwrap();
    until("the bytes", || opened.version.blob.filled() == 1 << 20).await;
    body.send(Err(failure(FailureKind::BadAnswer))).unwrap();
    until("the end", || opened.version.blob.broken().is_some()).await;
    assert_eq!(lies(&rig), 1);
    assert!(!opened.version.complete());
}

/// Nobody has seen the part, and the digest is the judge.
#[tokio::test]
async fn where_a_digest_is_checked_first_other_bytes_cost_a_fetch_and_no_failure() {
    let instead = other(1000);
    let declared = Source { digest: sha256(&instead), ..source("http://h/a") };
    let rig = Rig::new(table([("a", declared)]));
    rig.will(Reply::Body(ranged(), bytes()[..2 << 20].to_vec()));
    rig.will(Reply::Fail(FailureKind::Unreachable));
    rig.origin.parts.lock().unwrap().push_back(PartReply::NotServed);
    assert!(rig.open("a").await.is_err());
    until("the part", || rig.entry("a").state().unfinished.is_some()).await;
    later().await;
    rig.will(in_frames(None, &instead));
    rig.will(Reply::Body(ranged(), instead.to_vec()));
    assert!(bytes_of(&rig.open("a").await.unwrap()).await == *instead);
}

/// What may not be kept any more is fetched in one answer, over what is there of it.
#[tokio::test]
async fn a_part_that_may_not_be_kept_any_more_is_read_over_once() {
    let followed = Source { revalidate: Revalidate::Http, ..source("http://h/a") };
    let rig = Rig::new(table([("a", followed)]));
    leave_a_part(&rig, 2 << 20).await;
    let asked = rig.asked();
    rig.will(Reply::Lasts(lifetimes::lifetime("no-store")));
    rig.will(Reply::Body(ranged(), bytes().to_vec()));
    let opened = rig.open("a").await.unwrap();
    let all = opened.version.blob.wait_for(0..LEN as u64, STALL).await;
    assert!(all.is_ok(), "{all:?}");
    assert_eq!(rig.asked() - asked, 2);
}
