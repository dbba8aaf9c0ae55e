//! The store stays within its limits, whatever is asked of it.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::support::guards::LoopFs;
use crate::support::mounted::{Setup, du};
use crate::support::origin::{Fault, When};
use crate::support::{
    Body, Framing, Item, MIB, Mounted, Origin, Raise, figure, needs, os, scaled, wait_until,
};

/// Adds `count` names of `len` bytes each; the name `nK` has the body of seed K.
fn with_names(mut setup: Setup, origin: &Origin, count: u64, len: u64) -> Setup {
    for n in 0..count {
        let path = format!("/{n}");
        origin.put(&path, Item::made(n, len));
        setup = setup.download(&format!("n{n}"), &origin.url(&path));
    }
    setup
}

#[test]
fn held_files_stay_and_the_store_never_passes_the_hard_limit() {
    needs!("fuse");
    let (quota, len, count) = scaled((64, 16, 20), (256, 64, 20));
    let hard = quota * 12 / 10;
    let origin = Origin::start();
    let setup = Mounted::with().args([format!("--quota={quota}MiB")]);
    let mounted = with_names(setup, &origin, count, len * MIB).start();

    let highest = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let finished = Raise(&done);
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                highest.fetch_max(du(mounted.store()), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let held: Vec<File> = (0..3)
            .map(|n| {
                let path = mounted.path(&format!("n{n}"));
                let mut file = File::open(path).expect("open");
                Body::made(n, len * MIB).check_rest(&mut file, 0).expect("read what will be held");
                file
            })
            .collect();
        for n in 3..count {
            Body::made(n, len * MIB)
                .check(&mounted.path(&format!("n{n}")))
                .unwrap_or_else(|error| panic!("n{n}: {error}"));
        }
        for (n, file) in held.iter().enumerate() {
            Body::made(n as u64, len * MIB)
                .check_at(file, 0, (len * MIB) as usize)
                .expect("a held file");
            // An unlinked file would be readable as well: it is in the store still.
            File::open(mounted.path(&format!("n{n}"))).expect("open by its path");
            assert_eq!(origin.count(&format!("/{n}"), 200), 1, "n{n} was evicted");
        }
        drop(finished);
    });
    let highest = highest.load(Ordering::Relaxed);
    figure(&format!("at most {} MiB of {hard} MiB on disk", highest / MIB));
    assert!(highest <= hard * MIB, "the store reached {} MiB of at most {hard}", highest / MIB);
    assert!(mounted.number("evictions") >= count - 3 - (quota / len));
    // What the ledger says is what the disk says, but for the directories and the lock.
    let (ledger, disk) = (mounted.number("stored"), mounted.du());
    assert!(ledger.abs_diff(disk) < 64 * 1024, "{ledger} and {disk}");
}

#[test]
fn the_least_recently_used_goes_first() {
    needs!("fuse");
    let origin = Origin::start();
    let setup = Mounted::with().args(["--quota", "33MiB", "--revalidate-window", "1h"]);
    let mounted = with_names(setup, &origin, 6, 8 * MIB).start();
    let read = |n: u64| {
        Body::made(n, 8 * MIB).check(&mounted.path(&format!("n{n}"))).expect("read");
        mounted.wait_complete(&format!("n{n}"));
    };
    for n in 0..4 {
        read(n);
    }
    read(0);
    read(4);
    read(5);
    // 1 and 2 were used least recently; 0 was used again.
    let there: Vec<bool> = (0..6).map(|n| mounted.state(&format!("n{n}")) == "ready").collect();
    assert_eq!(there, [true, false, false, true, true, true]);
    assert_eq!(mounted.number("evictions"), 2);
    read(1);
    assert_eq!(origin.requests("/1"), 2, "an evicted name is fetched again");
    assert_eq!(mounted.number("evicted_then_wanted_again"), 1);
}

#[test]
fn when_everything_is_held_the_next_open_says_so() {
    needs!("fuse");
    let origin = Origin::start();
    let setup = Mounted::with().args(["--quota", "32MiB", "--hard-limit", "36MiB"]);
    let mounted = with_names(setup, &origin, 6, 8 * MIB).start();
    let held: Vec<File> = (0..4)
        .map(|n| {
            let mut file = File::open(mounted.path(&format!("n{n}"))).expect("open");
            Body::made(n, 8 * MIB).check_rest(&mut file, 0).expect("read");
            file
        })
        .collect();
    let error = File::open(mounted.path("n4")).expect_err("everything is pinned");
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    let log = mounted.log();
    assert!(
        log.lines().any(|line| line.contains("n4") && line.contains("pinned")),
        "the log says how much is pinned: {log}"
    );
    let known = os::xattr(&mounted.path("n4"), "user.cached_downloads.error");
    assert!(known.is_ok_and(|text| text.contains("pinned")));
    drop(held);
    crate::support::wait_until("room again", Duration::from_secs(8), || {
        File::open(mounted.path("n4")).is_ok()
    });
}

#[test]
fn a_length_over_the_hard_limit_is_refused_at_open() {
    needs!("fuse");
    let origin = Origin::start();
    origin.put("/big", Item::made(1, 100 * MIB));
    let mounted =
        Mounted::with().download("big", &origin.url("/big")).args(["--quota", "16MiB"]).start();
    let error = File::open(mounted.path("big")).expect_err("too large");
    assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
}

#[test]
fn a_body_without_end_stops_below_the_hard_limit() {
    needs!("fuse");
    let origin = Origin::start();
    let item = Item { framing: Framing::Chunked, ..Item::made(1, MIB) };
    origin.put("/endless", item.strike(When::Plain, Fault::Endless, usize::MAX));
    origin.put("/good", Item::made(2, MIB));
    let mounted = Mounted::with()
        .download("endless", &origin.url("/endless"))
        .download("good", &origin.url("/good"))
        .args(["--quota", "16MiB", "--hard-limit", "20MiB"])
        .start();
    let highest = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let read = std::thread::scope(|scope| {
        let _finished = Raise(&done);
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                highest.fetch_max(du(mounted.store()), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        std::fs::read(mounted.path("endless"))
    });
    assert_eq!(read.expect_err("no end").raw_os_error(), Some(libc::ENOSPC));
    let highest = highest.load(Ordering::Relaxed);
    figure(&format!("a body without end took {} KiB of 20 MiB", highest >> 10));
    assert!(highest > 8 * MIB && highest <= 20 * MIB, "{highest}");
    Body::made(2, MIB).check(&mounted.path("good")).expect("another name");
    wait_until("its bytes go", Duration::from_secs(5), || du(mounted.store()) < 4 * MIB);
}

#[test]
fn the_disk_below_keeps_its_free_space() {
    needs!("fuse", "root", "mkfs.ext4", "losetup");
    let disk = LoopFs::new(128);
    let origin = Origin::start();
    let setup = Mounted::with().store(&disk.path().join("store")).args([
        "--quota",
        "64MiB",
        "--min-free",
        "48MiB",
    ]);
    let mounted = with_names(setup, &origin, 16, 8 * MIB).start();
    for n in 0..16 {
        Body::made(n, 8 * MIB)
            .check(&mounted.path(&format!("n{n}")))
            .unwrap_or_else(|error| panic!("n{n}: {error}"));
        let free = os::statvfs(disk.path()).expect("statvfs").available;
        assert!(free >= 48 * MIB, "after n{n} only {} MiB free", free / MIB);
    }
    // Somebody else takes the room: what is idle goes, what is served stays within min_free.
    std::fs::write(disk.path().join("other"), vec![1; 40 << 20]).expect("fill the disk");
    let _ = File::open(mounted.path("n3"));
    crate::support::wait_until("room is given back", Duration::from_secs(10), || {
        let _ = std::fs::read(mounted.path("n5"));
        os::statvfs(disk.path()).is_ok_and(|space| space.available >= 32 * MIB)
    });
}

#[test]
fn the_mount_reports_the_quota_as_its_size() {
    needs!("fuse");
    let origin = Origin::start();
    let setup = Mounted::with().args(["--quota", "64MiB"]);
    let mounted = with_names(setup, &origin, 1, 8 * MIB).start();
    let space = || os::statvfs(&mounted.mnt()).expect("statvfs");
    assert_eq!(space().total, 64 * MIB);
    let before = space().available;
    std::fs::read(mounted.path("n0")).expect("read");
    mounted.wait_complete("n0");
    assert!(before - space().available >= 8 * MIB);
    assert_eq!(origin.requests("/0"), 1, "statfs asks nobody");
}
