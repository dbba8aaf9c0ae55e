//! Tests of the room as a whole: a store in a temporary directory.

#![expect(clippy::single_range_in_vec_init, reason = "lists of ranges are what is tested")]

mod commit;
mod filling;
mod opening;
mod recovery;
mod resuming;
mod trees;
mod waiting;

use std::fs;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use tempfile::TempDir;

use super::*;
use crate::validators::Validators;

fn temp() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(dir: &TempDir) -> (Store, Recovered) {
    Store::open(dir.path()).unwrap()
}

fn record(length: u64) -> Record {
    Record {
        name: "a.zip".parse().unwrap(),
        source: "key:a".to_owned(),
        validators: Validators::default(),
        length,
        digest: None,
        validated_at: UNIX_EPOCH + Duration::from_secs(1),
        fetched_at: UNIX_EPOCH,
        shown_at: UNIX_EPOCH,
        lifetime: None,
    }
}

/// Bytes that differ from block to block.
fn bytes(length: usize) -> bytes::Bytes {
    (0..length as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect::<Vec<u8>>()
        .into()
}

/// Writes in order.
fn append(staging: &Staging, chunks: &[bytes::Bytes]) -> io::Result<()> {
    staging.write(staging.written(), chunks)
}

fn commit(store: &Store, data: &bytes::Bytes) -> Arc<Blob> {
    let length = data.len() as u64;
    let staging = store.stage(store.allocate(), Some(length), Allocation::Whole).unwrap();
    append(&staging, std::slice::from_ref(data)).unwrap();
    staging.end();
    let blob = staging.blob();
    let usage = staging.commit(&record(length)).unwrap();
    assert_eq!(usage, store.usage(blob.id()).unwrap());
    blob
}

fn content(blob: &Blob) -> Vec<u8> {
    let length = usize::try_from(blob.length().unwrap()).unwrap();
    let mut found = vec![0; length];
    blob.file().unwrap().read_exact_at(&mut found, 0).unwrap();
    found
}

fn blobs(dir: &TempDir) -> PathBuf {
    dir.path().join("v1/blobs")
}

fn parts(dir: &TempDir) -> PathBuf {
    dir.path().join("v1/parts")
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
