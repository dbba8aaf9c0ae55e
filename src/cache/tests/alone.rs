//! Ranges that cannot be had while the whole comes.

use super::*;

const LEN: usize = 3 << 20;
const STALL: Duration = Duration::from_secs(5);
const TAIL: std::ops::Range<u64> = LEN as u64 - 4096..LEN as u64;

fn bytes() -> Arc<Vec<u8>> {
    Arc::new((0..LEN).map(|at| (at * 7 % 251) as u8).collect())
}

fn ranged() -> Head {
    Head { ranges: true, offered: true, ..head(Some("1"), Some(LEN as u64)) }
}

/// Opens a name whose body comes as it is sent, with a second connection allowed.
async fn streamed(
    parts: impl IntoIterator<Item = PartReply>,
) -> (Rig, Opened, mpsc::UnboundedSender<Result<bytes::Bytes, Failure>>) {
    streamed_over(2, parts).await
}

async fn streamed_over(
    connections: usize,
    parts: impl IntoIterator<Item = PartReply>,
) -> (Rig, Opened, mpsc::UnboundedSender<Result<bytes::Bytes, Failure>>) {
    let rig = Rig::new(table([("a", source("http://h/a"))]));
    rig.origin.connections.store(connections, Ordering::Relaxed);
    rig.origin.parts.lock().unwrap().extend(parts);
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(ranged(), sent));
    let opened = rig.open("a").await.unwrap();
    (rig, opened, body)
}

fn part(range: std::ops::Range<usize>) -> Result<bytes::Bytes, Failure> {
    Ok(bytes::Bytes::copy_from_slice(&bytes()[range]))
}

/// Sends the beginning, and waits until it is there.
async fn begin(opened: &Opened, body: &mpsc::UnboundedSender<Result<bytes::Bytes, Failure>>) {
    body.send(part(0..1 << 20)).unwrap();
    until("the beginning", || opened.version.blob.missing(0..1 << 20).is_empty()).await;
}

/// Has somebody read the end, which is asked for at once, and fails.
async fn read_ahead(rig: &Rig, opened: &Opened) -> tokio::task::JoinHandle<bool> {
    let blob = opened.version.blob.clone();
    let reader = tokio::spawn(async move { blob.wait_for(TAIL, STALL).await.is_ok() });
    until("the question", || !rig.origin.ranges.lock().unwrap().is_empty()).await;
    reader
}

fn wrong() -> [(&'static str, PartReply); 4] {
    [
        ("nonsense", PartReply::Unusable),
        ("the whole", PartReply::NotServed),
        ("another version", PartReply::Changed),
        ("refused", PartReply::Fail(FailureKind::Status)),
    ]
}

#[tokio::test]
async fn a_reader_ahead_waits_for_the_stream_where_its_range_goes_wrong() {
    for (what, wrong) in wrong() {
        let (rig, opened, body) = streamed([wrong]).await;
        let reader = read_ahead(&rig, &opened).await;
        begin(&opened, &body).await;
        body.send(part(1 << 20..LEN)).unwrap();
        drop(body);
        assert!(reader.await.unwrap(), "{what}");
        assert!(bytes_of(&opened).await == *bytes(), "{what}");
        assert_eq!(rig.origin.ranges.lock().unwrap().len(), 1, "{what}: asked once");
        assert_eq!(rig.asked(), 1, "{what}");
    }
}

/// The stream, which is then alone, reads on over what ranges brought before.
#[tokio::test]
async fn a_stream_is_read_to_its_end_where_ranges_fall_silent() {
    let silent = || PartReply::Dead(FailureKind::Silent);
    // With two, the stream would make way where the first range is not known to have ended.
    let (rig, opened, body) =
        streamed_over(3, [PartReply::Of(bytes()), silent(), silent(), silent()]).await;
    let blob = opened.version.blob.clone();
    let island = 1 << 20..(2 << 20) + (256 << 10);
    blob.wait_for(island.clone(), STALL).await.unwrap();
    let reader = tokio::spawn(async move { blob.wait_for(TAIL, STALL).await.is_ok() });
    until("the questions", || rig.origin.ranges.lock().unwrap().len() >= 3).await;
    // One more is asked where the end of the first range, heard late, begins the series anew.
    tokio::time::sleep(Duration::from_millis(500)).await;
    begin(&opened, &body).await;
    body.send(part(1 << 20..LEN)).unwrap();
    drop(body);
    assert!(reader.await.unwrap());
    assert!(bytes_of(&opened).await == *bytes());
    let ranges = rig.origin.ranges.lock().unwrap();
    assert!(ranges.iter().all(|range| range.start != island.end), "{ranges:?}");
    assert_eq!(rig.asked(), 1);
}

/// The answer under way was all there was; the rest of it is asked for all the same.
#[tokio::test]
async fn the_rest_is_asked_for_where_the_stream_is_cut_after_a_range_went_wrong() {
    for (what, wrong) in wrong() {
        let (rig, opened, body) = streamed([wrong]).await;
        *rig.origin.ranged.lock().unwrap() = Some(bytes());
        let reader = read_ahead(&rig, &opened).await;
        begin(&opened, &body).await;
        body.send(Err(failure(FailureKind::BadAnswer))).unwrap();
        assert!(reader.await.unwrap(), "{what}");
        assert!(bytes_of(&opened).await == *bytes(), "{what}");
        // Where the reader is comes first.
        let asked = rig.origin.ranges.lock().unwrap()[1..].to_vec();
        assert_eq!(asked, [TAIL, 1 << 20..TAIL.start], "{what}");
        assert_eq!(rig.asked(), 1, "{what}");
    }
}

/// Only what is read was wanted, and the whole is sent: then that is what comes.
#[tokio::test]
async fn a_whole_that_is_sent_for_its_beginning_is_taken_whole() {
    for (what, wrong) in wrong() {
        let on_read = Source { fill: crate::source::Fill::OnRead, ..source("http://h/a") };
        let rig = Rig::new(table([("a", on_read)]));
        rig.origin.connections.store(2, Ordering::Relaxed);
        rig.origin.parts.lock().unwrap().push_back(wrong);
        let (body, sent) = mpsc::unbounded_channel();
        rig.will(Reply::Slow(ranged(), sent));
        let opened = rig.open("a").await.unwrap();
        assert!(rig.cache.ledger().balance().reserved >= LEN as u64, "{what}: room for all");
        let reader = read_ahead(&rig, &opened).await;
        begin(&opened, &body).await;
        body.send(part(1 << 20..LEN)).unwrap();
        drop(body);
        assert!(reader.await.unwrap(), "{what}");
        assert!(bytes_of(&opened).await == *bytes(), "{what}");
    }
}

/// What goes wrong with others while the last of them ends is no matter: the whole comes.
#[tokio::test]
async fn the_whole_is_asked_for_though_other_ranges_fail_meanwhile() {
    let on_read = Source { fill: crate::source::Fill::OnRead, ..source("http://h/a") };
    let rig = Rig::new(table([("a", on_read)]));
    rig.origin.connections.store(2, Ordering::Relaxed);
    let fail = PartReply::Fail(FailureKind::Status);
    rig.origin.parts.lock().unwrap().extend([PartReply::Unusable, fail]);
    rig.will(Reply::Body(
        Head { part: Some(0..64 << 10), ..ranged() },
        bytes()[..64 << 10].to_vec(),
    ));
    let opened = rig.open("a").await.unwrap();
    until("the beginning", || opened.version.blob.filled() == 64 << 10).await;
    rig.will(Reply::Body(ranged(), bytes().to_vec()));
    let blob = &opened.version.blob;
    let (end, middle) =
        tokio::join!(blob.wait_for(TAIL, STALL), blob.wait_for(1 << 20..(1 << 20) + 10, STALL));
    assert!(end.is_ok() && middle.is_ok());
    assert!(bytes_of(&opened).await == *bytes());
}

/// With one connection the stream ends for a reader ahead. What it would have brought is asked for
/// again, once.
#[tokio::test]
async fn a_stream_that_made_way_for_a_range_that_fails_is_asked_for_again() {
    for (what, wrong) in wrong() {
        let rig = Rig::new(table([("a", source("http://h/a"))]));
        rig.origin.parts.lock().unwrap().push_back(wrong);
        let (body, sent) = mpsc::unbounded_channel();
        rig.will(Reply::Slow(ranged(), sent));
        let opened = rig.open("a").await.unwrap();
        begin(&opened, &body).await;
        rig.will(Reply::Body(ranged(), bytes().to_vec()));
        let reader = read_ahead(&rig, &opened).await;
        assert!(reader.await.unwrap(), "{what}");
        assert!(bytes_of(&opened).await == *bytes(), "{what}");
        assert_eq!((rig.asked(), rig.origin.ranges.lock().unwrap().len()), (2, 1), "{what}");
    }
}

/// That is no failure of what came of it: whoever opens it next gets the other version.
#[tokio::test]
async fn a_version_that_is_replaced_after_the_stream_made_way_is_superseded() {
    let rig = Rig::new(table([("a", source("http://h/a"))]));
    rig.origin.parts.lock().unwrap().push_back(PartReply::Changed);
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(ranged(), sent));
    let opened = rig.open("a").await.unwrap();
    begin(&opened, &body).await;
    let other = Head { ranges: true, offered: true, ..head(Some("2"), Some(LEN as u64)) };
    rig.will(Reply::Body(other, vec![2; LEN]));
    assert!(!read_ahead(&rig, &opened).await.await.unwrap());
    assert!(opened.version.blob.broken().is_some_and(|broken| broken.superseded));
    assert_eq!(rig.asked(), 2);
}

/// Nobody else brings what is asked for: then the whole does, or nobody.
#[tokio::test]
async fn a_rest_that_cannot_be_asked_for_comes_with_the_whole() {
    let (rig, opened, body) = streamed([PartReply::Unusable]).await;
    rig.will(Reply::Body(ranged(), bytes().to_vec()));
    begin(&opened, &body).await;
    body.send(Err(failure(FailureKind::BadAnswer))).unwrap();
    assert!(bytes_of(&opened).await == *bytes());
    assert_eq!((rig.asked(), rig.origin.ranges.lock().unwrap().len()), (2, 1));
}
