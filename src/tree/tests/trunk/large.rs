//! As many members as the limits allow, within time and memory.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::super::zips::{File, Zip};
use super::rig::*;
use crate::tree::NodeNo;

/// As large as one archive may be; a tenth where nothing is optimised.
const MEMBERS: usize = if cfg!(debug_assertions) { 20_000 } else { 199_000 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_thousand_members_take_little_time_and_memory() {
    let mut path = String::new();
    let member = |no: usize| {
        path.clear();
        let _ = write!(path, "lib/part-{}/package-{}/file-{no}.rb", no / 10_000, no / 100);
        File::new(&path, "x = 1\n")
    };
    let archive = Zip::of((0..MEMBERS).map(member)).bytes();
    let rig = Rig::new();
    let blob = rig.whole(&archive);
    let begin = Instant::now();
    let tree = rig.tree(&blob);
    let index = tree.whole().await.unwrap();
    let built = begin.elapsed();
    rig.settles(&blob).await;
    let memory = index.memory() / u64::from(index.nodes());
    drop((tree, index));
    let (rig, blobs) = rig.restart();
    let begin = Instant::now();
    let tree = rig.tree(&blobs[0]);
    let index = tree.whole().await.unwrap();
    let loaded = begin.elapsed();
    let begin = Instant::now();
    let listed = list(&tree).await;
    assert_eq!(listed.len(), MEMBERS);
    println!(
        "{MEMBERS} members, {} MiB: indexed in {built:?}, back in {loaded:?}, listed in {:?}; \
         {memory} bytes of memory a node",
        archive.len() >> 20,
        begin.elapsed()
    );
    let last = listed.last_key_value().unwrap();
    assert_eq!(read(&tree, *last.1).await.unwrap(), b"x = 1\n");
    assert!(index.child(NodeNo::ROOT, b"lib").is_some());
    if !cfg!(debug_assertions) {
        assert!(built < Duration::from_secs(2) && loaded < Duration::from_secs(1));
    }
    assert!(memory <= 140, "and nine bytes for how far each is unpacked");
}
