//! How the program ends, and the demonstration that leaves nothing behind.

use std::fs::File;
use std::time::Duration;

use crate::support::guards::{TempDir, mounts_below};
use crate::support::mounted::program;
use crate::support::{Body, Item, MIB, Mounted, Origin, needs};

#[test]
fn sigterm_and_sigint_unmount_and_exit_0() {
    needs!("fuse");
    let origin = Origin::start();
    origin.put("/a", Item::made(1, MIB));
    let mut mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    std::fs::read(mounted.path("a")).expect("read");
    assert_eq!(mounted.stop().code(), Some(0));
    assert!(mounts_below(&mounted.mnt()).is_empty());
    mounted.start();
    mounted.signal(libc::SIGINT);
    crate::support::wait_until("unmounted", Duration::from_secs(5), || {
        mounts_below(&mounted.mnt()).is_empty()
    });
}

#[test]
fn a_held_mount_is_left_lazily_and_says_how_many_hold_it() {
    needs!("fuse");
    let origin = Origin::start();
    origin.put("/a", Item::made(1, MIB));
    let mut mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    let held = File::open(mounted.path("a")).expect("open");
    Body::made(1, MIB).check_at(&held, 0, 1000).expect("read");
    mounted.wait_complete("a");
    assert_eq!(mounted.stop().code(), Some(0));
    assert!(mounts_below(&mounted.mnt()).is_empty());
    let log = mounted.log();
    assert!(log.contains('1') && (log.contains("hold") || log.contains("held")), "{log}");
}

#[test]
fn unmount_ends_the_daemon() {
    needs!("fuse");
    let mounted = Mounted::with().start();
    let status = program().arg("unmount").arg(mounted.mnt()).status().expect("run the program");
    assert!(status.success());
    crate::support::wait_until("unmounted", Duration::from_secs(5), || {
        mounts_below(&mounted.mnt()).is_empty()
    });
}

#[test]
fn the_demonstration_succeeds_and_leaves_nothing_behind() {
    needs!("fuse");
    let dir = TempDir::new();
    let output = program()
        .arg("demo")
        .env("TMPDIR", dir.path())
        .stdin(std::process::Stdio::null())
        .output()
        .expect("run the program");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}{errors}", output.status);
    assert!(mounts_below(dir.path()).is_empty());
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("list").flatten().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}
