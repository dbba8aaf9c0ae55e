//! The origin is gone, silent, or wrong.

use std::fs::File;
use std::time::Duration;

use crate::support::{
    Body, Item, MIB, Mounted, Origin, figure, needs, os, process, scaled, status, timed,
};

const ERROR: &str = "user.cached_downloads.error";

#[test]
fn a_stopped_origin_leaves_warm_names_readable_and_fails_cold_ones_with_a_reason() {
    needs!("fuse");
    let mut origin = Origin::start();
    let body = Body::made(1, MIB);
    origin.put("/warm", Item::made(1, MIB));
    let mut setup = Mounted::with().download("warm", &origin.url("/warm"));
    for n in 0..200 {
        setup = setup.download(&format!("cold{n}"), &origin.url(&format!("/cold{n}")));
        origin.put(&format!("/cold{n}"), Item::made(n, 1000));
    }
    let mounted = setup.start();
    body.check(&mounted.path("warm")).expect("cold");
    mounted.wait_complete("warm");
    origin.stop();
    mounted.settle();

    let (result, took) = timed(|| body.check(&mounted.path("warm")));
    result.expect("a warm name is served without its origin");
    figure(&format!("origin stopped: a warm name is open after {took:?}"));
    assert!(took < Duration::from_secs(2), "warm after {took:?}");
    assert!(mounted.number("stale_served") >= 1);

    // Past the two seconds in which the failure above is answered again without trying.
    std::thread::sleep(Duration::from_millis(2100));
    let (error, took) = timed(|| File::open(mounted.path("cold0")).expect_err("cold"));
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    figure(&format!("origin stopped: a cold name fails after {took:?}"));
    assert!(took < Duration::from_secs(10), "cold after {took:?}");
    let port = origin.addr().port().to_string();
    let why = os::xattr(&mounted.path("cold0"), ERROR).expect("the reason as an xattr");
    assert!(why.contains(&port), "{why}");
    let ls = mounted.ls();
    assert!(status::name(&ls, "cold0").to_string().contains(&port), "{ls:#}");

    std::thread::sleep(Duration::from_millis(scaled(0, 2100)));
    let (_, took) = timed(|| process::run("ls", ["-l".as_ref(), mounted.mnt().as_os_str()]));
    figure(&format!("origin stopped: ls -l of 200 cold names ends after {took:?}"));
    assert!(took < Duration::from_secs(10), "ls -l after {took:?}");

    origin.start_again();
    let before = origin.count("/warm", 304);
    crate::support::wait_until("revalidated again", Duration::from_secs(6), || {
        body.check(&mounted.path("warm")).expect("warm");
        origin.count("/warm", 304) > before
    });
    crate::support::wait_until("a cold name comes", Duration::from_secs(8), || {
        File::open(mounted.path("cold0")).is_ok()
    });
}

#[test]
fn names_of_an_origin_that_was_never_there_are_listed_soon() {
    needs!("fuse");
    let mut origin = Origin::start();
    let mut setup = Mounted::with();
    for n in 0..200 {
        setup = setup.download(&format!("cold{n}"), &origin.url(&format!("/cold{n}")));
    }
    origin.stop();
    let mounted = setup.start();
    let (listed, took) = timed(|| process::run("ls", ["-l".as_ref(), mounted.mnt().as_os_str()]));
    figure(&format!("origin never there: ls -l of 200 cold names ends after {took:?}"));
    assert!(took < Duration::from_secs(10), "ls -l after {took:?}");
    // What cannot be told of a name is said of that name.
    let said = String::from_utf8_lossy(&listed.stderr);
    let shown = String::from_utf8_lossy(&listed.stdout);
    for n in 0..200 {
        let name = format!("cold{n}");
        assert!(said.contains(&name) || shown.contains(&name), "nothing of {name}");
    }
}

#[test]
fn a_silent_origin_ends_every_open_within_its_deadline() {
    needs!("fuse");
    let origin = Origin::start();
    let body = Body::made(1, MIB);
    origin.put("/warm", Item::made(1, MIB));
    origin.put("/cold", Item::made(2, MIB));
    let mounted = Mounted::names(&[("warm", &origin.url("/warm")), ("cold", &origin.url("/cold"))]);
    body.check(&mounted.path("warm")).expect("cold");
    mounted.wait_complete("warm");
    mounted.settle();
    origin.silence(true);
    std::thread::scope(|scope| {
        let warm = scope.spawn(|| {
            let (result, took) = timed(|| body.check(&mounted.path("warm")));
            result.expect("a warm name");
            assert!(took < Duration::from_secs(31), "warm after {took:?}");
            took
        });
        let (error, took) = timed(|| File::open(mounted.path("cold")).expect_err("cold"));
        assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT), "{error}");
        assert!(took < Duration::from_secs(32), "cold after {took:?}");
        let warm = warm.join().expect("the warm name");
        figure(&format!("silent origin: warm after {warm:?}, cold ETIMEDOUT after {took:?}"));
    });
    origin.silence(false);
}

#[test]
fn a_body_that_stalls_ends_its_reader_and_no_other() {
    needs!("fuse");
    use crate::support::origin::At;
    let origin = Origin::start();
    let (stalled, fine) = (Body::made(1, 4 * MIB), Body::made(2, MIB));
    origin.put("/stalled", Item::made(1, 4 * MIB));
    origin.put("/fine", Item::made(2, MIB));
    origin.hold("/stalled", At::Byte(2 * MIB));
    let mounted =
        Mounted::names(&[("stalled", &origin.url("/stalled")), ("fine", &origin.url("/fine"))]);
    let file = File::open(mounted.path("stalled")).expect("open");
    stalled.check_at(&file, 0, MIB as usize).expect("what is there");
    fine.check(&mounted.path("fine")).expect("another name");
    let (error, took) = timed(|| stalled.check_at(&file, 3 * MIB, 10).expect_err("nothing comes"));
    assert!(took < Duration::from_secs(70), "after {took:?}: {error}");
    stalled.check_at(&file, MIB, 1000).expect("what was there still is");
    origin.release("/stalled");
}

#[test]
fn each_failure_has_its_errno() {
    needs!("fuse");
    let origin = Origin::start();
    let cases: &[(&str, u16, i32)] = &[
        ("notfound", 404, libc::ENOENT),
        ("gone", 410, libc::ENOENT),
        ("unauthorized", 401, libc::EACCES),
        ("forbidden", 403, libc::EACCES),
        ("teapot", 418, libc::EIO),
        ("unavailable", 503, libc::EIO),
    ];
    let mut setup = Mounted::with();
    for (name, code, _) in cases {
        let path = format!("/{name}");
        origin.put(&path, Item::made(1, 10));
        origin.edit(&path, |item| item.status = Some(*code));
        setup = setup.download(name, &origin.url(&path));
    }
    let mounted = setup.start();
    std::thread::scope(|scope| {
        for (name, code, errno) in cases {
            let path = mounted.path(name);
            scope.spawn(move || {
                let error = File::open(path).expect_err("a failure");
                assert_eq!(error.raw_os_error(), Some(*errno), "{name} ({code}): {error}");
            });
        }
    });
    let xattr = os::xattr(&mounted.path("unavailable"), ERROR).expect("the reason");
    assert!(xattr.contains("503"), "{xattr}");
}

#[test]
fn a_body_that_is_cut_is_never_taken_for_whole() {
    needs!("fuse");
    use crate::support::Framing;
    let origin = Origin::start();
    let body = Body::made(1, MIB);
    let mut setup = Mounted::with();
    for (name, framing) in [("length", Framing::Length), ("chunked", Framing::Chunked)] {
        let path = format!("/{name}");
        let mut item = Item::made(1, MIB);
        item.framing = framing;
        item.cut_at = Some(MIB / 2);
        origin.put(&path, item);
        setup = setup.download(name, &origin.url(&path));
    }
    let mounted = setup.start();
    for name in ["length", "chunked"] {
        let error = body.check(&mounted.path(name)).expect_err("a cut body");
        assert!(!error.contains("ends at"), "{name}: no end of file, an error: {error}");
        assert_ne!(mounted.state(name), "ready");
        origin.edit(&format!("/{name}"), |item| item.cut_at = None);
    }
    for name in ["length", "chunked"] {
        crate::support::wait_until("it comes whole", Duration::from_secs(8), || {
            body.check(&mounted.path(name)).is_ok()
        });
    }
}

#[test]
fn a_wrong_digest_is_never_served() {
    needs!("fuse");
    let origin = Origin::start();
    let body = Body::made(1, MIB);
    origin.put("/a", Item::made(1, MIB));
    let url = origin.url("/a");
    let (good, bad) = (body.sha256(), Body::made(2, MIB).sha256());
    let mounted = Mounted::with()
        .catalog(
            "test.toml",
            &format!(
                "[downloads.good]\nurl = \"{url}\"\nsha256 = \"{good}\"\n\
                 [downloads.bad]\nurl = \"{url}\"\nsha256 = \"{bad}\"\n"
            ),
        )
        .start();
    body.check(&mounted.path("good")).expect("the right digest");
    let error = body.check(&mounted.path("bad")).expect_err("another digest");
    assert!(error.starts_with("open:"), "strict: not one byte: {error}");
    let why = os::xattr(&mounted.path("bad"), ERROR).expect("the reason");
    assert!(why.contains(&bad) || why.contains("digest") || why.contains("sha256"), "{why}");
    mounted.wait_complete("good");
    mounted.settle();
    let before = origin.requests("/a");
    body.check(&mounted.path("good")).expect("again");
    assert_eq!(origin.requests("/a"), before, "a name with a digest needs no question");
}
