//! Archives made to do harm: each is refused or shown as documented, soon and in little memory, and
//! nobody else notices.

mod cut;
mod packed;
mod tars;
mod zips;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::zip_bytes::{Member, Zip};
use crate::support::{Body, Item, Mounted, Origin, figure, needs, os, process};

/// An archive and what becomes of it.
#[derive(Clone)]
struct Case {
    name: String,
    bytes: Vec<u8>,
    expect: Expect,
}

#[derive(Clone)]
enum Expect {
    /// A listing fails with EIO, and the reason that is told has these words.
    Refused(&'static str),
    /// It shows exactly these, by path.
    Shows(BTreeMap<Vec<u8>, Node>),
}

/// What a path shows.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Directory,
    /// Its bytes, and whether it may be executed.
    File(Vec<u8>, bool),
    Link(Vec<u8>),
    /// It is listed, and cannot be read.
    Fails(i32),
    /// A symbolic link that is listed, and whose target cannot be read.
    BadLink(i32),
}

const DIR: Node = Node::Directory;

fn file(bytes: &str) -> Node {
    Node::File(bytes.into(), false)
}

fn runs(bytes: &str) -> Node {
    Node::File(bytes.into(), true)
}

fn link(target: &str) -> Node {
    Node::Link(target.into())
}

fn fails(errno: i32) -> Node {
    Node::Fails(errno)
}

fn refused(words: &'static str) -> Expect {
    Expect::Refused(words)
}

fn shows<'a>(nodes: impl IntoIterator<Item = (&'a str, Node)>) -> Expect {
    let nodes = nodes.into_iter().map(|(path, node)| (path.as_bytes().to_vec(), node));
    Expect::Shows(nodes.collect())
}

fn shows_bytes(nodes: Vec<(Vec<u8>, Node)>) -> Expect {
    Expect::Shows(nodes.into_iter().collect())
}

impl Case {
    fn new(name: &str, bytes: Vec<u8>, expect: Expect) -> Case {
        Case { name: name.to_owned(), bytes, expect }
    }
}

/// A zip that is nothing special.
fn small_zip() -> Vec<u8> {
    Zip::of([Member::deflated("bin/detect", "#!/bin/sh\n"), Member::stored("VERSION", "1\n")])
        .bytes()
}

fn small_zip_shows() -> Expect {
    shows([("bin", DIR), ("bin/detect", file("#!/bin/sh\n")), ("VERSION", file("1\n"))])
}

/// What the operator allows here; less than the defaults, so that small archives reach it.
const LIMITS: &str = "[archives]\nmembers = 3000\nindex = \"512KiB\"\n";

/// Lists a directory and reads all that lies in it.
fn look(dir: &Path) -> std::io::Result<BTreeMap<Vec<u8>, Node>> {
    let mut found = BTreeMap::new();
    look_into(dir, &mut Vec::new(), &mut found)?;
    Ok(found)
}

fn look_into(
    dir: &Path,
    at: &mut Vec<u8>,
    found: &mut BTreeMap<Vec<u8>, Node>,
) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let (path, length) = (entry.path(), at.len());
        let meta = path.symlink_metadata()?;
        let mode = meta.mode() & 0o7777;
        let wrong = |what: &str| std::io::Error::other(format!("{path:?}: {what}"));
        if meta.uid() != 0 || meta.gid() != 0 {
            return Err(wrong("belongs to somebody"));
        }
        if !at.is_empty() {
            at.push(b'/');
        }
        at.extend_from_slice(entry.file_name().as_bytes());
        let node = if meta.is_dir() {
            look_into(&path, at, found)?;
            Node::Directory
        } else if meta.is_symlink() {
            match path.read_link() {
                Ok(target) => Node::Link(target.as_os_str().as_bytes().to_vec()),
                Err(error) => Node::BadLink(error.raw_os_error().unwrap_or(0)),
            }
        } else {
            match std::fs::read(&path) {
                Ok(bytes) => Node::File(bytes, mode == 0o555),
                Err(error) => Node::Fails(error.raw_os_error().unwrap_or(0)),
            }
        };
        let modes: &[u32] = match node {
            Node::Directory => &[0o555],
            Node::Link(_) | Node::BadLink(_) => &[0o777],
            _ => &[0o444, 0o555],
        };
        if !modes.contains(&mode) {
            return Err(wrong(&format!("has mode {mode:o}")));
        }
        found.insert(at.clone(), node);
        at.truncate(length);
    }
    Ok(())
}

/// Says what is wrong about what a name shows.
fn judge(path: &Path, expect: &Expect) -> Result<(), String> {
    match (expect, look(path)) {
        (Expect::Refused(words), Err(error)) if error.raw_os_error() == Some(libc::EIO) => {
            let told = os::xattr(path, "user.cached_downloads.error")
                .map_err(|error| format!("refused, and no reason is told: {error}"))?;
            if told.contains(words) {
                return Ok(());
            }
            Err(format!("refused, but for {told:?}; expected {words:?}"))
        }
        (Expect::Refused(words), Err(error)) => {
            Err(format!("{error} instead of EIO, for {words:?}"))
        }
        (Expect::Refused(words), Ok(found)) => {
            Err(format!("shows {}, should be refused for {words:?}", brief(&found)))
        }
        (Expect::Shows(_), Err(error)) => {
            let told = os::xattr(path, "user.cached_downloads.error").unwrap_or_default();
            Err(format!("{error} ({told}), should be shown"))
        }
        (Expect::Shows(nodes), Ok(found)) if *nodes == found => Ok(()),
        (Expect::Shows(nodes), Ok(found)) => {
            Err(format!("shows {}, not {}", brief(&found), brief(nodes)))
        }
    }
}

fn brief(nodes: &BTreeMap<Vec<u8>, Node>) -> String {
    let nodes = nodes.iter().take(8).map(|(path, node)| {
        let node = format!("{node:?}");
        let node: String = node.chars().take(60).collect();
        format!("{:?} {node}", OsStr::from_bytes(path))
    });
    format!("{{{}}}", nodes.collect::<Vec<_>>().join(", "))
}

/// A mount with every case as a name, and one archive that is sound.
struct Harm {
    mounted: Mounted,
    _origin: Origin,
}

impl Harm {
    /// The name of the sound one.
    const SOUND: &str = "sound";

    fn new(cases: &[Case]) -> Harm {
        let origin = Origin::start();
        let mut catalog = String::new();
        let mut bind = |name: &str, bytes: &[u8]| {
            let path = format!("/{name}");
            let etag = Some(format!("\"{name}\""));
            origin.put(&path, Item { etag, ranges: true, ..Item::new(Body::given(bytes)) });
            let url = origin.url(&path);
            catalog += &format!("[downloads.{name}]\nurl = \"{url}\"\nas = \"directory\"\n");
        };
        bind(Harm::SOUND, &small_zip());
        for (number, case) in cases.iter().enumerate() {
            bind(&format!("n{number}"), &case.bytes);
        }
        let setup = Mounted::with().catalog("hostile.toml", &catalog);
        let config = setup.dir().join("config.toml");
        std::fs::write(&config, LIMITS).expect("write a configuration");
        let mounted = setup
            .args(["--config", config.to_str().expect("a plain path")])
            .args(["--revalidate-window", "1h"])
            .start();
        Harm { mounted, _origin: origin }
    }

    /// Looks at every case, and at the sound one in between.
    fn run(&self, cases: &[Case]) {
        let sound = |when: &str| {
            let path = self.mounted.path(Harm::SOUND);
            judge(&path, &small_zip_shows()).unwrap_or_else(|error| panic!("{when}: {error}"));
        };
        sound("before");
        let mut failures = Vec::new();
        let mut slowest = (Duration::ZERO, String::new());
        for (number, case) in cases.iter().enumerate() {
            let begin = Instant::now();
            if let Err(error) = judge(&self.mounted.path(&format!("n{number}")), &case.expect) {
                failures.push(format!("{}: {error}", case.name));
            }
            let time = begin.elapsed();
            if time > slowest.0 {
                slowest = (time, case.name.clone());
            }
            if number % 20 == 0 {
                sound(&case.name);
            }
        }
        sound("after");
        let peak = process::memory(self.mounted.pid()).1 / 1024;
        figure(&format!(
            "{} archives, the slowest ({}) {:?}, at most {peak} MiB of memory",
            cases.len(),
            slowest.1,
            slowest.0
        ));
        assert!(failures.is_empty(), "{} are wrong:\n{}", failures.len(), failures.join("\n"));
        assert!(slowest.0 < Duration::from_secs(10), "{}: {:?}", slowest.1, slowest.0);
        assert!(peak < 160, "{peak} MiB");
        self.expect_nothing_outside();
    }

    /// Checks that nothing was written but to the store.
    fn expect_nothing_outside(&self) {
        let known =
            ["mnt", "store", "catalog.d", "config", "config.toml", "control.sock", "daemon.log"];
        for entry in std::fs::read_dir(self.mounted.scratch()).expect("readdir").flatten() {
            let name = entry.file_name();
            assert!(
                known.iter().any(|known| name == *known),
                "{name:?} was made outside the store"
            );
        }
        // Names that only hostile members have.
        for stray in ["/tmp/x", "/etc/x", "/x"] {
            assert!(!Path::new(stray).exists(), "{stray} was made");
        }
    }
}

fn run(cases: &[Case]) {
    Harm::new(cases).run(cases);
}

#[test]
fn hostile_zips_are_refused_or_shown_as_documented() {
    needs!("fuse");
    run(&zips::all());
}

#[test]
fn hostile_tars_are_refused_or_shown_as_documented() {
    needs!("fuse");
    run(&tars::all());
}

#[test]
fn hostile_streams_are_refused_or_shown_as_documented() {
    needs!("fuse", "zstd", "xz", "bzip2");
    run(&packed::all());
}

#[test]
fn the_corpus_has_at_least_150_archives() {
    let count = zips::all().len() + tars::all().len();
    assert!(count >= 150, "{count}");
}

/// The last block of a large member is wrong: who reads its beginning meanwhile gets it as it came or
/// EIO, and never what is left when it is taken away.
#[test]
fn a_large_damaged_member_is_never_read_as_zeros() {
    needs!("fuse");
    let lines = |number: u32| format!("{:07}\n", number.wrapping_mul(7919) % 9_999_991);
    let whole: Vec<u8> = (0..3 << 20).flat_map(|number| lines(number).into_bytes()).collect();
    let damaged = Member::deflated("large", &whole).both(|header| header.crc ^= 1);
    let harm = Harm::new(&[Case::new("", Zip::of([damaged]).bytes(), refused(""))]);
    let path = harm.mounted.path("n0").join("large");
    // Past the kernel's cache, so that each read is asked for.
    let open = || File::options().read(true).custom_flags(libc::O_DIRECT).open(&path);
    let (began, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    let most = (whole.len() - (1 << 20)) as u64;
    let early = std::thread::scope(|scope| {
        let (whole, began, ended) = (&whole, &began, &ended);
        let reader = move |seed: u64, file: File| {
            let (mut at, mut read) = (seed, 0);
            let mut bytes = vec![0; 4096];
            while !ended.load(Ordering::Acquire) {
                at = at
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                // Only what is there: nothing is to be waited for.
                let place = ((at >> 33) % (most / 8)) & !4095;
                match file.read_exact_at(&mut bytes, place) {
                    Ok(()) => {
                        let right = &whole[place as usize..place as usize + bytes.len()];
                        assert!(bytes == right, "other bytes at {place}");
                        read += 1;
                        began.store(true, Ordering::Release);
                    }
                    Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EIO), "{error}"),
                }
            }
            read
        };
        // Before any of them reads: by then it is not known to be damaged.
        let files: Vec<File> = (0..3).map(|_| open().expect("open")).collect();
        let readers: Vec<_> =
            (1..).zip(files).map(|(seed, file)| scope.spawn(move || reader(seed, file))).collect();
        let begin = Instant::now();
        while !began.load(Ordering::Acquire) && begin.elapsed() < Duration::from_secs(20) {
            std::thread::yield_now();
        }
        let read = std::fs::read(&path);
        std::thread::sleep(Duration::from_millis(50));
        ended.store(true, Ordering::Release);
        assert_eq!(read.err().and_then(|error| error.raw_os_error()), Some(libc::EIO));
        readers.into_iter().map(|reader| reader.join().expect("a reader")).sum::<u64>()
    });
    assert!(early > 0, "nothing was read of it");
    figure(&format!("{early} reads of what turned out damaged, none of them of zeros"));
    let told = open().err().and_then(|error| error.raw_os_error());
    assert_eq!(told, Some(libc::EIO), "it is known now");
}
