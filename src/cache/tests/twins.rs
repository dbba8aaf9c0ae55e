//! A file and a directory that are two forms of one download.

use super::*;
use crate::source::{Fill, Form};

fn directory(url: &str) -> Source {
    Source { form: Form::Directory, fill: Fill::OnRead, ..source(url) }
}

fn both() -> Table {
    table([("a.zip", source("http://h/a")), ("a", directory("http://h/a"))])
}

fn blob(rig: &Rig, name: &str) -> Option<BlobId> {
    rig.entry(name).version().map(|version| version.blob.id())
}

async fn fetched(table: Table) -> Rig {
    let rig = Rig::new(table);
    rig.will(found("1", b"one"));
    committed(&rig.open("a").await.unwrap()).await;
    rig
}

#[tokio::test]
async fn a_file_and_a_directory_of_one_source_share_one_copy() {
    let rig = fetched(both()).await;
    assert_eq!(bytes_of(&rig.open("a.zip").await.unwrap()).await, b"one");
    assert_eq!((rig.asked(), rig.cache.ledger().balance().blobs), (1, 1));
    assert!(Arc::ptr_eq(&rig.entry("a"), &rig.entry("a.zip")));
    // Of the two the file says how much is fetched.
    assert_eq!(rig.entry("a").source().fill, Fill::All);
}

#[tokio::test]
async fn what_is_fetched_or_kept_otherwise_is_not_shared() {
    let other = [
        directory("http://h/b"),
        Source { key: Some("k".to_owned()), ..directory("http://h/a") },
        Source { stale_if_error: Duration::ZERO, ..directory("http://h/a") },
        Source { digest: sha256(b"one"), ..directory("http://h/a") },
    ];
    for other in other {
        let rig = Rig::new(table([("a.zip", source("http://h/a")), ("a", other)]));
        assert!(!Arc::ptr_eq(&rig.entry("a"), &rig.entry("a.zip")));
    }
}

#[tokio::test]
async fn a_version_has_one_inode_in_each_form_so_two_of_a_form_share_nothing() {
    let names = ["b", "c"].map(|name| (name, directory("http://h/a")));
    let [b, c] = names;
    let rig = Rig::new(table([b, c, ("a.zip", source("http://h/a"))]));
    assert!(Arc::ptr_eq(&rig.entry("b"), &rig.entry("a.zip")), "the first by name");
    assert!(!Arc::ptr_eq(&rig.entry("b"), &rig.entry("c")));
}

#[tokio::test]
async fn the_one_that_stays_keeps_the_copy_when_the_other_goes() {
    for (stays, source) in [("a", directory("http://h/a")), ("a.zip", source("http://h/a"))] {
        let rig = fetched(both()).await;
        let before = blob(&rig, stays);
        let gone = rig.cache.bind(table([(stays, source)]));
        assert_eq!(gone.len(), 1, "the kernel hears of the one that went");
        assert_ne!(gone[0].as_str(), stays);
        assert_eq!(blob(&rig, stays), before);
        assert_eq!(bytes_of(&rig.open(stays).await.unwrap()).await, b"one");
        assert_eq!(rig.asked(), 1);
        rig.cache.bind(Table { may_prune: true, ..Table::default() });
        until("the copy to go", || rig.cache.ledger().balance() == Balance::default()).await;
    }
}

#[tokio::test]
async fn a_directory_added_later_takes_part_in_the_copy_of_the_file_and_the_other_way_round() {
    for (first, source) in [("a", directory("http://h/a")), ("a.zip", source("http://h/a"))] {
        let rig = Rig::new(table([(first, source)]));
        rig.will(found("1", b"one"));
        committed(&rig.open(first).await.unwrap()).await;
        let before = blob(&rig, first);
        assert!(rig.cache.bind(both()).is_empty(), "nothing of it moved");
        assert_eq!([blob(&rig, "a"), blob(&rig, "a.zip")], [before, before]);
    }
}

#[tokio::test]
async fn the_one_that_still_means_the_source_keeps_the_copy() {
    let rig = fetched(both()).await;
    let before = blob(&rig, "a");
    rig.cache.bind(table([("a.zip", source("http://h/new")), ("a", directory("http://h/a"))]));
    assert_eq!([blob(&rig, "a"), blob(&rig, "a.zip")], [before, None]);
    let rig = fetched(both()).await;
    let before = blob(&rig, "a");
    rig.cache.bind(table([("a.zip", source("http://h/a")), ("a", directory("http://h/new"))]));
    assert_eq!([blob(&rig, "a.zip"), blob(&rig, "a")], [before, None]);
}

#[tokio::test]
async fn a_name_that_changes_its_form_keeps_its_copy() {
    let rig = fetched(table([("a", source("http://h/a"))])).await;
    let before = blob(&rig, "a");
    let moved = rig.cache.bind(table([("a", directory("http://h/a"))]));
    assert_eq!(moved.len(), 1, "the kernel hears that it is something else now");
    assert_eq!(blob(&rig, "a"), before);
    assert!(rig.entry("a").is_tree());
}

#[tokio::test]
async fn a_copy_is_found_again_under_either_name() {
    let limits = Limits { quota: 64 * MIB, hard: 80 * MIB, min_free: 0 };
    let rig = fetched(both()).await;
    let Rig { cache, dir, .. } = rig;
    let gone = Arc::downgrade(&cache);
    drop(cache);
    until("the predecessor to end", || gone.strong_count() == 0).await;
    // It was written down under the name of the file, which is gone meanwhile.
    let rig = Rig::over(dir, limits, table([("a", directory("http://h/a"))]));
    rig.will(Reply::NotModified);
    assert_eq!(bytes_of(&rig.open("a").await.unwrap()).await, b"one");
    assert_eq!(rig.cache.ledger().balance().blobs, 1);
}

#[tokio::test]
async fn the_kernel_hears_of_moves_of_the_file_alone() {
    let rig = Rig::new(table([("d", directory("http://h/d")), ("f", source("http://h/f"))]));
    let told = |rig: &Rig| rig.told.moved.load(Ordering::Relaxed);
    for name in ["d", "f"] {
        rig.will(found("1", b"one"));
        committed(&rig.open(name).await.unwrap()).await;
        later().await;
        rig.will(found("2", b"two"));
        committed(&rig.open(name).await.unwrap()).await;
        if name == "d" {
            assert_eq!(told(&rig), 0, "its entry is kept for a moment only");
        }
    }
    assert!(told(&rig) > 0);
}
