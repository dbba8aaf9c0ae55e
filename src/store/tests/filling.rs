//! Parts that fill in any order, from several threads at once.

use std::sync::Barrier;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::digest::{Algorithm, Hasher};
use crate::store::sidecar::Sidecar;

/// Returns the checksums that a committed blob was recorded with.
fn checksums(store: &Store, blob: &Blob) -> Vec<u32> {
    Sidecar::read(blob.id(), &store.site.layout.meta(blob.id())).unwrap().crc32c
}

fn expected_checksums(data: &[u8]) -> Vec<u32> {
    data.chunks(checksum::BLOCK as usize).map(crc32c::crc32c).collect()
}

fn digest_of(algorithm: Algorithm, data: &[u8]) -> crate::digest::Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(data);
    hasher.finish()
}

/// Writes pieces of `data`, dealt out to some threads that begin together.
fn fill(staging: &Staging, data: &Bytes, pieces: &[Range<u64>], threads: usize) {
    let together = Barrier::new(threads);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (together, mine) = (&together, pieces.iter().skip(thread).step_by(threads));
            scope.spawn(move || {
                together.wait();
                for piece in mine {
                    let (start, end) = (piece.start as usize, piece.end as usize);
                    let middle = start + (end - start) / 3;
                    let chunks = [data.slice(start..middle), data.slice(middle..end)];
                    staging.write(piece.start, &chunks).unwrap();
                }
            });
        }
    });
}

/// A length cut into pieces that come in some order.
fn pieces(most: u64) -> impl Strategy<Value = (u64, Vec<Range<u64>>)> {
    (1..most, prop::collection::vec(0..most, 0..40)).prop_flat_map(|(length, mut cuts)| {
        cuts.retain(|cut| *cut < length);
        cuts.extend([0, length]);
        cuts.sort_unstable();
        cuts.dedup();
        let pieces: Vec<_> = cuts.windows(2).map(|w| w[0]..w[1]).collect();
        Just(pieces).prop_shuffle().prop_map(move |pieces| (length, pieces))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_order_from_any_thread_gives_the_whole(
        (length, pieces) in pieces(checksum::BLOCK + 200_000),
        threads in 1usize..5,
        known: bool,
        whole: bool,
    ) {
        let dir = temp();
        let (store, _) = open(&dir);
        let data = bytes(length as usize);
        let room = if whole { Allocation::Whole } else { Allocation::Sparse };
        let staging = store.stage(store.allocate(), known.then_some(length), room).unwrap();
        staging.hash(Algorithm::Md5);
        fill(&staging, &data, &pieces, threads);
        let blob = staging.blob();
        prop_assert_eq!(staging.written(), length);
        prop_assert!(blob.missing(0..length).is_empty());
        let digest = digest_of(Algorithm::Md5, &data);
        prop_assert_eq!(staging.end(), Some(digest.clone()));
        let record = Record { digest: Some(digest), ..record(length) };
        staging.commit(&record).unwrap();
        prop_assert_eq!(content(&blob), data.clone());
        prop_assert_eq!(checksums(&store, &blob), expected_checksums(&data));
    }

    /// Everybody writes everything, in pieces of their own, and each other bytes.
    #[test]
    fn where_writes_overlap_the_sums_are_those_of_the_file(
        writes in prop::collection::vec((0u64..4000, 1usize..2000), 1..24),
        threads in 1usize..5,
    ) {
        let dir = temp();
        let (store, _) = open(&dir);
        let length = 6000;
        let staging = store.stage(store.allocate(), Some(length), Allocation::Sparse).unwrap();
        staging.hash(Algorithm::Sha1);
        let together = Barrier::new(threads);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (staging, writes, together) = (&staging, &writes, &together);
                scope.spawn(move || {
                    together.wait();
                    for (at, size) in writes.iter().cycle().skip(thread).take(writes.len()) {
                        let mark = Bytes::from(vec![thread as u8 + 1; *size]);
                        staging.write(*at, &[mark]).unwrap();
                    }
                });
            }
        });
        let rest = bytes(length as usize);
        staging.write(0, std::slice::from_ref(&rest)).unwrap();
        let digest = staging.end();
        let blob = staging.blob();
        let record = Record { digest: digest.clone(), ..record(length) };
        staging.commit(&record).unwrap();
        let found = content(&blob);
        prop_assert_eq!(digest, Some(digest_of(Algorithm::Sha1, &found)));
        prop_assert_eq!(checksums(&store, &blob), expected_checksums(&found));
        for (at, byte) in found.iter().enumerate() {
            let covered = writes.iter().any(|(start, size)| {
                (*start..start + *size as u64).contains(&(at as u64))
            });
            let marked = (1..=threads as u8).contains(byte);
            prop_assert!(if covered { marked } else { *byte == rest[at] }, "byte {}", at);
        }
    }
}

#[test]
fn what_is_present_wins() {
    let dir = temp();
    let (store, _) = open(&dir);
    let staging = store.stage(store.allocate(), Some(12), Allocation::Sparse).unwrap();
    staging.write(4, &[Bytes::from_static(b"AAAA")]).unwrap();
    staging.write(0, &[Bytes::from_static(b"bbb"), Bytes::from_static(b"bbbbbbbbb")]).unwrap();
    staging.end();
    let blob = staging.blob();
    staging.commit(&record(12)).unwrap();
    assert_eq!(content(&blob), b"bbbbAAAAbbbb");
    assert!(store.verify(&blob, &record(12)).unwrap());
}

#[test]
fn gaps_are_neither_committed_nor_hashed() {
    let dir = temp();
    let (store, _) = open(&dir);
    for length in [None, Some(100)] {
        let staging = store.stage(store.allocate(), length, Allocation::Sparse).unwrap();
        staging.hash(Algorithm::Md5);
        staging.write(0, &[bytes(10)]).unwrap();
        staging.write(20, &[bytes(80)]).unwrap();
        assert_eq!(staging.digest(), None);
        assert_eq!(staging.blob().missing(0..1000)[0], 10..20);
        assert_eq!(staging.blob().present_ranges(), [0..10, 20..100]);
        assert_eq!(staging.written(), 90);
        staging.end();
        assert_eq!(staging.blob().length(), Some(100));
        let error = staging.commit(&record(100)).unwrap_err();
        assert!(error.to_string().contains("90 bytes came of 100"), "{error}");
        // Not taken for whole either where the record was made from what came.
        let staging = store.stage(store.allocate(), None, Allocation::Sparse).unwrap();
        staging.write(20, &[bytes(80)]).unwrap();
        staging.end();
        assert_eq!(staging.commit(&record(80)).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
    assert_eq!(store.resident().unwrap(), 0);
}

#[test]
fn a_digest_of_the_beginning_is_not_that_of_the_whole() {
    let dir = temp();
    let (store, _) = open(&dir);
    let staging = store.stage(store.allocate(), Some(20), Allocation::Sparse).unwrap();
    staging.hash(Algorithm::Md5);
    staging.write(0, &[bytes(10)]).unwrap();
    let early = staging.digest();
    assert_eq!(early, Some(digest_of(Algorithm::Md5, &bytes(10))));
    staging.write(10, &[bytes(10)]).unwrap();
    assert_eq!(staging.end(), None);
    let record = Record { digest: early, ..record(20) };
    assert_eq!(staging.commit(&record).unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn a_gap_before_more_than_one_write_reads_back_is_caught_up_with_at_the_end() {
    let dir = temp();
    let (store, _) = open(&dir);
    // One write reads back 8 MiB.
    let data = bytes(9 << 20);
    let length = data.len() as u64;
    let staging = store.stage(store.allocate(), Some(length), Allocation::Sparse).unwrap();
    staging.hash(Algorithm::Md5);
    staging.write(1000, &[data.slice(1000..)]).unwrap();
    staging.write(0, &[data.slice(..1000)]).unwrap();
    assert_eq!(staging.end(), Some(digest_of(Algorithm::Md5, &data)));
    let blob = staging.blob();
    staging.commit(&record(length)).unwrap();
    assert_eq!(checksums(&store, &blob), expected_checksums(&data));
}

#[test]
fn what_could_not_be_written_is_missing_and_may_come_again() {
    let dir = temp();
    let (store, _) = open(&dir);
    let staging = store.stage(store.allocate(), None, Allocation::Sparse).unwrap();
    // No filesystem takes a byte there.
    let far = u64::MAX - 100;
    for _ in 0..2 {
        let error = staging.write(far, &[bytes(10)]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
        assert_eq!(staging.blob().missing(far..far + 10), [far..far + 10]);
    }
    assert_eq!(staging.written(), 0);
    let error = staging.write(far, &[bytes(200)]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "there are no such offsets");
}

#[test]
fn a_part_ends_once_and_takes_no_byte_after_it() {
    let dir = temp();
    let (store, _) = open(&dir);
    let part = || {
        let staging = store.stage(store.allocate(), Some(10), Allocation::Whole).unwrap();
        staging.write(0, &[bytes(5)]).unwrap();
        staging
    };
    let ends: [fn(&Staging) -> io::Result<u64>; 2] =
        [|staging| staging.suspend(&record(10)), Staging::keep_private];
    for end in ends {
        let staging = part();
        let blob = staging.blob();
        assert!(end(&staging).unwrap() > 0);
        let late = [
            staging.suspend(&record(10)),
            staging.keep_private(),
            staging.commit(&record(10)),
            staging.write(5, &[bytes(5)]).map(|()| 0),
        ];
        assert!(late.iter().all(|e| e.as_ref().unwrap_err().kind() == io::ErrorKind::InvalidInput));
        staging.note(&record(10)).unwrap();
        drop(staging);
        assert!(store.site.layout.part(blob.id()).exists());
        store.remove(blob.id()).unwrap();
        assert_eq!(store.resident().unwrap(), 0);
    }
}
