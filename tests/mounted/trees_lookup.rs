//! Which version of an archive a path leads to, and when that is asked about.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::guards::{Bind, Place};
use crate::support::origin::At;
use crate::support::parcel::{self, Parcel};
use crate::support::{
    Body, Item, Mounted, Origin, Proc, Raise, figure, needs, process, scaled, timed, wait_until,
};

const WALKERS: usize = 8;

/// Returns an archive every file of which says which version it is of.
pub(crate) fn versioned(number: u64) -> Item {
    let text = number.to_string();
    let zip = Parcel::new()
        .file("version", &text)
        .file("deep/er/version", &text)
        .file("bin/detect", format!("#!/bin/sh\necho {number}\n"))
        .link("link", "deep/er/version");
    let body = Body::given(zip.pack());
    Item { etag: Some(format!("\"v{number}\"")), ranges: true, ..Item::new(body) }
}

/// Binds a name to an archive that is shown as a directory.
pub(crate) fn tree(name: &str, url: &str) -> String {
    format!("[downloads.\"{name}\"]\nurl = \"{url}\"\nas = \"directory\"\n")
}

/// Reads the number in a file.
pub(crate) fn number(path: &Path) -> u64 {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim().parse().unwrap_or_else(|_| panic!("{}: no number: {text:?}", path.display()))
}

/// Returns how many requests the daemon has read so far, as its reads of all kinds.
pub(crate) fn reads(mounted: &Mounted) -> u64 {
    let path = format!("/proc/{}/io", mounted.pid());
    let text = std::fs::read_to_string(path).expect("what the daemon has read");
    let line = text.lines().find_map(|line| line.strip_prefix("syscr: "));
    line.and_then(|count| count.parse().ok()).expect("a count of reads")
}

/// A program that reads a number by a relative path from where it stands, again and again.
struct Stander {
    proc: Proc,
    said: std::path::PathBuf,
}

impl Stander {
    fn new(dir: &Path, path: &str, said: std::path::PathBuf) -> Stander {
        let out = std::fs::File::create(&said).expect("make a file for what is said");
        let mut shell = process::command("sh");
        let script = "while cat \"$1\"; do echo; sleep 0.05; done";
        shell.args(["-c", script, "sh", path]).current_dir(dir);
        shell.stderr(out.try_clone().expect("one file")).stdout(out);
        Stander { proc: Proc::start(&mut shell), said }
    }

    /// Ends it; it has always read the same number.
    fn end(mut self, expected: u64) {
        assert!(!self.proc.ended(), "it met an error: {}", self.text());
        self.proc.signal(libc::SIGKILL);
        self.proc.wait(Duration::from_secs(1)).expect("it dies");
        let text = self.text();
        // The last line may be cut.
        let mut lines: Vec<_> = text.lines().collect();
        lines.pop();
        assert!(lines.len() > 3, "it read too little: {text}");
        let expected = expected.to_string();
        assert!(lines.iter().all(|line| *line == expected), "other than {expected}: {text}");
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap_or_default()
    }
}

/// Returns what /proc says of those threads that are in state D.
fn uninterruptible(threads: &Threads) -> Vec<String> {
    let threads = threads.lock().expect("no panic");
    let stats = threads.iter().filter_map(|thread| {
        std::fs::read_to_string(Path::new("/proc").join(thread).join("stat")).ok()
    });
    stats
        .filter(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('D')))
        .collect()
}

/// Threads of a test, as /proc names them: others of the process belong to other tests.
type Threads = Mutex<Vec<PathBuf>>;

fn enlist(threads: &Threads) {
    let me = std::fs::read_link("/proc/thread-self").expect("/proc");
    threads.lock().expect("no panic").push(me);
}

#[test]
fn walkers_move_on_and_holders_stay_while_the_archive_changes_as_fast_as_it_can() {
    needs!("fuse", "root");
    walkers_move_on_and_holders_stay(&[]);
}

#[test]
fn so_they_do_where_opens_are_not_told() {
    needs!("fuse", "root");
    walkers_move_on_and_holders_stay(&["--directories-only"]);
}

fn walkers_move_on_and_holders_stay(args: &[&str]) {
    let origin = Origin::start();
    origin.put("/a", versioned(1));
    let text = tree("a", &origin.url("/a"));
    let setup = Mounted::with().catalog("test.toml", &text).args(["--revalidate-window", "0"]);
    let mounted = setup.args(args.iter().copied()).start();
    let root = mounted.path("a");
    assert_eq!(number(&root.join("version")), 1);
    let bind = Bind::new(&root, mounted.scratch(), "bound");
    let place = Place::new(&root);
    let standers = [("root", "."), ("deeper", "deep/er")]
        .map(|(said, dir)| Stander::new(&root.join(dir), "version", mounted.scratch().join(said)));
    let done = AtomicBool::new(false);
    let (walks, moves) = (AtomicU64::new(0), AtomicU64::new(0));
    let threads = Threads::default();
    enlist(&threads);
    let length = Duration::from_secs(scaled(10, 60));
    let mut changes = 1;
    std::thread::scope(|scope| {
        let finished = Raise(&done);
        for walker in 0..WALKERS {
            let (root, done, walks, moves) = (&root, &done, &walks, &moves);
            let threads = &threads;
            let file = ["version", "deep/er/version", "link"][walker % 3];
            scope.spawn(move || {
                enlist(threads);
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let seen = number(&root.join(file));
                    assert!(seen >= last, "{file}: went back from {last} to {seen}");
                    moves.fetch_add(u64::from(seen > last), Ordering::Relaxed);
                    walks.fetch_add(1, Ordering::Relaxed);
                    last = seen;
                }
            });
        }
        scope.spawn(|| {
            let mut stuck = 0;
            while !done.load(Ordering::Relaxed) {
                let found = uninterruptible(&threads);
                stuck = if found.is_empty() { 0 } else { stuck + 1 };
                assert!(stuck < 20, "in state D for two seconds: {found:?}");
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let begin = Instant::now();
        while begin.elapsed() < length {
            changes += 1;
            origin.put("/a", versioned(changes));
            for held in [bind.path().join("version"), place.path().join("deep/er/version")] {
                assert_eq!(number(&held), 1, "{}", held.display());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(finished);
    });
    for stander in standers {
        stander.end(1);
    }
    let (walks, moves) = (walks.into_inner(), moves.into_inner());
    figure(&format!(
        "{changes} changes: {walks} walks by {WALKERS} walkers moved on {moves} times; {} requests to the origin",
        origin.requests("/a")
    ));
    assert!(walks > 1000, "only {walks} walks");
    assert!(moves > WALKERS as u64 * length.as_secs() / 3, "they moved on {moves} times only");
    wait_until("the path shows the last version", Duration::from_secs(5), || {
        number(&root.join("version")) == changes
    });
}

#[test]
fn walkers_share_one_revalidation_for_each_window() {
    needs!("fuse");
    let origin = Origin::start();
    origin.put("/a", versioned(1));
    let mounted = Mounted::with().catalog("test.toml", &tree("a", &origin.url("/a"))).start();
    let path = mounted.path("a").join("version");
    assert_eq!(number(&path), 1);
    let before = origin.count("/a", 304);
    let length = Duration::from_secs(5);
    std::thread::scope(|scope| {
        for _ in 0..WALKERS {
            scope.spawn(|| {
                let begin = Instant::now();
                while begin.elapsed() < length {
                    assert_eq!(number(&path), 1);
                }
            });
        }
    });
    let asked = origin.count("/a", 304) - before;
    assert!((3..=6).contains(&asked), "asked {asked} times in five windows of a second");
}

#[test]
fn known_and_missing_members_are_no_requests() {
    needs!("fuse");
    const MEMBERS: usize = 2000;
    let mut zip = Parcel::new();
    for member in 0..MEMBERS {
        zip = zip.file(&format!("d{}/file{member}", member % 40), "x");
    }
    let origin = Origin::start();
    let item = Item { etag: Some("\"1\"".into()), ..Item::new(Body::given(zip.pack())) };
    origin.put("/a", item);
    let mounted = Mounted::with()
        .catalog("test.toml", &tree("a", &origin.url("/a")))
        .args(["--revalidate-window", "60s"])
        .start();
    let root = mounted.path("a");
    let pass = || {
        for member in 0..MEMBERS {
            let path = root.join(format!("d{}/file{member}", member % 40));
            assert_eq!(path.symlink_metadata().expect("a member").len(), 1);
            let missing = root.join(format!("d{}/none{member}", member % 40));
            let error = missing.symlink_metadata().expect_err("no member");
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        }
        for dir in 0..40 {
            let lines = std::fs::read_dir(root.join(format!("d{dir}"))).expect("a directory");
            assert_eq!(lines.count(), MEMBERS / 40);
        }
    };
    let begin = reads(&mounted);
    pass();
    let first = reads(&mounted) - begin;
    pass();
    let second = reads(&mounted) - begin - first;
    figure(&format!("{first} reads of the daemon for {MEMBERS} members at first, then {second}"));
    assert!(first >= 2 * MEMBERS as u64, "they were not asked about at first: {first}");
    assert!(second < 50, "{second} requests for what is known");
    assert_eq!(origin.count("/a", 200) + origin.count("/a", 206), origin.requests("/a"));
}

#[test]
fn a_silent_origin_holds_no_lookup_up_that_is_told_to_end() {
    needs!("fuse");
    let origin = Origin::start();
    origin.put("/a", versioned(1));
    let mounted = Mounted::with().catalog("test.toml", &tree("a", &origin.url("/a"))).start();
    let path = mounted.path("a").join("version");
    assert_eq!(number(&path), 1);
    mounted.settle();
    origin.hold("/a", At::Head);
    let mut waiters: Vec<Proc> = (0..5).map(|_| Proc::cat(&path)).collect();
    origin.wait_held("/a", 1);
    for waiter in &mut waiters {
        waiter.wait_blocked();
    }
    std::thread::sleep(Duration::from_millis(300));
    let told = Instant::now();
    for waiter in &waiters {
        waiter.signal(libc::SIGINT);
    }
    for waiter in &mut waiters {
        let left = Duration::from_millis(500).saturating_sub(told.elapsed());
        assert!(waiter.wait(left).is_some(), "still there: {:?}", process::state(waiter.pid()));
    }
    // Who goes on waiting gets the version at hand once the origin is given up.
    let (seen, took) = timed(|| number(&path));
    assert_eq!(seen, 1);
    assert!(took < Duration::from_secs(20), "it waited {took:?}");
    figure(&format!("the version at hand came after {took:.1?}"));
    origin.release("/a");
}

#[test]
fn a_lookup_in_an_archive_that_still_arrives_waits_and_dies_when_told_to() {
    needs!("fuse");
    let origin = Origin::start();
    let tar = parcel::tar(&[("first", b"1"), ("second", &[7; 1 << 20]), ("third", b"3")]);
    let item = Item { etag: Some("\"1\"".into()), ..Item::new(Body::given(tar)) };
    origin.put("/a", item);
    origin.hold("/a", At::Byte(4096));
    let mounted = Mounted::with().catalog("test.toml", &tree("a", &origin.url("/a"))).start();
    let root = mounted.path("a");
    assert_eq!(std::fs::read(root.join("first")).expect("what has come"), b"1");
    let mut waiters = ["third", "none"].map(|name| Proc::cat(&root.join(name)));
    for waiter in &mut waiters {
        waiter.wait_blocked();
    }
    std::thread::sleep(Duration::from_millis(300));
    let told = Instant::now();
    waiters[0].signal(libc::SIGKILL);
    let left = Duration::from_millis(500).saturating_sub(told.elapsed());
    assert!(waiters[0].wait(left).is_some(), "{:?}", process::state(waiters[0].pid()));
    assert_eq!(std::fs::read(root.join("first")).expect("what has come"), b"1");
    origin.release("/a");
    let status = waiters[1].wait(Duration::from_secs(10)).expect("it ends");
    assert!(!status.success(), "a missing name was found");
    assert_eq!(std::fs::read(root.join("third")).expect("what came last"), b"3");
}

#[test]
fn the_listing_of_all_names_follows_the_catalogs() {
    needs!("fuse");
    let origin = Origin::start();
    origin.put("/a", versioned(1));
    let url = origin.url("/a");
    let mounted = Mounted::with().catalog("one.toml", &tree("a", &url)).start();
    let names = || {
        let lines = std::fs::read_dir(mounted.mnt()).expect("the directory of all names");
        let mut names: Vec<_> =
            lines.map(|line| line.expect("a name").file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["a"]);
    let limit = Duration::from_secs(3);
    for round in 0..5 {
        mounted.catalog("two.toml", &tree("b", &url));
        wait_until("a name that came is listed", limit, || names() == ["a", "b"]);
        mounted.catalog("two.toml", "[downloads]\n");
        wait_until("a name that went is listed no more", limit, || names() == ["a"]);
        assert!(!mounted.path("b").exists(), "round {round}");
    }
}

#[test]
fn a_name_that_changes_its_form_or_its_source_leaves_its_holders_alone() {
    needs!("fuse", "root");
    let origin = Origin::start();
    origin.put("/a", versioned(1));
    origin.put("/b", versioned(2));
    let (one, two) = (origin.url("/a"), origin.url("/b"));
    let mounted = Mounted::with().catalog("test.toml", &tree("a", &one)).start();
    let root = mounted.path("a");
    assert_eq!(number(&root.join("version")), 1);
    let bind = Bind::new(&root, mounted.scratch(), "bound");
    let limit = Duration::from_secs(5);

    mounted.catalog("test.toml", &format!("[downloads.a]\nurl = \"{one}\"\n"));
    wait_until("the name is a file", limit, || root.is_file());
    versioned(1).body.check(&root).expect("the archive itself");
    assert_eq!(number(&bind.path().join("deep/er/version")), 1);

    mounted.catalog("test.toml", &tree("a", &two));
    wait_until("the name is a directory", limit, || root.is_dir());
    assert_eq!(number(&root.join("version")), 2);
    assert_eq!(number(&bind.path().join("link")), 1);

    mounted.catalog("test.toml", &tree("a", &one));
    wait_until("the name shows the first source", limit, || number(&root.join("version")) == 1);
    mounted.catalog("test.toml", "[downloads]\n");
    wait_until("the name is gone", limit, || !root.exists());
    assert_eq!(number(&bind.path().join("version")), 1);
}

/// As a shell asks before it runs a script, and `find -executable`.
#[test]
fn access_follows_the_modes_of_the_archive_for_root_too() {
    needs!("fuse");
    let origin = Origin::start();
    let zip = Parcel::new().file("bin/detect", "#!/bin/sh\n").plain("bin/data", "data").pack();
    let tag = Some("\"a\"".to_owned());
    origin.put("/a", Item { etag: tag, ranges: true, ..Item::new(Body::given(zip)) });
    let catalog =
        format!("{}[downloads.f]\nurl = \"{}\"\n", tree("a", &origin.url("/a")), origin.url("/a"));
    for options in [&[][..], &["--no-passthrough"]] {
        let mounted =
            Mounted::with().args(options.iter().copied()).catalog("trees.toml", &catalog).start();
        let granted = |path: &str, mode: &str| {
            let mut shell = process::command("sh");
            shell.args(["-c", "test \"$1\" \"$2\"", "sh", mode]).arg(mounted.path(path));
            shell.status().expect("run a shell").success()
        };
        for (path, executable) in [
            ("a", true),
            ("a/bin", true),
            ("a/bin/detect", true),
            ("a/bin/data", false),
            ("f", true),
        ] {
            assert!(granted(path, "-r") && granted(path, "-e"), "{path}");
            assert_eq!(granted(path, "-x"), executable, "{path}");
            assert!(!granted(path, "-w"), "{path}");
        }
        let mut find = process::command("find");
        find.arg(mounted.path("a")).args(["-type", "f", "-executable", "-printf", "%P"]);
        assert_eq!(find.output().expect("run find").stdout, b"bin/detect");
        let long = mounted.path("a").join("n".repeat(256));
        let error = std::fs::metadata(long).expect_err("no such name");
        assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
    }
}
