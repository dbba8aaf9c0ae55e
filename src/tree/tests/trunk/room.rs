//! Room: booked before it is used, given back, and refused in a way that can be got over.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::{tars, zips};
use super::rig::*;
use crate::store::Broken;
use crate::tree::{NodeNo, Why};

#[tokio::test]
async fn what_was_booked_and_not_used_is_given_back() {
    let rig = Rig::new();
    let files = files(500, |_| 300);
    let blob = rig.whole(&zip(&files));
    let tree = rig.tree(&blob);
    compare(&tree, &files).await;
    rig.settles(&blob).await;
    let booked = rig.books.booked.load(Ordering::SeqCst);
    // Two thirds of them take a block each; and index, map.
    assert!(booked < 500 * 4096 + (1 << 20), "{booked}");
    assert!(rig.books.bookings.load(Ordering::SeqCst) <= 3);
}

#[tokio::test]
async fn without_room_a_member_is_refused_and_comes_once_there_is_some() {
    let rig = Rig::new();
    let files = files(30, |no| if no == 7 { 6 << 20 } else { 20_000 });
    let blob = rig.whole(&zip(&files));
    // Enough for the index, and for a few of them.
    rig.books.most.store(200_000, Ordering::SeqCst);
    let tree = rig.tree(&blob);
    let listed = list(&tree).await;
    let (mut there, mut refused) = (0, 0);
    for (path, node) in &listed {
        match read(&tree, *node).await {
            Ok(bytes) => {
                assert!(bytes == files[path]);
                there += 1;
            }
            Err(error) => {
                assert_eq!((error.why, error.errno), (Why::NoRoom, libc::ENOSPC), "{error}");
                refused += 1;
            }
        }
    }
    assert!(there >= 10 && refused >= 5, "{there} there, {refused} refused");
    assert!(tree.failed().is_none());
    rig.settles(&blob).await;
    rig.books.most.store(0, Ordering::SeqCst);
    compare(&tree, &files).await;
    rig.settles(&blob).await;
}

#[tokio::test]
async fn without_room_for_the_index_a_zip_is_shown_all_the_same() {
    let rig = Rig::new();
    let files = files(30, |_| 2000);
    let blob = rig.whole(&zip(&files));
    rig.books.most.store(1, Ordering::SeqCst);
    let tree = rig.tree(&blob);
    let listed = list(&tree).await;
    assert_eq!(listed.len(), 30);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!rig.file(&blob, ".index").exists());
    // A stored one needs none.
    let stored = files.keys().next().unwrap();
    assert!(read(&tree, listed[stored]).await.unwrap() == files[stored]);
}

#[tokio::test]
async fn a_stream_without_room_stands_still_and_goes_on_when_there_is_some() {
    let rig = Rig::new();
    let first = content(1, 3000);
    let blob = rig.whole(&gzip(&tars::tar([
        tars::file("first", &first),
        tars::file("large", content(2, 12 << 20)),
    ])));
    rig.books.most.store(9 << 20, Ordering::SeqCst);
    let tree = rig.tree(&blob);
    let error = tree.whole().await.err().unwrap();
    assert_eq!((error.why, error.errno), (Why::NoRoom, libc::ENOSPC));
    // What has passed is there, and what was booked for more is not kept.
    let node_of_first = node(&tree, "first").await;
    assert!(read(&tree, node_of_first).await.unwrap() == first);
    rig.settles(&blob).await;
    assert!(tree.failed().is_none() && !tree.is_growing());
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(tree.find(NodeNo::ROOT, b"none").await.err().unwrap().why, Why::NoRoom);
    assert_eq!(rig.books.failed.lock().unwrap().len(), 1, "it is told once");
    rig.settles(&blob).await;
    rig.books.most.store(0, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(tree.find(NodeNo::ROOT, b"none").await.unwrap(), None);
    let large = node(&tree, "large").await;
    assert!(read(&tree, large).await.unwrap() == content(2, 12 << 20));
    assert!(read(&tree, node_of_first).await.unwrap() == first);
    rig.settles(&blob).await;
}

#[test]
fn streams_that_stand_still_take_no_thread_from_others() {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.max_blocking_threads(2).enable_all().build().unwrap();
    let all = async {
        let mut standing = Vec::new();
        for seed in 0..4 {
            let rig = Rig::new();
            let blob = rig.whole(&gzip(&tars::tar([tars::file("large", content(seed, 12 << 20))])));
            rig.books.most.store(9 << 20, Ordering::SeqCst);
            let tree = rig.tree(&blob);
            assert_eq!(tree.whole().await.err().unwrap().why, Why::NoRoom);
            standing.push((rig, tree));
        }
        let rig = Rig::new();
        let files = files(30, |_| 2000);
        compare(&rig.tree(&rig.whole(&zip(&files))), &files).await;
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, all).await }).expect("in time");
}

#[tokio::test]
async fn a_large_member_that_nobody_reads_on_in_keeps_no_room_that_it_does_not_use() {
    let rig = Rig::new();
    let large = content(1, 40 << 20);
    let blob = rig.whole(&zips::Zip::of([deflated("large", &large)]).bytes());
    let tree = rig.tree(&blob);
    let node = node(&tree, "large").await;
    tree.read(node, 0..100).await.unwrap();
    // The worker rests, so that all is settled although the job is not given up.
    let begin = std::time::Instant::now();
    rig.settles(&blob).await;
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(rig.books.booked.load(Ordering::SeqCst) >= 16 << 20);
    assert!(read(&tree, node).await.unwrap() == large);
    rig.settles(&blob).await;
}

/// Nothing is settled while one of them is at work: what another has booked and does not use is for
/// whoever is the next to need room.
#[tokio::test]
async fn a_slow_reader_beside_a_job_that_goes_on_books_nothing_twice() {
    let rig = Rig::new();
    let (slow, waits) = (content(1, 40 << 20), content(2, 6 << 20));
    let archive = zips::Zip::of([deflated("slow", &slow), deflated("waits", &waits)]).bytes();
    let staging = rig.stage(Some(archive.len() as u64));
    // One byte of the second is missing.
    let hole = archive.len() as u64 - (1 << 20);
    write(&staging, &archive, 0..hole);
    write(&staging, &archive, hole + 1..archive.len() as u64);
    let tree = rig.tree(&staging.blob());
    let (slow_node, waits_node) = (node(&tree, "slow").await, node(&tree, "waits").await);
    let waiting = read(&tree, waits_node);
    let reading = async {
        for mebibyte in 0..5 {
            tree.read(slow_node, (mebibyte << 20)..(mebibyte << 20) + 100).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1200)).await;
        }
        let booked = rig.books.booked.load(Ordering::SeqCst);
        assert!(booked < (6 << 20) + (20 << 20) + 3 * (8 << 20), "{booked}");
        assert!(read(&tree, slow_node).await.unwrap() == slow);
        let booked = rig.books.booked.load(Ordering::SeqCst);
        assert!(booked < (6 << 20) + (40 << 20) + 3 * (8 << 20), "{booked}");
        write(&staging, &archive, hole..hole + 1);
    };
    let (waited, ()) = tokio::join!(waiting, reading);
    assert!(waited.unwrap() == waits);
    rig.settles(&staging.blob()).await;
}

/// What an earlier attempt unpacked is removed before it is done again.
#[tokio::test]
async fn a_stream_that_begins_anew_is_not_counted_beside_what_it_removes() {
    let rig = Rig::new();
    let archive = gzip(&tars::tar([
        tars::file("first", content(1, 20 << 20)),
        tars::file("second", content(2, 4 << 20)),
    ]));
    let staging = rig.stage(Some(archive.len() as u64));
    let part = archive.len() as u64 * 5 / 6;
    write(&staging, &archive, 0..part);
    let tree = rig.tree(&staging.blob());
    let first = node(&tree, "first").await;
    tree.read(first, (16 << 20)..(16 << 20) + 100).await.unwrap();
    drop(tree);
    rig.settles(&staging.blob()).await;
    assert_eq!(rig.books.booked.load(Ordering::SeqCst), 0, "it is of no use to another");
    assert!(!rig.file(&staging.blob(), "").exists());
    write(&staging, &archive, part..archive.len() as u64);
    rig.books.most.store((24 << 20) + (9 << 20), Ordering::SeqCst);
    let tree = rig.tree(&staging.blob());
    tree.whole().await.unwrap();
    let second = node(&tree, "second").await;
    assert!(read(&tree, second).await.unwrap() == content(2, 4 << 20));
    rig.settles(&staging.blob()).await;
}

/// An archive whose download failed is unlinked; what was unpacked of it takes its room until the
/// last who stands in the tree has left.
#[tokio::test]
async fn what_is_unlinked_and_still_open_stays_on_the_books() {
    let rig = Rig::new();
    let archive = gzip(&tars::tar([tars::file("first", content(1, 20 << 20))]));
    let staging = rig.stage(Some(archive.len() as u64));
    write(&staging, &archive, 0..archive.len() as u64 / 2);
    let blob = staging.blob();
    let tree = rig.tree(&blob);
    let first = node(&tree, "first").await;
    tree.read(first, (8 << 20)..(8 << 20) + 100).await.unwrap();
    let settled = rig.books.settled.load(Ordering::SeqCst);
    blob.fail(Broken {
        message: "the origin has another version".to_owned(),
        errno: libc::EIO,
        tainted: false,
        superseded: true,
    });
    drop(staging);
    for _ in 0..200 {
        if rig.books.settled.load(Ordering::SeqCst) > settled {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!rig.file(&blob, "").exists());
    assert!(rig.books.booked.load(Ordering::SeqCst) > 8 << 20);
    let (file, range) = tree.read(first, (8 << 20)..(8 << 20) + 100).await.unwrap();
    assert_eq!(bytes(&file, range), content(1, 20 << 20)[8 << 20..][..100]);
    drop(file);
    drop(tree);
    rig.settles(&blob).await;
    assert_eq!(rig.books.booked.load(Ordering::SeqCst), 0);
}

/// Members of a gzip file that unpack to nothing keep the decoder asking for more.
#[tokio::test]
async fn a_stream_of_nothing_ends_when_nobody_wants_it() {
    let rig = Rig::new();
    let blob = rig.whole(&gzip(b"").repeat(2_000_000));
    let tree = rig.tree(&blob);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(tree.index().is_none() && tree.failed().is_none(), "it takes longer");
    let begin = std::time::Instant::now();
    drop(tree);
    rig.settles(&blob).await;
    let (settled, most) = (|| rig.books.settled.load(Ordering::SeqCst), Duration::from_secs(1));
    while settled() < 2 && begin.elapsed() < most {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(settled() >= 2 && begin.elapsed() < most, "{} times, {:?}", settled(), begin.elapsed());
}

/// A member that is unpacked along with others is refused only where there is no room for itself.
#[tokio::test]
async fn what_does_not_fit_ahead_is_no_reason_to_refuse_what_does() {
    let rig = Rig::new();
    let files: Files = (0..40)
        .map(|no| (format!("f{no:03}"), format!("{no:03}").repeat(130_000).into_bytes()))
        .collect();
    let blob = rig.whole(&zips::Zip::of(files.iter().map(|(p, b)| deflated(p, b))).bytes());
    rig.books.most.store(6 << 20, Ordering::SeqCst);
    // Long enough that who walks meets what is unpacked ahead.
    rig.books.refuses_after.store(100, Ordering::SeqCst);
    let tree = rig.tree(&blob);
    for (path, node) in list(&tree).await.iter().take(10) {
        let bytes = read(&tree, *node).await;
        assert_eq!(
            bytes.map(|bytes| bytes.len()).map_err(|error| error.why),
            Ok(390_000),
            "{path}"
        );
    }
}
