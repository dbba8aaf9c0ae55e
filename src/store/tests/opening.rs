//! Directories that can and cannot be a store.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn refused(dir: &Path) -> String {
    match Store::open(dir) {
        Ok(_) => panic!("{} was accepted", dir.display()),
        Err(e) => e.to_string(),
    }
}

#[test]
fn a_store_is_made_where_its_parent_is() {
    let dir = temp();
    let path = dir.path().join("store");
    let (_store, recovered) = Store::open(&path).unwrap();
    assert!(recovered.blobs.is_empty());
    assert_eq!(names(&path.join("v1")), ["blobs", "lock", "parts", "state", "trees"]);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let text = refused(&dir.path().join("no/such/store"));
    assert!(text.contains("no/such") && text.contains("does not exist"));
    assert!(!dir.path().join("no").exists());
}

#[test]
fn what_is_no_directory_is_named() {
    let dir = temp();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(refused(&file).contains("file is not a directory"));
    let below = refused(&file.join("store"));
    assert!(below.contains("is not a directory"), "{below}");
    let dangling = dir.path().join("dangling");
    symlink("nowhere", &dangling).unwrap();
    refused(&dangling);
    for inner in ["v1", "v1/blobs", "v1/parts", "v1/trees"] {
        let store = dir.path().join(inner.replace('/', "-"));
        let path = store.join(inner);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "x").unwrap();
        let text = refused(&store);
        assert!(text.contains(inner) && text.contains("is not a directory"));
        assert_eq!(fs::read(&path).unwrap(), b"x", "it is not ours to remove");
    }
}

#[test]
fn a_symlink_to_a_directory_will_do() {
    let dir = temp();
    fs::create_dir(dir.path().join("real")).unwrap();
    let link = dir.path().join("link");
    symlink("real", &link).unwrap();
    Store::open(&link).unwrap();
    assert!(dir.path().join("real/v1/lock").exists());
}

#[test]
fn another_format_is_refused_untouched() {
    let dir = temp();
    fs::create_dir(dir.path().join("v2")).unwrap();
    let text = refused(dir.path());
    assert!(text.contains("format v2") && text.contains("v1"), "{text}");
    assert_eq!(names(dir.path()), ["v2"]);
    let dir = temp();
    fs::create_dir(dir.path().join("video")).unwrap();
    fs::create_dir(dir.path().join("v")).unwrap();
    fs::write(dir.path().join("v3"), "a file is no format").unwrap();
    open(&dir);
}

#[test]
fn the_second_daemon_is_told_who_is_first() {
    let dir = temp();
    let (store, _) = open(&dir);
    commit(&store, &bytes(10));
    let text = refused(dir.path());
    let pid = format!("process {}", std::process::id());
    assert!(text.contains(&pid), "{text}");
    assert!(text.contains(&dir.path().display().to_string()));
    assert_eq!(names(&blobs(&dir)).len(), 2, "nothing was touched");
    drop(store);
    // Whatever is in the lock file, the lock decides.
    fs::write(dir.path().join("v1/lock"), "not a number, and a long one").unwrap();
    let (_store, recovered) = open(&dir);
    assert_eq!(recovered.blobs.len(), 1);
    assert!(refused(dir.path()).contains(&pid));
}

#[test]
fn the_texts_say_what_is_wrong_and_what_to_do() {
    let text = |kind: io::ErrorKind| open::unusable(Path::new("/s/v1"), &kind.into()).to_string();
    for (kind, wrong) in [
        (io::ErrorKind::PermissionDenied, "not writable"),
        (io::ErrorKind::ReadOnlyFilesystem, "read-only filesystem"),
        (io::ErrorKind::StorageFull, "make room"),
        (io::ErrorKind::NotADirectory, "not a directory"),
        (io::ErrorKind::CrossesDevices, "another filesystem"),
        (io::ErrorKind::Other, "cannot be used"),
    ] {
        let text = text(kind);
        assert!(text.contains(wrong) && text.contains("/s/v1") && text.contains("--store"));
    }
    let proc = refused(Path::new("/proc/self/store"));
    assert!(proc.contains("/proc/self/store") && proc.contains("--store"), "{proc}");
}

#[test]
fn ids_are_never_given_out_twice() {
    let dir = temp();
    let mut last = 0;
    for round in 0..6 {
        let (store, _) = open(&dir);
        for _ in 0..3 {
            let id = store.allocate().0;
            assert!(id > last, "{id} after {last} in round {round}");
            last = id;
        }
        match round % 3 {
            0 => store.close().unwrap(),
            // Lost, with and without a blob to see the height of the ids from.
            1 => fs::remove_file(dir.path().join("v1/state")).unwrap(),
            _ => drop(commit(&store, &bytes(10))),
        }
        last = store.allocate().0.max(last);
    }
}

#[test]
fn a_long_life_reserves_more_ids_in_time() {
    let dir = temp();
    let on_disk = || State::read(&dir.path().join("v1/state")).unwrap().next_id;
    let (store, _) = open(&dir);
    let mut highest = 0;
    for _ in 0..5 {
        for _ in 0..RESERVE * 3 / 4 {
            highest = store.allocate().0;
        }
        drop(store.stage(BlobId(highest), None, Allocation::Whole).unwrap());
        assert!(on_disk() > highest, "an id was used that is not reserved");
    }
    // Without a reservation an id does not reach the disk.
    for _ in 0..RESERVE * 2 {
        highest = store.allocate().0;
    }
    fs::create_dir(dir.path().join("v1/state.new")).unwrap();
    assert!(store.stage(BlobId(highest), None, Allocation::Whole).is_err());
    assert!(names(&parts(&dir)).is_empty());
    fs::remove_dir(dir.path().join("v1/state.new")).unwrap();
    store.stage(BlobId(highest), None, Allocation::Whole).unwrap();
    // Nor after a clean stop, before the mark of it is taken away.
    store.close().unwrap();
    assert!(State::read(&dir.path().join("v1/state")).unwrap().clean);
    store.stage(store.allocate(), None, Allocation::Whole).unwrap();
    assert!(!State::read(&dir.path().join("v1/state")).unwrap().clean);
}

#[test]
fn many_threads_get_different_ids() {
    let dir = temp();
    let (store, _) = open(&dir);
    let mut ids: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..1000).map(|_| store.allocate()).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4000);
}

#[test]
fn numbers_that_are_used_up_are_no_reason_to_use_one_twice() {
    let dir = temp();
    drop(open(&dir));
    let layout = Layout::new(dir.path());
    let last = State { next_id: layout::ID_LIMIT - 10, ..State::read(&layout.state()).unwrap() };
    last.write(&layout).unwrap();
    let text = refused(dir.path());
    assert!(text.contains("used up") && text.contains("another directory"), "{text}");
}
