//! Quota, hard limit, and what waits for room.

use super::*;

const SIZE: usize = 1 << 20;

fn names() -> Table {
    table(["a", "b", "c", "d"].map(|name| (name, source(&format!("http://h/{name}")))))
}

fn rig(quota: u64, hard: u64) -> Rig {
    Rig::with(Limits { quota, hard, min_free: 0 }, names())
}

async fn fetch(rig: &Rig, name: &str) -> Opened {
    rig.will(found(name, &vec![name.as_bytes()[0]; SIZE]));
    let opened = rig.open(name).await.unwrap();
    committed(&opened).await;
    let blob = opened.version.blob.id();
    until("the download's own pin to fall", || rig.cache.ledger().pins(blob) == 1).await;
    opened
}

#[tokio::test]
async fn the_least_recently_used_goes_first_and_what_is_held_stays() {
    let rig = rig(3 * MIB + MIB / 2, 5 * MIB);
    let held = fetch(&rig, "a").await;
    drop(fetch(&rig, "b").await);
    drop(fetch(&rig, "c").await);
    drop(rig.open("b").await.unwrap());
    drop(fetch(&rig, "d").await);
    until("the eviction", || rig.cache.ledger().balance().blobs == 3).await;
    let there = |name: &str| match rig.cache.shows(&rig.entry(name)) {
        Shows::Version(_) => true,
        Shows::Nothing(_) => false,
    };
    assert_eq!(["a", "b", "c", "d"].map(there), [true, true, false, true]);
    assert!(held.version.complete());
    until("the account to agree with the disk", || {
        let balance = rig.cache.ledger().balance();
        balance.reserved == 0 && balance.stored == rig.cache.store.resident().unwrap()
    })
    .await;
}

#[tokio::test]
async fn when_everything_is_pinned_the_next_open_says_so() {
    let rig = rig(2 * MIB, 2 * MIB + MIB / 2);
    let _a = fetch(&rig, "a").await;
    let _b = fetch(&rig, "b").await;
    rig.will(found("c", &[0; SIZE]));
    let error = rig.open("c").await.err().unwrap();
    assert_eq!((error.errno, error.why), (libc::ENOSPC, Refusal::HardLimit));
    assert!(error.message.contains("2 open handles"), "{error}");
    assert_eq!(rig.cache.ledger().balance().reserved, 0);
}

#[tokio::test]
async fn a_body_larger_than_the_hard_limit_is_refused_before_its_first_byte() {
    let rig = rig(MIB, 2 * MIB);
    rig.will(found("a", &vec![0; 3 * SIZE]));
    assert_eq!(errno(rig.open("a").await), libc::EFBIG);
}

/// A handle that falls a moment late must be waited for, however much else goes on.
#[tokio::test]
async fn patience_is_not_used_up_by_what_others_do() {
    let rig = rig(2 * MIB, 2 * MIB + MIB / 2);
    let a = fetch(&rig, "a").await;
    let b = fetch(&rig, "b").await;
    rig.will(found("c", &[0; SIZE]));
    let entry = rig.entry("c");
    let others = async {
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            drop(b.pin.clone());
        }
        drop(a);
    };
    let (opened, ()) = tokio::join!(rig.cache.open(&entry), others);
    assert!(opened.is_ok());
}

/// A leaving victim that somebody takes up again will not go: who waits for it must hear of it.
#[tokio::test]
async fn who_waits_for_a_leaving_victim_hears_that_it_stays() {
    for by_pin in [false, true] {
        let rig = rig(2 * MIB, 2 * MIB + MIB / 2);
        let a = fetch(&rig, "a").await;
        let id = a.version.blob.id();
        let _reference = rig.cache.ledger().refer(id).unwrap();
        let _b = fetch(&rig, "b").await;
        drop(a);
        until("a to be idle", || rig.cache.ledger().pins(id) == 0).await;
        rig.will(found("c", &[0; SIZE]));
        let entry = rig.entry("c");
        let told = rig.told.clone();
        let before = told.moved.load(Ordering::Relaxed);
        let back = async {
            until("the farewell", || told.moved.load(Ordering::Relaxed) > before).await;
            match by_pin {
                true => (rig.cache.ledger().pin(id), None),
                false => (None, rig.cache.ledger().refer(id)),
            }
        };
        let open = tokio::time::timeout(Duration::from_secs(2), rig.cache.open(&entry));
        let (opened, _back) = tokio::join!(open, back);
        let opened = opened.unwrap_or_else(|_| panic!("hangs, by_pin {by_pin}"));
        assert_eq!(errno(opened), libc::ENOSPC, "by_pin {by_pin}");
    }
}

#[tokio::test]
async fn the_order_of_use_outlives_the_daemon() {
    let limits = Limits { quota: 3 * MIB + MIB / 2, hard: 5 * MIB, min_free: 0 };
    let rig = rig(limits.quota, limits.hard);
    for name in ["a", "b", "c"] {
        drop(fetch(&rig, name).await);
        // The grain of the clock that files are stamped with.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let used = rig.open("a").await.unwrap();
    used.version.blob.note_use().unwrap();
    drop(used);
    let Rig { cache, dir, .. } = rig;
    let gone = Arc::downgrade(&cache);
    drop(cache);
    until("the predecessor to end", || gone.strong_count() == 0).await;
    let rig = Rig::over(dir, limits, names());
    drop(fetch(&rig, "d").await);
    until("the eviction", || rig.cache.ledger().balance().blobs == 3).await;
    let there = |name: &str| matches!(rig.cache.shows(&rig.entry(name)), Shows::Version(_));
    assert_eq!(["a", "b", "c", "d"].map(there), [true, false, true, true]);
}

/// What waits for its turn has not fallen silent.
#[tokio::test]
async fn a_download_that_waits_for_its_turn_is_waited_for() {
    const BUSY: [&str; 4] = ["a", "b", "c", "d"];
    let names =
        ["a", "b", "c", "d", "last"].map(|name| (name, source(&format!("http://h/{name}"))));
    let rig = Rig::new(table(names));
    let mut busy = Vec::new();
    for name in BUSY {
        let (sender, body) = mpsc::unbounded_channel();
        rig.will(Reply::Slow(head(Some(name), Some(100)), body));
        busy.push((sender, rig.open(name).await.unwrap()));
    }
    // Each has its slot, and there are no more.
    let feed = || {
        for (sender, _) in &busy {
            sender.send(Ok(bytes::Bytes::from_static(b"x"))).unwrap();
        }
    };
    feed();
    until("each to have begun", || busy.iter().all(|(_, o)| o.version.blob.filled() > 0)).await;
    rig.will(found("last", b"here"));
    let last = rig.open("last").await.unwrap();
    // Shorter than the wait.
    let stall = Duration::from_millis(1500);
    let wait = last.version.blob.wait_for(0..4, stall);
    tokio::pin!(wait);
    let begin = std::time::Instant::now();
    let came = loop {
        feed();
        match tokio::time::timeout(Duration::from_millis(300), &mut wait).await {
            Ok(came) => break came,
            Err(_) => assert!(begin.elapsed() < 4 * stall, "it waits for the end of the others"),
        }
    };
    assert!(begin.elapsed() > stall, "it waited for its turn: {came:?}");
    assert_eq!(came.unwrap(), 0..4);
}
