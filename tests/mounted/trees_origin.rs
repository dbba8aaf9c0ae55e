//! Trees from origins that serve no ranges, lie about lengths, or change between two requests.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::dice::Dice;
use crate::support::origin::{Fault, Place, When};
use crate::support::tar_bytes::{Block, tar};
use crate::support::zip_bytes::{Member, Zip, filter};
use crate::support::{
    Body, Item, Mounted, Origin, Proc, figure, needs, scaled, soak, timed, wait_until,
};

const COUNT: u64 = 40;
const EACH: usize = 40_000;

/// Returns the archive of a version: every file of it says which one it is of.
fn archive(format: &str, version: u64) -> Vec<u8> {
    let files = (0..COUNT).map(|n| (format!("d/f{n}"), content(version, n)));
    match format {
        "zip" => Zip::of(files.map(|(name, bytes)| Member::deflated(name, bytes))).bytes(),
        _ => {
            let blocks: Vec<Block> = files.map(|(name, bytes)| Block::file(name, bytes)).collect();
            filter("gzip", &["-1nc"], &tar(&blocks))
        }
    }
}

fn content(version: u64, n: u64) -> Vec<u8> {
    let begin = format!("version {version} file {n}\n").into_bytes();
    [begin, Dice::branch(version, n).bytes(EACH, true)].concat()
}

fn item(format: &str, version: u64) -> Item {
    let etag = Some(format!("\"v{version}\""));
    Item { etag, ranges: true, ..Item::new(Body::given(archive(format, version))) }
}

fn mount(origin: &Origin) -> Mounted {
    let url = origin.url("/a");
    let catalog = format!("[downloads.a]\nurl = \"{url}\"\nas = \"directory\"\n");
    Mounted::with().catalog("trees.toml", &catalog).start()
}

/// Stands in a tree, by a directory that is open; returns also the way through that.
fn stand_in(root: &Path) -> (File, PathBuf) {
    let inside = File::open(root).expect("open the root of the tree");
    let through = Path::new("/proc/self/fd").join(inside.as_raw_fd().to_string());
    (inside, through)
}

/// What reading a file gave: the version that all its bytes are of, or an errno.
fn read(root: &Path, n: u64) -> Result<u64, i32> {
    let bytes = std::fs::read(root.join(format!("d/f{n}")))
        .map_err(|error| error.raw_os_error().expect("an error of the system"))?;
    let version = (1..=2).find(|version| bytes == content(*version, n));
    Ok(version.unwrap_or_else(|| panic!("file {n} is of no version, or of two")))
}

/// Reads all files; returns how many were of which version or failed with which errno.
fn read_all(root: &Path) -> BTreeMap<Result<u64, i32>, u64> {
    let mut results = BTreeMap::new();
    for n in 0..COUNT {
        *results.entry(read(root, n)).or_insert(0) += 1;
    }
    results
}

fn only(version: u64) -> BTreeMap<Result<u64, i32>, u64> {
    BTreeMap::from([(Ok(version), COUNT)])
}

#[test]
fn without_ranges_the_stream_brings_the_tree() {
    needs!("fuse", "gzip");
    for format in ["zip", "tar.gz"] {
        let origin = Origin::start();
        origin.put("/a", Item { ranges: false, ..item(format, 1) });
        let mounted = mount(&origin);
        assert_eq!(read_all(&mounted.path("a")), only(1), "{format}");
        assert_eq!(origin.count("/a", 200), 1, "{format}: one stream");
    }
}

#[test]
fn without_a_tag_the_tree_is_right() {
    needs!("fuse", "gzip");
    for format in ["zip", "tar.gz"] {
        let origin = Origin::start();
        origin.put("/a", Item { etag: None, ..item(format, 1) });
        let mounted = mount(&origin);
        assert_eq!(read_all(&mounted.path("a")), only(1), "{format}");
    }
}

#[test]
fn an_origin_that_answers_ranges_with_the_whole_is_right() {
    needs!("fuse", "gzip");
    for format in ["zip", "tar.gz"] {
        let origin = Origin::start();
        origin.put("/a", item(format, 1).strike(When::Part, Fault::Whole, 1000));
        let mounted = mount(&origin);
        assert_eq!(read_all(&mounted.path("a")), only(1), "{format}");
    }
}

/// What an origin lies about at every request of a kind.
const LIES: &[(&str, When, Fault)] = &[
    ("announces more", When::Plain, Fault::TooLong(1000)),
    ("announces less", When::Plain, Fault::TooShort(1000)),
    ("announces more of a part", When::Part, Fault::TooLong(1000)),
    ("announces less of a part", When::Part, Fault::TooShort(1000)),
    ("another length of the whole", When::Part, Fault::Partial(Place::Complete)),
    ("another first byte", When::Part, Fault::Partial(Place::First)),
    ("other bytes under the same tag", When::Part, Fault::Lie),
    ("coded", When::Part, Fault::Coded),
];

#[test]
fn lying_lengths_and_parts_give_the_truth_or_eio() {
    needs!("fuse", "gzip");
    for format in ["zip", "tar.gz"] {
        for (name, when, fault) in LIES {
            for times in [1, 1000] {
                let origin = Origin::start();
                origin.put("/a", item(format, 1).strike(*when, fault.clone(), times));
                let mounted = mount(&origin);
                let (results, time) = timed(|| read_all(&mounted.path("a")));
                let right = results.get(&Ok(1)).copied().unwrap_or(0);
                let failed: u64 = results
                    .iter()
                    .filter(|(result, _)| **result == Err(libc::EIO))
                    .map(|(_, n)| n)
                    .sum();
                figure(&format!(
                    "{format}, {name}, {times} times: {right} right, {failed} EIO, {time:?}"
                ));
                assert_eq!(right + failed, COUNT, "{format}, {name}, {times} times: {results:?}");
                assert!(time < Duration::from_secs(60), "{format}, {name}: {time:?}");
                // A failure is remembered for a second. What came under the right tag is believed
                // for as long as that tag is the origin's.
                if times == 1 && !matches!(fault, Fault::Lie) {
                    mounted.settle();
                    assert_eq!(read_all(&mounted.path("a")), only(1), "{format}, {name}: later");
                }
            }
        }
    }
}

#[test]
fn a_tag_that_changes_between_two_ranges_never_mixes_versions() {
    needs!("fuse", "gzip");
    for format in ["zip", "tar.gz"] {
        // The archive is replaced at its second request, at the third, and so on.
        for nth in scaled(vec![1, 2, 4], vec![1, 2, 3, 4, 5, 6]) {
            let origin = Origin::start();
            let old = Item { next: Some(Box::new(item(format, 2))), ..item(format, 1) };
            // Slow, so that readers ask for parts although all is to come.
            let old = Item { rate: Some(8 << 20), ..old };
            origin.put("/a", old.strike(When::Nth(nth), Fault::Replaced, 1));
            let mounted = mount(&origin);
            let root = mounted.path("a");
            // A walker, and somebody who stands in the tree that it began with.
            let results = read_all(&root);
            for result in results.keys() {
                let known = matches!(result, Ok(1 | 2) | Err(libc::EIO));
                assert!(known, "{format}, replaced at request {nth}: {results:?}");
            }
            // A zip takes some four requests or more, a tar one or two.
            let struck = origin.item("/a").etag.as_deref() == Some("\"v2\"");
            assert!(struck || format != "zip" || nth > 4, "{format}: request {nth} was never made");
            mounted.settle();
            assert!(matches!(read(&root, 0), Ok(1 | 2)), "{format}: one of them in the end");
            mounted.settle();
            let later = read_all(&root);
            let current = if origin.item("/a").etag.as_deref() == Some("\"v2\"") { 2 } else { 1 };
            assert_eq!(later, only(current), "{format}, replaced at request {nth}: later");
        }
    }
}

#[test]
fn who_stands_in_a_tree_whose_archive_is_replaced_reads_one_version() {
    needs!("fuse");
    let origin = Origin::start();
    origin.put("/a", item("zip", 1));
    let mounted = mount(&origin);
    let root = mounted.path("a");
    assert_eq!(read(&root, 0), Ok(1));
    let (_inside, through) = stand_in(&root);
    origin.put("/a", item("zip", 2));
    mounted.settle();
    assert_eq!(read_all(&root), only(2), "the path moves on");
    // What had come of the old one can be read; the rest is gone at the origin.
    assert_eq!(read(&through, 0), Ok(1), "what was there");
    for n in 1..COUNT {
        let result = read(&through, n);
        assert!(matches!(result, Ok(1) | Err(libc::EIO)), "file {n}: {result:?}");
    }
}

/// The condition is not understood, and another archive of the same length comes under the same tag.
#[test]
fn who_stands_in_a_tree_reads_nothing_of_another_under_its_tag() {
    needs!("fuse");
    let origin = Origin::start();
    let (one, two) = (item("zip", 1), item("zip", 2));
    assert_eq!(one.body.len(), two.body.len());
    let etag = one.etag.clone();
    origin.put("/a", one);
    let mounted = mount(&origin);
    let root = mounted.path("a");
    assert_eq!(read(&root, 0), Ok(1));
    let (_inside, through) = stand_in(&root);
    let file = File::open(root.join("d/f1")).expect("open a file of it");
    origin.put("/a", Item { etag, ..two }.strike(When::Conditional, Fault::Whole, usize::MAX));
    mounted.settle();
    assert_eq!(read_all(&root), only(2), "the path moves on");
    wait_until("the lie is counted", Duration::from_secs(10), || mounted.number("lied") == 1);
    for round in 0..2 {
        let results: Vec<_> = (0..COUNT).map(|n| read(&through, n)).collect();
        let right = |result: &Result<u64, i32>| {
            matches!(result, Ok(1) | Err(libc::EIO | libc::ESTALE | libc::ENOENT))
        };
        assert!(results.iter().all(right), "round {round}: {results:?}");
        assert!(results.contains(&Err(libc::EIO)), "round {round}: {results:?}");
    }
    let mut all = Vec::new();
    if std::io::Read::read_to_end(&mut &file, &mut all).is_ok() {
        assert!(all == content(1, 1));
    }
}

/// What came of it is no archive, and has not the digest: who looks again is shown the archive.
#[test]
fn a_beginning_that_was_wrong_is_told_by_the_digest() {
    needs!("fuse");
    let origin = Origin::start();
    let item = item("zip", 1);
    let (url, sha256) = (origin.url("/a"), item.body.sha256());
    origin.put("/a", item.strike(When::Nth(0), Fault::Lie, 1));
    let catalog = format!(
        "[downloads.a]\nurl = \"{url}\"\nas = \"directory\"\nsha256 = \"{sha256}\"\nintegrity = \"eventual\"\n"
    );
    let mounted = Mounted::with().catalog("trees.toml", &catalog).start();
    let root = mounted.path("a");
    assert_eq!(read(&root, 0), Err(libc::EIO), "the beginning is of something else");
    wait_until("the archive", Duration::from_secs(15), || read(&root, 0) == Ok(1));
    assert_eq!(read_all(&root), only(1));
}

/// Ranges under another tag than the whole: what one answer brings is of one version.
#[test]
fn an_origin_whose_ranges_have_another_tag_each_time_is_asked_for_the_whole() {
    needs!("fuse");
    let origin = Origin::start();
    let other = Fault::PartialOf("\"other\"");
    let odd = [0, 2]
        .into_iter()
        .fold(item("zip", 1), |item, n| item.strike(When::Nth(n), other.clone(), 1));
    origin.put("/a", odd);
    let mounted = mount(&origin);
    let root = mounted.path("a");
    wait_until("the archive", Duration::from_secs(15), || read(&root, 0) == Ok(1));
    assert_eq!(read_all(&root), only(1));
}

#[test]
fn a_tree_that_stalls_holds_up_its_own_readers_alone() {
    needs!("fuse", "gzip");
    let origin = Origin::start();
    // The first brings the beginning, the second some more, and no other anything.
    let stalls = item("tar.gz", 1).strike(When::Nth(1), Fault::Stall(150_000), 1);
    let stalls = (2..100).fold(stalls, |item, n| item.strike(When::Nth(n), Fault::Silent, 1));
    origin.put("/a", stalls);
    origin.put("/b", item("zip", 1));
    let (a, b) = (origin.url("/a"), origin.url("/b"));
    let catalog = format!(
        "[downloads.a]\nurl = \"{a}\"\nas = \"directory\"\n[downloads.b]\nurl = \"{b}\"\nas = \"directory\"\n"
    );
    let mounted = Mounted::with().catalog("trees.toml", &catalog).start();
    let last = COUNT - 1;
    let begin = Instant::now();
    let mut stalled = Proc::cat(&mounted.path("a").join(format!("d/f{last}")));
    // The second question is for the rest, or, where the reader is faster, for some of it alone.
    wait_until("some of it came", Duration::from_secs(5), || origin.sent("/a") >= 100_000);
    assert_eq!(read(&mounted.path("a"), 0), Ok(1), "what has passed is readable");
    assert_eq!(read_all(&mounted.path("b")), only(1), "another name");
    stalled.wait_blocked();
    if soak() {
        // Where nobody ends it, the deadline does: 30 s without a byte.
        let status = stalled.wait(Duration::from_secs(40)).expect("the reader ends");
        assert!(!status.success());
        figure(&format!("a tree that stalls: ended after {:?}", begin.elapsed()));
    } else {
        stalled.signal(libc::SIGTERM);
        assert!(stalled.wait(Duration::from_millis(500)).is_some(), "ended by a signal");
    }
}
