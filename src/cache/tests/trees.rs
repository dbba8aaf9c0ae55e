//! Archives shown as directories, from the origin to their bytes.

mod going;
mod gone_on;

use std::io::Write as _;

use super::*;
use crate::source::{Fill, Form, Integrity};
use crate::tree::tests::{tars, zips};
use crate::tree::{NodeNo, Ready, Tree, TreeError, Why};

const LIMITS: Limits = Limits { quota: 64 * MIB, hard: 80 * MIB, min_free: 0 };

fn directory(url: &str) -> Source {
    Source { form: Form::Directory, fill: Fill::OnRead, ..source(url) }
}

fn rig() -> Rig {
    Rig::with(LIMITS, table([("a", directory("http://h/a"))]))
}

/// Bytes that no method makes smaller.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

fn deflated(path: &str, bytes: &[u8]) -> zips::File {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    let data = encoder.finish().unwrap();
    zips::File { data, method: 8, ..zips::File::new(path, bytes) }
}

/// A buildpack: one script, and beside it what is large.
fn buildpack(large: usize) -> Arc<Vec<u8>> {
    buildpack_of(large, 100_000)
}

fn buildpack_of(large: usize, length: usize) -> Arc<Vec<u8>> {
    let mut files: Vec<_> = (0..large)
        .map(|i| deflated(&format!("dependencies/{i:03}"), &noise(i as u64, length)))
        .collect();
    files.insert(large / 2, deflated("bin/detect", b"#!/bin/sh\nexit 0\n").mode(0o100_755));
    Arc::new(zips::Zip::of(files).bytes())
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn tag(tag: &str, bytes: &[u8]) -> Head {
    head(Some(tag), Some(bytes.len() as u64))
}

/// Steps into a directory, as somebody does who walks down a path.
async fn step_in(rig: &Rig, name: &str) -> (Opened, Arc<Tree>) {
    let opened = rig.open(name).await.unwrap();
    let tree = rig.cache.tree(&rig.entry(name), &opened.version);
    (opened, tree)
}

async fn walk(tree: &Tree, path: &str) -> Result<Option<NodeNo>, TreeError> {
    let mut at = NodeNo::ROOT;
    for part in path.split('/') {
        match tree.find(at, part.as_bytes()).await? {
            Some(node) => at = node,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

async fn read(tree: &Tree, path: &str) -> Result<Vec<u8>, TreeError> {
    use std::os::unix::fs::FileExt as _;
    let node = walk(tree, path).await?.expect(path);
    let (file, range) = match tree.open(node).await? {
        Ready::Whole { file, range } => (file, range),
        Ready::Arriving => tree.read(node, 0..u64::MAX).await?,
    };
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut bytes, range.start).unwrap();
    Ok(bytes)
}

/// Waits until the books say what the disk says.
async fn settled(rig: &Rig) {
    until("the account to agree with the disk", || {
        let balance = rig.cache.ledger().balance();
        balance.reserved == 0 && balance.stored == rig.cache.store.resident().unwrap()
    })
    .await;
}

async fn restarted(rig: Rig, table: Table) -> Rig {
    let Rig { cache, dir, .. } = rig;
    let gone = Arc::downgrade(&cache);
    cache.stop().await;
    cache.store.close().unwrap();
    drop(cache);
    until("the predecessor to end", || gone.strong_count() == 0).await;
    Rig::over(dir, LIMITS, table)
}

#[tokio::test]
async fn a_script_of_a_cold_zip_costs_a_few_small_requests() {
    let rig = rig();
    let zip = buildpack(80);
    rig.will(Reply::Ranged(tag("1", &zip), zip.clone()));
    let (_opened, tree) = step_in(&rig, "a").await;
    assert_eq!(tree.whole().await.unwrap().nodes(), 84);
    assert_eq!(read(&tree, "bin/detect").await.unwrap(), b"#!/bin/sh\nexit 0\n");
    assert_eq!(walk(&tree, "bin/compile").await.unwrap(), None);
    let ranges = rig.origin.ranges.lock().unwrap().clone();
    assert!(ranges.len() <= 3, "{ranges:?}");
    let came = rig.cache.counters().bytes_from_origin.get();
    assert!(came < zip.len() as u64 / 16, "{came} of {}", zip.len());
    let counters = rig.cache.counters();
    assert_eq!(counters.trees_indexed.get(), 1);
    until("the count", || counters.members_unpacked.get() == 1).await;
}

#[tokio::test]
async fn everything_of_a_cold_zip_is_there_in_the_end() {
    let rig = rig();
    let zip = buildpack(20);
    rig.will(Reply::Ranged(tag("1", &zip), zip.clone()));
    let (opened, tree) = step_in(&rig, "a").await;
    for i in 0..20 {
        let bytes = read(&tree, &format!("dependencies/{i:03}")).await.unwrap();
        assert!(bytes == noise(i, 100_000), "{i}");
    }
    read(&tree, "bin/detect").await.unwrap();
    // What lies between the members is all that is missing, if anything.
    assert!(opened.version.blob.filled() + 4096 > zip.len() as u64);
}

#[tokio::test]
async fn with_a_digest_nothing_is_shown_before_it_has_matched_and_all_is_ready_then() {
    let zip = buildpack(20);
    let declared = Source { digest: sha256(&zip), ..directory("http://h/a") };
    let rig = Rig::with(LIMITS, table([("a", declared)]));
    rig.will(Reply::Ranged(tag("1", &zip), zip.clone()));
    let (opened, tree) = step_in(&rig, "a").await;
    committed(&opened).await;
    assert_eq!(read(&tree, "bin/detect").await.unwrap().len(), 17);
    assert_eq!(rig.cache.counters().bytes_from_origin.get(), zip.len() as u64);
    assert_eq!(rig.asked(), 1);
}

#[tokio::test]
async fn a_tar_with_a_digest_is_unpacked_while_it_arrives() {
    let (small, large) = (noise(1, 3000), noise(2, 2 << 20));
    let members = [tars::file("bin/detect", &small), tars::file("large", &large)];
    let tar = Arc::new(gz(&tars::tar(members)));
    let declared = Source { digest: sha256(&tar), ..directory("http://h/a") };
    let rig = Rig::with(LIMITS, table([("a", declared)]));
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(tag("1", &tar), sent));
    let entry = rig.entry("a");
    let opening = rig.cache.open(&entry);
    let arriving = async {
        let (most, rest) = tar.split_at(tar.len() - 1000);
        body.send(Ok(bytes::Bytes::copy_from_slice(most))).unwrap();
        until("the tree", || !rig.cache.blobs.lock().unwrap().is_empty()).await;
        let blob = *rig.cache.blobs.lock().unwrap().keys().next().unwrap();
        until("the tree", || rig.cache.known_tree(blob).is_some()).await;
        let tree = rig.cache.known_tree(blob).unwrap();
        assert!(read(&tree, "bin/detect").await.unwrap() == small);
        assert!(rig.entry("a").version().is_none(), "nobody sees it yet");
        body.send(Ok(bytes::Bytes::copy_from_slice(rest))).unwrap();
        drop(body);
    };
    let (opened, ()) = tokio::join!(opening, arriving);
    let opened = opened.unwrap();
    let tree = rig.cache.tree(&entry, &opened.version);
    assert!(read(&tree, "large").await.unwrap() == large);
    assert!(read(&tree, "bin/detect").await.unwrap() == small);
    tree.whole().await.unwrap();
    assert_eq!(rig.cache.counters().trees_indexed.get(), 1, "built once");
}

#[tokio::test]
async fn what_does_not_have_its_digest_leaves_nothing_of_its_tree() {
    let tar = gz(&tars::tar([tars::file("f", noise(1, 100_000))]));
    let declared = Source { digest: sha256(b"other"), ..directory("http://h/a") };
    let rig = Rig::with(LIMITS, table([("a", declared)]));
    rig.will(found("1", &tar)).will(found("1", &tar));
    let error = rig.open("a").await.err().unwrap();
    assert_eq!((error.why, error.errno), (Refusal::Digest, libc::EIO));
    until("everything to go", || rig.cache.ledger().balance() == Balance::default()).await;
    assert_eq!(rig.cache.store.resident().unwrap(), 0);
}

#[tokio::test]
async fn with_a_digest_checked_at_the_end_members_are_read_before_it_and_not_after_it_failed() {
    let zip = buildpack(20);
    let eventual =
        |digest| Source { digest, integrity: Integrity::Eventual, ..directory("http://h/a") };
    let rig = Rig::with(LIMITS, table([("a", eventual(sha256(b"other")))]));
    rig.will(Reply::Ranged(tag("1", &zip), zip.clone()));
    let (opened, tree) = step_in(&rig, "a").await;
    assert_eq!(read(&tree, "bin/detect").await.unwrap().len(), 17);
    assert!(!opened.version.complete());
    opened.version.blob.want_all();
    until("the end", || opened.version.blob.broken().is_some()).await;
    read(&tree, "bin/detect").await.unwrap_err();
    let blob = opened.version.blob.id();
    until("the kernel to be told", || rig.told.cleared.lock().unwrap().contains(&blob)).await;
}

#[tokio::test]
async fn a_tree_outlives_the_daemon() {
    let rig = rig();
    let zip = buildpack(20);
    rig.will(found("1", &zip));
    let (opened, tree) = step_in(&rig, "a").await;
    read(&tree, "dependencies/001").await.unwrap();
    committed(&opened).await;
    settled(&rig).await;
    let trees = rig.cache.ledger().balance().trees;
    drop((opened, tree));
    let rig = restarted(rig, table([("a", directory("http://h/a"))])).await;
    assert_eq!(rig.cache.ledger().balance().trees, trees);
    settled(&rig).await;
    rig.will(Reply::NotModified);
    let (_opened, tree) = step_in(&rig, "a").await;
    assert!(read(&tree, "dependencies/001").await.unwrap() == noise(1, 100_000));
    let counters = rig.cache.counters();
    assert_eq!(counters.members_unpacked.get(), 0, "it was there");
    assert_eq!(counters.bytes_from_origin.get(), 0);
    assert!(read(&tree, "dependencies/002").await.unwrap() == noise(2, 100_000));
    settled(&rig).await;
}

#[tokio::test]
async fn a_part_that_is_gone_on_with_keeps_its_tree() {
    let rig = rig();
    let zip = buildpack_of(12, 500_000);
    rig.will(Reply::Ranged(tag("1", &zip), zip.clone()));
    let (opened, tree) = step_in(&rig, "a").await;
    // Too few for anything to be fetched ahead, which could be all of it.
    for i in [0, 4, 7] {
        read(&tree, &format!("dependencies/{i:03}")).await.unwrap();
    }
    let first = opened.version.blob.id();
    assert!(opened.version.blob.filled() < zip.len() as u64 / 2);
    drop((opened, tree));
    let rig = restarted(rig, table([("a", directory("http://h/a"))])).await;
    let trees = rig.cache.ledger().balance().trees;
    assert!(trees >= 3 * 500_000);
    *rig.origin.ranged.lock().unwrap() = Some(zip.clone());
    rig.will(Reply::NotModified);
    let (opened, tree) = step_in(&rig, "a").await;
    assert_ne!(opened.version.blob.id(), first);
    assert_eq!(rig.cache.ledger().tree(opened.version.blob.id()), trees);
    assert!(read(&tree, "dependencies/007").await.unwrap() == noise(7, 500_000));
    let ranges = rig.origin.ranges.lock().unwrap().clone();
    assert_eq!(rig.cache.counters().bytes_from_origin.get(), 0, "{ranges:?}");
    assert!(read(&tree, "dependencies/011").await.unwrap() == noise(11, 500_000));
}

#[tokio::test]
async fn what_is_no_archive_says_so_and_does_no_harm_to_the_file() {
    let rig =
        Rig::with(LIMITS, table([("a", directory("http://h/a")), ("a.zip", source("http://h/a"))]));
    rig.will(found("1", &noise(1, 5000)));
    let (opened, tree) = step_in(&rig, "a").await;
    let error = tree.whole().await.err().unwrap();
    assert_eq!((error.why, error.errno), (Why::Damaged, libc::EIO));
    let (_, shown) = rig.entry("a").tree_error().unwrap();
    assert_eq!(shown.why, Refusal::Archive);
    assert!(bytes_of(&opened).await == noise(1, 5000));
    // The next version is another matter.
    let zip = buildpack(1);
    later().await;
    rig.will(found("2", &zip));
    let (_opened, tree) = step_in(&rig, "a").await;
    tree.whole().await.unwrap();
    assert!(rig.entry("a").tree_error().is_none());
}

#[tokio::test]
async fn what_came_of_a_broken_archive_stays_readable() {
    let rig = rig();
    let (first, second) = (noise(1, 200_000), noise(2, 200_000));
    let tar = tars::tar([tars::file("first", &first), tars::file("second", &second)]);
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(tag("1", &tar), sent));
    let (opened, tree) = step_in(&rig, "a").await;
    body.send(Ok(bytes::Bytes::copy_from_slice(&tar[..300_000]))).unwrap();
    assert!(read(&tree, "first").await.unwrap() == first);
    body.send(Err(failure(FailureKind::BadAnswer))).unwrap();
    until("the end", || opened.version.blob.broken().is_some()).await;
    let error = walk(&tree, "third").await.unwrap_err();
    assert_eq!(error.errno, libc::EIO);
    assert!(read(&tree, "first").await.unwrap() == first);
    // The next who steps in gets it whole.
    until("the failure to be noted", || rig.entry("a").version().is_none()).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    rig.will(found("1", &tar));
    let (_again, tree) = step_in(&rig, "a").await;
    assert!(read(&tree, "second").await.unwrap() == second);
}

#[tokio::test]
async fn what_is_there_of_a_zip_stays_when_the_origin_is_away() {
    let rig = rig();
    let zip = buildpack(40);
    rig.will(Reply::Ranged(tag("1", &zip), zip.clone()));
    let (opened, tree) = step_in(&rig, "a").await;
    assert_eq!(read(&tree, "bin/detect").await.unwrap(), b"#!/bin/sh\nexit 0\n");
    for kind in [FailureKind::Unreachable, FailureKind::Silent, FailureKind::Status] {
        // A part is asked for more than once before it is given up.
        rig.origin.parts.lock().unwrap().extend((0..8).map(|_| PartReply::Fail(kind)));
        read(&tree, "dependencies/000").await.unwrap_err();
        rig.origin.parts.lock().unwrap().clear();
        assert!(opened.version.blob.broken().is_none(), "{kind:?}");
        assert_eq!(read(&tree, "bin/detect").await.unwrap(), b"#!/bin/sh\nexit 0\n");
        assert!(walk(&tree, "dependencies/039").await.unwrap().is_some());
    }
    assert!(rig.entry("a").version().is_some(), "the name shows it");
    assert_eq!(read(&tree, "dependencies/000").await.unwrap(), noise(0, 100_000));
}

#[tokio::test]
async fn nothing_moves_on_within_a_second_of_the_last_move() {
    let rig = rig();
    rig.will(found("1", &buildpack(1)));
    let fresh = |rig: &Rig| rig.cache.is_fresh(&rig.entry("a"));
    assert!(!fresh(&rig), "nothing is at hand");
    let (opened, _tree) = step_in(&rig, "a").await;
    committed(&opened).await;
    tokio::time::sleep(rig.cache.timing().window * 2).await;
    assert!(fresh(&rig));
    later().await;
    assert!(!fresh(&rig));
    // The origin fails: the copy may be used without another question while that is remembered.
    rig.will(Reply::Fail(FailureKind::Status));
    rig.open("a").await.unwrap();
    assert!(fresh(&rig));
    later().await;
    // A version that fails brings the one before it back, which is a move too.
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(head(Some("2"), Some(10)), sent));
    let second = rig.open("a").await.unwrap();
    assert_ne!(second.version.blob.id(), opened.version.blob.id());
    body.send(Err(failure(FailureKind::BadAnswer))).unwrap();
    until("the first to be back", || {
        rig.entry("a").version().is_some_and(|v| v.blob.id() == opened.version.blob.id())
    })
    .await;
    assert!(fresh(&rig));
}

/// Catalogs are bound, and files closed, by threads that do not belong to the runtime.
#[tokio::test]
async fn a_directory_that_is_gone_says_so() {
    let rig = rig();
    rig.will(found("1", &buildpack(1)));
    let (opened, tree) = step_in(&rig, "a").await;
    committed(&opened).await;
    assert!(!rig.entry("a").is_gone());
    later().await;
    rig.will(Reply::Fail(FailureKind::Gone));
    assert_eq!(errno(rig.open("a").await), libc::ENOENT);
    assert!(rig.entry("a").is_gone());
    // Whoever stands in it keeps it.
    assert!(read(&tree, "dependencies/000").await.unwrap() == noise(0, 100_000));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    rig.will(found("2", &buildpack(1)));
    rig.open("a").await.unwrap();
    assert!(!rig.entry("a").is_gone());
}
