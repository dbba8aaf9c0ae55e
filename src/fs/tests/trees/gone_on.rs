//! Trees whose bytes stop coming, and who holds a node of them.

use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::super::super::nodeid::{self, Place, place};
use super::*;
use crate::cache::Limits;
use crate::cache::tests::PartReply;
use crate::origin::Head;

fn gz(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::new(level));
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// Looks a member of `a` up while the beginning of its archive comes, which then breaks off.
async fn broken_off(rig: &Rig, fs: &Fs, begin: &[u8], length: usize, member: &str) -> Ino {
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(head(Some("1"), Some(length as u64)), sent));
    body.send(Ok(begin.to_vec().into())).unwrap();
    let ino = walk(fs, root(fs, "a"), member).await;
    let version = rig.entry("a").version().unwrap();
    body.send(Err(failure(FailureKind::Status))).unwrap();
    until("the download to break", || version.blob.broken().is_some()).await;
    ino
}

/// A download that broke while it was used: the next that brings the same bytes takes its place.
#[tokio::test]
async fn a_download_that_breaks_is_gone_on_with_under_who_holds_the_tree() {
    let (rig, fs) = mounted(directory("http://h/a"));
    let dir = root(&fs, "a");
    let bytes = tars::tar([tars::file("one", "1"), tars::file("two", "2")]);
    let one = broken_off(&rig, &fs, &bytes[..1024], bytes.len(), "one").await;
    later().await;
    rig.will(found("1", &bytes));
    assert_eq!(number_in(&fs, dir, "two").await, 2);
    assert_eq!(walk(&fs, dir, "one").await, one, "its nodes are the same");
}

/// The archive was replaced meanwhile, so nothing else will come: what has come stays.
#[tokio::test]
async fn what_came_of_a_download_that_broke_stays_with_who_holds_it() {
    let (rig, fs) = mounted(directory("http://h/a"));
    let dir = root(&fs, "a");
    let bytes = tars::tar([tars::file("one", "1"), tars::file("two", "2")]);
    let one = broken_off(&rig, &fs, &bytes[..1024], bytes.len(), "one").await;
    let attr = fs.getattr(one).await.unwrap().0;
    for replaced in [false, true] {
        later().await;
        if replaced {
            rig.will(found("2", &tars::tar([tars::file("three", "3")])));
        }
        assert!(step(&fs, dir, "two").await.is_err());
        assert!(fs.listing(dir).await.is_err());
        fs.open(one).await.unwrap();
        assert_eq!(read(&fs, one, 0).await.unwrap(), b"1");
        fs.release(one);
        assert_eq!(fs.getattr(one).await.unwrap().0, attr);
    }
    let new = root(&fs, "a");
    assert_ne!(new, dir);
    walk(&fs, new, "three").await;
}

/// Where files are opened without our knowing, the first that is asked is their bytes.
#[tokio::test]
async fn a_node_that_is_held_waits_for_the_tree_that_is_grown_anew() {
    let (rig, fs) = mounted(directory("http://h/a"));
    let large = "2".repeat(100_000);
    let bytes = tars::tar([tars::file("one", "1"), tars::file("two", large.as_str())]);
    let two = broken_off(&rig, &fs, &bytes[..2048], bytes.len(), "two").await;
    let attr = fs.getattr(two).await.unwrap().0;
    assert_eq!((attr.kind, attr.size), (Kind::File, 100_000));
    later().await;
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(head(Some("1"), Some(bytes.len() as u64)), sent));
    let fs = &fs;
    let send = async {
        until("the origin to be asked again", || rig.asked() == 2).await;
        // All wait now, for a tree that knows nothing yet.
        tokio::task::yield_now().await;
        body.send(Ok(bytes.into())).unwrap();
        drop(body);
    };
    let (read, again, ()) = tokio::join!(read(fs, two, 4096), fs.getattr(two), send);
    assert_eq!(read.map(|bytes| bytes.len()), Ok(4096));
    assert_eq!(again.unwrap().0, attr);
}

/// It found no room, and there is room again.
#[tokio::test]
async fn a_read_has_a_tree_go_on_that_stood_still() {
    const MIB: u64 = 1 << 20;
    let rig = Rig::with(
        Limits { quota: 64 * MIB, hard: 64 * MIB, min_free: 0 },
        table([("a", directory("http://h/a")), ("b", source("http://h/b"))]),
    );
    let fs = Fs::new(rig.cache.clone());
    rig.will(found("b", &vec![7; 44 << 20]));
    let (file, _) = look(&fs, "b");
    fs.open(file).await.unwrap();
    let b = rig.entry("b").version().unwrap();
    until("the commit", || b.complete()).await;
    let tar = tars::tar([tars::file("one", "1"), tars::file("two", vec![2; 24 << 20])]);
    let bytes = [gz(&tar[..1536], 0), gz(&tar[1536..], 1)];
    let (body, sent) = mpsc::unbounded_channel();
    let length = bytes.iter().map(Vec::len).sum::<usize>() as u64;
    rig.will(Reply::Slow(head(Some("1"), Some(length)), sent));
    let [first, rest] = bytes;
    body.send(Ok(first.into())).unwrap();
    let dir = root(&fs, "a");
    let (one, two) = (walk(&fs, dir, "one").await, walk(&fs, dir, "two").await);
    body.send(Ok(rest.into())).unwrap();
    drop(body);
    assert_eq!(read(&fs, two, 23 * MIB).await, Err(libc::ENOSPC));
    assert_eq!(step(&fs, dir, "three").await.err(), Some(libc::ENOSPC));
    assert_eq!(read(&fs, one, 0).await.unwrap(), b"1");
    fs.release(file);
    fs.forget(file, 1);
    drop(b);
    until("room", || rig.cache.ledger().balance().pins == 0).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(read(&fs, two, 23 * MIB).await == Ok(vec![2; 4096]));
    assert_eq!(step(&fs, dir, "three").await, Ok(None));
}

/// An open file of which nothing can be read any more: the error is none that says "look again".
#[tokio::test]
async fn what_a_read_cannot_have_is_an_error_of_the_bytes() {
    let (rig, fs) = mounted(directory("http://h/a"));
    let dir = root(&fs, "a");
    rig.will(version(1));
    let file = walk(&fs, dir, "version").await;
    fs.forget(file, 1);
    fs.forget(dir, 1);
    assert_eq!(fs.getattr(file).await.err().map(|refused| refused.errno()), Some(libc::ESTALE));
    assert_eq!(read(&fs, file, 0).await, Err(libc::EIO), "its tree is gone");
    let dir = root(&fs, "a");
    let Place::Tree(number, _) = place(dir) else { panic!("a tree") };
    walk(&fs, dir, "version").await;
    let unknown = nodeid::member(number, NodeNo(1000));
    assert_eq!(fs.getattr(unknown).await.err().map(|refused| refused.errno()), Some(libc::ESTALE));
    assert_eq!(read(&fs, unknown, 0).await, Err(libc::EIO));
}

/// Tars of the same members in another order, of which a mount is to have the second.
fn swapped() -> (Vec<u8>, Vec<u8>, (Rig, Fs)) {
    let packed = |names: [&str; 2]| tars::tar(names.map(|name| tars::file(name, name)));
    let (other, right) = (packed(["two", "one"]), packed(["one", "two"]));
    let (digest, integrity) = (sha256(&right), Integrity::Eventual);
    (other, right, mounted(Source { digest, integrity, ..directory("http://h/a") }))
}

/// Node numbers of one archive mean nothing in another, although both were to have one digest.
#[tokio::test]
async fn who_stands_in_bytes_that_turned_out_wrong_is_not_moved_onto_others() {
    let (wrong, right, (rig, fs)) = swapped();
    let dir = root(&fs, "a");
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(head(Some("1"), Some(wrong.len() as u64)), sent));
    let (begin, end) = wrong.split_at(wrong.len() - 512);
    body.send(Ok(begin.to_vec().into())).unwrap();
    let held = walk(&fs, dir, "two").await;
    fs.open(held).await.unwrap();
    assert_eq!(read(&fs, held, 0).await.unwrap(), b"two", "not known to be wrong");
    let version = rig.entry("a").version().unwrap();
    body.send(Ok(end.to_vec().into())).unwrap();
    drop(body);
    until("the digest to be compared", || version.blob.broken().is_some()).await;
    for _ in 0..2 {
        later().await;
        rig.will(found("1", &right));
        assert_eq!(step(&fs, dir, "one").await.err(), Some(libc::EIO));
        assert_eq!(read(&fs, held, 0).await, Err(libc::EIO));
        assert_eq!(fs.listing(dir).await.err().map(|refused| refused.errno()), Some(libc::EIO));
    }
    let new = root(&fs, "a");
    assert_ne!(new, dir);
    walk(&fs, new, "two").await;
}

/// Nor where the first of them broke before its digest could be compared.
#[tokio::test]
async fn who_stands_in_bytes_that_were_never_compared_is_not_moved_onto_others() {
    let (before, right, (rig, fs)) = swapped();
    let dir = root(&fs, "a");
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(head(Some("1"), Some(before.len() as u64)), sent));
    body.send(Ok(before[..before.len() - 512].to_vec().into())).unwrap();
    let held = walk(&fs, dir, "two").await;
    fs.open(held).await.unwrap();
    assert_eq!(read(&fs, held, 0).await.unwrap(), b"two");
    let version = rig.entry("a").version().unwrap();
    body.send(Err(failure(FailureKind::Status))).unwrap();
    until("the failure", || version.blob.broken().is_some()).await;
    later().await;
    rig.will(found("2", &right));
    assert_eq!(step(&fs, dir, "three").await.err(), Some(libc::EIO));
    assert_eq!(read(&fs, held, 0).await.unwrap(), b"two", "what came stays");
    let new = root(&fs, "a");
    assert_ne!(new, dir);
    let other = walk(&fs, new, "two").await;
    assert_eq!(read(&fs, other, 0).await.unwrap(), b"two");
}

/// That an origin has an archive no more says nothing of a name in it.
#[tokio::test]
async fn a_name_that_did_not_come_is_not_missing_where_the_archive_is_gone() {
    let (rig, fs) = mounted(directory("http://h/a"));
    let tar = tars::tar([tars::file("one", "1"), tars::file("two", "2")]);
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(head(Some("1"), Some(tar.len() as u64)), sent));
    let dir = root(&fs, "a");
    body.send(Ok(tar[..1024].to_vec().into())).unwrap();
    let one = walk(&fs, dir, "one").await;
    let version = rig.entry("a").version().unwrap();
    body.send(Err(failure(FailureKind::Gone))).unwrap();
    until("the failure", || version.blob.broken().is_some()).await;
    assert_eq!(step(&fs, dir, "two").await.err(), Some(libc::EIO));
    assert_eq!(read(&fs, one, 0).await.unwrap(), b"1", "what came stays");
}

/// What the kernel has forgotten a program may still remember, and the kernel what was missing.
#[tokio::test]
async fn who_was_told_of_one_archive_is_not_moved_to_another() {
    let (rig, fs) = mounted(directory("http://h/a"));
    let dir = root(&fs, "a");
    let bytes = tars::tar([tars::file("one", "1"), tars::file("two", "2")]);
    let one = broken_off(&rig, &fs, &bytes[..1024], bytes.len(), "one").await;
    // As the sweep has it.
    fs.forget(one, 1);
    later().await;
    rig.will(found("2", &tars::tar([tars::file("three", "3"), tars::file("one", "9")])));
    assert_eq!(step(&fs, dir, "three").await.err(), Some(libc::EIO));
    let one = walk(&fs, dir, "one").await;
    fs.open(one).await.unwrap();
    assert_eq!(read(&fs, one, 0).await.unwrap(), b"1", "what came stays");
    fs.release(one);
    let new = root(&fs, "a");
    assert_ne!(new, dir);
    walk(&fs, new, "three").await;
}

/// Whoever goes on with it: the files are the same.
#[tokio::test]
async fn who_holds_a_tree_that_others_go_on_with_can_open_it_and_keeps_it() {
    let (rig, fs) = mounted(directory("http://h/a"));
    let dir = root(&fs, "a");
    let bytes = Arc::new(tars::tar([
        tars::file("one", vec![1; 1 << 20]),
        tars::file("two", vec![2; 2 << 20]),
    ]));
    let cut = (1 << 20) + (1 << 19);
    let (body, sent) = mpsc::unbounded_channel();
    let ranged = Head { ranges: true, offered: true, ..head(Some("1"), Some(bytes.len() as u64)) };
    rig.will(Reply::Slow(ranged, sent));
    body.send(Ok(bytes[..cut].to_vec().into())).unwrap();
    let one = walk(&fs, dir, "one").await;
    let version = rig.entry("a").version().unwrap();
    until("the bytes", || version.blob.filled() == cut as u64).await;
    rig.will(Reply::Fail(FailureKind::Unreachable));
    body.send(Err(failure(FailureKind::BadAnswer))).unwrap();
    until("the download to break", || version.blob.broken().is_some()).await;
    later().await;
    rig.will(Reply::NotModified);
    rig.origin.parts.lock().unwrap().push_back(PartReply::Of(bytes.clone()));
    let again = rig.open("a").await.unwrap();
    let blob = again.version.blob.id();
    assert_ne!(blob, version.blob.id());
    until("all of it", || again.version.complete()).await;
    drop(again);
    until("the download to let go", || rig.cache.ledger().pins(blob) == 0).await;
    assert!(!rig.cache.ledger().alone(blob), "the kernel refers to it");
    fs.open(one).await.unwrap();
    assert_eq!(read(&fs, one, 0).await.unwrap(), vec![1; 4096]);
    assert_eq!(rig.cache.ledger().pins(blob), 1);
    fs.release(one);
    fs.forget(one, 1);
    fs.forget(dir, 1);
    until("the tree to fall", || rig.cache.ledger().alone(blob)).await;
}
