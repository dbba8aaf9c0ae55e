//! Trees and the room they take: what goes, when, and for whom.

use super::*;

#[tokio::test]
async fn archive_and_tree_are_evicted_together() {
    let rig = Rig::with(
        Limits { quota: 5 * MIB, hard: 6 * MIB, min_free: 0 },
        table([("a", directory("http://h/a")), ("b", source("http://h/b"))]),
    );
    let zip = buildpack(20);
    rig.will(found("1", &zip));
    let (opened, tree) = step_in(&rig, "a").await;
    for i in 0..20 {
        read(&tree, &format!("dependencies/{i:03}")).await.unwrap();
    }
    committed(&opened).await;
    settled(&rig).await;
    let balance = rig.cache.ledger().balance();
    assert!(balance.trees >= 20 * 100_000, "{balance:?}");
    assert!(balance.stored > balance.trees + zip.len() as u64, "{balance:?}");
    // Held, it stays, and what needs its room is refused.
    let large = vec![0; 3 << 20];
    rig.will(found("1", &large));
    assert_eq!(errno(rig.open("b").await), libc::ENOSPC);
    let blob = opened.version.blob.id();
    drop((opened, tree));
    until("nobody to hold it", || rig.cache.ledger().pins(blob) == 0).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    rig.will(found("1", &large));
    committed(&rig.open("b").await.unwrap()).await;
    assert!(rig.entry("a").version().is_none());
    settled(&rig).await;
    assert_eq!(rig.cache.ledger().balance().trees, 0);
}

#[tokio::test]
async fn growing_a_tree_evicts_others_and_stops_before_the_hard_limit() {
    let rig = Rig::with(
        Limits { quota: 12 * MIB, hard: 14 * MIB, min_free: 0 },
        table([("a", directory("http://h/a")), ("b", source("http://h/b"))]),
    );
    rig.will(found("1", &vec![0; 6 << 20]));
    let other = rig.open("b").await.unwrap();
    committed(&other).await;
    // Zeros, so that the archive is small and its tree is not.
    let zip = zips::Zip::of((0..3).map(|i| deflated(&format!("{i}"), &vec![i; 2 << 20]))).bytes();
    rig.will(found("1", &zip));
    let (opened, tree) = step_in(&rig, "a").await;
    assert_eq!(read(&tree, "0").await.unwrap().len(), 2 << 20);
    assert_eq!(read(&tree, "1").await.unwrap().len(), 2 << 20);
    let balance = rig.cache.ledger().balance();
    assert!(balance.stored + balance.reserved <= 14 * MIB, "{balance:?}");
    drop(other);
    until("nobody to hold it", || {
        rig.entry("b")
            .version()
            .is_some_and(|version| rig.cache.ledger().pins(version.blob.id()) == 0)
    })
    .await;
    assert_eq!(read(&tree, "2").await.unwrap(), vec![2; 2 << 20]);
    settled(&rig).await;
    drop(opened);
}

#[tokio::test]
async fn what_could_never_fit_is_refused_and_remembered_until_the_catalog_changes() {
    let rig = Rig::with(
        Limits { quota: 2 * MIB, hard: 3 * MIB, min_free: 0 },
        table([("a", directory("http://h/a")), ("a.zip", source("http://h/a"))]),
    );
    let zip = zips::Zip::of([deflated("zeros", &vec![0; 4 << 20])]).bytes();
    rig.will(found("1", &zip));
    let (opened, tree) = step_in(&rig, "a").await;
    let error = tree.whole().await.err().unwrap();
    assert_eq!((error.why, error.errno), (Why::TooLarge, libc::EFBIG));
    assert!(error.message.contains("hard limit"), "{error}");
    committed(&opened).await;
    // Another tree of it is refused without a look, and the file is read all the same.
    drop(tree);
    let again = rig.cache.tree(&rig.entry("a"), &opened.version);
    assert_eq!(again.whole().await.err().unwrap().why, Why::TooLarge);
    let (_, shown) = rig.entry("a").tree_error().unwrap();
    assert_eq!((shown.why, shown.errno), (Refusal::TooLarge, libc::EFBIG));
    assert!(rig.entry("a.zip").last_error().is_none());
    assert!(bytes_of(&rig.open("a.zip").await.unwrap()).await == zip);
    assert!(rig.entry("a").refused_tree(opened.version.blob.id()).is_some());
    rig.cache.bind(table([("a", directory("http://h/a")), ("a.zip", source("http://h/a"))]));
    assert!(rig.entry("a").refused_tree(opened.version.blob.id()).is_none());
    let (_, shown) = rig.entry("a").tree_error().expect("told until it can be shown");
    assert_eq!(shown.why, Refusal::TooLarge);
}

#[tokio::test]
async fn a_withdrawn_directory_goes_with_its_last_holder() {
    let rig = rig();
    let zip = buildpack(2);
    rig.will(found("1", &zip));
    let (opened, tree) = step_in(&rig, "a").await;
    read(&tree, "dependencies/000").await.unwrap();
    committed(&opened).await;
    let moved = rig.cache.bind(Table { may_prune: true, ..Table::default() });
    assert_eq!(moved.len(), 1);
    assert!(read(&tree, "dependencies/001").await.unwrap() == noise(1, 100_000));
    drop((opened, tree));
    until("everything to go", || rig.cache.ledger().balance() == Balance::default()).await;
    assert_eq!(rig.cache.store.resident().unwrap(), 0);
}

#[tokio::test]
async fn an_archive_that_may_not_be_kept_goes_once_nobody_is_in_it() {
    let rig = rig();
    let zip = buildpack(2);
    rig.will(Reply::Body(head(None, Some(zip.len() as u64)), zip.to_vec()));
    let (opened, tree) = step_in(&rig, "a").await;
    assert!(!opened.version.keep);
    assert!(read(&tree, "dependencies/000").await.unwrap() == noise(0, 100_000));
    let blob = opened.version.blob.id();
    until("the kernel to be told", || rig.told.cleared.lock().unwrap().contains(&blob)).await;
    assert!(read(&tree, "dependencies/001").await.unwrap() == noise(1, 100_000));
    settled(&rig).await;
    drop((opened, tree));
    until("everything to go", || rig.cache.ledger().balance() == Balance::default()).await;
    assert_eq!(rig.cache.store.resident().unwrap(), 0);
}

#[tokio::test]
async fn an_idle_download_of_a_directory_gives_way_to_who_needs_its_room() {
    let rig = Rig::with(
        Limits { quota: 8 * MIB, hard: 9 * MIB, min_free: 0 },
        table([("a", directory("http://h/a")), ("b", source("http://h/b"))]),
    );
    let zip = buildpack(40);
    rig.will(Reply::Ranged(tag("1", &zip), zip.clone()));
    let (opened, tree) = step_in(&rig, "a").await;
    for i in 0..12 {
        read(&tree, &format!("dependencies/{i:03}")).await.unwrap();
    }
    let large = vec![0; 7 << 20];
    rig.will(found("1", &large));
    let blob = opened.version.blob.id();
    let reference = rig.cache.ledger().refer(blob);
    drop((opened, tree));
    // Its download may have ended by then, where what it wanted to have ahead found no room.
    until("nobody to be in it", || rig.cache.ledger().pins(blob) <= 1).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    // The kernel holds it: the one who needs the room hears so soon.
    let began = std::time::Instant::now();
    assert_eq!(errno(rig.open("b").await), libc::ENOSPC);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(rig.told.cleared.lock().unwrap().contains(&blob), "it was asked to forget it");
    drop(reference);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    rig.will(found("1", &large));
    let began = std::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(4)).await;
    committed(&rig.open("b").await.unwrap()).await;
    assert!(began.elapsed() < Duration::from_secs(8));
    assert!(rig.entry("a").version().is_none());
    settled(&rig).await;
}

/// Who wants more while the origin is away is refused, and takes nothing from the others.
#[tokio::test]
async fn an_operator_may_evict_what_an_idle_download_holds() {
    let rig = rig();
    let zip = buildpack(40);
    rig.will(Reply::Ranged(tag("1", &zip), zip.clone()));
    let (opened, tree) = step_in(&rig, "a").await;
    for i in 0..16 {
        read(&tree, &format!("dependencies/{i:03}")).await.unwrap();
    }
    let blob = opened.version.blob.id();
    drop(tree);
    assert!(matches!(rig.cache.evict(&rig.entry("a")).await, EvictOutcome::Pinned(_)));
    drop(opened);
    // The operator's first try has pressed the download, so it may end as soon as it is idle.
    until("nobody to be in it", || rig.cache.ledger().pins(blob) <= 1).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let evicted = rig.cache.evict(&rig.entry("a")).await;
    assert!(matches!(evicted, EvictOutcome::Evicted(bytes) if bytes > 3_000_000), "{evicted:?}");
    until("everything to go", || rig.cache.ledger().balance() == Balance::default()).await;
    assert_eq!(rig.cache.store.resident().unwrap(), 0);
}

#[tokio::test]
async fn the_kernel_is_asked_to_forget_what_was_replaced_or_withdrawn_from_any_thread() {
    let rig = rig();
    rig.will(found("1", &buildpack(1)));
    let (first, _tree) = step_in(&rig, "a").await;
    committed(&first).await;
    later().await;
    rig.will(found("2", &buildpack(2)));
    let (second, _other) = step_in(&rig, "a").await;
    committed(&second).await;
    let cleared = |opened: &Opened| {
        let blob = opened.version.blob.id();
        rig.told.cleared.lock().unwrap().contains(&blob)
    };
    until("the first to be forgotten", || cleared(&first)).await;
    assert!(!cleared(&second));
    let (cache, entry) = (rig.cache.clone(), rig.entry("a"));
    let elsewhere = std::thread::spawn(move || {
        cache.tell_leaving(&entry);
        cache.bind(Table { may_prune: true, ..Table::default() });
    });
    elsewhere.join().unwrap();
    assert!(cleared(&second));
}
