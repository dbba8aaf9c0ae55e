//! What an earlier daemon, a power cut or somebody else left in the store.

use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;
use crate::digest::{Algorithm, Digest, sha256_hex};

/// Pretends that the machine was started again since, after a clean stop or without.
pub(super) fn reboot(dir: &TempDir, clean: bool) {
    let layout = Layout::new(dir.path());
    let mut state = State::read(&layout.state()).unwrap();
    state.boot = Some("an earlier boot".to_owned());
    state.clean = clean;
    state.write(&layout).unwrap();
}

fn trust(recovered: &Recovered) -> Vec<Trust> {
    recovered.blobs.iter().map(|found| found.trust).collect()
}

#[test]
fn a_kill_leaves_committed_blobs_trusted_and_no_parts() {
    let dir = temp();
    let (store, _) = open(&dir);
    commit(&store, &bytes(1000));
    let staging = store.stage(store.allocate(), Some(1 << 20), Allocation::Whole).unwrap();
    append(&staging, &[bytes(1000)]).unwrap();
    // A daemon that is killed runs no destructors.
    std::mem::forget(staging);
    drop(store);
    let (store, recovered) = open(&dir);
    assert_eq!(trust(&recovered), [Trust::Trusted]);
    assert_eq!((recovered.parts, recovered.dropped), (1, 0));
    assert_eq!(store.resident().unwrap(), recovered.blobs[0].usage);
}

#[test]
fn trust_needs_a_check_after_power_may_have_failed_and_only_one() {
    let dir = temp();
    let (store, _) = open(&dir);
    commit(&store, &bytes(1000));
    commit(&store, &bytes(2000));
    store.close().unwrap();
    drop(store);
    reboot(&dir, true);
    let (store, recovered) = open(&dir);
    assert_eq!(trust(&recovered), [Trust::Trusted; 2], "a clean stop");
    drop(store);
    reboot(&dir, false);
    let (store, recovered) = open(&dir);
    assert_eq!(trust(&recovered), [Trust::Unverified; 2]);
    let first = &recovered.blobs[0];
    assert!(store.verify(&first.blob, &first.record).unwrap());
    commit(&store, &bytes(3000));
    drop(store);
    // Killed in the same boot before the second was checked.
    use Trust::{Trusted, Unverified};
    let (store, recovered) = open(&dir);
    assert_eq!(trust(&recovered), [Trusted, Unverified, Trusted]);
    // A clean stop makes nothing trusted that was not.
    store.close().unwrap();
    drop(store);
    reboot(&dir, true);
    let (store, recovered) = open(&dir);
    assert_eq!(trust(&recovered), [Trusted, Unverified, Trusted]);
    drop(store);
    fs::write(dir.path().join("v1/state"), "garbage").unwrap();
    let (_store, recovered) = open(&dir);
    assert_eq!(trust(&recovered), [Unverified; 3], "the state is lost");
}

#[test]
fn verify_finds_damage_of_the_same_length() {
    let dir = temp();
    let (store, _) = open(&dir);
    let data = bytes((checksum::BLOCK * 2 + 10) as usize);
    let blob = commit(&store, &data);
    let record = record(data.len() as u64);
    let path = store.site.layout.data(blob.id());
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for at in [0, checksum::BLOCK - 1, checksum::BLOCK, data.len() as u64 - 1] {
        assert!(store.verify(&blob, &record).unwrap());
        let good = data[at as usize];
        file.write_all_at(&[good ^ 1], at).unwrap();
        assert!(!store.verify(&blob, &record).unwrap(), "byte {at}");
        file.write_all_at(&[good], at).unwrap();
    }
    file.set_len(checksum::BLOCK).unwrap();
    assert!(!store.verify(&blob, &record).unwrap());
}

#[test]
fn verify_checks_a_digest_that_was_declared_later() {
    let dir = temp();
    let (store, _) = open(&dir);
    let data = bytes(5000);
    let blob = commit(&store, &data);
    let with =
        |hex: &str| Record { digest: Digest::parse(Algorithm::Sha256, hex).ok(), ..record(5000) };
    let right = with(&sha256_hex(&data));
    assert!(store.verify(&blob, &right).unwrap());
    assert!(!store.verify(&blob, &with(&"1".repeat(64))).unwrap());
    store.update(&blob, &right).unwrap();
    drop(store);
    assert_eq!(open(&dir).1.blobs[0].record, right);
}

#[test]
fn the_last_use_is_known_to_a_successor() {
    let dir = temp();
    let (store, _) = open(&dir);
    let [first, second] = [1, 2].map(|length| commit(&store, &bytes(length)));
    for (blob, ago) in [(&first, 300), (&second, 200)] {
        let file = fs::OpenOptions::new().write(true).open(store.site.layout.data(blob.id()));
        let then = std::time::SystemTime::now() - Duration::from_secs(ago);
        file.unwrap().set_modified(then).unwrap();
    }
    assert!(!first.use_is_due(), "it has just been made");
    first.note_use().unwrap();
    drop(store);
    let found = open(&dir).1.blobs;
    assert!(found[0].used_at > found[1].used_at);
    assert!(found[0].used_at.elapsed().unwrap() < Duration::from_secs(100));
}

#[test]
fn everything_that_does_not_belong_is_removed() {
    let dir = temp();
    let (store, _) = open(&dir);
    let data = bytes(1000);
    let good = commit(&store, &data);
    let bad: Vec<_> = (0..6).map(|_| commit(&store, &data).id()).collect();
    let layout = store.site.layout.clone();
    drop(store);
    fs::remove_file(layout.data(bad[0])).unwrap();
    fs::remove_file(layout.meta(bad[1])).unwrap();
    fs::write(layout.meta(bad[2]), "").unwrap();
    fs::write(layout.data(bad[3]), &data[..999]).unwrap();
    fs::copy(layout.meta(bad[0]), layout.meta(bad[4])).unwrap();
    fs::remove_file(layout.data(bad[5])).unwrap();
    symlink(layout.data(good.id()), layout.data(bad[5])).unwrap();
    // Files of other kinds, under names of ours and of nobody.
    let blobs = blobs(&dir);
    fs::write(blobs.join("notes.txt"), "x").unwrap();
    fs::create_dir_all(blobs.join("dir/inner")).unwrap();
    fs::create_dir(blobs.join("00000000000000f0")).unwrap();
    fs::create_dir(blobs.join("00000000000000f1.meta")).unwrap();
    symlink("/etc/passwd", blobs.join("00000000000000f2.meta")).unwrap();
    symlink("/etc", blobs.join("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(blobs.join("00000000000000f3")).unwrap();
    fs::create_dir(parts(&dir).join("dir")).unwrap();
    fs::write(parts(&dir).join("x"), "x").unwrap();

    let (store, recovered) = open(&dir);
    assert_eq!(recovered.blobs.len(), 1);
    assert_eq!(recovered.blobs[0].blob.id(), good.id());
    assert_eq!(content(&recovered.blobs[0].blob), data);
    assert_eq!(recovered.parts, 2);
    // Two files of each bad pair, but for the two that were removed above; then the strangers.
    assert_eq!(recovered.dropped, 6 * 2 - 2 + 7);
    assert_eq!(names(&blobs).len(), 2);
    assert!(names(&parts(&dir)).is_empty());
    assert!(Path::new("/etc/passwd").exists());
    assert_eq!(store.resident().unwrap(), recovered.blobs[0].usage);
}

#[test]
fn a_huge_sparse_sidecar_is_not_read_into_memory() {
    let dir = temp();
    let (store, _) = open(&dir);
    let blob = commit(&store, &bytes(10));
    let meta = store.site.layout.meta(blob.id());
    drop(store);
    let file = fs::OpenOptions::new().write(true).open(meta).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(open(&dir).1.blobs.is_empty());
}

#[test]
fn an_older_state_than_the_blobs_is_not_believed() {
    let dir = temp();
    let (store, _) = open(&dir);
    let id = commit(&store, &bytes(10)).id();
    let layout = store.site.layout.clone();
    drop(store);
    State::fresh().write(&layout).unwrap();
    let (store, recovered) = open(&dir);
    assert!(store.allocate() > id);
    assert_eq!(trust(&recovered), [Trust::Unverified]);
}

/// What may happen to a store behind our back.
#[derive(Clone, Debug)]
enum Mischief {
    /// Writes a file under some name.
    Write(String, Vec<u8>),
    /// Cuts a file of a blob, by place in the listing.
    Cut(usize, u64),
    /// Flips a bit.
    Flip(usize, u64),
    /// Moves one file over another.
    Rename(usize, usize),
    /// Removes one.
    Remove(usize),
    /// Makes a directory.
    Dir(String),
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        (0u64..16).prop_map(|id| BlobId(id).to_string()),
        (0u64..16).prop_map(|id| format!("{}.meta", BlobId(id))),
        "[a-z0-9.\u{e9}]{1,20}".prop_filter("a name", |n| n != "." && n != ".."),
    ]
}

fn mischief() -> impl Strategy<Value = Mischief> {
    use Mischief::*;
    prop_oneof![
        (name(), prop::collection::vec(any::<u8>(), 0..64)).prop_map(|(n, d)| Write(n, d)),
        (any::<usize>(), 0u64..600).prop_map(|(i, to)| Cut(i, to)),
        (any::<usize>(), any::<u64>()).prop_map(|(i, at)| Flip(i, at)),
        (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Rename(a, b)),
        any::<usize>().prop_map(Remove),
        name().prop_map(Dir),
    ]
}

/// Does what can be done of it; what cannot is no matter.
fn wreak(dir: &Path, mischief: &Mischief) {
    let all = names(dir);
    let pick = |i: usize| (!all.is_empty()).then(|| dir.join(&all[i % all.len()]));
    let edit = |i: usize| fs::OpenOptions::new().write(true).read(true).open(pick(i)?).ok();
    match mischief {
        Mischief::Write(name, data) => drop(fs::write(dir.join(name), data)),
        Mischief::Cut(i, to) => drop(edit(*i).map(|file| file.set_len(*to))),
        Mischief::Flip(i, at) => drop(edit(*i).map(|file| {
            let mut byte = [0];
            let at = at % file.metadata().unwrap().len().max(1);
            if file.read_at(&mut byte, at).unwrap() == 1 {
                file.write_all_at(&[byte[0] ^ 4], at).unwrap();
            }
        })),
        Mischief::Rename(a, b) => drop(pick(*a).zip(pick(*b)).map(|(a, b)| fs::rename(a, b))),
        Mischief::Remove(i) => drop(pick(*i).map(fs::remove_file)),
        Mischief::Dir(name) => drop(fs::create_dir(dir.join(name))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Recovery copes with anything, and verify never passes what was not committed.
    #[test]
    fn recovery_never_returns_what_does_not_fit(
        in_blobs in prop::collection::vec(mischief(), 0..12),
        in_root in prop::collection::vec(mischief(), 0..2),
        in_parts in prop::collection::vec(mischief(), 0..4),
    ) {
        let dir = temp();
        let (store, _) = open(&dir);
        let lengths = [0, 1, 500, 500, 2000];
        for length in lengths {
            commit(&store, &bytes(length));
            let part = store.stage(store.allocate(), Some(4000), Allocation::Sparse).unwrap();
            part.write(100, &[bytes(length)]).unwrap();
            part.suspend(&record(4000)).unwrap();
        }
        drop(store);
        in_blobs.iter().for_each(|m| wreak(&blobs(&dir), m));
        in_parts.iter().for_each(|m| wreak(&parts(&dir), m));
        in_root.iter().for_each(|m| wreak(&dir.path().join("v1"), m));
        // With its directories gone or replaced a store may be refused, in words.
        let Ok((store, recovered)) = Store::open(dir.path()) else {
            return Ok(());
        };
        let mut usage = 0;
        for found in &recovered.blobs {
            let length = fs::metadata(store.site.layout.data(found.blob.id())).unwrap().len();
            prop_assert_eq!(length, found.record.length);
            prop_assert_eq!(found.blob.length(), Some(length));
            usage += found.usage;
            if store.verify(&found.blob, &found.record).unwrap() {
                prop_assert_eq!(content(&found.blob), bytes(length as usize));
            }
            prop_assert!(store.allocate() > found.blob.id());
        }
        for part in &recovered.unfinished {
            let length = fs::metadata(store.site.layout.part(part.id)).unwrap().len();
            prop_assert!((resuming::total(&part.present)..=part.record.length).contains(&length));
            prop_assert_eq!(part.usage, store.usage(part.id).unwrap());
            prop_assert!(store.allocate() > part.id);
            usage += part.usage;
        }
        prop_assert_eq!(store.resident().unwrap(), usage);
        drop(store);
        let again = Store::open(dir.path()).unwrap().1;
        prop_assert_eq!(again.blobs.len(), recovered.blobs.len());
        prop_assert_eq!(again.unfinished.len(), recovered.unfinished.len());
        prop_assert_eq!(again.dropped + again.parts, 0);
    }
}
