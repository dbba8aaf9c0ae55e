//! Trees of archives whose download broke and was gone on with by others.

use super::super::PartReply;
use super::*;

/// Steps into a zip whose list came, and its beginning, before its download broke.
async fn broken(rig: &Rig, zip: &Arc<Vec<u8>>, cut: usize) -> (Opened, Arc<Tree>) {
    let (body, sent) = mpsc::unbounded_channel();
    let (rest, rest_sent) = mpsc::unbounded_channel();
    let ranged = Head { ranges: true, offered: true, ..tag("1", zip) };
    rig.will(Reply::Slow(ranged, sent));
    body.send(Ok(zip[..cut].to_vec().into())).unwrap();
    // Its list, and then what is between.
    let parts = [PartReply::Of(zip.clone()), PartReply::Slow(rest_sent)];
    rig.origin.parts.lock().unwrap().extend(parts);
    let (opened, tree) = step_in(rig, "a").await;
    opened.version.blob.want_all();
    tree.whole().await.unwrap();
    rig.will(Reply::Fail(FailureKind::Unreachable));
    rest.send(Err(failure(FailureKind::BadAnswer))).unwrap();
    until("the download to break", || opened.version.blob.broken().is_some()).await;
    later().await;
    (opened, tree)
}

/// What came before stays readable to who is in the tree, whatever becomes of the name; it counts
/// under the number that has its files now.
#[tokio::test]
async fn who_is_in_a_tree_that_others_went_on_with_can_unpack_what_came() {
    let rig = rig();
    let zip = buildpack_of(30, 100_000);
    let (opened, tree) = broken(&rig, &zip, 20 * 100_000).await;
    rig.will(Reply::NotModified);
    *rig.origin.ranged.lock().unwrap() = Some(zip.clone());
    let again = rig.open("a").await.unwrap();
    let blob = again.version.blob.id();
    assert_ne!(blob, opened.version.blob.id());
    again.version.blob.want_all();
    committed(&again).await;
    drop(again);
    // Another version takes the name, so nobody moves.
    later().await;
    rig.will(found("2", b"PK"));
    let new = rig.open("a").await.unwrap();
    committed(&new).await;
    drop(new);
    for i in [3, 11] {
        assert!(read(&tree, &format!("dependencies/{i:03}")).await.unwrap() == noise(i, 100_000));
    }
    settled(&rig).await;
    assert!(rig.cache.ledger().tree(blob) >= 200_000);
    drop((opened, tree));
    until("its bytes to go", || rig.cache.ledger().tree(blob) == 0).await;
    settled(&rig).await;
}

/// A tar is unpacked anew for who goes on with it; what was unpacked before is somebody's still.
#[tokio::test]
async fn what_is_unpacked_twice_counts_twice_while_somebody_is_in_the_former_tree() {
    let rig = rig();
    let tar = tars::tar((0..3).map(|i| tars::file(format!("{i}"), noise(i, 1 << 20))));
    let packed = Arc::new(gz(&tar));
    let (body, sent) = mpsc::unbounded_channel();
    let ranged = Head { ranges: true, offered: true, ..tag("1", &packed) };
    rig.will(Reply::Slow(ranged, sent));
    body.send(Ok(packed[..5 << 19].to_vec().into())).unwrap();
    let (opened, tree) = step_in(&rig, "a").await;
    assert!(read(&tree, "1").await.unwrap() == noise(1, 1 << 20));
    rig.will(Reply::Fail(FailureKind::Unreachable));
    body.send(Err(failure(FailureKind::BadAnswer))).unwrap();
    until("the download to break", || opened.version.blob.broken().is_some()).await;
    later().await;
    rig.will(Reply::NotModified);
    *rig.origin.ranged.lock().unwrap() = Some(packed.clone());
    let (again, new) = step_in(&rig, "a").await;
    assert!(read(&new, "2").await.unwrap() == noise(2, 1 << 20));
    let blob = again.version.blob.id();
    assert_ne!(blob, opened.version.blob.id());
    let ledger = rig.cache.ledger();
    until("both to count", || ledger.balance().reserved == 0 && ledger.tree(blob) >= 5 << 20).await;
    drop((opened, tree));
    until("one to count", || ledger.tree(blob) < 4 << 20).await;
    settled(&rig).await;
}

/// Two trees have the same files open, which the end of the download leaves without a name.
#[tokio::test]
async fn what_two_trees_have_open_counts_once() {
    let rig = rig();
    let zip = buildpack_of(30, 100_000);
    let (_opened, tree) = broken(&rig, &zip, 20 * 100_000).await;
    read(&tree, "dependencies/003").await.unwrap();
    let (rest, sent) = mpsc::unbounded_channel();
    rig.will(Reply::NotModified);
    rig.origin.parts.lock().unwrap().extend([PartReply::Slow(sent), PartReply::Changed]);
    let (again, new) = step_in(&rig, "a").await;
    again.version.blob.want_all();
    read(&new, "dependencies/005").await.unwrap();
    rest.send(Err(failure(FailureKind::BadAnswer))).unwrap();
    until("the archive to change", || again.version.blob.broken().is_some()).await;
    until("its files to go", || !tree.unlinked().unwrap().is_empty()).await;
    read(&tree, "dependencies/007").await.unwrap();
    let ledger = rig.cache.ledger();
    let open = || tree.unlinked().unwrap().iter().map(|(_, bytes)| bytes).sum::<u64>();
    until("the count", || {
        ledger.balance().reserved == 0 && ledger.tree(again.version.blob.id()) == open()
    })
    .await;
    assert!(open() >= 300_000);
    assert_eq!(new.unlinked().unwrap(), tree.unlinked().unwrap());
}
