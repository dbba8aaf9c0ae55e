//! Zips: listed by their end, unpacked when they are opened.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::zips::{File, Zip};
use super::rig::*;
use crate::store::Broken;
use crate::tree::{Found, NodeNo, Ready, Why};

#[tokio::test]
async fn a_whole_zip_shows_every_file() {
    let rig = Rig::new();
    let files = files(200, |no| no as usize * 100);
    let blob = rig.whole(&zip(&files));
    let tree = rig.tree(&blob);
    compare(&tree, &files).await;
    compare(&tree, &files).await;
    assert_eq!(rig.books.indexed.load(Ordering::SeqCst), tree.index().unwrap().nodes());
    assert_eq!(rig.books.unpacked.load(Ordering::SeqCst), 199, "each once, but the empty one");
    let bookings = rig.books.bookings.load(Ordering::SeqCst);
    assert!(bookings <= 3, "{bookings} bookings");
    rig.settles(&blob).await;
    assert_eq!(tree.look(NodeNo::ROOT, b"missing").unwrap(), Found::Absent);
    assert!(tree.failed().is_none());
}

#[tokio::test]
async fn what_is_no_file_is_not_opened_and_links_are_read() {
    let rig = Rig::new();
    let blob = rig.whole(
        &Zip::of([
            File::new("dir/", "").mode(0o040_755),
            File::new("dir/stored", "../target").mode(0o120_777),
            File { attributes: 0o120_777 << 16, ..deflated("dir/packed", b"/etc/passwd") },
            File::new("dir/bad", "a\0b").mode(0o120_777),
            File::new("file", "x"),
        ])
        .bytes(),
    );
    let tree = rig.tree(&blob);
    tree.whole().await.unwrap();
    for (path, errno) in [("dir", libc::EISDIR), ("dir/stored", libc::ELOOP)] {
        assert_eq!(tree.open(node(&tree, path).await).await.unwrap_err().errno, errno);
        assert!(!tree.ready(node(&tree, path).await));
    }
    for (path, target) in [("dir/stored", "../target"), ("dir/packed", "/etc/passwd")] {
        let link = node(&tree, path).await;
        assert_eq!(tree.target(link), None, "it is packed");
        assert_eq!(tree.link(link).await.unwrap(), target.as_bytes());
    }
    let bad = tree.link(node(&tree, "dir/bad").await).await.unwrap_err();
    assert!(bad.errno == libc::EIO && bad.message.contains("\"dir/bad\": the target"), "{bad}");
    assert_eq!(tree.link(node(&tree, "file").await).await.unwrap_err().errno, libc::EINVAL);
    assert_eq!(tree.open(NodeNo(999)).await.unwrap_err().errno, libc::ESTALE);
    assert!(tree.attr(NodeNo(999)).is_none());
}

#[tokio::test]
async fn a_cold_zip_is_listed_and_one_script_read_with_little_of_it() {
    let rig = Rig::new();
    let mut files = files(5000, |_| 2000);
    files.insert("bin/detect".to_owned(), b"#!/bin/sh\n".to_vec());
    let archive = Arc::new(zip(&files));
    let length = archive.len() as u64;
    let staging = Arc::new(rig.stage(Some(length)));
    let (brought, origin) = origin(staging.clone(), archive.clone());
    let tree = rig.tree(&staging.blob());
    let index = tree.whole().await.unwrap();
    assert_eq!(index.contents(), 5001);
    let pieces = brought.pieces.load(Ordering::SeqCst);
    assert!(pieces <= 3, "{pieces} pieces: the beginning, the end, the rest of the directory");
    let detect = node(&tree, "bin/detect").await;
    assert_eq!(read(&tree, detect).await.unwrap(), b"#!/bin/sh\n");
    assert!(tree.ready(detect));
    let bytes = brought.bytes.load(Ordering::SeqCst);
    assert!(bytes < length / 10, "{bytes} of {length}");
    assert_eq!(rig.books.unpacked.load(Ordering::SeqCst), 1);
    // The rest, in an order that the archive has not.
    let mut listed: Vec<_> = list(&tree).await.into_iter().collect();
    listed.sort_by_key(|(path, _)| path.chars().rev().collect::<String>());
    for (path, node) in listed {
        assert!(read(&tree, node).await.unwrap() == files[&path], "{path}");
    }
    let pieces = brought.pieces.load(Ordering::SeqCst);
    assert!(pieces < 100, "{pieces} pieces for {} KiB", length >> 10);
    assert_eq!(rig.books.unpacked.load(Ordering::SeqCst), 5001, "each once");
    let bookings = rig.books.bookings.load(Ordering::SeqCst);
    assert!(bookings < 30, "{bookings} bookings");
    origin.abort();
    rig.settles(&staging.blob()).await;
}

#[tokio::test]
async fn a_directory_longer_than_the_first_look_is_found() {
    let rig = Rig::new();
    let mut files = files(1200, |_| 10);
    files.insert("x".repeat(200), b"long".to_vec());
    for comment in [0, 65_535] {
        let zip = Zip {
            comment: vec![b'c'; comment],
            zip64: comment > 0,
            ..Zip::of(files.iter().map(|(path, bytes)| deflated(path, bytes)))
        };
        let blob = rig.whole(&zip.bytes());
        compare(&rig.tree(&blob), &files).await;
    }
}

#[tokio::test]
async fn something_may_stand_before_a_zip() {
    let rig = Rig::new();
    let files = files(20, |no| no as usize);
    let zip = Zip {
        before: b"#!/bin/sh\nexec unzip $0\n".repeat(30),
        ..Zip::of(files.iter().map(|(path, bytes)| deflated(path, bytes)))
    };
    let tree = rig.tree(&rig.whole(&zip.bytes()));
    compare(&tree, &files).await;
}

#[tokio::test]
async fn what_is_no_archive_says_so_to_everybody_and_once_to_the_operator() {
    let rig = Rig::new();
    for bytes in [&b""[..], b"<html>no</html>", &content(1, 100_000), b"PK\x03\x04 and no more"] {
        let rig = Rig::new();
        let tree = rig.tree(&rig.whole(bytes));
        let error = tree.find(NodeNo::ROOT, b"bin").await.unwrap_err();
        assert_eq!((error.why, error.errno), (Why::Damaged, libc::EIO));
        assert_eq!(tree.whole().await.err().unwrap().message, error.message);
        assert_eq!(tree.look(NodeNo::ROOT, b"bin").unwrap_err().message, error.message);
        assert_eq!(tree.failed().unwrap().message, error.message);
        assert_eq!(rig.books.failed.lock().unwrap().len(), 1);
        assert!(tree.index().is_none());
    }
    // Whoever gives room knows of it from before.
    *rig.books.refusal.lock().unwrap() = Some(crate::tree::TreeError::new(Why::TooLarge, "big"));
    let tree = rig.tree(&rig.whole(&zip(&files(3, |_| 10))));
    assert_eq!(tree.whole().await.err().unwrap().errno, libc::EFBIG);
    assert!(rig.books.failed.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_damaged_member_fails_alone() {
    let rig = Rig::new();
    let large = content(1, 6 << 20);
    let lying = |path: &str, lie: fn(&mut File)| File { lie, ..deflated(path, b"a good text") };
    let zip = Zip::of([
        deflated("good", b"good"),
        File { crc: 1, ..deflated("checksum", b"text") },
        File { crc: 1, ..File::new("stored", "text") },
        File { crc: 1, ..deflated("empty", b"") },
        File { size: 3, ..deflated("long", b"longer") },
        File { size: 9, ..deflated("short", b"short") },
        File { data: b"\xff\xff\xff".to_vec(), ..deflated("rubbish", b"text") },
        File { data: deflate(b"text")[..3].to_vec(), ..deflated("cut", b"text") },
        lying("name", |local| local.name = b"nome".to_vec()),
        lying("method", |local| local.method = 0),
        File { flags: 1, ..File::new("encrypted", "xxxx") },
        File { method: 12, ..File::new("bzip2", "BZh9") },
        File { crc: 1, ..deflated("large", &large) },
        File { crc: 1, ..File::new("large-stored", &large) },
    ]);
    let blob = rig.whole(&zip.bytes());
    let tree = rig.tree(&blob);
    let index = tree.whole().await.unwrap();
    for (node, name) in index.children(NodeNo::ROOT, 0) {
        let name = String::from_utf8_lossy(name);
        if name == "good" {
            continue;
        }
        let errno = if name == "encrypted" { libc::EACCES } else { libc::EIO };
        for _ in 0..2 {
            let error = read(&tree, node).await.err().unwrap_or_else(|| panic!("{name} is read"));
            assert_eq!(error.errno, errno, "{name}: {error}");
            assert!(error.message.starts_with(&format!("the member {name:?}: ")), "{error}");
        }
        assert!(!tree.ready(node));
        // Of a large one all but the last byte was served.
        if name.starts_with("large") && name.ends_with("stored") {
            let error = tree.read(node, 0..large.len() as u64).await.unwrap_err();
            assert_eq!(error.errno, libc::EIO);
        }
    }
    assert_eq!(read(&tree, node(&tree, "good").await).await.unwrap(), b"good");
    assert!(tree.failed().is_none() && rig.books.failed.lock().unwrap().is_empty());
    rig.settles(&blob).await;
    let on_disk = rig.books.booked.load(Ordering::SeqCst);
    assert!(on_disk < 64 << 10, "{on_disk} bytes are kept of what was damaged");
}

#[tokio::test]
async fn a_large_member_is_read_while_it_arrives() {
    let rig = Rig::new();
    for stored in [false, true] {
        let large = content(7, 9 << 20);
        let member = if stored { File::new("large", &large) } else { deflated("large", &large) };
        // Where its last byte is: behind its local header.
        let end = 30 + "large".len() as u64 + member.data.len() as u64;
        let archive = Zip::of([member, deflated("after", &content(8, 200_000))]).bytes();
        let length = archive.len() as u64;
        let tail = length - (64 << 10);
        let staging = rig.stage(Some(length));
        write(&staging, &archive, 0..1 << 20);
        write(&staging, &archive, tail..length);
        let tree = rig.tree(&staging.blob());
        let large_node = node(&tree, "large").await;
        assert!(matches!(tree.open(large_node).await.unwrap(), Ready::Arriving));
        let (file, range) = tree.read(large_node, 1000..2000).await.unwrap();
        assert_eq!(bytes(&file, range), large[1000..2000]);
        let after = node(&tree, "after").await;
        assert!(!tree.ready(large_node) && !tree.ready(after));
        // All but a byte of the member is there: its last byte is not served unchecked.
        write(&staging, &archive, 1 << 20..end - 1);
        let size = large.len() as u64;
        let most = size - 2000;
        let (file, range) = tree.read(large_node, most - 4096..most).await.unwrap();
        assert_eq!(bytes(&file, range), large[most as usize - 4096..most as usize]);
        let last = tree.read(large_node, size - 1..size);
        assert!(tokio::time::timeout(Duration::from_millis(100), last).await.is_err());
        write(&staging, &archive, end - 1..tail);
        assert!(read(&tree, large_node).await.unwrap() == large);
        let (file, range) = tree.read(large_node, size - 1..size + 100).await.unwrap();
        assert_eq!(bytes(&file, range), large[size as usize - 1..]);
        assert!(tree.ready(large_node));
        assert!(matches!(tree.open(large_node).await.unwrap(), Ready::Whole { .. }));
        let (_, range) = tree.read(large_node, size + 5..size + 9).await.unwrap();
        assert!(range.is_empty());
        rig.books.booked.store(u64::MAX / 2, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn only_what_is_read_of_a_large_member_is_fetched() {
    let rig = Rig::new();
    let large = content(9, 60 << 20);
    let archive = Arc::new(Zip::of([deflated("large", &large)]).bytes());
    let staging = Arc::new(rig.stage(Some(archive.len() as u64)));
    let (brought, origin) = origin(staging.clone(), archive.clone());
    let tree = rig.tree(&staging.blob());
    let large_node = node(&tree, "large").await;
    let (file, range) = tree.read(large_node, 0..100).await.unwrap();
    assert_eq!(bytes(&file, range), large[..100]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let bytes = brought.bytes.load(Ordering::SeqCst);
    assert!(bytes < 32 << 20, "{bytes} of {}", archive.len());
    assert!(read(&tree, large_node).await.unwrap() == large);
    origin.abort();
}

#[tokio::test]
async fn a_broken_archive_keeps_what_is_known_of_it() {
    let rig = Rig::new();
    let files = files(50, |_| 100_000);
    let archive = zip(&files);
    let length = archive.len() as u64;
    let staging = rig.stage(Some(length));
    write(&staging, &archive, 0..1_000_000);
    write(&staging, &archive, length - (64 << 10)..length);
    let tree = rig.tree(&staging.blob());
    let listed = list(&tree).await;
    let (first, last) = (files.keys().next().unwrap(), files.keys().last().unwrap());
    assert!(read(&tree, listed[first]).await.unwrap() == files[first]);
    let broken = |tainted| Broken {
        message: "the origin is gone".to_owned(),
        errno: libc::ETIMEDOUT,
        tainted,
        superseded: false,
    };
    staging.blob().fail(broken(false));
    let error = read(&tree, listed[last]).await.unwrap_err();
    assert_eq!((error.why, error.errno), (Why::Broken, libc::ETIMEDOUT));
    assert!(error.message.contains("the origin is gone"), "{error}");
    assert!(read(&tree, listed[first]).await.unwrap() == files[first]);
    assert!(tree.failed().is_none());
    // One that was found to be wrong is not shown at all.
    let staging = rig.stage(Some(length));
    write(&staging, &archive, 0..length);
    let tree = rig.tree(&staging.blob());
    let listed = list(&tree).await;
    assert!(read(&tree, listed[first]).await.unwrap() == files[first]);
    staging.blob().fail(broken(true));
    assert!(!tree.ready(listed[first]));
    for error in [
        read(&tree, listed[first]).await.unwrap_err(),
        tree.read(listed[first], 0..1).await.unwrap_err(),
        tree.find(NodeNo::ROOT, b"x").await.unwrap_err(),
        tree.whole().await.err().unwrap(),
        tree.look(NodeNo::ROOT, b"d1").unwrap_err(),
    ] {
        assert_eq!(error.errno, libc::ETIMEDOUT);
    }
}

#[tokio::test]
async fn a_member_that_does_not_come_ends_the_callers_wait_only() {
    let mut rig = Rig::new();
    rig.stall = Duration::from_millis(200);
    let files = files(3, |_| 500_000);
    let archive = zip(&files);
    let length = archive.len() as u64;
    let staging = rig.stage(Some(length));
    write(&staging, &archive, length - (64 << 10)..length);
    let tree = rig.tree(&staging.blob());
    let error = tree.find(NodeNo::ROOT, b"d0").await.unwrap_err();
    assert_eq!((error.why, error.errno), (Why::Silent, libc::ETIMEDOUT));
    write(&staging, &archive, 0..1000);
    let listed = list(&tree).await;
    let (path, last) = listed.last_key_value().unwrap();
    let begin = std::time::Instant::now();
    assert_eq!(tree.open(*last).await.unwrap_err().errno, libc::ETIMEDOUT);
    assert!(begin.elapsed() >= rig.stall);
    // As long as bytes come, wherever, there is progress.
    let mut open = Box::pin(tree.open(*last));
    for at in 0..8 {
        let wait = tokio::time::timeout(Duration::from_millis(100), &mut open);
        assert!(wait.await.is_err());
        write(&staging, &archive, 1000 + at * 10..1010 + at * 10);
    }
    write(&staging, &archive, 1080..length - (64 << 10));
    open.await.unwrap();
    assert!(read(&tree, *last).await.unwrap() == files[path]);
}
