//! What eviction by hand comes to while a copy has gaps.

use super::*;
use crate::source::{Fill, Form};

const LEN: usize = 6 << 20;

fn bytes() -> Arc<Vec<u8>> {
    Arc::new((0..LEN).map(|at| (at * 7 % 251) as u8).collect())
}

fn ranged() -> Head {
    Head { ranges: true, offered: true, ..head(Some("1"), Some(LEN as u64)) }
}

/// Opens a name of which only what is read is fetched, and reads so much of its end.
async fn read_end(form: Form, length: u64) -> (Rig, Opened) {
    let partly = Source { form, fill: Fill::OnRead, ..source("http://h/a") };
    let rig = Rig::new(table([("a", partly)]));
    rig.will(Reply::Ranged(ranged(), bytes()));
    let opened = rig.open("a").await.unwrap();
    let end = LEN as u64;
    let mut at = end - length;
    while at < end {
        let wait = opened.version.blob.wait_for(at..end, Duration::from_secs(5));
        at = wait.await.unwrap().end;
    }
    assert!(!opened.version.complete());
    (rig, opened)
}

async fn counted(rig: &Rig, freed: u64) {
    let counters = rig.cache.counters();
    until("the count", || counters.evictions.get() == 1).await;
    let bytes = counters.evicted_bytes.get();
    assert!(bytes > 0 && bytes.abs_diff(freed) < 64 << 10, "{bytes} evicted, {freed} told");
    until("everything to go", || rig.cache.ledger().balance() == Balance::default()).await;
    assert_eq!(rig.cache.store.resident().unwrap(), 0);
}

#[tokio::test]
async fn a_copy_with_gaps_is_evicted_right_after_it_was_read() {
    for form in [Form::File, Form::Directory] {
        // Too little to be put aside, and enough.
        for length in [64 << 10, 3 << 20] {
            let (rig, opened) = read_end(form, length).await;
            drop(opened);
            let outcome = rig.cache.evict(&rig.entry("a")).await;
            let EvictOutcome::Evicted(freed) = outcome else {
                panic!("{form:?}, {length}: {outcome:?}");
            };
            assert!(freed >= length, "{freed} of {length}");
            counted(&rig, freed).await;
            assert_eq!(rig.cache.evict(&rig.entry("a")).await, EvictOutcome::Nothing);
        }
    }
}

#[tokio::test]
async fn a_handle_that_falls_behind_close_is_waited_for() {
    let (rig, opened) = read_end(Form::File, 64 << 10).await;
    let entry = rig.entry("a");
    assert_eq!(rig.cache.evict(&entry).await, EvictOutcome::Pinned(2));
    let close = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(opened);
    };
    let (outcome, ()) = tokio::join!(rig.cache.evict(&entry), close);
    let EvictOutcome::Evicted(freed) = outcome else { panic!("{outcome:?}") };
    counted(&rig, freed).await;
}

#[tokio::test]
async fn what_the_kernel_holds_of_an_idle_download_is_said_to_be_held() {
    let (rig, opened) = read_end(Form::File, 64 << 10).await;
    let reference = rig.cache.ledger().refer(opened.version.blob.id()).unwrap();
    drop(opened);
    assert_eq!(rig.cache.evict(&rig.entry("a")).await, EvictOutcome::Held);
    assert_eq!(rig.cache.counters().evictions.get(), 0);
    assert!(rig.entry("a").version().is_some());
    drop(reference);
}

#[tokio::test]
async fn a_download_at_work_is_not_evicted() {
    let rig = Rig::new(table([("a", source("http://h/a"))]));
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(ranged(), sent));
    drop(rig.open("a").await.unwrap());
    assert_eq!(rig.cache.evict(&rig.entry("a")).await, EvictOutcome::Arriving);
    body.send(Ok(bytes().to_vec().into())).unwrap();
    drop(body);
    until("the commit", || rig.entry("a").version().is_some_and(|v| v.complete())).await;
    let outcome = rig.cache.evict(&rig.entry("a")).await;
    assert!(matches!(outcome, EvictOutcome::Evicted(bytes) if bytes >= LEN as u64), "{outcome:?}");
}

#[tokio::test]
async fn what_was_put_aside_is_evicted_too() {
    let rig = Rig::new(table([("a", source("http://h/a"))]));
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(ranged(), sent));
    let opened = rig.open("a").await.unwrap();
    rig.will(Reply::Fail(FailureKind::Unreachable));
    body.send(Ok(bytes::Bytes::copy_from_slice(&bytes()[..2 << 20]))).unwrap();
    until("the bytes", || opened.version.blob.filled() == 2 << 20).await;
    rig.origin.parts.lock().unwrap().push_back(PartReply::NotServed);
    body.send(Err(failure(FailureKind::BadAnswer))).unwrap();
    until("the part", || rig.entry("a").state().unfinished.is_some()).await;
    drop(opened);
    until("it to be idle", || rig.cache.ledger().balance().pins == 0).await;
    let outcome = rig.cache.evict(&rig.entry("a")).await;
    let EvictOutcome::Evicted(freed) = outcome else { panic!("{outcome:?}") };
    counted(&rig, freed).await;
}
