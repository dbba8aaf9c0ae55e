//! What a successor finds: all of what was filled, and nothing of what was not.

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use super::rig::*;
use crate::tree::{Found, NodeNo, TreeError, Why};

/// Stops the tree and the store, as a kill would: without another word to either.
async fn kill(
    rig: Rig,
    tree: std::sync::Arc<crate::tree::Tree>,
) -> (Rig, std::sync::Arc<crate::store::Blob>) {
    drop(tree);
    let (rig, blobs) = rig.restart();
    (rig, blobs.into_iter().next().unwrap())
}

#[tokio::test]
async fn a_zip_is_back_at_once_and_unpacks_nothing_twice() {
    let rig = Rig::new();
    let files = files(60, |no| no as usize * 500);
    let blob = rig.whole(&zip(&files));
    let tree = rig.tree(&blob);
    let half: Vec<_> = files.keys().step_by(2).cloned().collect();
    for path in &half {
        assert!(read(&tree, node(&tree, path).await).await.unwrap() == files[path]);
    }
    rig.settles(&blob).await;
    let unpacked = rig.books.unpacked.load(Ordering::SeqCst);
    let (rig, blob) = kill(rig, tree).await;
    let tree = rig.tree(&blob);
    tree.whole().await.unwrap();
    assert_eq!(rig.books.bookings.load(Ordering::SeqCst), 0, "nothing is made anew");
    let ready = list(&tree).await.values().filter(|node| tree.ready(**node)).count();
    // Stored ones are not copied, and checked once more.
    assert!(ready >= unpacked as usize * 6 / 10, "{ready} of {unpacked} are there");
    compare(&tree, &files).await;
    rig.settles(&blob).await;
}

#[tokio::test]
async fn a_tar_is_back_at_once() {
    let files = files(60, |no| no as usize * 500);
    for pack in [<[u8]>::to_vec as fn(&[u8]) -> Vec<u8>, gzip, zst, xz] {
        let rig = Rig::new();
        let blob = rig.whole(&pack(&tar(&files)));
        let tree = rig.tree(&blob);
        let nodes = list(&tree).await;
        rig.settles(&blob).await;
        let (rig, blob) = kill(rig, tree).await;
        let tree = rig.tree(&blob);
        assert_eq!(list(&tree).await, nodes, "the numbers stay");
        assert!(nodes.values().all(|node| tree.ready(*node)));
        assert_eq!(tree.look(NodeNo::ROOT, b"missing").unwrap(), Found::Absent);
        compare(&tree, &files).await;
        assert_eq!(rig.books.bookings.load(Ordering::SeqCst), 0, "nothing is made anew");
        assert!(!blob.wants_all());
    }
}

#[tokio::test]
async fn what_was_written_and_not_noted_is_written_again() {
    let rig = Rig::new();
    let files = files(30, |_| 9000);
    let blob = rig.whole(&zip(&files));
    let tree = rig.tree(&blob);
    compare(&tree, &files).await;
    rig.settles(&blob).await;
    // Killed between the bytes and the note, with half of the bytes written.
    let map = fs::OpenOptions::new().write(true).open(rig.file(&blob, ".filled")).unwrap();
    map.write_all_at(&[0; 10], 5).unwrap();
    let index = tree.index().unwrap().clone();
    let data = fs::OpenOptions::new().write(true).open(rig.file(&blob, "")).unwrap();
    for no in 5..15 {
        let content = index.content(crate::tree::ContentNo(no)).unwrap();
        if content.packed.has_to_be_unpacked() {
            data.write_all_at(&[0; 4500], content.at + 4500).unwrap();
        }
    }
    let (rig, blob) = kill(rig, tree).await;
    let tree = rig.tree(&blob);
    compare(&tree, &files).await;
}

#[tokio::test]
async fn files_that_do_not_belong_together_are_made_anew() {
    let files = files(30, |_| 9000);
    for pack in [|files: &Files| zip(files), |files: &Files| gzip(&tar(files))] {
        let harms: &[fn(&Rig, &crate::store::Blob)] = &[
            |rig, blob| fs::remove_file(rig.file(blob, ".index")).unwrap(),
            |rig, blob| fs::remove_file(rig.file(blob, ".filled")).unwrap(),
            |rig, blob| fs::remove_file(rig.file(blob, "")).unwrap(),
            |rig, blob| fs::write(rig.file(blob, ".filled"), [1; 7]).unwrap(),
            |rig, blob| fs::write(rig.file(blob, ".filled"), [0; 30]).unwrap(),
            |rig, blob| fs::write(rig.file(blob, ""), "short").unwrap(),
            |rig, blob| {
                let path = rig.file(blob, ".index");
                let mut index = fs::read(&path).unwrap();
                let at = index.len() / 2;
                index[at] ^= 1;
                fs::write(path, index).unwrap();
            },
            |rig, blob| {
                let path = rig.file(blob, ".index");
                let index = fs::read(&path).unwrap();
                fs::write(path, &index[..index.len() - 5]).unwrap();
            },
        ];
        for (number, harm) in harms.iter().enumerate() {
            eprintln!("harm {number}");
            let rig = Rig::new();
            let blob = rig.whole(&pack(&files));
            let tree = rig.tree(&blob);
            compare(&tree, &files).await;
            rig.settles(&blob).await;
            drop(tree);
            harm(&rig, &blob);
            let (rig, blobs) = rig.restart();
            rig.books.booked.store(u64::MAX / 2, Ordering::SeqCst);
            let tree = rig.tree(&blobs[0]);
            compare(&tree, &files).await;
        }
    }
}

#[tokio::test]
async fn a_stream_that_was_killed_half_way_begins_again() {
    let rig = Rig::new();
    let files = files(40, |_| 30_000);
    let archive = gzip(&tar(&files));
    let length = archive.len() as u64;
    let staging = rig.stage(Some(length));
    write(&staging, &archive, 0..length / 2);
    let tree = rig.tree(&staging.blob());
    let (first, bytes) = files.first_key_value().unwrap();
    assert!(read(&tree, node(&tree, first).await).await.unwrap() == *bytes);
    staging.suspend(&record(length)).unwrap();
    let from = staging.blob().id();
    let error = tree.whole().await.err().unwrap();
    assert_eq!(error.why, Why::Broken);
    drop((tree, staging));
    // It goes on under another number, and the tree of it is another.
    let id = rig.store.allocate();
    let resumed = rig.store.resume(id, from, crate::store::Allocation::Sparse).unwrap().0;
    let tree = rig.tree(&resumed.blob());
    assert!(read(&tree, node(&tree, first).await).await.unwrap() == *bytes);
    write(&resumed, &archive, length / 2..length);
    compare(&tree, &files).await;
}

#[tokio::test]
async fn a_zip_whose_download_goes_on_keeps_what_was_unpacked() {
    let rig = Rig::new();
    let files = files(40, |_| 30_000);
    let archive = zip(&files);
    let length = archive.len() as u64;
    let staging = rig.stage(Some(length));
    write(&staging, &archive, 0..length / 3);
    write(&staging, &archive, length - (64 << 10)..length);
    let tree = rig.tree(&staging.blob());
    let second = files.keys().nth(1).unwrap();
    assert!(read(&tree, node(&tree, second).await).await.unwrap() == files[second]);
    rig.settles(&staging.blob()).await;
    let from = staging.blob().id();
    staging.suspend(&record(length)).unwrap();
    drop((tree, staging));
    let id = rig.store.allocate();
    let resumed = rig.store.resume(id, from, crate::store::Allocation::Sparse).unwrap().0;
    let bookings = rig.books.bookings.load(Ordering::SeqCst);
    let tree = rig.tree(&resumed.blob());
    assert!(tree.ready(node(&tree, second).await), "it was unpacked before");
    assert_eq!(rig.books.bookings.load(Ordering::SeqCst), bookings);
    write(&resumed, &archive, length / 3..length - (64 << 10));
    compare(&tree, &files).await;
}

#[tokio::test]
async fn a_refusal_leaves_nothing_behind() {
    let rig = Rig::new();
    let blob = rig.whole(b"no archive at all");
    let tree = rig.tree(&blob);
    let error: TreeError = tree.whole().await.err().unwrap();
    assert_eq!(error.why, Why::Damaged);
    assert_eq!(rig.store.canopy(blob.id()).usage().unwrap(), 0);
}
