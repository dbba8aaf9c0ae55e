//! Many at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::zips::Zip;
use super::rig::*;
use crate::tree::{NodeNo, Tree};

/// Has tasks read the same files in orders of their own, and compares what they read.
async fn read_all(tree: &Arc<Tree>, files: &Arc<Files>, tasks: u32) {
    let mut readers = tokio::task::JoinSet::new();
    for task in 0..tasks {
        let (tree, files) = (tree.clone(), files.clone());
        readers.spawn(async move {
            let mut paths: Vec<&String> = files.keys().collect();
            paths.sort_by_key(|path| crc32fast::hash(format!("{task}{path}").as_bytes()));
            for path in paths {
                let node = node(&tree, path).await;
                assert!(read(&tree, node).await.unwrap() == files[path], "{path}");
                // And in the middle of it, as another program does.
                let size = files[path].len() as u64;
                let (file, range) = tree.read(node, size / 3..size / 2).await.unwrap();
                let found = bytes(&file, range);
                assert!(found == files[path][size as usize / 3..size as usize / 2]);
            }
        });
    }
    while let Some(done) = readers.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_openers_of_one_member_unpack_it_once() {
    for size in [100, 3 << 20, 5 << 20] {
        let rig = Rig::new();
        let bytes = content(3, size);
        let blob = rig.whole(&Zip::of([deflated("a", &bytes)]).bytes());
        let tree = rig.tree(&blob);
        let files = Arc::new(Files::from([("a".to_owned(), bytes)]));
        read_all(&tree, &files, 32).await;
        assert_eq!(rig.books.unpacked.load(Ordering::SeqCst), 1, "{size}");
        rig.settles(&blob).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_in_any_order_of_an_archive_in_any_order() {
    let size = |no: u32| match no % 17 {
        0 => 5 << 20,
        other => other as usize * 3000,
    };
    let files = Arc::new(files(60, size));
    for (number, archive) in [zip(&files), tar(&files), gzip(&tar(&files))].into_iter().enumerate()
    {
        let rig = Rig::new();
        let length = archive.len() as u64;
        let staging = Arc::new(rig.stage(Some(length)));
        let archive = Arc::new(archive);
        let tree = rig.tree(&staging.blob());
        let writer = {
            let (staging, archive) = (staging.clone(), archive.clone());
            std::thread::spawn(move || {
                let step = 100_000;
                let parts = length.div_ceil(step);
                for part in 0..parts {
                    let at = part * 7919 % parts * step;
                    write(&staging, &archive, at..(at + step).min(length));
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            })
        };
        read_all(&tree, &files, 6).await;
        writer.join().unwrap();
        compare(&tree, &files).await;
        if number == 0 {
            assert_eq!(rig.books.unpacked.load(Ordering::SeqCst), 60);
        }
        rig.settles(&staging.blob()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn openers_that_go_away_leave_a_member_to_others() {
    let rig = Rig::new();
    let files = files(40, |no| 5000 + no as usize * 1000);
    let archive = zip(&files);
    let length = archive.len() as u64;
    let staging = rig.stage(Some(length));
    write(&staging, &archive, length - (64 << 10)..length);
    let tree = rig.tree(&staging.blob());
    write(&staging, &archive, 0..512);
    let listed = list(&tree).await;
    for node in listed.values() {
        let open = tokio::time::timeout(std::time::Duration::from_millis(2), tree.open(*node));
        // Those at the end are there already.
        let _ = open.await;
    }
    write(&staging, &archive, 512..length - (64 << 10));
    compare(&tree, &files).await;
    assert_eq!(rig.books.unpacked.load(Ordering::SeqCst), 40, "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lookups_never_find_a_gap_between_what_grows_and_what_is_complete() {
    let files = Arc::new(files(2000, |_| 20));
    for _ in 0..5 {
        let rig = Rig::new();
        let archive = gzip(&tar(&files));
        let length = archive.len() as u64;
        let staging = rig.stage(Some(length));
        let tree = rig.tree(&staging.blob());
        write(&staging, &archive, 0..length - 10);
        let last = node(&tree, "d0/e0/file-0").await;
        read(&tree, last).await.unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::SeqCst) {
                        assert!(tree.attr(last).is_some());
                        let found = tree.look(NodeNo::ROOT, b"d0").unwrap();
                        assert!(matches!(found, crate::tree::Found::Node(_)));
                        assert!(tree.ready(last));
                    }
                });
            }
            write(&staging, &archive, length - 10..length);
            while tree.index().is_none() {
                std::thread::yield_now();
            }
            done.store(true, Ordering::SeqCst);
        });
        compare(&tree, &files).await;
    }
}
