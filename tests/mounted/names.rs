//! Names: what is asked for them, and how fast the answer comes.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::origin::At;
use crate::support::{
    Body, Framing, Item, MIB, Mounted, Origin, Raise, figure, median, needs, os, process, quantile,
    scaled, timed, wait_until,
};

#[test]
fn an_unknown_name_is_a_fast_no_without_a_request() {
    needs!("fuse");
    let origin = Origin::start();
    let mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    let mut times = Vec::new();
    for n in 0..500 {
        let path = mounted.path(&format!("unknown{n}"));
        let (result, took) = timed(|| std::fs::symlink_metadata(&path));
        let error = result.expect_err("unknown");
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        times.push(took.as_secs_f64() * 1e6);
    }
    let middle = median(times);
    figure(&format!("an unknown name is refused after {middle:.0} us (median)"));
    // A machine under load takes its time to wake a thread; a request would take far longer.
    assert!(middle < scaled(1000.0, 100.0), "{middle} us");
    assert_eq!(origin.seen().len(), 0);
}

#[test]
fn a_long_listing_of_cold_names_asks_once_each_and_shows_true_lengths() {
    needs!("fuse");
    let origin = Origin::start();
    let mut setup = Mounted::with();
    for n in 0..200 {
        let path = format!("/{n}");
        origin.put(&path, Item::made(n, 1000 + n));
        setup = setup.download(&format!("n{n}"), &origin.url(&path));
    }
    let mounted = setup.start();
    let names = process::quiet("ls", ["-U".as_ref(), mounted.mnt().as_os_str()]);
    assert_eq!(names.lines().count(), 200);
    assert_eq!(origin.seen().len(), 0, "readdir asks nobody");

    let (list, took) = timed(|| process::quiet("ls", ["-l".as_ref(), mounted.mnt().as_os_str()]));
    figure(&format!("ls -l of 200 cold names: {} requests, {took:?}", origin.seen().len()));
    for line in list.lines().filter(|line| line.starts_with('-')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let n: u64 = words[8][1..].parse().expect("a number in the name");
        assert_eq!(words[4], (1000 + n).to_string(), "{line}");
    }
    assert!(origin.seen().len() <= 200, "{} requests", origin.seen().len());
    assert!(origin.seen().iter().all(|seen| seen.method == "GET"));
}

#[test]
fn a_size_in_the_catalog_saves_the_request_and_must_be_true() {
    needs!("fuse");
    let origin = Origin::start();
    origin.put("/right", Item::made(1, 12_345));
    origin.put("/wrong", Item::made(2, 12_345));
    let text = format!(
        "[downloads.right]\nurl = \"{}\"\nsize = 12345\n[downloads.wrong]\nurl = \"{}\"\nsize = 99\n",
        origin.url("/right"),
        origin.url("/wrong")
    );
    let mounted = Mounted::with().catalog("test.toml", &text).start();
    let len = |name: &str| std::fs::metadata(mounted.path(name)).expect("stat").len();
    assert_eq!((len("right"), len("wrong")), (12_345, 99));
    process::quiet("ls", ["-l".as_ref(), mounted.mnt().as_os_str()]);
    assert_eq!(origin.seen().len(), 0);

    Body::made(1, 12_345).check(&mounted.path("right")).expect("the right size");
    let error = std::fs::read(mounted.path("wrong")).expect_err("the wrong size");
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    let why = os::xattr(&mounted.path("wrong"), "user.cached_downloads.error").expect("why");
    assert!(why.contains("99") && why.contains("12345"), "{why}");
}

#[test]
fn cold_lookups_stay_fast_while_an_origin_hangs_and_names_are_invalidated() {
    needs!("fuse");
    const MOVING: u64 = 500;
    let origin = Origin::start();
    origin.put("/hangs", Item::made(1, MIB));
    origin.hold("/hangs", At::Head);
    let mut setup =
        Mounted::with().download("hangs", &origin.url("/hangs")).args(["--revalidate-window", "0"]);
    // Many, since one name moves on at most once a second.
    for n in 0..MOVING {
        setup = setup.download(&format!("moves{n}"), &origin.url(&format!("/moves{n}")));
    }
    for n in 0..1000 {
        setup = setup.download(&format!("cold{n}"), &origin.url("/cold"));
    }
    let mounted = setup.start();
    let done = AtomicBool::new(false);
    let mut times = Vec::new();
    std::thread::scope(|scope| {
        let finished = Raise(&done);
        let path = mounted.path("hangs");
        let waiter = scope.spawn(move || File::open(path));
        origin.wait_held("/hangs", 1);
        scope.spawn(|| {
            for seed in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let n = seed % MOVING;
                origin.put(&format!("/moves{n}"), Item::made(seed, 1000));
                std::fs::read(mounted.path(&format!("moves{n}"))).expect("a name that moves");
            }
        });
        for n in 0..1000 {
            // O_PATH: a lookup and nothing else.
            let path = mounted.path(&format!("cold{n}"));
            let begin = Instant::now();
            let mut options = File::options();
            std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_PATH);
            options.read(true).open(path).expect("a lookup");
            times.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        drop(finished);
        origin.release("/hangs");
        waiter.join().expect("the waiter").expect("its open");
    });
    let (middle, high) = (median(times.clone()), quantile(times, 0.99));
    figure(&format!("cold lookups beside a hanging one: p50 {middle:.3} ms, p99 {high:.3} ms"));
    assert!(middle < 1.0 && high < 5.0, "p50 {middle} ms, p99 {high} ms");
    assert_eq!(origin.requests("/cold"), 0);
}

#[test]
fn an_open_of_unknown_length_does_not_wait_for_the_end() {
    needs!("fuse");
    let origin = Origin::start();
    let body = Body::made(1, 2 * MIB);
    let mut item = Item::made(1, body.len());
    item.framing = Framing::Chunked;
    origin.put("/a", item);
    origin.hold("/a", At::Byte(MIB));
    let mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    let (mut file, took) = timed(|| File::open(mounted.path("a")).expect("open"));
    assert!(took < Duration::from_secs(1), "open after {took:?}");
    let mut first = vec![0; 100_000];
    file.read_exact(&mut first).expect("the first bytes");
    assert_eq!(body.differs(0, &first), None);
    std::thread::scope(|scope| {
        let path = mounted.path("a");
        let stat = scope.spawn(move || std::fs::metadata(path).expect("stat").len());
        std::thread::sleep(Duration::from_millis(300));
        assert!(!stat.is_finished(), "a stat waits for the true length");
        origin.release("/a");
        assert_eq!(stat.join().expect("the stat"), body.len());
    });
    body.check_rest(&mut file, 100_000).expect("the rest");
}

#[test]
fn a_body_that_ends_with_its_connection_is_not_believed() {
    needs!("fuse");
    let origin = Origin::start();
    let body = Body::made(1, MIB);
    let mut item = Item::made(1, body.len());
    item.framing = Framing::Close;
    origin.put("/a", item);
    let text = format!(
        "[downloads.a]\nurl = \"{0}\"\n[downloads.digest]\nurl = \"{0}\"\nsha256 = \"{1}\"\n",
        origin.url("/a"),
        body.sha256()
    );
    let mounted = Mounted::with().catalog("test.toml", &text).start();
    let error = body.check(&mounted.path("a")).expect_err("no end of file");
    assert!(error.starts_with("read at"), "{error}");
    body.check(&mounted.path("digest")).expect("a digest confirms the end");
}

#[test]
fn attributes_tell_what_a_name_is_without_asking() {
    needs!("fuse");
    let origin = Origin::start();
    origin.put("/a", Item::made(5, 1000));
    let url = format!("{}?token=canary", origin.url("/a"));
    let mounted = Mounted::names(&[("a", &url)]);
    let xattr =
        |name: &str| os::xattr(&mounted.path("a"), &format!("user.cached_downloads.{name}"));
    assert_eq!(xattr("url").expect("the url"), origin.url("/a"));
    assert_eq!(origin.seen().len(), 0);
    std::fs::read(mounted.path("a")).expect("read");
    mounted.wait_complete("a");
    assert_eq!(xattr("etag").expect("the etag"), "\"v5\"");
    assert_eq!(xattr("state").expect("the state"), "ready");
    xattr("version").expect("the version");
    let meta = std::fs::metadata(mounted.path("a")).expect("stat");
    assert_eq!(meta.mode() & 0o222, 0, "nobody may write");
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn fifty_openers_of_a_cold_name_share_one_get() {
    needs!("fuse");
    let origin = Origin::start();
    let body = Body::made(1, 4 * MIB);
    origin.put("/a", Item::made(1, body.len()));
    origin.hold("/a", At::Head);
    let mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| body.check(&mounted.path("a")).expect("one of fifty"));
        }
        origin.wait_held("/a", 1);
        wait_until("all fifty wait", Duration::from_secs(5), || {
            mounted.number("waiting_requests") >= 50
        });
        origin.release("/a");
    });
    assert_eq!(origin.requests("/a"), 1);
}

#[test]
fn openers_within_the_window_share_one_answer() {
    needs!("fuse");
    let origin = Origin::start();
    origin.put("/a", Item::made(1, 1000));
    let mounted = Mounted::with()
        .download("a", &origin.url("/a"))
        .args(["--revalidate-window", "2s"])
        .start();
    for _ in 0..20 {
        std::fs::read(mounted.path("a")).expect("read");
    }
    assert_eq!(origin.requests("/a"), 1);
    std::thread::sleep(Duration::from_millis(2100));
    for _ in 0..20 {
        std::fs::read(mounted.path("a")).expect("read");
    }
    assert_eq!((origin.count("/a", 200), origin.count("/a", 304)), (1, 1));
}
