//! The tar family: indexed and unpacked while it arrives.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::tars;
use super::rig::*;
use crate::store::Broken;
use crate::tree::{Found, NodeNo, Ready, Why};

/// Packs a tar.
type Pack = fn(&[u8]) -> Vec<u8>;

/// Every way in which a tar may be packed, by name.
fn packings() -> Vec<(&'static str, Pack)> {
    // In two parts, which are cut in the middle of a member.
    fn halves(tar: &[u8], pack: Pack) -> Vec<u8> {
        let (a, b) = tar.split_at(tar.len() / 2 + 7);
        [pack(a), pack(b)].concat()
    }
    Vec::from([
        ("tar", <[u8]>::to_vec as Pack),
        ("tar.gz", gzip),
        ("tar.gz of two members", |tar| halves(tar, gzip)),
        ("tar.gz with padding", |tar| [gzip(tar), vec![0; 70_000]].concat()),
        ("tar.zst", zst),
        ("tar.zst of two frames", |tar| halves(tar, zst)),
        ("tar.zst behind a frame that is skipped", |tar| {
            [&b"\x50\x2a\x4d\x18\x03\0\0\0abc"[..], &zst(tar)].concat()
        }),
        ("tar.xz", xz),
        ("tar.xz of two streams", |tar| halves(tar, xz)),
    ])
}

#[tokio::test]
async fn every_packing_shows_every_file() {
    for (name, pack) in packings() {
        eprintln!("{name}");
        // A large one too, where packing does not take long without optimisation.
        let large = if ["tar", "tar.gz", "tar.zst"].contains(&name) { 5 << 20 } else { 100_000 };
        let mut files = files(60, |no| no as usize * 700);
        files.insert("large".to_owned(), content(99, large));
        let tar = tar(&files);
        let rig = Rig::new();
        let blob = rig.whole(&pack(&tar));
        let tree = rig.tree(&blob);
        compare(&tree, &files).await;
        assert!(tree.failed().is_none() && blob.wants_all());
        assert_eq!(tree.look(NodeNo::ROOT, b"missing").unwrap(), Found::Absent);
        let unpacked = if name == "tar" { 0 } else { 61 };
        assert_eq!(rig.books.unpacked.load(Ordering::SeqCst), unpacked, "{name}");
        rig.settles(&blob).await;
        let bookings = rig.books.bookings.load(Ordering::SeqCst);
        assert!(bookings <= 3, "{name}: {bookings} bookings");
    }
}

#[tokio::test]
async fn a_member_can_be_read_once_it_has_passed_and_a_miss_waits_for_the_end() {
    let files = files(40, |_| 30_000);
    let tar = tar(&files);
    for (name, pack) in packings() {
        eprintln!("{name}");
        let rig = Rig::new();
        let archive = pack(&tar);
        let length = archive.len() as u64;
        for known in [true, false] {
            let staging = rig.stage(known.then_some(length));
            let tree = rig.tree(&staging.blob());
            let (first, bytes) = files.first_key_value().unwrap();
            let mut found = Box::pin(find(&tree, first));
            let wait = tokio::time::timeout(Duration::from_millis(50), &mut found);
            assert!(wait.await.is_err());
            write(&staging, &archive, 0..length * 2 / 3);
            let node = found.await.unwrap().unwrap();
            assert!(read(&tree, node).await.unwrap() == *bytes);
            assert_eq!(tree.look(NodeNo::ROOT, b"missing").unwrap(), Found::NotYet);
            assert!(tree.index().is_none());
            let mut missing = Box::pin(find(&tree, "d0/missing"));
            let mut whole = Box::pin(tree.whole());
            let wait = tokio::time::timeout(Duration::from_millis(50), &mut missing);
            assert!(wait.await.is_err());
            assert!(tokio::time::timeout(Duration::from_millis(20), &mut whole).await.is_err());
            write(&staging, &archive, length * 2 / 3..length);
            staging.end();
            assert_eq!(missing.await.unwrap(), None);
            whole.await.unwrap();
            assert_eq!(super::rig::node(&tree, first).await, node, "the number stays");
            compare(&tree, &files).await;
            drop(staging);
            rig.books.booked.store(u64::MAX / 2, Ordering::SeqCst);
        }
    }
}

#[tokio::test]
async fn a_large_member_is_read_while_it_passes() {
    let rig = Rig::new();
    let large = content(5, 12 << 20);
    let archive = zst(&tars::tar([tars::file("large", &large), tars::file("after", "x")]));
    let length = archive.len() as u64;
    let staging = rig.stage(Some(length));
    write(&staging, &archive, 0..length / 2);
    let tree = rig.tree(&staging.blob());
    let node = node(&tree, "large").await;
    assert!(matches!(tree.open(node).await.unwrap(), Ready::Arriving));
    let (file, range) = tree.read(node, 3 << 20..4 << 20).await.unwrap();
    assert!(bytes(&file, range) == large[3 << 20..4 << 20]);
    let rest = tree.read(node, 11 << 20..12 << 20);
    assert!(tokio::time::timeout(Duration::from_millis(50), rest).await.is_err());
    write(&staging, &archive, length / 2..length);
    assert!(read(&tree, node).await.unwrap() == large);
    assert_eq!(read(&tree, super::rig::node(&tree, "after").await).await.unwrap(), b"x");
}

#[tokio::test]
async fn a_stream_that_breaks_off_keeps_what_has_passed() {
    let files = files(40, |_| 30_000);
    let tar = tar(&files);
    for (name, pack) in packings() {
        eprintln!("{name}");
        let rig = Rig::new();
        let archive = pack(&tar);
        let length = archive.len() as u64;
        let staging = rig.stage(Some(length));
        write(&staging, &archive, 0..length * 2 / 3);
        let tree = rig.tree(&staging.blob());
        let (first, bytes) = files.first_key_value().unwrap();
        let node = node(&tree, first).await;
        read(&tree, node).await.unwrap();
        staging.blob().fail(Broken {
            message: "the origin is gone".to_owned(),
            errno: libc::EACCES,
            tainted: false,
            superseded: false,
        });
        let error = tree.whole().await.err().unwrap();
        assert_eq!((error.why, error.errno), (Why::Broken, libc::EACCES), "{name}: {error}");
        assert_eq!(find(&tree, "missing").await.unwrap_err().errno, libc::EACCES);
        assert_eq!(find(&tree, first).await.unwrap(), Some(node));
        assert!(read(&tree, node).await.unwrap() == *bytes);
        assert_eq!(rig.books.failed.lock().unwrap().len(), 1);
        rig.settles(&staging.blob()).await;
    }
}

#[tokio::test]
async fn a_cut_archive_is_refused_at_every_place_in_bounded_time() {
    let files = files(3, |_| 300);
    let tar = tar(&files);
    let rig = Rig::new();
    for (name, pack) in packings() {
        let archive = pack(&tar);
        // What pads it may be cut, and so may the blocks of zeros, but for one byte.
        let padding = match name {
            "tar" => 1024,
            "tar.gz with padding" => 70_000,
            _ => 0,
        };
        let needed = archive.len() - padding;
        for cut in (0..needed).step_by(needed / 23) {
            let blob = rig.whole(&archive[..cut]);
            let tree = rig.tree(&blob);
            let error = tree.whole().await.err();
            let error = error.unwrap_or_else(|| panic!("{name} is shown, cut at {cut}"));
            assert_eq!((error.why, error.errno), (Why::Damaged, libc::EIO), "{name} {cut}");
        }
    }
}

#[tokio::test]
async fn what_stands_behind_a_stream_is_no_part_of_it() {
    let tar = tar(&files(3, |_| 300));
    for (name, pack) in packings() {
        if name == "tar" || name.contains("padding") {
            continue;
        }
        let rig = Rig::new();
        for rubbish in [&b"rubbish"[..], b"\0\0\0\0\x1f\x8brubbish", b"\x1f\x8b\x08rubbish"] {
            let tree = rig.tree(&rig.whole(&[&pack(&tar), rubbish].concat()));
            let error = tree.whole().await.err().unwrap_or_else(|| panic!("{name} is shown"));
            assert_eq!(error.why, Why::Damaged, "{name}: {error}");
        }
    }
}

#[tokio::test]
async fn changed_bytes_of_a_stream_are_noticed() {
    let tar = tar(&files(3, |_| 3000));
    let rig = Rig::new();
    for (name, pack) in packings() {
        // zstd was told no checksum, and plain tar has none of its contents.
        if !name.contains("gz") && !name.contains("xz") || name.contains("padding") {
            continue;
        }
        let archive = pack(&tar);
        for at in (30..archive.len()).step_by(archive.len() / 19) {
            let mut bad = archive.clone();
            bad[at] ^= 0x10;
            let tree = rig.tree(&rig.whole(&bad));
            assert!(tree.whole().await.is_err(), "{name}: byte {at}");
        }
    }
}

#[tokio::test]
async fn silence_ends_the_wait_and_slowness_does_not() {
    let mut rig = Rig::new();
    rig.stall = Duration::from_millis(200);
    let files = files(10, |_| 3000);
    let archive = gzip(&tar(&files));
    let length = archive.len() as u64;
    let staging = rig.stage(Some(length));
    let tree = rig.tree(&staging.blob());
    let error = tree.find(NodeNo::ROOT, b"d0").await.unwrap_err();
    assert_eq!((error.why, error.errno), (Why::Silent, libc::ETIMEDOUT));
    let mut whole = Box::pin(tree.whole());
    for part in 0..10 {
        let wait = tokio::time::timeout(Duration::from_millis(100), &mut whole);
        assert!(wait.await.is_err(), "part {part}");
        write(&staging, &archive, length * part / 10..length * (part + 1) / 10);
    }
    whole.await.unwrap();
    compare(&tree, &files).await;
    assert!(tree.failed().is_none(), "a caller's patience is no failure of the tree");
}

#[tokio::test]
async fn names_that_come_again_and_hard_links_share_what_they_should() {
    let rig = Rig::new();
    let archive = gzip(&tars::tar([
        tars::file("a", "first"),
        tars::file("b", "second"),
        tars::link("hard", b'1', "a"),
        tars::link("soft", b'2', "b"),
        tars::file("a", "third"),
        tars::file("empty", ""),
    ]));
    let tree = rig.tree(&rig.whole(&archive));
    tree.whole().await.unwrap();
    for (path, text) in [("a", "third"), ("b", "second"), ("hard", "first"), ("empty", "")] {
        assert_eq!(read(&tree, node(&tree, path).await).await.unwrap(), text.as_bytes());
    }
    let soft = node(&tree, "soft").await;
    assert_eq!(tree.target(soft).unwrap(), b"b");
    assert_eq!(tree.link(soft).await.unwrap(), b"b");
}

fn gzip_best(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::read::GzEncoder::new(bytes, flate2::Compression::best());
    let mut packed = Vec::new();
    encoder.read_to_end(&mut packed).unwrap();
    packed
}

#[tokio::test]
async fn bombs_are_stopped() {
    let mut rig = Rig::new();
    rig.limits.expanded = 64 << 20;
    let zeros = |bytes: usize| tars::file("zeros", vec![0; bytes]);
    let refused = async |archive: Vec<u8>, why: Why, text: &str| {
        let blob = rig.whole(&archive);
        let tree = rig.tree(&blob);
        let error = tree.whole().await.err().unwrap();
        assert!(error.why == why && error.message.contains(text), "{error}");
        drop(tree);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(rig.store.canopy(blob.id()).usage().unwrap() < 64 << 10, "{text}");
    };
    refused(gzip_best(&tars::tar([zeros(32 << 20)])), Why::Limit, "archives.ratio").await;
    refused(zst(&tars::tar([zeros(32 << 20)])), Why::Limit, "archives.ratio").await;
    let claims = tars::Block::new("x", b'0', 65 << 20).with("");
    refused(gzip(&claims), Why::Limit, "archives.expanded").await;
    // A window of 4 GiB (RFC 8878, 3.1.1.1.2), and a dictionary of as much.
    refused(b"\x28\xb5\x2f\xfd\x00\xb0\x01\0\0".to_vec(), Why::Limit, "memory").await;
    let mut greedy = xz(&tars::tar([tars::file("x", "x")]));
    // The block header: size, flags, filter, size of its properties, dictionary; then a checksum.
    assert_eq!(greedy[12..16], [2, 0, 0x21, 1]);
    greedy[16] = 40;
    let sum = crc32fast::hash(&greedy[12..20]);
    greedy[20..24].copy_from_slice(&sum.to_le_bytes());
    refused(greedy, Why::Limit, "memory").await;
}

#[tokio::test]
async fn dropping_a_tree_ends_what_is_done_behind() {
    let rig = Rig::new();
    let archive = gzip(&tar(&files(40, |_| 30_000)));
    let staging = rig.stage(Some(archive.len() as u64));
    write(&staging, &archive, 0..100_000);
    let tree = rig.tree(&staging.blob());
    read(&tree, node(&tree, "d0/e0/file-0").await).await.unwrap();
    let blob = Arc::downgrade(&staging.blob());
    let held = blob.strong_count();
    drop(tree);
    for _ in 0..100 {
        if blob.strong_count() < held && rig.books.settled.load(Ordering::SeqCst) > 0 {
            rig.settles(&staging.blob()).await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} still hold the archive, {held} did before", blob.strong_count());
}

#[tokio::test]
async fn what_unpacks_to_too_much_is_refused_also_where_no_length_was_announced() {
    let rig = Rig::new();
    let archive = xz(&tars::tar([tars::file("zeros", vec![0; 8 << 20])]));
    let length = archive.len() as u64;
    for known in [true, false] {
        let staging = rig.stage(known.then_some(length));
        let tree = rig.tree(&staging.blob());
        write(&staging, &archive, 0..length);
        staging.end();
        let error = tree.whole().await.err().unwrap();
        assert_eq!(error.why, Why::Limit, "{error}");
        assert!(error.message.contains("archives.ratio allows 200"), "{error}");
    }
}
