//! A store, an origin that brings what is waited for, and books of the room that a tree takes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::super::{tars, zips};
use crate::store::{Allocation, Blob, Record, Staging, Store};
use crate::tree::{Kind, Limits, NodeNo, Parts, Ready, Room, Tree, TreeError, Why};
use crate::types::Pending;

/// How long a caller waits in a test that says nothing else.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What the kernel asks for at once.
const READ: u64 = 128 << 10;

/// Paths and contents.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// A store, and the books of one tree at a time.
pub(super) struct Rig {
    dir: TempDir,
    pub(super) store: Store,
    pub(super) books: Arc<Books>,
    pub(super) limits: Limits,
    pub(super) stall: Duration,
}

/// What a tree booked, and said.
#[derive(Default)]
pub(super) struct Books {
    /// What may be booked; 0 for no limit.
    pub(super) most: AtomicU64,
    /// How long a refusal takes, in milliseconds.
    pub(super) refuses_after: AtomicU64,
    /// What is booked now.
    pub(super) booked: AtomicU64,
    pub(super) bookings: AtomicU64,
    pub(super) settled: AtomicU64,
    pub(super) unpacked: AtomicU32,
    pub(super) indexed: AtomicU32,
    pub(super) failed: Mutex<Vec<TreeError>>,
    pub(super) refusal: Mutex<Option<TreeError>>,
}

impl Room for Books {
    fn grow(&self, bytes: u64) -> Pending<'_, Result<(), TreeError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.bookings.fetch_add(1, Ordering::SeqCst);
            let most = self.most.load(Ordering::SeqCst);
            if most > 0 && self.booked.load(Ordering::SeqCst) + bytes > most {
                let after = self.refuses_after.load(Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(after)).await;
                return Err(TreeError::new(Why::NoRoom, "no room"));
            }
            self.booked.fetch_add(bytes, Ordering::SeqCst);
            Ok(())
        })
    }

    fn fits(&self, _unpacked: u64) -> Result<(), TreeError> {
        match &*self.refusal.lock().unwrap() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn settled(&self, on_disk: u64) {
        assert!(on_disk <= self.booked.load(Ordering::SeqCst), "written and not booked");
        self.booked.store(on_disk, Ordering::SeqCst);
        self.settled.fetch_add(1, Ordering::SeqCst);
    }

    fn failed(&self, error: &TreeError) {
        self.failed.lock().unwrap().push(error.clone());
    }

    fn indexed(&self, members: u32) {
        self.indexed.store(members, Ordering::SeqCst);
    }

    fn unpacked(&self, contents: u32) {
        self.unpacked.fetch_add(contents, Ordering::SeqCst);
    }
}

impl Rig {
    pub(super) fn new() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path()).unwrap();
        Rig { dir, store, books: Arc::default(), limits: Limits::default(), stall: PATIENCE }
    }

    /// Opens the store again, as the successor of this daemon would; returns the blobs in it.
    pub(super) fn restart(self) -> (Rig, Vec<Arc<Blob>>) {
        let Rig { dir, store, limits, stall, .. } = self;
        drop(store);
        let (store, found) = Store::open(dir.path()).unwrap();
        let books = Arc::new(Books::default());
        books.booked.store(found.blobs.iter().map(|found| found.tree).sum(), Ordering::SeqCst);
        let blobs = found.blobs.into_iter().map(|found| found.blob).collect();
        (Rig { dir, store, books, limits, stall }, blobs)
    }

    /// Commits an archive.
    pub(super) fn whole(&self, archive: &[u8]) -> Arc<Blob> {
        let staging = self.stage(Some(archive.len() as u64));
        write(&staging, archive, 0..archive.len() as u64);
        staging.end();
        staging.commit(&record(archive.len() as u64)).unwrap();
        staging.blob()
    }

    pub(super) fn stage(&self, length: Option<u64>) -> Staging {
        self.store.stage(self.store.allocate(), length, Allocation::Sparse).unwrap()
    }

    pub(super) fn tree(&self, blob: &Arc<Blob>) -> Arc<Tree> {
        Tree::grow(Parts {
            blob: blob.clone(),
            canopy: self.store.canopy(blob.id()),
            room: self.books.clone(),
            limits: self.limits,
            stall: self.stall,
        })
    }

    /// Returns the path of a file of a tree.
    pub(super) fn file(&self, blob: &Blob, suffix: &str) -> std::path::PathBuf {
        self.dir.path().join(format!("v1/trees/{}{suffix}", blob.id()))
    }

    /// Waits until nothing is booked that is not used, and compares that with the disk.
    pub(super) async fn settles(&self, blob: &Blob) {
        let on_disk = || self.store.canopy(blob.id()).usage().unwrap();
        for _ in 0..200 {
            if self.books.booked.load(Ordering::SeqCst) == on_disk() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{} booked, {} on the disk", self.books.booked.load(Ordering::SeqCst), on_disk());
    }
}

pub(super) fn record(length: u64) -> Record {
    Record {
        name: "a.zip".parse().unwrap(),
        source: "key:a".to_owned(),
        validators: Default::default(),
        length,
        digest: None,
        validated_at: UNIX_EPOCH,
        fetched_at: UNIX_EPOCH,
        shown_at: UNIX_EPOCH,
        lifetime: None,
    }
}

/// Brings a part of an archive.
pub(super) fn write(staging: &Staging, archive: &[u8], range: Range<u64>) {
    let bytes = archive[range.start as usize..range.end as usize].to_vec();
    staging.write(range.start, &[bytes.into()]).unwrap();
}

/// What an origin brought.
#[derive(Default)]
pub(super) struct Brought {
    pub(super) pieces: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// Brings what somebody waits for, in pieces of 64 KiB, each wait a round trip.
pub(super) fn origin(
    staging: Arc<Staging>,
    archive: Arc<Vec<u8>>,
) -> (Arc<Brought>, JoinHandle<()>) {
    let brought = Arc::new(Brought::default());
    let counts = brought.clone();
    let task = tokio::spawn(async move {
        let blob = staging.blob();
        loop {
            let demand = blob.demand();
            let before = counts.pieces.load(Ordering::SeqCst);
            for wanted in blob.wanted() {
                let to = wanted.end.next_multiple_of(64 << 10).min(archive.len() as u64);
                for gap in blob.missing(wanted.start - wanted.start % (64 << 10)..to) {
                    write(&staging, &archive, gap.clone());
                    counts.pieces.fetch_add(1, Ordering::SeqCst);
                    counts.bytes.fetch_add(gap.end - gap.start, Ordering::SeqCst);
                }
            }
            if counts.pieces.load(Ordering::SeqCst) == before {
                demand.await;
            }
        }
    });
    (brought, task)
}

/// Bytes that do not repeat and are told apart by `seed`; they can be packed to about a half.
pub(super) fn content(seed: u32, length: usize) -> Vec<u8> {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut all = Vec::with_capacity(length + 8);
    while all.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let sixteenths = state & 0x0f0f_0f0f_0f0f_0f0f | 0x6060_6060_6060_6060;
        all.extend_from_slice(&sixteenths.to_le_bytes());
    }
    all.truncate(length);
    all
}

pub(super) fn files(count: u32, length: impl Fn(u32) -> usize) -> Files {
    let path = |no: u32| format!("d{}/e{}/file-{no}", no % 7, no % 3);
    (0..count).map(|no| (path(no), content(no, length(no)))).collect()
}

pub(super) fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(1));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A member of a zip, deflated.
pub(super) fn deflated(path: &str, bytes: &[u8]) -> zips::File {
    let packed = zips::File::new(path, deflate(bytes));
    zips::File { size: bytes.len() as u64, crc: crc32fast::hash(bytes), method: 8, ..packed }
}

/// Packs files: every third one stored.
pub(super) fn zip(files: &Files) -> Vec<u8> {
    let member = |(no, (path, bytes)): (usize, (&String, &Vec<u8>))| match no % 3 {
        0 => zips::File::new(path, bytes),
        _ => deflated(path, bytes),
    };
    zips::Zip::of(files.iter().enumerate().map(member)).bytes()
}

pub(super) fn tar(files: &Files) -> Vec<u8> {
    tars::tar(files.iter().map(|(path, bytes)| tars::file(path, bytes)))
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

pub(super) fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Finds a path, step by step.
pub(super) async fn find(tree: &Tree, path: &str) -> Result<Option<NodeNo>, TreeError> {
    let mut node = NodeNo::ROOT;
    for name in path.split('/') {
        match tree.find(node, name.as_bytes()).await? {
            Some(found) => node = found,
            None => return Ok(None),
        }
    }
    Ok(Some(node))
}

pub(super) async fn node(tree: &Tree, path: &str) -> NodeNo {
    find(tree, path).await.unwrap().unwrap_or_else(|| panic!("{path} is missing"))
}

/// Reads a file as the kernel does.
pub(super) async fn read(tree: &Tree, node: NodeNo) -> Result<Vec<u8>, TreeError> {
    let size = tree.attr(node).unwrap().size;
    match tree.open(node).await? {
        Ready::Whole { file, range } => {
            assert!(tree.ready(node), "said to be whole");
            assert_eq!(range.end - range.start, size);
            Ok(bytes(&file, range))
        }
        Ready::Arriving => {
            let mut all = Vec::new();
            while (all.len() as u64) < size {
                let at = all.len() as u64;
                let (file, range) = tree.read(node, at..at + READ).await?;
                assert_eq!(range.end - range.start, READ.min(size - at));
                all.extend(bytes(&file, range));
            }
            Ok(all)
        }
    }
}

pub(super) fn bytes(file: &File, range: Range<u64>) -> Vec<u8> {
    let mut found = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut found, range.start).unwrap();
    found
}

/// Lists every file of a complete tree.
pub(super) async fn list(tree: &Tree) -> BTreeMap<String, NodeNo> {
    let index = tree.whole().await.unwrap();
    let mut found = BTreeMap::new();
    let mut open = vec![(String::new(), NodeNo::ROOT)];
    while let Some((path, dir)) = open.pop() {
        for (child, name) in index.children(dir, 0) {
            let path = format!("{path}{}", String::from_utf8_lossy(name));
            match index.attr(child).unwrap().kind {
                Kind::Directory => open.push((path + "/", child)),
                _ => drop(found.insert(path, child)),
            }
        }
    }
    found
}

/// Holds a tree against what was packed.
pub(super) async fn compare(tree: &Tree, files: &Files) {
    let listed = list(tree).await;
    assert!(listed.keys().eq(files.keys()), "the names differ");
    for (path, node) in listed {
        assert!(read(tree, node).await.unwrap() == files[&path], "{path}");
    }
}
