//! What holds a version, and for how long.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::guards::Bind;
use crate::support::os::Mapping;
use crate::support::{Body, Item, MIB, Mounted, Origin, needs, status, wait_until};

const LEN: u64 = 4 * MIB;

fn origin_with_one() -> (Origin, Body, Body) {
    let origin = Origin::start();
    origin.put("/a", Item::made(1, LEN));
    (origin, Body::made(1, LEN), Body::made(2, LEN))
}

/// Moves the origin and the path to the second version.
#[track_caller]
fn move_on(origin: &Origin, mounted: &Mounted, new: &Body) {
    origin.put("/a", Item::made(2, LEN));
    mounted.settle();
    new.check(&mounted.path("a")).expect("the path shows the new version");
    mounted.wait_complete("a");
}

#[track_caller]
fn expect_blobs(mounted: &Mounted, count: usize) {
    wait_until(&format!("{count} blobs are in the store"), Duration::from_secs(10), || {
        mounted.blobs().len() == count
    });
}

#[test]
fn a_bind_mount_keeps_its_version_and_the_blob_goes_with_it() {
    needs!("fuse", "root");
    let (origin, old, new) = origin_with_one();
    let mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    old.check(&mounted.path("a")).expect("cold");
    mounted.wait_complete("a");
    let bind = Bind::new(&mounted.path("a"), mounted.scratch(), "bound");
    move_on(&origin, &mounted, &new);

    old.check(bind.path()).expect("the bind mount");
    mounted.settle();
    old.check(bind.path()).expect("the bind mount, later");
    new.check(&mounted.path("a")).expect("the path");
    // Held by nothing but the bind mount: neither time nor a wish for room takes it away.
    let _ = mounted.client(&["evict", "a"]);
    std::thread::sleep(Duration::from_millis(500));
    old.check(bind.path()).expect("the bind mount after evict");

    drop(bind);
    new.check(&mounted.path("a")).expect("the path, alone");
    expect_blobs(&mounted, 1);
}

#[test]
fn a_bind_mount_made_before_the_download_shows_one_version_for_good() {
    needs!("fuse", "root");
    let (origin, old, new) = origin_with_one();
    let mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    let bind = Bind::new(&mounted.path("a"), mounted.scratch(), "bound");
    old.check(bind.path()).expect("a cold read through the bind mount");
    mounted.wait_complete("a");
    move_on(&origin, &mounted, &new);
    old.check(bind.path()).expect("the bind mount keeps the first version");
    let requests = origin.requests("/a");
    mounted.settle();
    old.check(bind.path()).expect("again");
    assert_eq!(origin.requests("/a"), requests, "a frozen open asks nobody");
}

#[test]
fn a_bind_mount_made_before_the_download_is_read_past_the_daemon_once_complete() {
    needs!("fuse", "root");
    let (origin, old, _) = origin_with_one();
    let mut mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    let on = status::find(&mounted.status(), "passthrough").is_some_and(|p| p["on"] == true);
    if !on {
        eprintln!("skipped: this machine has no passthrough");
        return;
    }
    let bind = Bind::new(&mounted.path("a"), mounted.scratch(), "bound");
    old.check(bind.path()).expect("a cold read through the bind mount");
    mounted.wait_complete("a");
    let mut held = File::open(bind.path()).expect("open the complete file");
    mounted.kill();
    crate::support::os::drop_pages(&held).expect("drop what the kernel keeps of it");
    old.check_rest(&mut held, 0).expect("nobody else is there to answer");
}

#[test]
fn a_descriptor_of_the_place_alone_keeps_its_version() {
    needs!("fuse");
    let (origin, old, new) = origin_with_one();
    let mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    old.check(&mounted.path("a")).expect("cold");
    mounted.wait_complete("a");
    let place = File::options()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(mounted.path("a"))
        .expect("open with O_PATH");
    move_on(&origin, &mounted, &new);
    let through = PathBuf::from(format!("/proc/self/fd/{}", place.as_raw_fd()));
    old.check(&through).expect("through /proc/self/fd");
    drop(place);
    expect_blobs(&mounted, 1);
}

#[test]
fn a_mapping_kept_after_close_survives_eviction() {
    needs!("fuse");
    let origin = Origin::start();
    let mut setup = Mounted::with().args(["--quota", "32MiB", "--hard-limit", "48MiB"]);
    for n in 0..8 {
        origin.put(&format!("/{n}"), Item::made(n, 8 * MIB));
        setup = setup.download(&format!("n{n}"), &origin.url(&format!("/{n}")));
    }
    let mounted = setup.start();
    let body = Body::made(0, 8 * MIB);
    body.check(&mounted.path("n0")).expect("cold");
    mounted.wait_complete("n0");
    let file = File::open(mounted.path("n0")).expect("open");
    let mapping = Mapping::new(&file, 8 << 20, true).expect("map");
    drop(file);
    for n in 1..8 {
        Body::made(n, 8 * MIB).check(&mounted.path(&format!("n{n}"))).expect("another name");
    }
    mapping.forget_pages();
    drop_pages_of(&mounted.path("n0"));
    assert_eq!(body.differs(0, &mapping.copy(0, 8 << 20)), None);
    let evictions = mounted.number("evictions");
    assert!(evictions >= 3, "only {evictions} evictions");
    // An unlinked file would be readable as well: it is in the store still.
    body.check(&mounted.path("n0")).expect("by its path");
    assert_eq!(origin.count("/0", 200), 1, "it was evicted");
}

fn drop_pages_of(path: &Path) {
    if let Ok(file) = File::open(path) {
        let _ = crate::support::os::drop_pages(&file);
    }
}

#[test]
fn a_working_handle_survives_the_removal_of_its_name() {
    needs!("fuse");
    let (origin, old, _) = origin_with_one();
    let mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    let mut held = File::open(mounted.path("a")).expect("open");
    mounted.wait_complete("a");
    origin.remove("/a");
    mounted.settle();
    let error = File::open(mounted.path("a")).expect_err("gone at the origin");
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    old.check_rest(&mut held, 0).expect("the held handle goes on");
    drop(held);
    expect_blobs(&mounted, 0);
}
