//! The whole, asked for instead of ranges that stopped coming.

use super::*;

const LEN: usize = 3 << 20;
const STALL: Duration = Duration::from_secs(5);
const BEGINNING: usize = 64 << 10;

fn bytes() -> Arc<Vec<u8>> {
    Arc::new((0..LEN).map(|at| (at * 7 % 251) as u8).collect())
}

fn ranged() -> Head {
    Head { ranges: true, offered: true, ..head(Some("1"), Some(LEN as u64)) }
}

/// Opens a name of which only its beginning is there, and one range that was read.
async fn begun() -> (Rig, Opened) {
    begun_within(Limits { quota: 64 * MIB, hard: 80 * MIB, min_free: 0 }).await
}

async fn begun_within(limits: Limits) -> (Rig, Opened) {
    begun_over(1, limits).await
}

async fn begun_over(connections: usize, limits: Limits) -> (Rig, Opened) {
    let on_read = Source { fill: crate::source::Fill::OnRead, ..source("http://h/a") };
    let rig = Rig::with(limits, table([("a", on_read), ("b", source("http://h/b"))]));
    rig.origin.connections.store(connections, Ordering::Relaxed);
    rig.origin.parts.lock().unwrap().push_back(PartReply::Of(bytes()));
    let beginning = Head { part: Some(0..BEGINNING as u64), ..ranged() };
    rig.will(Reply::Body(beginning, bytes()[..BEGINNING].to_vec()));
    let opened = rig.open("a").await.unwrap();
    opened.version.blob.wait_for(1 << 20..(1 << 20) + 10, STALL).await.unwrap();
    until("the range to end", || opened.version.blob.filled() == 2 * BEGINNING as u64).await;
    (rig, opened)
}

fn fail(rig: &Rig, reply: fn() -> PartReply) {
    rig.origin.parts.lock().unwrap().extend((0..8).map(|_| reply()));
}

fn silent() -> PartReply {
    PartReply::Dead(FailureKind::Silent)
}

fn busy() -> PartReply {
    PartReply::Fail(FailureKind::Status)
}

#[tokio::test]
async fn the_whole_is_asked_for_where_ranges_stop_coming() {
    let (rig, opened) = begun().await;
    fail(&rig, silent);
    rig.will(Reply::Body(ranged(), bytes().to_vec()));
    opened.version.blob.wait_for(2 << 20..(2 << 20) + 10, STALL).await.unwrap();
    assert!(bytes_of(&opened).await == *bytes());
    assert_eq!((rig.asked(), rig.origin.ranges.lock().unwrap().len()), (2, 3), "two fell silent");
}

#[tokio::test]
async fn the_whole_that_is_wanted_is_asked_for_where_ranges_are_refused() {
    let (rig, opened) = begun().await;
    fail(&rig, busy);
    rig.will(Reply::Body(ranged(), bytes().to_vec()));
    opened.version.blob.want_all();
    assert!(bytes_of(&opened).await == *bytes());
    assert_eq!((rig.asked(), rig.origin.ranges.lock().unwrap().len()), (2, 2));
}

/// More than anybody wants is not asked for because the origin is away.
#[tokio::test]
async fn an_outage_is_no_reason_to_ask_for_the_whole() {
    let (rig, opened) = begun().await;
    fail(&rig, busy);
    let blob = &opened.version.blob;
    assert!(blob.wait_for(2 << 20..(2 << 20) + 10, STALL).await.is_err());
    assert!(rig.asked() == 1 && blob.broken().is_none());
    *rig.origin.parts.lock().unwrap() = std::iter::once(PartReply::Of(bytes())).collect();
    blob.wait_for(2 << 20..(2 << 20) + 10, STALL).await.unwrap();
    assert!(rig.asked() == 1 && blob.filled() < LEN as u64);
}

#[tokio::test]
async fn ranges_are_asked_for_again_where_the_whole_was_in_vain() {
    for kind in [FailureKind::Silent, FailureKind::Unreachable, FailureKind::Status] {
        let (rig, opened) = begun().await;
        fail(&rig, silent);
        rig.will(Reply::Fail(kind));
        let blob = &opened.version.blob;
        assert!(blob.wait_for(2 << 20..(2 << 20) + 10, STALL).await.is_err(), "{kind:?}");
        assert!(rig.asked() == 2 && blob.broken().is_none(), "{kind:?}");
        *rig.origin.parts.lock().unwrap() = std::iter::once(PartReply::Of(bytes())).collect();
        blob.wait_for(2 << 20..(2 << 20) + 10, STALL).await.unwrap();
        assert!(rig.asked() == 2 && blob.filled() < LEN as u64, "{kind:?}");
    }
}

#[tokio::test]
async fn no_room_for_the_whole_is_not_the_end_of_what_is_there() {
    let (rig, opened) = begun_within(Limits { quota: 4 * MIB, hard: 4 * MIB, min_free: 0 }).await;
    rig.will(found("1", &vec![0; 2 << 20]));
    let held = rig.open("b").await.unwrap();
    committed(&held).await;
    fail(&rig, silent);
    rig.will(Reply::Body(ranged(), bytes().to_vec()));
    let blob = &opened.version.blob;
    assert!(blob.wait_for(2 << 20..(2 << 20) + 10, STALL).await.is_err());
    assert!(rig.asked() == 3 && blob.broken().is_none());
    *rig.origin.parts.lock().unwrap() = std::iter::once(PartReply::Of(bytes())).collect();
    blob.wait_for(2 << 20..(2 << 20) + 10, STALL).await.unwrap();
}

#[tokio::test]
async fn ranges_are_gone_back_to_where_the_whole_is_cut() {
    let (rig, opened) = begun().await;
    fail(&rig, silent);
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(ranged(), sent));
    let blob = opened.version.blob.clone();
    let reader = tokio::spawn(async move { blob.wait_for(2 << 20..(2 << 20) + 10, STALL).await });
    until("the whole to be asked for", || rig.asked() == 2).await;
    *rig.origin.parts.lock().unwrap() = std::iter::once(PartReply::Of(bytes())).collect();
    let first = bytes::Bytes::copy_from_slice(&bytes()[..1 << 20]);
    body.send(Ok(first)).unwrap();
    body.send(Err(failure(FailureKind::BadAnswer))).unwrap();
    assert!(reader.await.unwrap().is_err());
    let blob = &opened.version.blob;
    assert!(blob.broken().is_none() && blob.filled() >= 1 << 20);
    blob.wait_for(2 << 20..(2 << 20) + 10, STALL).await.unwrap();
    assert_eq!(rig.asked(), 2);
}

/// Somebody else holds what would have to go.
#[tokio::test]
async fn no_room_for_a_range_is_not_the_end_of_what_is_there() {
    let (rig, opened) = begun_within(Limits { quota: 4 * MIB, hard: 4 * MIB, min_free: 0 }).await;
    // More than was reserved with the first bytes.
    let rest = (3 << 19)..LEN as u64;
    rig.will(found("1", &vec![0; 11 << 18]));
    let held = rig.open("b").await.unwrap();
    committed(&held).await;
    let blob = &opened.version.blob;
    assert!(blob.wait_for(rest.clone(), STALL).await.is_err());
    assert!(blob.broken().is_none() && blob.present(1 << 20..(1 << 20) + 10).is_some());
    drop(held);
    rig.origin.parts.lock().unwrap().push_back(PartReply::Of(bytes()));
    blob.wait_for(rest, STALL).await.unwrap();
}

/// Its room was there when it was asked for.
#[tokio::test]
async fn no_room_for_a_range_is_nothing_to_who_waits_for_another() {
    let limits = Limits { quota: 4 * MIB, hard: 4 * MIB, min_free: 0 };
    let (rig, opened) = begun_over(2, limits).await;
    rig.will(found("1", &vec![0; 11 << 18]));
    let held = rig.open("b").await.unwrap();
    committed(&held).await;
    let (part, sent) = mpsc::unbounded_channel();
    rig.origin.parts.lock().unwrap().push_back(PartReply::Slow(sent));
    let blob = opened.version.blob.clone();
    let first = tokio::spawn(async move { blob.wait_for(1 << 18..(1 << 18) + 10, STALL).await });
    until("it to be asked for", || rig.origin.ranges.lock().unwrap().len() == 2).await;
    let blob = &opened.version.blob;
    let refused = blob.wait_for((3 << 19)..LEN as u64, STALL).await;
    assert!(matches!(refused, Err(crate::store::WaitError::Broken(_))), "{refused:?}");
    let bytes = bytes();
    let asked = rig.origin.ranges.lock().unwrap()[1].clone();
    part.send(Ok(bytes::Bytes::copy_from_slice(&bytes[asked.start as usize..asked.end as usize])))
        .unwrap();
    drop(part);
    first.await.unwrap().unwrap();
}
