//! Who holds the version of an archive, and that nobody else does.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::trees_lookup::{number, tree, versioned};
use crate::support::guards::Bind;
use crate::support::parcel::Parcel;
use crate::support::{Body, Item, MIB, Mounted, Origin, Proc, figure, needs, process, wait_until};

const MEMBERS: u64 = 20_000;
/// What an archive of so many members is made up to, with one large one.
const ARCHIVE: u64 = 24 * MIB;

/// Returns an archive of many members.
fn large(seed: u64) -> Item {
    let mut zip = Parcel::new();
    for member in 0..MEMBERS {
        let (dir, sub) = (member % 50, member % 500);
        zip = zip.file(&format!("d{dir}/s{sub}/file{member}"), member.to_string());
    }
    let zip = zip.file("large", Body::made(seed, ARCHIVE).all());
    Item { etag: Some(format!("\"{seed}\"")), ranges: true, ..Item::new(Body::given(zip.pack())) }
}

/// A way to hold a tree without having a file of it open for good.
enum Holder {
    Bind(Bind),
    Cwd(Proc),
    File(File),
}

/// Reads the attributes of everything below a directory, and of a few files the bytes.
fn walk(root: &Path) -> u64 {
    let mut count = 0;
    for entry in std::fs::read_dir(root).expect("a directory") {
        let path = entry.expect("a line").path();
        let found = path.symlink_metadata().expect("a member");
        if found.is_dir() {
            count += walk(&path);
        } else {
            count += 1;
            if found.len() < 100 && count % 100 == 0 {
                std::fs::read(&path).expect("a small file");
            }
        }
    }
    count
}

/// Whether OPEN is answered.
#[derive(Clone, Copy, PartialEq)]
enum Opens {
    Told,
    Untold,
}

fn evicted_once_left(what: &str, opens: Opens, hold: impl FnOnce(&Path, &Path) -> Holder) {
    let origin = Origin::start();
    origin.put("/a", large(1));
    let (a, b) = (origin.url("/a"), origin.url("/b"));
    let all = tree("a", &a) + "fill = \"all\"\n";
    let (text, wants, flags): (_, _, &[&str]) = match opens {
        Opens::Told => {
            origin.put("/b", Item::made(2, ARCHIVE));
            (all + &format!("[downloads.b]\nurl = \"{b}\"\n"), "b", &[])
        }
        Opens::Untold => {
            let zip = Parcel::new().file("large", Body::made(2, ARCHIVE).all());
            let body = Body::given(zip.pack());
            origin.put("/b", Item { ranges: true, ..Item::new(body) });
            (all + &tree("b", &b) + "fill = \"all\"\n", "b/large", &["--directories-only"])
        }
    };
    // One of the two fits, with what the tree itself takes.
    let mounted = Mounted::with()
        .catalog("test.toml", &text)
        .args(["--quota", "40MiB", "--hard-limit", "46MiB"])
        .args(flags.iter().copied())
        .env("CACHED_DOWNLOADS_LOG", "cached_downloads::kernel=debug,info")
        .start();
    let root = mounted.path("a");
    assert_eq!(walk(&root), MEMBERS + 1);
    mounted.wait_complete("a");
    let held = hold(&root, mounted.scratch());
    let blobs = mounted.blobs();
    for _ in 0..3 {
        let error = File::open(mounted.path(wants)).expect_err("there is no room");
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(mounted.blobs(), blobs, "it was evicted although it is held");
    match held {
        Holder::Bind(bind) => {
            assert_eq!(walk(bind.path()), MEMBERS + 1, "the bind mount");
            drop(bind);
        }
        Holder::Cwd(mut proc) => {
            assert!(!proc.ended(), "who stands in it met an error");
            proc.signal(libc::SIGKILL);
            proc.wait(Duration::from_secs(1)).expect("it dies");
        }
        Holder::File(mut file) => {
            Body::made(1, ARCHIVE).check_rest(&mut file, 0).expect("the open file");
            drop(file);
        }
    }
    let left = Instant::now();
    wait_until("there is room", Duration::from_secs(10), || {
        std::thread::sleep(Duration::from_millis(200));
        File::open(mounted.path(wants)).is_ok()
    });
    let log = mounted.log();
    let sweeps: Vec<_> = log.lines().filter(|line| line.contains("swept")).collect();
    figure(&format!("{what}: evicted {:.1?} after it was left; {sweeps:#?}", left.elapsed()));
    Body::made(2, ARCHIVE).check(&mounted.path(wants)).expect("what took its room");
}

#[test]
fn a_tree_goes_when_a_bind_mount_that_was_walked_is_gone() {
    needs!("fuse", "root");
    evicted_once_left("a bind mount", Opens::Told, |root, scratch| {
        let bind = Bind::new(root, scratch, "bound");
        walk(bind.path());
        Holder::Bind(bind)
    });
}

#[test]
fn a_tree_goes_when_a_working_directory_is_left() {
    needs!("fuse");
    evicted_once_left("a working directory", Opens::Told, |root, _| {
        let mut shell = process::command("sh");
        shell.args(["-c", "while cat file1001 >&2; do sleep 0.1; done"]);
        shell.current_dir(root.join("d1/s1"));
        Holder::Cwd(Proc::start(shell.stderr(std::process::Stdio::null())))
    });
}

#[test]
fn a_tree_goes_when_a_file_in_it_is_closed() {
    needs!("fuse");
    evicted_once_left("an open file", Opens::Told, |root, _| {
        Holder::File(File::open(root.join("large")).expect("open"))
    });
}

#[test]
fn a_tree_whose_opens_are_not_told_goes_when_a_file_in_it_is_closed() {
    needs!("fuse");
    evicted_once_left("an open file, untold", Opens::Untold, |root, _| {
        Holder::File(File::open(root.join("large")).expect("open"))
    });
}

#[test]
fn a_tree_whose_opens_are_not_told_goes_when_a_bind_mount_that_was_walked_is_gone() {
    needs!("fuse", "root");
    evicted_once_left("a bind mount, untold", Opens::Untold, |root, scratch| {
        let bind = Bind::new(root, scratch, "bound");
        walk(bind.path());
        Holder::Bind(bind)
    });
}

#[test]
fn a_replaced_tree_goes_when_its_holders_have_gone() {
    needs!("fuse", "root");
    let origin = Origin::start();
    origin.put("/a", versioned(1));
    let mounted = Mounted::with().catalog("test.toml", &tree("a", &origin.url("/a"))).start();
    let root = mounted.path("a");
    assert_eq!(number(&root.join("version")), 1);
    let bind = Bind::new(&root, mounted.scratch(), "bound");
    walk(bind.path());
    origin.put("/a", versioned(2));
    mounted.settle();
    wait_until("the path moves on", Duration::from_secs(5), || number(&root.join("version")) == 2);
    assert_eq!(number(&bind.path().join("version")), 1);
    assert!(!bind.path().join("none").exists());
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(number(&bind.path().join("deep/er/version")), 1, "after some sweeps");
    drop(bind);
    wait_until("only one version is left", Duration::from_secs(10), || mounted.blobs().len() == 1);
    assert_eq!(number(&root.join("version")), 2);
}

#[test]
fn a_replaced_tree_that_nobody_looks_up_again_goes_by_itself() {
    needs!("fuse");
    let origin = Origin::start();
    origin.put("/a", versioned(1));
    let url = origin.url("/a");
    // The file and the directory share one download, and the file moves it on.
    let text = tree("a", &url) + &format!("[downloads.f]\nurl = \"{url}\"\n");
    let mounted = Mounted::with().catalog("test.toml", &text).start();
    walk(&mounted.path("a"));
    origin.put("/a", versioned(2));
    mounted.settle();
    versioned(2).body.check(&mounted.path("f")).expect("the file moves on");
    wait_until("only one version is left", Duration::from_secs(10), || mounted.blobs().len() == 1);
}

#[test]
fn a_bind_mount_made_before_the_download_shows_one_version_of_a_tree_for_good() {
    needs!("fuse", "root");
    let origin = Origin::start();
    origin.put("/a", versioned(1));
    let mounted = Mounted::with().catalog("test.toml", &tree("a", &origin.url("/a"))).start();
    let root = mounted.path("a");
    let bind = Bind::new(&root, mounted.scratch(), "bound");
    let listed = root.symlink_metadata().expect("a directory").ino();
    assert_eq!(origin.requests("/a"), 0, "a name and a bind mount of it ask nothing");
    assert_eq!(number(&bind.path().join("version")), 1);
    origin.put("/a", versioned(2));
    mounted.settle();
    wait_until("the path moves on", Duration::from_secs(5), || number(&root.join("version")) == 2);
    let requests = origin.requests("/a");
    for path in ["version", "link", "deep/er/version"] {
        assert_eq!(number(&bind.path().join(path)), 1, "{path}");
    }
    assert_eq!(origin.requests("/a"), requests, "who holds a version asks nobody");
    let now = root.symlink_metadata().expect("a directory").ino();
    assert_eq!(now, listed, "the number of a name is one, over all versions");
}

#[test]
fn a_first_download_that_fails_does_not_spoil_a_bind_mount_of_a_tree() {
    needs!("fuse", "root");
    let origin = Origin::start();
    origin.put("/a", Item { status: Some(500), ..versioned(1) });
    let mounted = Mounted::with().catalog("test.toml", &tree("a", &origin.url("/a"))).start();
    let bind = Bind::new(&mounted.path("a"), mounted.scratch(), "bound");
    let error = std::fs::read(bind.path().join("version")).expect_err("the origin fails");
    assert_eq!(error.raw_os_error(), Some(libc::EIO), "{error}");
    origin.put("/a", versioned(1));
    mounted.settle();
    assert_eq!(number(&bind.path().join("version")), 1);
    assert_eq!(number(&mounted.path("a").join("version")), 1);
}
