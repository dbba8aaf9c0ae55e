//! A mount of directories only: the kernel opens files by itself, and says nothing of it.

use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

use super::trees_lookup::{number, reads, tree, versioned};
use crate::support::origin::At;
use crate::support::parcel::{Parcel, tar};
use crate::support::{Body, Item, MIB, Mounted, Origin, Proc, needs, process, status, wait_until};

const ONLY: [&str; 1] = ["--directories-only"];

#[test]
fn opens_are_no_requests_and_what_is_read_is_right() {
    needs!("fuse");
    const MEMBERS: u64 = 500;
    let text = |member: u64| format!("{member} ").repeat(member as usize);
    let mut zip = Parcel::new().file("bin/detect", "#!/bin/sh\necho it runs\n");
    for member in 0..MEMBERS {
        zip = zip.file(&format!("d{}/file{member}", member % 10), text(member));
    }
    let origin = Origin::start();
    let body = Body::given(zip.pack());
    origin.put("/a", Item { etag: Some("\"1\"".into()), ranges: true, ..Item::new(body) });
    // The catalog says nothing of its form.
    let catalog = format!("[downloads]\na.url = \"{}\"\n", origin.url("/a"));
    let args = ["--revalidate-window", "60s"];
    let mounted = Mounted::with().catalog("test.toml", &catalog).args(args).args(ONLY).start();
    let root = mounted.path("a");
    let said = process::command("sh")
        .args(["-c", "exec \"$0\""])
        .arg(root.join("bin/detect"))
        .output()
        .expect("it is run");
    assert_eq!(String::from_utf8_lossy(&said.stdout), "it runs\n");
    let pass = || {
        for member in 0..MEMBERS {
            let path = root.join(format!("d{}/file{member}", member % 10));
            assert_eq!(std::fs::read_to_string(&path).expect("a member"), text(member));
        }
    };
    pass();
    let before = reads(&mounted);
    pass();
    let asked = reads(&mounted) - before;
    assert!(asked < MEMBERS / 10, "{asked} requests for {MEMBERS} opens");
    assert_eq!(status::number(&mounted.status(), "opens"), 0);
}

#[test]
fn a_file_that_is_open_keeps_its_version() {
    needs!("fuse");
    let origin = Origin::start();
    origin.put("/a", versioned(1));
    let mounted =
        Mounted::with().catalog("test.toml", &tree("a", &origin.url("/a"))).args(ONLY).start();
    let root = mounted.path("a");
    assert_eq!(number(&root.join("version")), 1);
    let mut file = File::open(root.join("deep/er/version")).expect("open");
    origin.put("/a", versioned(2));
    mounted.settle();
    let moved = || number(&root.join("deep/er/version")) == 2;
    wait_until("the path moves on", Duration::from_secs(5), moved);
    let mut text = String::new();
    file.read_to_string(&mut text).expect("read what was opened before");
    assert_eq!(text, "1");
}

#[test]
fn what_cannot_come_any_more_fails_where_it_is_read_and_is_never_of_another_version() {
    needs!("fuse");
    let origin = Origin::start();
    let put = |version: u64| {
        let zip = Parcel::new().file("large", Body::made(version, 8 * MIB).all());
        let etag = Some(format!("\"{version}\""));
        let item = Item { etag, ranges: true, ..Item::new(Body::given(zip.pack())) };
        origin.put("/a", item);
    };
    put(1);
    let mounted =
        Mounted::with().catalog("test.toml", &tree("a", &origin.url("/a"))).args(ONLY).start();
    let mut file = File::open(mounted.path("a/large")).expect("no request is needed");
    put(2);
    let mut bytes = Vec::new();
    let error = file.read_to_end(&mut bytes).expect_err("its version is gone");
    assert_eq!(error.raw_os_error(), Some(libc::EIO), "{error}");
    let first = Body::made(1, 8 * MIB).all();
    assert_eq!(bytes, first[..bytes.len()]);
    wait_until("the path moves on", Duration::from_secs(5), || {
        Body::made(2, 8 * MIB).check(&mounted.path("a/large")).is_ok()
    });
}

/// Readers wait in READ or in a page fault here, for there is no OPEN; and as what is read goes
/// through the kernel's memory, they wait there for one another's.
fn waiters_in_a_member_die(fault: bool, signal: i32) {
    let origin = Origin::start();
    let large = Body::made(1, 8 * MIB);
    let archive = tar(&[("first", b"1"), ("large", &large.all())]);
    origin.put("/a", Item { etag: Some("\"1\"".into()), ..Item::new(Body::given(archive)) });
    origin.hold("/a", At::Byte(MIB));
    let mounted =
        Mounted::with().catalog("test.toml", &tree("a", &origin.url("/a"))).args(ONLY).start();
    let path = mounted.path("a/large");
    let mut waiters: Vec<Proc> = (0..10)
        .map(|_| if fault { Proc::touch_page(&path, 6 * MIB) } else { Proc::cat(&path) })
        .collect();
    origin.wait_held("/a", 1);
    process::end_all(&mut waiters, signal);
    assert_eq!(std::fs::read(mounted.path("a/first")).expect("what has passed"), b"1");
    origin.release("/a");
    large.check(&path).expect("the download goes on without those who died");
    assert_eq!(origin.requests("/a"), 1);
}

#[test]
fn who_waits_for_bytes_dies_when_told_to() {
    needs!("fuse", "python3");
    waiters_in_a_member_die(false, libc::SIGINT);
    waiters_in_a_member_die(false, libc::SIGKILL);
    waiters_in_a_member_die(true, libc::SIGTERM);
    waiters_in_a_member_die(true, libc::SIGKILL);
}
