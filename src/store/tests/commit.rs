//! From the first byte to the sidecar.

use super::*;
use crate::digest::{Algorithm, Digest, sha256_hex};

#[test]
fn a_committed_blob_is_found_again() {
    let dir = temp();
    let data = bytes((checksum::BLOCK * 2 + 99) as usize);
    let (store, recovered) = open(&dir);
    assert!(recovered.blobs.is_empty());
    let blob = commit(&store, &data);
    assert!(blob.committed());
    assert_eq!(content(&blob), data);
    assert_eq!(names(&blobs(&dir)), [blob.id().to_string(), format!("{}.meta", blob.id())]);
    assert!(names(&parts(&dir)).is_empty());
    assert_eq!(store.resident().unwrap(), store.usage(blob.id()).unwrap());
    drop(store);

    let (store, recovered) = open(&dir);
    let [found] = &recovered.blobs[..] else {
        panic!("one blob is expected");
    };
    assert_eq!(found.blob.id(), blob.id());
    assert_eq!(found.record, record(data.len() as u64));
    assert_eq!(found.trust, Trust::Trusted);
    assert_eq!(found.usage, store.resident().unwrap());
    assert!(found.blob.committed());
    assert_eq!(found.blob.filled(), data.len() as u64);
    assert_eq!(found.blob.present(5..u64::MAX), Some(5..data.len() as u64));
    assert_eq!(content(&found.blob), data);
    assert!(store.verify(&found.blob, &found.record).unwrap());
}

#[test]
fn chunks_of_any_size_and_number_are_put_together() {
    let dir = temp();
    let (store, _) = open(&dir);
    let data = bytes(300_000);
    let staging = store.stage(store.allocate(), None, Allocation::Whole).unwrap();
    staging.hash(Algorithm::Sha256);
    let empty = bytes::Bytes::new();
    append(&staging, &[]).unwrap();
    append(&staging, &[empty.clone(), empty.clone()]).unwrap();
    // More chunks than one system call takes, some of them empty.
    let many: Vec<_> =
        (0..2000).flat_map(|i| [data.slice(i * 100..(i + 1) * 100), empty.clone()]).collect();
    append(&staging, &many).unwrap();
    append(&staging, &[data.slice(200_000..)]).unwrap();
    assert_eq!(staging.written(), 300_000);
    let digest = staging.end().unwrap();
    assert_eq!(digest.hex(), sha256_hex(&data));
    assert_eq!(staging.end(), Some(digest.clone()), "the same when asked again");
    let blob = staging.blob();
    let record = Record { digest: Some(digest), ..record(300_000) };
    staging.commit(&record).unwrap();
    assert_eq!(content(&blob), data);
    assert!(store.verify(&blob, &record).unwrap());
}

#[test]
fn an_empty_body_is_a_blob() {
    let dir = temp();
    let (store, _) = open(&dir);
    for length in [None, Some(0)] {
        let staging = store.stage(store.allocate(), length, Allocation::Whole).unwrap();
        staging.end();
        let blob = staging.blob();
        staging.commit(&record(0)).unwrap();
        assert_eq!(blob.present(0..10), Some(0..0));
        assert!(store.verify(&blob, &record(0)).unwrap());
    }
    drop(store);
    assert_eq!(open(&dir).1.blobs.len(), 2);
}

#[test]
fn what_must_not_be_committed_is_refused_and_removed() {
    let dir = temp();
    let (store, _) = open(&dir);
    let data = bytes(100);
    let refused = |length, hash, end, record: Record| {
        let staging = store.stage(store.allocate(), length, Allocation::Whole).unwrap();
        if hash {
            staging.hash(Algorithm::Sha256);
        }
        append(&staging, std::slice::from_ref(&data)).unwrap();
        if end {
            staging.end();
        }
        let blob = staging.blob();
        let error = staging.commit(&record).unwrap_err();
        let again = staging.commit(&record).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::InvalidInput);
        drop(staging);
        assert!(!blob.committed());
        assert_eq!(blob.broken().unwrap().errno, libc::EIO);
        assert_eq!(blob.file().unwrap_err().raw_os_error(), Some(libc::ENOENT));
        assert_eq!(store.resident().unwrap(), 0);
        error.to_string()
    };
    let with_digest =
        || Record { digest: Digest::parse(Algorithm::Sha256, &"0".repeat(64)).ok(), ..record(100) };
    assert!(refused(Some(101), false, true, record(101)).contains("100 bytes came of 101"));
    assert!(refused(Some(101), false, true, record(100)).contains("100 bytes came of 101"));
    assert!(refused(None, false, true, record(99)).contains("100 bytes came of 99"));
    assert!(refused(None, false, false, record(100)).contains("end was not reached"));
    assert!(refused(None, true, true, with_digest()).contains("digest"));
    assert!(refused(None, false, true, with_digest()).contains("digest"));
}

#[test]
fn more_than_announced_is_refused_and_so_is_more_after_the_end() {
    let dir = temp();
    let (store, _) = open(&dir);
    let staging = store.stage(store.allocate(), Some(10), Allocation::Whole).unwrap();
    append(&staging, &[bytes(4)]).unwrap();
    let error = append(&staging, &[bytes(7)]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(staging.blob().filled(), 4, "none of it counts");
    append(&staging, &[bytes(6)]).unwrap();
    staging.end();
    let error = append(&staging, &[bytes(1)]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let unknown = store.stage(store.allocate(), None, Allocation::Whole).unwrap();
    unknown.end();
    let error = append(&unknown, &[bytes(1)]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_hash_that_would_miss_the_beginning_is_not_begun() {
    let dir = temp();
    let (store, _) = open(&dir);
    let staging = store.stage(store.allocate(), None, Allocation::Whole).unwrap();
    append(&staging, &[bytes(1)]).unwrap();
    staging.hash(Algorithm::Sha256);
    assert_eq!(staging.end(), None);
}

#[test]
fn a_failed_blob_cannot_be_committed_and_keeps_its_reason() {
    let dir = temp();
    let (store, _) = open(&dir);
    let staging = store.stage(store.allocate(), None, Allocation::Whole).unwrap();
    let blob = staging.blob();
    append(&staging, &[bytes(10)]).unwrap();
    staging.end();
    blob.fail(Broken {
        message: "digest mismatch".to_owned(),
        errno: libc::EIO,
        tainted: true,
        superseded: false,
    });
    assert!(staging.commit(&record(10)).is_err());
    assert_eq!(blob.broken().unwrap().message, "digest mismatch");
}

#[test]
fn a_commit_that_fails_half_way_leaves_nothing() {
    // Each obstacle makes another step fail: writing the sidecar, renaming the data, renaming the
    // sidecar.
    let obstacles: [fn(&Layout, BlobId) -> PathBuf; 3] =
        [Layout::new_meta, Layout::data, Layout::meta];
    for obstacle in obstacles {
        let dir = temp();
        let (store, _) = open(&dir);
        let staging = store.stage(store.allocate(), Some(10), Allocation::Whole).unwrap();
        append(&staging, &[bytes(10)]).unwrap();
        staging.end();
        let blob = staging.blob();
        let path = obstacle(&store.site.layout, blob.id());
        fs::create_dir(&path).unwrap();
        staging.commit(&record(10)).unwrap_err();
        assert!(!blob.committed());
        fs::remove_dir(&path).unwrap();
        assert!(names(&blobs(&dir)).is_empty());
        assert!(names(&parts(&dir)).is_empty());
    }
}

#[test]
fn a_dropped_staging_takes_its_file_away_but_not_from_those_who_hold_it() {
    let dir = temp();
    let (store, _) = open(&dir);
    let data = bytes(1000);
    let staging = store.stage(store.allocate(), Some(5000), Allocation::Whole).unwrap();
    append(&staging, std::slice::from_ref(&data)).unwrap();
    let blob = staging.blob();
    let held = blob.file().unwrap();
    assert!(Arc::ptr_eq(&held, &blob.file().unwrap()));
    drop(staging);
    assert_eq!(store.resident().unwrap(), 0);
    assert_eq!(blob.present(0..1000), Some(0..1000), "what came stays");
    assert_eq!(blob.present(0..1001), None);
    assert!(Arc::ptr_eq(&held, &blob.file().unwrap()));
    let mut found = vec![0; 1000];
    held.read_exact_at(&mut found, 0).unwrap();
    assert_eq!(found, data);
    drop(held);
    assert_eq!(blob.file().unwrap_err().raw_os_error(), Some(libc::ENOENT));
}

#[test]
fn removing_ends_the_name_and_not_the_open_file() {
    let dir = temp();
    let (store, _) = open(&dir);
    let data = bytes(1000);
    let blob = commit(&store, &data);
    let held = blob.file().unwrap();
    store.remove(blob.id()).unwrap();
    store.remove(blob.id()).unwrap();
    assert_eq!(content(&blob), data);
    drop(held);
    assert_eq!(blob.file().unwrap_err().raw_os_error(), Some(libc::ENOENT));
    let gone = store.update(&blob, &record(1000)).unwrap_err();
    assert_eq!(gone.raw_os_error(), Some(libc::ENOENT));
    assert!(!store.verify(&blob, &record(1000)).unwrap());
    assert_eq!(store.resident().unwrap(), 0);
}

#[test]
fn an_update_is_found_again() {
    let dir = temp();
    let (store, _) = open(&dir);
    let blob = commit(&store, &bytes(1000));
    let newer = Record {
        validators: Validators {
            etag: Some("\"2\"".to_owned()),
            last_modified: None,
            resource: None,
        },
        ..record(1000)
    };
    store.update(&blob, &newer).unwrap();
    let error = store.update(&blob, &record(999)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(names(&parts(&dir)).is_empty());
    drop(store);
    let (store, recovered) = open(&dir);
    assert_eq!(recovered.blobs[0].record, newer);
    assert!(store.verify(&blob, &newer).unwrap());
}

#[test]
fn space_is_taken_with_the_first_bytes_and_what_the_disk_cannot_give_leaves_nothing() {
    let dir = temp();
    let (store, _) = open(&dir);
    let staging = store.stage(store.allocate(), Some(1 << 20), Allocation::Whole).unwrap();
    append(&staging, &[bytes::Bytes::from_static(b"x")]).unwrap();
    // A filesystem without fallocate goes on without.
    let resident = store.resident().unwrap();
    assert!(resident >= 1 << 20 || resident <= 1 << 16);
    drop(staging);
    let huge = store.stage(store.allocate(), Some(u64::MAX), Allocation::Whole).unwrap();
    let error = append(&huge, &[bytes::Bytes::from_static(b"x")]).err().unwrap();
    assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
    drop(huge);
    assert!(names(&parts(&dir)).is_empty());
    let (free, total) = store.disk().unwrap();
    assert!(free <= total && total > 0);
}

#[test]
fn one_id_is_staged_once() {
    let dir = temp();
    let (store, _) = open(&dir);
    let id = store.allocate();
    let first = store.stage(id, None, Allocation::Whole).unwrap();
    let second = store.stage(id, None, Allocation::Whole).err().unwrap();
    assert_eq!(second.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(names(&parts(&dir)), [id.to_string()], "the first goes on");
    drop(first);
}
