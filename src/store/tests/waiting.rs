//! Readers of a blob that still arrives.

use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};

use super::*;

const LONG: Duration = Duration::from_secs(60);

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

/// Waits until so many wait for bytes of a blob; panics where that does not come.
async fn until_waiting(blob: &Blob, count: usize) {
    let begin = tokio::time::Instant::now();
    while blob.waiting() != count {
        assert!(begin.elapsed() < LONG / 2, "{} wait, expected {count}", blob.waiting());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn each_reader_gets_its_range_and_only_when_it_is_there() {
    let dir = temp();
    let (store, _) = open(&dir);
    let staging = store.stage(store.allocate(), Some(1000), Allocation::Whole).unwrap();
    let blob = staging.blob();
    let done = Arc::new(AtomicUsize::new(0));
    runtime().block_on(async {
        let readers: Vec<_> = (0..200u64)
            .map(|i| {
                let (blob, done) = (blob.clone(), done.clone());
                tokio::spawn(async move {
                    let range = i * 5..i * 5 + 300;
                    let found = blob.wait_for(range, LONG).await.unwrap();
                    assert_eq!(found, i * 5..(i * 5 + 300).min(1000));
                    assert!(blob.filled() >= found.end);
                    done.fetch_add(1, Ordering::SeqCst);
                })
            })
            .collect();
        until_waiting(&blob, 200).await;
        for i in 0..100u64 {
            append(&staging, &[bytes(10)]).unwrap();
            let filled = (i + 1) * 10;
            // Those whose range ends at or below what is there, the last ones clipped to the end.
            let served = (0..200u64).filter(|i| (i * 5 + 300).min(1000) <= filled);
            assert_eq!(blob.waiting(), 200 - served.count());
        }
        for reader in readers {
            reader.await.unwrap();
        }
    });
    assert_eq!(done.load(Ordering::SeqCst), 200);
}

#[test]
fn a_wait_that_is_dropped_leaves_nothing() {
    let dir = temp();
    let (store, _) = open(&dir);
    let staging = store.stage(store.allocate(), Some(1000), Allocation::Whole).unwrap();
    let blob = staging.blob();
    runtime().block_on(async {
        for _ in 0..10 {
            let wait = blob.wait_for(0..10, LONG);
            let cut = tokio::time::timeout(Duration::from_millis(2), wait).await;
            assert!(cut.is_err());
            assert_eq!(blob.waiting(), 0);
        }
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let blob = blob.clone();
                tokio::spawn(async move { blob.wait_for(0..10, LONG).await.map(drop) })
            })
            .collect();
        until_waiting(&blob, 50).await;
        tasks.iter().for_each(|task| task.abort());
        for task in tasks {
            assert!(task.await.unwrap_err().is_cancelled());
        }
        assert_eq!(blob.waiting(), 0);
    });
}

#[test]
fn a_failure_ends_the_waits_for_what_is_missing_only() {
    let dir = temp();
    let (store, _) = open(&dir);
    let staging = store.stage(store.allocate(), None, Allocation::Whole).unwrap();
    let blob = staging.blob();
    append(&staging, &[bytes(100)]).unwrap();
    runtime().block_on(async {
        let waits: Vec<_> = (0..20)
            .map(|i| {
                let blob = blob.clone();
                tokio::spawn(async move { blob.wait_for(50 + i..150, LONG).await })
            })
            .collect();
        let length = {
            let blob = blob.clone();
            tokio::spawn(async move { blob.wait_length(LONG).await })
        };
        until_waiting(&blob, 21).await;
        drop(staging);
        for wait in waits {
            let Err(WaitError::Broken(reason)) = wait.await.unwrap() else {
                panic!("a wait outlived its download");
            };
            assert_eq!(reason.errno, libc::EIO);
        }
        assert!(matches!(length.await.unwrap(), Err(WaitError::Broken(_))));
        assert_eq!(blob.wait_for(0..100, LONG).await.unwrap(), 0..100);
        assert!(blob.wait_for(0..101, LONG).await.is_err());
        assert_eq!(blob.waiting(), 0);
    });
}

#[test]
fn the_end_of_an_unknown_length_serves_those_who_wait_past_it() {
    let dir = temp();
    let (store, _) = open(&dir);
    let staging = store.stage(store.allocate(), None, Allocation::Whole).unwrap();
    let blob = staging.blob();
    assert_eq!(blob.length(), None);
    runtime().block_on(async {
        let spawn = |range| {
            let blob = blob.clone();
            tokio::spawn(async move { blob.wait_for(range, LONG).await.unwrap() })
        };
        let across = spawn(50..200);
        let past = spawn(500..600);
        let inside = spawn(0..100);
        let length = {
            let blob = blob.clone();
            tokio::spawn(async move { blob.wait_length(LONG).await.unwrap() })
        };
        until_waiting(&blob, 4).await;
        append(&staging, &[bytes(100)]).unwrap();
        assert_eq!(inside.await.unwrap(), 0..100);
        assert_eq!(blob.present(0..101), None, "there may be more");
        until_waiting(&blob, 3).await;
        staging.end();
        assert_eq!(across.await.unwrap(), 50..100);
        assert_eq!(past.await.unwrap(), 100..100);
        assert_eq!(length.await.unwrap(), 100);
        assert_eq!(blob.length(), Some(100));
        assert_eq!(blob.present(0..101), Some(0..100));
    });
}

#[test]
fn nobody_reads_all_of_what_has_a_digest_before_it_was_compared() {
    let dir = temp();
    let (store, _) = open(&dir);
    let staging = store.stage(store.allocate(), Some(100), Allocation::Whole).unwrap();
    staging.hash(crate::digest::Algorithm::Md5);
    let blob = staging.blob();
    runtime().block_on(async {
        staging.write(40, &[bytes(100).slice(40..)]).unwrap();
        assert_eq!(blob.present(40..128), Some(40..100), "the end is served while there are gaps");
        let wait = |range| {
            let blob = blob.clone();
            tokio::spawn(async move { blob.wait_for(range, LONG).await.unwrap() })
        };
        assert_eq!(wait(100..101).await.unwrap(), 100..100, "so is what is past it");
        let gap = wait(0..40);
        until_waiting(&blob, 1).await;
        staging.write(0, &[bytes(100).slice(..40)]).unwrap();
        // Now all is there, and not compared.
        let past = wait(100..101);
        until_waiting(&blob, 2).await;
        let stalled = blob.wait_for(0..40, Duration::from_millis(20)).await;
        assert!(matches!(stalled, Err(WaitError::Stalled(_))), "{stalled:?}");
        staging.end();
        assert_eq!(gap.await.unwrap(), 0..40);
        assert_eq!(past.await.unwrap(), 100..100);
        assert_eq!(blob.present(0..101), Some(0..100));
    });
}

#[test]
fn the_end_of_an_unknown_length_with_a_digest_waits_for_the_comparison() {
    let dir = temp();
    let (store, _) = open(&dir);
    let staging = store.stage(store.allocate(), None, Allocation::Whole).unwrap();
    staging.hash(crate::digest::Algorithm::Md5);
    let blob = staging.blob();
    runtime().block_on(async {
        append(&staging, &[bytes(100)]).unwrap();
        let stalled = blob.wait_for(0..101, Duration::from_millis(20)).await;
        assert!(matches!(stalled, Err(WaitError::Stalled(_))), "{stalled:?}");
        staging.end();
        assert_eq!(blob.present(0..101), Some(0..100));
    });
}

#[test]
fn who_waits_for_the_end_of_what_has_a_wrong_digest_gets_the_reason() {
    let dir = temp();
    let (store, _) = open(&dir);
    let staging = store.stage(store.allocate(), Some(100), Allocation::Whole).unwrap();
    staging.hash(crate::digest::Algorithm::Md5);
    let blob = staging.blob();
    runtime().block_on(async {
        append(&staging, &[bytes(100)]).unwrap();
        let wait = {
            let blob = blob.clone();
            tokio::spawn(async move { blob.wait_for(0..100, LONG).await })
        };
        until_waiting(&blob, 1).await;
        let broken = Broken {
            message: "wrong".to_owned(),
            errno: libc::EIO,
            tainted: true,
            superseded: false,
        };
        blob.fail(broken);
        let error = wait.await.unwrap();
        assert!(matches!(&error, Err(WaitError::Broken(reason)) if reason.tainted), "{error:?}");
    });
}

#[test]
fn a_wait_lasts_as_long_as_bytes_come_and_no_longer() {
    let dir = temp();
    let (store, _) = open(&dir);
    let staging = store.stage(store.allocate(), Some(1000), Allocation::Whole).unwrap();
    let blob = staging.blob();
    let stall = Duration::from_millis(300);
    runtime().block_on(async {
        let wait = {
            let blob = blob.clone();
            tokio::spawn(async move {
                let result = blob.wait_for(900..1000, stall).await;
                (result, tokio::time::Instant::now())
            })
        };
        let started = tokio::time::Instant::now();
        let mut last = started;
        while started.elapsed() < stall * 3 {
            append(&staging, &[bytes(1)]).unwrap();
            // On a machine too busy to append in time the wait may end, and rightly so.
            assert!(!wait.is_finished() || last.elapsed() >= stall / 2);
            last = tokio::time::Instant::now();
            tokio::time::sleep(stall / 30).await;
        }
        if wait.is_finished() {
            return;
        }
        let (result, ended) = wait.await.unwrap();
        assert!(matches!(result, Err(WaitError::Stalled(d)) if d == stall));
        assert!(ended - last >= stall - stall / 4, "ended too early");
        assert!(ended - last < stall * 20, "ended too late");
        // A wait begins with all its patience, however long ago the last byte came.
        let begun = tokio::time::Instant::now();
        assert!(blob.wait_length(stall).await.is_ok());
        assert!(blob.wait_for(900..1000, stall).await.is_err());
        assert!(begun.elapsed() >= stall);
        assert_eq!(blob.waiting(), 0);
        let for_ever = blob.wait_for(900..1000, Duration::MAX);
        let cut = tokio::time::timeout(Duration::from_millis(10), for_ever).await;
        assert!(cut.is_err());
    });
}

#[test]
fn odd_ranges_are_answered_at_once() {
    let dir = temp();
    let (store, _) = open(&dir);
    let staging = store.stage(store.allocate(), Some(1000), Allocation::Whole).unwrap();
    let blob = staging.blob();
    assert_eq!(blob.present(7..7), Some(7..7));
    assert_eq!(blob.present(1000..2000), Some(1000..1000));
    assert_eq!(blob.present(5000..u64::MAX), Some(1000..1000));
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
    let reversed = blob.present(9..3);
    assert_eq!(reversed, Some(9..9));
    assert_eq!(blob.present(999..1000), None);
}

#[test]
fn what_readers_want_is_told_in_order_and_clipped() {
    let dir = temp();
    let (store, _) = open(&dir);
    let staging = store.stage(store.allocate(), Some(1000), Allocation::Sparse).unwrap();
    let blob = staging.blob();
    assert!(blob.wanted().is_empty());
    let mut context = Context::from_waker(Waker::noop());
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let _guard = runtime.enter();
    let mut waits: Vec<_> = [900..2000, 100..200, 0..50, 100..150]
        .map(|range| Box::pin(blob.wait_for(range, LONG)))
        .into();
    waits.iter_mut().for_each(|wait| assert!(wait.as_mut().poll(&mut context).is_pending()));
    assert_eq!(blob.wanted(), [0..50, 100..150, 100..200, 900..1000]);
    // Nobody is told of less than all that is wanted, however much of it is there.
    staging.write(100, &[bytes(50)]).unwrap();
    assert_eq!(blob.wanted(), [0..50, 100..200, 900..1000]);
    assert_eq!(blob.missing(100..200), [150..200]);
    drop(waits.remove(0));
    assert_eq!(blob.wanted(), [0..50, 100..200]);
    drop(waits);
    assert!(blob.wanted().is_empty());
}

#[test]
fn a_new_wait_for_bytes_is_demand_and_one_for_the_length_is_none() {
    let dir = temp();
    let (store, _) = open(&dir);
    let staging = store.stage(store.allocate(), None, Allocation::Sparse).unwrap();
    let blob = staging.blob();
    let mut context = Context::from_waker(Waker::noop());
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let _guard = runtime.enter();
    let mut length = Box::pin(blob.wait_length(LONG));
    let mut demand = Box::pin(blob.demand());
    assert!(length.as_mut().poll(&mut context).is_pending());
    assert!(demand.as_mut().poll(&mut context).is_pending(), "the length alone");
    assert!(blob.wanted().is_empty());
    // Asked for before the wait began, though not looked at.
    let unseen = Box::pin(blob.demand());
    let mut wait = Box::pin(blob.wait_for(5..10, LONG));
    assert!(demand.as_mut().poll(&mut context).is_pending(), "not waited for yet");
    assert!(wait.as_mut().poll(&mut context).is_pending());
    for mut demand in [demand, unseen] {
        assert!(demand.as_mut().poll(&mut context).is_ready());
    }
    let mut later = Box::pin(blob.demand());
    assert!(later.as_mut().poll(&mut context).is_pending(), "known before it was asked for");
    staging.write(0, &[bytes(20)]).unwrap();
    assert!(wait.as_mut().poll(&mut context).is_ready());
    let mut present = Box::pin(blob.wait_for(0..20, LONG));
    assert!(present.as_mut().poll(&mut context).is_ready());
    assert!(later.as_mut().poll(&mut context).is_pending(), "what is there is no demand");
}

#[test]
fn a_committed_blob_misses_nothing() {
    let dir = temp();
    let (store, _) = open(&dir);
    let blob = commit(&store, &bytes(1000));
    drop(store);
    let found = &open(&dir).1.blobs[0].blob;
    for blob in [&blob, found] {
        assert_eq!(blob.present_ranges(), [0..1000]);
        assert!(blob.missing(0..5000).is_empty());
        assert!(blob.wanted().is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Fills in any order, with holes, and compares who was woken with a bitmap.
    #[test]
    fn holes_fill_in_any_order(
        wanted in prop::collection::vec((0u64..80, 0u64..80), 1..12),
        fills in prop::collection::vec((0u64..64, 0u64..=64), 0..24),
        end in 1u64..=64,
    ) {
        let dir = temp();
        let (store, _) = open(&dir);
        let staging = store.stage(store.allocate(), None, Allocation::Whole).unwrap();
        let blob = staging.blob();
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let _guard = runtime.enter();
        let mut context = Context::from_waker(Waker::noop());
        let mut waits: Vec<_> = wanted
            .iter()
            .map(|(start, length)| {
                let range = *start..start + length;
                (range.clone(), Box::pin(blob.wait_for(range, LONG)), false)
            })
            .collect();
        let mut model = [false; 64];
        let mut known = u64::MAX;
        let half = fills.len() / 2;
        for (step, (from, to)) in fills.into_iter().chain([(0, 64)]).enumerate() {
            if step == half {
                known = end;
                blob.set_length(end);
            }
            let to = to.min(known);
            if from < to {
                blob.fill(from..to);
                model[from as usize..to as usize].fill(true);
            }
            for (range, wait, done) in &mut waits {
                if *done {
                    continue;
                }
                let there = (range.start..range.end.min(known))
                    .all(|i| model.get(i as usize).copied().unwrap_or(false));
                match wait.as_mut().poll(&mut context) {
                    Poll::Ready(found) => {
                        prop_assert!(there, "{range:?} was woken too early");
                        prop_assert!(found.unwrap().end <= range.end);
                        *done = true;
                    }
                    Poll::Pending => prop_assert!(!there, "{range:?} was not woken"),
                }
            }
        }
        prop_assert!(waits.iter().all(|(_, _, done)| *done));
        drop(waits);
        prop_assert_eq!(blob.waiting(), 0);
    }
}
