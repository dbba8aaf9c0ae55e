//! The files of trees: they go with their archive, and hold for one boot.

use super::recovery::reboot;
use super::*;
use crate::store::layout::{Kind, OF_TREE};

/// Makes the files of a tree with this many contents, the first of which is filled.
fn plant(store: &Store, id: BlobId, contents: u32) -> Canopy {
    let canopy = store.canopy(id);
    assert_eq!(canopy.filled(contents).unwrap(), vec![0; contents as usize]);
    canopy.data().unwrap().write_all_at(b"unpacked", 4096).unwrap();
    canopy.fill(0).unwrap();
    canopy.save(b"the index").unwrap();
    canopy
}

fn trees(dir: &TempDir) -> Vec<String> {
    names(&dir.path().join("v1/trees"))
}

fn planted(id: BlobId) -> Vec<String> {
    Vec::from([id.to_string(), format!("{id}.filled"), format!("{id}.index")])
}

#[test]
fn a_tree_survives_a_kill_and_is_accounted_for() {
    let dir = temp();
    let (store, _) = open(&dir);
    let id = commit(&store, &bytes(1000)).id();
    let archive = store.usage(id).unwrap();
    let canopy = plant(&store, id, 3);
    assert_eq!(trees(&dir), planted(id));
    let usage = canopy.usage().unwrap();
    assert!(usage >= 3 * 4096, "{usage}");
    assert_eq!(store.usage(id).unwrap(), archive + usage);
    drop(store);
    let (store, recovered) = open(&dir);
    let found = &recovered.blobs[0];
    assert_eq!((found.usage, found.tree), (archive + usage, usage));
    assert_eq!(store.resident().unwrap(), archive + usage);
    assert_eq!(recovered.dropped, 0);
    let canopy = store.canopy(id);
    assert_eq!(canopy.saved().unwrap(), b"the index");
    assert_eq!(canopy.noted().unwrap(), (Vec::from([1, 0, 0]), 4096 + 8));
    assert_eq!(canopy.filled(3).unwrap(), [1, 0, 0]);
    let mut read = [0; 8];
    canopy.data().unwrap().read_exact_at(&mut read, 4096).unwrap();
    assert_eq!(&read, b"unpacked");
    canopy.fill_all(3).unwrap();
    assert_eq!(canopy.filled(3).unwrap(), [1, 1, 1]);
    assert_eq!(canopy.filled(4).unwrap(), [0; 4], "the map of another index says nothing");
}

#[test]
fn a_tree_goes_with_its_archive() {
    let dir = temp();
    let (store, _) = open(&dir);
    let id = commit(&store, &bytes(1000)).id();
    let canopy = plant(&store, id, 3);
    store.remove(id).unwrap();
    assert!(trees(&dir).is_empty());
    assert_eq!(canopy.usage().unwrap(), 0);
    // Who still works on it brings nothing back.
    canopy.fill(1).unwrap();
    assert_eq!(canopy.save(b"again").unwrap_err().raw_os_error(), Some(libc::ENOENT));
    for late in [store.canopy(id), store.canopy(store.allocate())] {
        assert_eq!(late.data().unwrap_err().raw_os_error(), Some(libc::ENOENT));
        assert_eq!(late.filled(3).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        assert!(late.saved().is_none());
    }
    assert!(trees(&dir).is_empty());
    // Nor does a download that fails leave one.
    let staging = store.stage(store.allocate(), Some(10), Allocation::Sparse).unwrap();
    plant(&store, staging.blob().id(), 1);
    drop(staging);
    assert!(trees(&dir).is_empty());
    assert_eq!(store.resident().unwrap(), 0);
}

#[test]
fn a_tree_holds_in_one_boot_only() {
    // Its files were not fsynced: a clean stop says nothing of them.
    for clean in [false, true] {
        let dir = temp();
        let (store, _) = open(&dir);
        let id = commit(&store, &bytes(1000)).id();
        let layout = store.site.layout.clone();
        drop(store);
        reboot(&dir, clean);
        let State { boot, epoch, .. } = State::read(&layout.state()).unwrap();
        let then = Site { layout, turns: Turns::default(), boot, epoch };
        Canopy::new(&Arc::new(then), id).save(b"the index").unwrap();
        let (store, recovered) = open(&dir);
        assert_eq!((recovered.blobs.len(), recovered.blobs[0].tree), (1, 0));
        assert_eq!(recovered.dropped, 1);
        assert!(store.canopy(id).saved().is_none());
        assert!(trees(&dir).is_empty());
    }
}

#[test]
fn a_tree_follows_its_part_to_another_number() {
    let dir = temp();
    let (store, _) = open(&dir);
    let data = bytes(1000);
    let staging = store.stage(store.allocate(), Some(1000), Allocation::Sparse).unwrap();
    staging.write(0, &[data.slice(..10)]).unwrap();
    let from = staging.blob().id();
    let tree = plant(&store, from, 2).usage().unwrap();
    staging.suspend(&record(1000)).unwrap();
    drop(staging);
    drop(store);
    let (store, recovered) = open(&dir);
    let part = &recovered.unfinished[0];
    assert_eq!((part.id, part.tree), (from, tree));
    assert_eq!(part.usage, store.usage(from).unwrap());
    assert_eq!(part.usage, store.resident().unwrap());
    let id = store.allocate();
    let (staging, found) = store.resume(id, from, Allocation::Sparse).unwrap();
    assert_eq!(trees(&dir), planted(id));
    let canopy = store.canopy(id);
    assert_eq!(canopy.saved().unwrap(), b"the index");
    assert_eq!(canopy.filled(2).unwrap(), [1, 0]);
    let gone = store.canopy(from).data().unwrap_err();
    assert_eq!(gone.raw_os_error(), Some(libc::ENOENT));
    staging.write(10, &[data.slice(10..)]).unwrap();
    staging.end();
    staging.commit(&found).unwrap();
    assert_eq!(trees(&dir), planted(id), "a commit leaves it alone");
    assert_eq!(store.usage(id).unwrap(), store.resident().unwrap());
    // A part that cannot go on takes its tree along.
    let staging = store.stage(store.allocate(), Some(1000), Allocation::Sparse).unwrap();
    let bad = staging.blob().id();
    plant(&store, bad, 1);
    std::mem::forget(staging);
    assert!(store.resume(store.allocate(), bad, Allocation::Sparse).is_err());
    assert_eq!(trees(&dir), planted(id));
}

#[test]
fn what_belongs_to_no_tree_is_removed() {
    let dir = temp();
    let (store, _) = open(&dir);
    let ids: Vec<BlobId> = (0..6).map(|_| commit(&store, &bytes(10)).id()).collect();
    ids.iter().for_each(|id| drop(plant(&store, *id, 3)));
    let orphan = BlobId(0xf000);
    let layout = store.site.layout.clone();
    drop(store);
    fs::copy(layout.tree(ids[0], Kind::Index), layout.tree(orphan, Kind::Index)).unwrap();
    fs::remove_file(layout.tree(ids[1], Kind::Index)).unwrap();
    fs::write(layout.tree(ids[2], Kind::Index), "").unwrap();
    fs::remove_file(layout.tree(ids[3], Kind::Data)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", layout.tree(ids[3], Kind::Data)).unwrap();
    fs::remove_file(layout.data(ids[4])).unwrap();
    let trees_dir = dir.path().join("v1/trees");
    fs::write(layout.new_index(ids[5]), "half").unwrap();
    fs::write(trees_dir.join("notes"), "x").unwrap();
    fs::write(trees_dir.join(format!("{}.meta", ids[5])), "x").unwrap();
    fs::create_dir_all(trees_dir.join("dir/inner")).unwrap();
    let (store, recovered) = open(&dir);
    let mut kept = [planted(ids[0]), planted(ids[5])].concat();
    kept.sort();
    assert_eq!(trees(&dir), kept);
    // The orphan, 2 + 3 + 3 + 3 files of bad trees, 4 strangers; and the sidecar without a blob.
    assert_eq!(recovered.dropped, 1 + 11 + 4 + 1);
    assert!(Path::new("/etc/passwd").exists());
    let usage: u64 = recovered.blobs.iter().map(|found| found.usage).sum();
    assert_eq!(store.resident().unwrap(), usage);
}

#[test]
fn a_tree_is_cleared_before_it_is_used_only() {
    let dir = temp();
    let (store, _) = open(&dir);
    let id = commit(&store, &bytes(10)).id();
    let used = plant(&store, id, 3);
    assert_eq!(used.clear().unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(trees(&dir), planted(id));
    let again = store.canopy(id);
    again.clear().unwrap();
    assert_eq!(again.noted().unwrap(), (Vec::new(), 0));
    assert!(trees(&dir).is_empty());
    assert_eq!(again.filled(3).unwrap(), [0; 3]);
    assert!(OF_TREE.iter().any(|kind| store.site.layout.tree(id, *kind).exists()));
}

#[test]
fn many_open_one_tree_at_once() {
    let dir = temp();
    let (store, _) = open(&dir);
    let id = commit(&store, &bytes(10)).id();
    let canopy = store.canopy(id);
    let begin = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for content in 0..8u32 {
            let (canopy, begin) = (&canopy, &begin);
            scope.spawn(move || {
                begin.wait();
                let file = canopy.data().unwrap();
                assert!(Arc::ptr_eq(&file, &canopy.data().unwrap()));
                canopy.fill(content).unwrap();
            });
        }
    });
    assert_eq!(canopy.filled(8).unwrap(), [1; 8]);
}
