//! Parts that outlive the download, or the daemon, that began them.

use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::*;
use crate::digest::{Algorithm, sha256_hex};
use crate::store::part::Part;

/// Returns how many bytes some ranges hold.
pub(super) fn total(present: &[(u64, u64)]) -> u64 {
    present.iter().map(|(start, end)| end - start).sum()
}

/// Stages a part of `data` with the given ranges present.
fn stage(store: &Store, data: &bytes::Bytes, present: &[Range<u64>]) -> Staging {
    let length = Some(data.len() as u64);
    let staging = store.stage(store.allocate(), length, Allocation::Sparse).unwrap();
    for range in present {
        let bytes = data.slice(range.start as usize..range.end as usize);
        staging.write(range.start, &[bytes]).unwrap();
    }
    staging
}

/// Fetches what is missing of a resumed part, commits it and compares.
fn finish(store: &Store, staging: &Staging, record: &Record, data: &bytes::Bytes) {
    staging.hash(Algorithm::Sha256);
    let blob = staging.blob();
    for gap in blob.missing(0..u64::MAX).into_iter().rev() {
        let bytes = data.slice(gap.start as usize..gap.end as usize);
        staging.write(gap.start, &[bytes]).unwrap();
    }
    assert_eq!(staging.end().unwrap().hex(), sha256_hex(data));
    staging.commit(record).unwrap();
    assert_eq!(content(&blob), *data);
    assert!(store.verify(&blob, record).unwrap());
}

/// A daemon that is killed runs no destructors, but what it held locked is free.
fn kill(store: Store, staging: Staging) {
    std::mem::forget(staging);
    drop(store);
}

#[test]
fn a_killed_daemon_leaves_what_it_noted() {
    let dir = temp();
    let data = bytes(100_000);
    let length = data.len() as u64;
    let (store, _) = open(&dir);
    let staging = stage(&store, &data, &[10..20_000, 50_000..60_000]);
    staging.note(&record(length)).unwrap();
    staging.write(0, &[data.slice(..10)]).unwrap();
    let old = staging.blob().id();
    kill(store, staging);

    let (store, recovered) = open(&dir);
    let [part] = &recovered.unfinished[..] else {
        panic!("one part is expected");
    };
    assert_eq!(part.id, old);
    assert_eq!(total(&part.present), 29_990, "as it was noted");
    assert_eq!(part.record, record(length));
    assert_eq!((recovered.parts, recovered.dropped), (0, 0));
    assert_eq!(part.usage, store.usage(old).unwrap());
    assert_eq!(part.usage, store.resident().unwrap());

    let id = store.allocate();
    assert!(id > old);
    let (staging, found) = store.resume(id, old, Allocation::Sparse).unwrap();
    assert_eq!(found, record(length));
    let blob = staging.blob();
    assert_eq!((blob.id(), blob.length()), (id, Some(length)));
    assert_eq!(blob.present_ranges(), [10..20_000, 50_000..60_000]);
    assert_eq!(blob.missing(15..50_001), [20_000..50_000]);
    assert_eq!(blob.present(10..20_000), Some(10..20_000));
    assert_eq!(names(&parts(&dir)), [id.to_string(), format!("{id}.meta")]);
    finish(&store, &staging, &found, &data);
    assert!(names(&parts(&dir)).is_empty());
    let gone = store.resume(store.allocate(), old, Allocation::Whole).err().unwrap();
    assert_eq!(gone.raw_os_error(), Some(libc::ENOENT));
}

#[test]
fn a_part_without_a_note_is_removed_and_so_is_a_dropped_one() {
    let dir = temp();
    let data = bytes(1000);
    let (store, _) = open(&dir);
    let noted = stage(&store, &data, &[0..10]);
    noted.note(&record(1000)).unwrap();
    assert_eq!(names(&parts(&dir)).len(), 2);
    drop(noted);
    assert!(names(&parts(&dir)).is_empty());
    let unknown = store.stage(store.allocate(), None, Allocation::Sparse).unwrap();
    unknown.write(0, &[bytes(10)]).unwrap();
    unknown.note(&record(10)).unwrap();
    assert_eq!(names(&parts(&dir)).len(), 1, "without a length it is not kept");
    kill(store, unknown);
    let (store, recovered) = open(&dir);
    assert!(recovered.unfinished.is_empty());
    assert_eq!(recovered.parts, 1);
    let unknown = store.stage(store.allocate(), None, Allocation::Sparse).unwrap();
    let error = unknown.suspend(&record(10)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let other = stage(&store, &data, &[0..10]);
    let error = other.note(&record(999)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    drop(other);
    assert_eq!(store.resident().unwrap(), 0);
}

#[test]
fn a_private_part_is_not_taken_up_again() {
    let dir = temp();
    let (store, _) = open(&dir);
    let staging = stage(&store, &bytes(1000), &[0..10]);
    staging.note(&record(1000)).unwrap();
    staging.keep_private().unwrap();
    kill(store, staging);
    let (_store, recovered) = open(&dir);
    assert!(recovered.unfinished.is_empty());
    assert_eq!(recovered.parts, 1);
}

#[test]
fn a_suspended_part_stays_and_its_readers_too() {
    let dir = temp();
    let data = bytes(1000);
    let (store, _) = open(&dir);
    let staging = stage(&store, &data, &[0..10, 500..1000]);
    let old = staging.blob();
    let held = old.file().unwrap();
    let usage = staging.suspend(&record(1000)).unwrap();
    drop(staging);
    assert_eq!(old.broken().unwrap().errno, libc::EIO);
    assert_eq!(usage, store.usage(old.id()).unwrap());
    assert_eq!(usage, store.resident().unwrap());
    // The same daemon may go on with it.
    let (staging, found) = store.resume(store.allocate(), old.id(), Allocation::Whole).unwrap();
    staging.hash(Algorithm::Sha256);
    staging.write(10, &[data.slice(10..20)]).unwrap();
    let mut read = [0; 20];
    held.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(read, data[..20], "it is the same file");
    finish(&store, &staging, &found, &data);
}

#[test]
fn only_what_was_made_durable_outlives_the_boot() {
    let dir = temp();
    let data = bytes(1000);
    // What is suspended, what is merely noted; a clean stop; how many are left.
    for (clean, left) in [(true, 1), (false, 0)] {
        let (store, _) = open(&dir);
        let suspended = stage(&store, &data, &[0..10]);
        suspended.suspend(&record(1000)).unwrap();
        let noted = stage(&store, &data, &[0..10]);
        noted.note(&record(1000)).unwrap();
        if clean {
            store.close().unwrap();
        }
        let layout = store.site.layout.clone();
        let (kept, lost) = (suspended.blob().id(), noted.blob().id());
        kill(store, noted);
        recovery::reboot(&dir, clean);
        let (mut part, _) = Part::examine(&layout, lost).unwrap();
        part.boot = Some("an earlier boot".to_owned());
        fs::write(layout.part_meta(lost), part.encode().unwrap()).unwrap();
        let (store, recovered) = open(&dir);
        let ids: Vec<_> = recovered.unfinished.iter().map(|part| part.id).collect();
        assert_eq!(ids, [kept][..left], "clean: {clean}");
        assert_eq!(recovered.parts, 2 * (2 - left));
        store.remove(kept).unwrap();
        assert!(names(&parts(&dir)).is_empty());
    }
}

#[test]
fn a_resumed_part_is_as_safe_as_a_new_one() {
    let dir = temp();
    let data = bytes(1000);
    let (store, _) = open(&dir);
    let staging = stage(&store, &data, &[0..10]);
    staging.suspend(&record(1000)).unwrap();
    let old = staging.blob().id();
    let (staging, _) = store.resume(store.allocate(), old, Allocation::Sparse).unwrap();
    let id = staging.blob().id();
    let layout = store.site.layout.clone();
    kill(store, staging);
    let (part, _) = Part::examine(&layout, id).unwrap();
    assert!(part.boot.is_some(), "its new name was not made durable");
    let (store, recovered) = open(&dir);
    assert_eq!(recovered.unfinished[0].id, id);
    let (staging, _) = store.resume(store.allocate(), id, Allocation::Sparse).unwrap();
    drop(staging);
    assert_eq!(store.resident().unwrap(), 0);
}

#[test]
fn what_is_damaged_is_refused_and_removed() {
    type Damage = fn(&Layout, BlobId);
    let damages: [(&str, Damage); 8] = [
        ("no data", |layout, id| fs::remove_file(layout.part(id)).unwrap()),
        ("no sidecar", |layout, id| fs::remove_file(layout.part_meta(id)).unwrap()),
        ("empty sidecar", |layout, id| fs::write(layout.part_meta(id), "").unwrap()),
        ("cut sidecar", |layout, id| {
            let file = fs::OpenOptions::new().write(true).open(layout.part_meta(id)).unwrap();
            file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        }),
        ("data too short", |layout, id| resize(layout, id, 499)),
        ("data too long", |layout, id| resize(layout, id, 1001)),
        ("a link", |layout, id| {
            fs::remove_file(layout.part(id)).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", layout.part(id)).unwrap();
        }),
        ("another epoch", |layout, id| {
            let (mut part, _) = Part::examine(layout, id).unwrap();
            part.epoch -= 1;
            fs::write(layout.part_meta(id), part.encode().unwrap()).unwrap();
        }),
    ];
    for (what, damage) in damages {
        for restart in [true, false] {
            let dir = temp();
            let (store, _) = open(&dir);
            let staging = stage(&store, &bytes(1000), &[0..10, 400..500]);
            let id = staging.blob().id();
            staging.suspend(&record(1000)).unwrap();
            damage(&store.site.layout, id);
            if restart {
                drop(store);
                let (_store, recovered) = open(&dir);
                assert!(recovered.unfinished.is_empty(), "{what}");
            } else {
                store.resume(store.allocate(), id, Allocation::Sparse).err().expect(what);
            }
            assert!(names(&parts(&dir)).is_empty(), "{what}");
        }
    }
}

fn resize(layout: &Layout, id: BlobId, length: u64) {
    fs::OpenOptions::new().write(true).open(layout.part(id)).unwrap().set_len(length).unwrap();
}

#[test]
fn ids_of_parts_are_not_given_out_again_when_the_state_is_lost() {
    let dir = temp();
    let (store, _) = open(&dir);
    let staging = stage(&store, &bytes(1000), &[0..10]);
    let id = staging.blob().id();
    staging.suspend(&record(1000)).unwrap();
    drop(store);
    State::fresh().write(&Layout::new(dir.path())).unwrap();
    let (store, recovered) = open(&dir);
    assert!(store.allocate() > id);
    assert!(recovered.unfinished.is_empty(), "nothing is trusted");
}

/// Copies what a kill at this moment would leave of a part, and a store around it.
fn as_if_killed(layout: &Layout, id: BlobId) -> TempDir {
    let dir = temp();
    let copy = Layout::new(dir.path());
    fs::create_dir_all(copy.parts()).unwrap();
    fs::copy(layout.state(), copy.state()).unwrap();
    // The sidecar first: what it says was in the data before it was written.
    fs::copy(layout.part_meta(id), copy.part_meta(id)).unwrap();
    fs::copy(layout.part(id), copy.part(id)).unwrap();
    dir
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Kills it after any number of writes and notes, several times, and goes on each time.
    #[test]
    fn a_part_survives_any_number_of_kills(
        lives in prop::collection::vec(
            (prop::collection::vec((0u64..90_000, 1u64..20_000, any::<bool>()), 0..8), any::<bool>()),
            1..5,
        ),
    ) {
        let dir = temp();
        let data = bytes(100_000);
        let mut model = ranges::RangeSet::default();
        let mut last = None;
        for (writes, suspend) in lives {
            let (store, recovered) = open(&dir);
            let id = store.allocate();
            let known: Vec<_> = recovered.unfinished.iter().map(|part| part.id).collect();
            prop_assert_eq!(known, last.into_iter().collect::<Vec<_>>());
            let staging = match last {
                Some(from) => store.resume(id, from, Allocation::Sparse).unwrap().0,
                None => stage(&store, &data, &[]),
            };
            prop_assert_eq!(staging.blob().present_ranges(), model.ranges());
            let mut present = model.clone();
            for (start, length, note) in writes {
                let range = start..(start + length).min(data.len() as u64);
                let bytes = data.slice(range.start as usize..range.end as usize);
                staging.write(start, &[bytes]).unwrap();
                present.insert(range);
                if note {
                    staging.note(&record(100_000)).unwrap();
                    model = present.clone();
                    last = Some(staging.blob().id());
                }
            }
            if suspend {
                staging.suspend(&record(100_000)).unwrap();
                model = present;
            }
            if suspend || last.is_some() {
                last = Some(staging.blob().id());
            }
            kill(store, staging);
        }
        if let Some(from) = last {
            let (store, _) = open(&dir);
            let id = store.allocate();
            let (staging, found) = store.resume(id, from, Allocation::Whole).unwrap();
            finish(&store, &staging, &found, &data);
        }
    }
}

#[test]
fn what_is_on_disk_at_any_moment_can_go_on() {
    let dir = temp();
    let data = bytes(400_000);
    let length = data.len() as u64;
    let (store, _) = open(&dir);
    let staging = stage(&store, &data, &[0..1000]);
    staging.note(&record(length)).unwrap();
    let (layout, id) = (&store.site.layout, staging.blob().id());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = [0, 1]
            .map(|half| {
                let (staging, data) = (&staging, &data);
                scope.spawn(move || {
                    for block in (1..400).filter(|block| block % 2 == half) {
                        let bytes = data.slice(block * 1000..(block + 1) * 1000);
                        staging.write(block as u64 * 1000, &[bytes]).unwrap();
                        staging.note(&record(length)).unwrap();
                    }
                })
            })
            .into();
        let killer = scope.spawn(|| {
            let mut last = false;
            while !last {
                last = done.load(Ordering::Relaxed);
                let killed = as_if_killed(layout, id);
                let (store, recovered) = open(&killed);
                let [part] = &recovered.unfinished[..] else {
                    panic!("the part is lost");
                };
                assert!(total(&part.present) >= 1000);
                let resumed = store.resume(store.allocate(), part.id, Allocation::Sparse);
                let blob = resumed.as_ref().unwrap().0.blob();
                for range in blob.present_ranges() {
                    let mut found = vec![0; (range.end - range.start) as usize];
                    blob.file().unwrap().read_exact_at(&mut found, range.start).unwrap();
                    assert_eq!(found, data[range.start as usize..range.end as usize]);
                }
            }
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
        killer.join().unwrap();
    });
}
