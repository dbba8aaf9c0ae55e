//! Inodes over a cache with a scripted origin, as a kernel would ask for them.

mod trees;

use tokio::sync::mpsc;

use super::*;
use crate::cache::KernelSide;
use crate::cache::tests::*;
use crate::origin::FailureKind;
use crate::source::{Integrity, Source};
use crate::types::{BlobId, Pending};

fn mounted(source: Source) -> (Rig, Fs) {
    let rig = Rig::new(table([("a", source)]));
    let fs = Fs::new(rig.cache.clone());
    (rig, fs)
}

/// Looks a name up, as a file's is: without waiting.
fn look(fs: &Fs, name: &str) -> (Ino, Attr) {
    match fs.lookup(Ino::ROOT, OsStr::new(name)) {
        Some(Ok(Looked::Found { ino, attr, .. })) => (ino, attr),
        other => panic!("{name}: {other:?}"),
    }
}

async fn read(fs: &Fs, ino: Ino, offset: u64) -> Result<Vec<u8>, i32> {
    let read = fs.read(ino, offset, 4096).await;
    read.map(|bytes| bytes.to_vec()).map_err(|refused| refused.errno())
}

#[tokio::test]
async fn a_digest_that_turns_out_wrong_fails_the_handles() {
    let eventual =
        Source { digest: sha256(b"right"), integrity: Integrity::Eventual, ..source("http://h/a") };
    let (rig, fs) = mounted(eventual);
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(head(Some("1"), Some(5)), sent));
    let (ino, _) = look(&fs, "a");
    fs.open(ino).await.unwrap();
    let version = rig.entry("a").version().unwrap();
    body.send(Ok(b"wrong"[..].into())).unwrap();
    drop(body);
    until("the digest to be checked", || version.blob.broken().is_some()).await;
    assert_eq!(read(&fs, ino, 0).await, Err(libc::EIO), "bytes known to be wrong");
    assert_eq!(read(&fs, ino, 5).await, Err(libc::EIO), "an end of file");
}

/// What holds the inode of a name never fetched (a bind mount) sees ESTALE never: the kernel asks
/// the same inode once more, and hands the second one to the program.
#[tokio::test]
async fn a_first_download_that_fails_does_not_spoil_the_inode_for_those_who_hold_it() {
    let strict = Source { digest: sha256(b"right"), ..source("http://h/a") };
    let (rig, fs) = mounted(strict);
    let (ino, _) = look(&fs, "a");
    rig.will(found("1", b"wrong"));
    assert_eq!(fs.open(ino).await.err().unwrap().errno(), libc::EIO);
    later().await;
    rig.will(found("2", b"right"));
    let first = fs.open(ino).await.err().map(|refused| refused.errno());
    let second = fs.open(ino).await.err().map(|refused| refused.errno());
    assert!(first.is_none() || second.is_none(), "{first:?}, {second:?}");
}

/// Never ends to tell a size.
struct Stuck;

impl KernelSide for Stuck {
    fn moved(&self, _name: &Name) -> Pending<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn sized(&self, _ino: Ino, _length: u64) -> Pending<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn stale(&self, _ino: Ino) -> Pending<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn clear(&self, _blob: BlobId) -> Pending<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn relisted(&self) {}

    fn leaving(&self, _name: &Name) {}
}

/// An open that is given up was answered with an error: the kernel will never release it.
#[tokio::test]
async fn an_open_that_is_given_up_leaves_no_handle() {
    let rig = Rig::unattached(table([("a", source("http://h/a"))]));
    rig.cache.attach(Arc::new(Stuck));
    let fs = Fs::new(rig.cache.clone());
    rig.will(found("1", b"one"));
    let (ino, _) = look(&fs, "a");
    let opened = tokio::time::timeout(Duration::from_millis(300), fs.open(ino)).await;
    assert!(opened.is_err(), "it waits until the kernel knows the size");
    assert_eq!(fs.handles(), 0);
}

#[tokio::test]
async fn an_inode_turns_whole_only_while_nobody_has_it_open() {
    let (rig, fs) = mounted(source("http://h/a"));
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(head(Some("1"), Some(3)), sent));
    let (ino, _) = look(&fs, "a");
    assert!(matches!(fs.open(ino).await, Ok(How::Direct)));
    let version = rig.entry("a").version().unwrap();
    body.send(Ok(b"one"[..].into())).unwrap();
    drop(body);
    until("the commit", || version.complete()).await;
    assert!(matches!(fs.open(ino).await, Ok(How::Direct)));
    let (other, _) = look(&fs, "a");
    assert_ne!(other, ino);
    assert!(matches!(fs.open(other).await, Ok(How::Whole(_))));
    let number = |shown: (Attr, Duration)| shown.0.number;
    let (one, two) = (fs.getattr(ino).await.unwrap(), fs.getattr(other).await.unwrap());
    assert_eq!(number(one), number(two));
    fs.release(ino);
    fs.release(ino);
    assert!(matches!(fs.open(ino).await, Ok(How::Whole(_))));
    for (ino, lookups) in [(ino, 1), (other, 1)] {
        fs.release(ino);
        fs.forget(ino, lookups);
        assert!(matches!(fs.lookup(ino, OsStr::new("x")), Some(Err(_))));
    }
    until("the pins to fall", || rig.cache.ledger().balance().pins == 0).await;
}

#[tokio::test]
async fn a_held_inode_keeps_its_version_and_a_path_gets_the_new_one() {
    let (rig, fs) = mounted(source("http://h/a"));
    rig.will(found("1", b"one"));
    let (old, _) = look(&fs, "a");
    fs.open(old).await.unwrap();
    let version = rig.entry("a").version().unwrap();
    until("the commit", || version.complete()).await;
    later().await;
    rig.will(found("2", b"two"));
    assert_eq!(fs.open(old).await.err().unwrap().errno(), libc::ESTALE);
    let (new, _) = look(&fs, "a");
    fs.open(new).await.unwrap();
    assert_eq!(read(&fs, new, 0).await.unwrap(), b"two");
    fs.open(old).await.unwrap();
    assert_eq!(read(&fs, old, 0).await.unwrap(), b"one");
    assert_eq!(rig.asked(), 2);
}

/// As a bind mount holds it: what its inode was bound to broke, and it took another version.
#[tokio::test]
async fn an_inode_that_takes_another_version_keeps_that() {
    let (rig, fs) = mounted(source("http://h/a"));
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(head(Some("1"), Some(3)), sent));
    let (ino, _) = look(&fs, "a");
    fs.open(ino).await.unwrap();
    let broken = rig.entry("a").version().unwrap();
    body.send(Err(failure(FailureKind::Status))).unwrap();
    until("the download to break", || broken.blob.broken().is_some()).await;
    fs.release(ino);
    later().await;
    rig.will(found("2", b"two"));
    fs.open(ino).await.unwrap();
    let version = rig.entry("a").version().unwrap();
    until("the commit", || version.complete()).await;
    fs.release(ino);
    until("the pins to fall", || rig.cache.ledger().balance().pins == 0).await;
    drop(rig.cache.ledger().evict(version.blob.id()));
    assert_eq!(rig.cache.ledger().balance().condemned, 0, "the kernel holds it");
    fs.open(ino).await.unwrap();
    assert_eq!(read(&fs, ino, 0).await.unwrap(), b"two");
}

#[tokio::test]
async fn lookups_and_what_is_declared_ask_nothing() {
    let (rig, fs) = mounted(Source { size: Some(3), ..source("http://h/a") });
    rig.will(Reply::Fail(FailureKind::Gone));
    let (ino, attr) = look(&fs, "a");
    assert_eq!((attr.size, fs.getattr(ino).await.unwrap().0.size), (3, 3));
    let missing = fs.lookup(Ino::ROOT, OsStr::new("b"));
    assert!(matches!(missing, Some(Err(Refused::Errno(libc::ENOENT)))), "{missing:?}");
    let mut names = Vec::new();
    fs.listing(Ino::ROOT).await.unwrap().after(0, |line| {
        names.push(line.name.to_owned());
        false
    });
    assert_eq!(names, [".", "..", "a"]);
    assert_eq!(rig.asked(), 0);
}
