//! kill -9 at any moment loses nothing that was committed and leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::{Body, Item, MIB, Mounted, Origin, Raise, figure, needs, scaled, status};

const NAMES: u64 = 12;

/// One is large enough for a crash to find it in the middle of its commit.
fn len(n: u64) -> u64 {
    if n == NAMES - 1 { 24 * MIB + n } else { (n + 1) * 300_000 + n }
}

#[test]
fn every_committed_blob_survives_kill_9_at_any_moment() {
    needs!("fuse");
    let rounds = scaled(12, 100);
    let origin = Origin::start();
    let mut setup = Mounted::with().args(["--quota", "256MiB"]);
    for n in 0..NAMES {
        let path = format!("/{n}");
        origin.put(&path, Item::made(1000 + n, len(n)));
        // Some slow, so that a crash meets downloads under way.
        origin.edit(&path, |item| item.rate = (n % 3 == 0).then_some(8 * MIB));
        setup = setup.download(&format!("n{n}"), &origin.url(&path));
    }
    let mut mounted = setup.start();
    let mut version = vec![1000; NAMES as usize];
    let (mut served, mut slowest) = (0, Duration::ZERO);
    for round in 0..rounds {
        load(&mounted, Duration::from_millis(40 + (round * 97) % 400));
        mounted.kill();
        let committed = committed(&mounted, &version);
        origin.forget();
        mounted.start();
        assert!(
            mounted.started_in < Duration::from_secs(1),
            "round {round}: ready after {:?}",
            mounted.started_in
        );
        slowest = slowest.max(mounted.started_in);
        expect_no_orphans(&mounted, round);
        let ls = mounted.ls();
        for n in 0..NAMES {
            let name = format!("n{n}");
            let Some(current) = committed.get(&name) else { continue };
            assert_eq!(
                status::name(&ls, &name)["state"],
                "ready",
                "round {round}: {name} was committed"
            );
            Body::made(version[n as usize] + n, len(n))
                .check(&mounted.path(&name))
                .unwrap_or_else(|error| panic!("round {round}: {name}: {error}"));
            let path = format!("/{n}");
            // A copy of what the origin has replaced since is rightly fetched anew.
            if *current {
                assert_eq!(origin.count(&path, 200), 0, "round {round}: {name} again");
                served += 1;
            }
        }
        // A third of the names move on, so that the next crash meets old and new versions.
        for n in (0..NAMES).filter(|n| (n + round) % 3 == 0) {
            version[n as usize] += 1000;
            let seed = version[n as usize] + n;
            origin.edit(&format!("/{n}"), |item| {
                item.body = Body::made(seed, len(n));
                item.etag = Some(format!("\"v{seed}\""));
            });
        }
        mounted.settle();
    }
    assert!(served >= 2 * rounds, "{rounds} kills, and only {served} copies to lose");
    figure(&format!(
        "{rounds} kills, {served} committed copies served without a download, ready within {slowest:?}"
    ));
}

/// Reads names in four orders for a while and returns with readers just ended.
fn load(mounted: &Mounted, time: Duration) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let finished = Raise(&done);
        // Steps that have no factor in common with the number of names reach all of them.
        for step in [1, 5, 7, 11] {
            let done = &done;
            scope.spawn(move || {
                let mut n = step;
                while !done.load(Ordering::Relaxed) {
                    n = (n + step) % NAMES;
                    let mut file = match std::fs::File::open(mounted.path(&format!("n{n}"))) {
                        Ok(file) => file,
                        Err(error) => panic!("n{n}: {error}"),
                    };
                    // Part of it only: downloads go on without their readers.
                    let mut buf = vec![0; 64 << 10];
                    let _ = std::io::Read::read(&mut file, &mut buf);
                }
            });
        }
        std::thread::sleep(time);
        drop(finished);
    });
}

/// Returns the names that a sidecar on disk says are whole, each with whether that is the version
/// that the origin has.
fn committed(mounted: &Mounted, version: &[u64]) -> BTreeMap<String, bool> {
    let mut names = BTreeMap::new();
    for id in mounted.blobs() {
        let dir = mounted.store().join("v1/blobs");
        if !dir.join(&id).exists() {
            continue;
        }
        let sidecar = std::fs::read(dir.join(format!("{id}.meta"))).unwrap_or_default();
        let text = String::from_utf8_lossy(&sidecar);
        for n in 0..NAMES {
            if text.contains(&format!("\"n{n}\"")) {
                let current = text.contains(&format!("v{}\\\"", version[n as usize] + n));
                *names.entry(format!("n{n}")).or_insert(false) |= current;
            }
        }
    }
    names
}

/// Checks that every file of the store belongs to a blob, or to a part that can be gone on with: data
/// with their sidecar.
fn expect_no_orphans(mounted: &Mounted, round: u64) {
    for dir in ["blobs", "parts"] {
        let files: BTreeSet<String> = std::fs::read_dir(mounted.store().join("v1").join(dir))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        for file in &files {
            let other = match file.strip_suffix(".meta") {
                Some(data) => data.to_owned(),
                None => format!("{file}.meta"),
            };
            assert!(files.contains(&other), "round {round}: {dir}/{file} has no {other}");
        }
        // Only one body is long enough for a note of what is there.
        assert!(dir == "blobs" || files.len() <= 2, "round {round}: old parts: {files:?}");
    }
}

#[test]
fn a_damaged_blob_is_fetched_again_and_never_served() {
    use std::os::unix::fs::FileExt;
    needs!("fuse");
    let origin = Origin::start();
    let body = Body::made(1, 4 * MIB);
    origin.put("/a", Item::made(1, 4 * MIB));
    let mut mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    body.check(&mounted.path("a")).expect("cold");
    mounted.wait_complete("a");
    mounted.kill();
    let id = mounted.blobs().pop().expect("one blob");
    let data = mounted.store().join("v1/blobs").join(&id);
    // Another length is seen at once, without reading the data.
    let file = std::fs::File::options().write(true).open(&data).expect("open the blob");
    file.set_len(4 * MIB - 1).expect("cut the blob");
    file.write_all_at(b"x", 0).expect("damage the blob");
    drop(file);
    origin.forget();
    mounted.start();
    body.check(&mounted.path("a")).expect("fetched again");
    assert_eq!(origin.count("/a", 200), 1);
}

#[test]
fn one_daemon_per_store() {
    needs!("fuse");
    let origin = Origin::start();
    let mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    let other = Mounted::with();
    let output = crate::support::mounted::program()
        .arg("mount")
        .arg(other.dir().join("mnt"))
        .arg("--store")
        .arg(mounted.store())
        .arg("--control")
        .arg(other.dir().join("control.sock"))
        .output()
        .expect("run the program");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&mounted.pid().to_string()), "who holds it: {said}");
}

#[test]
fn a_clean_stop_and_start_asks_once_and_downloads_nothing() {
    needs!("fuse");
    let origin = Origin::start();
    let body = Body::made(1, MIB);
    origin.put("/a", Item::made(1, MIB));
    let mut mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    body.check(&mounted.path("a")).expect("cold");
    mounted.wait_complete("a");
    assert_eq!(mounted.stop().code(), Some(0));
    mounted.start();
    body.check(&mounted.path("a")).expect("after the restart");
    assert_eq!((origin.count("/a", 200), origin.count("/a", 304)), (1, 1));
}
