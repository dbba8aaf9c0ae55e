//! A buildpack builder in a container: twelve cold buildpacks, of which it reads little.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::container::Container;
use crate::support::dice::Dice;
use crate::support::zip_bytes::{Member, Zip};
use crate::support::{Body, Item, MIB, Mounted, Origin, Proc, figure, needs, wait_until};

/// How many buildpacks there are; the last one fits.
const COUNT: usize = 12;
/// The dependency that the one that fits needs, in bytes.
const DEPENDENCY: usize = 3 << 20;

/// What the builder does with the buildpacks that `$@` names: runs each one's bin/detect until one
/// fits, then reads its manifest.yml, copies its large dependency, and checks both. `$HOLD` has it
/// wait for a file between two steps.
const BUILDER: &str = r#"
set -eu
chosen=
for pack in "$@"; do
    stat "$pack/bin" > /dev/null
    test "$(stat -c %A "$pack/bin/detect")" = -r-xr-xr-x
    ls "$pack" > /dev/null
    if name=$("$pack/bin/detect" /tmp/app); then chosen=$pack; break; fi
done
test -n "$chosen"
echo "detected $name"
echo waiting
while [ -e /hold/wait ]; do sleep 0.02; done
version=$(cat "$chosen/VERSION")
grep -q "^language: $name\$" "$chosen/manifest.yml"
grep -q "^version: $version\$" "$chosen/manifest.yml"
cp "$chosen"/dependencies/*/large.tgz /tmp/large.tgz
test "$(sha256sum < /tmp/large.tgz)" = "$(sed -n 's/^sha256: //p' "$chosen/manifest.yml")  -"
if ls "$chosen/nothing" 2> /dev/null; then exit 1; fi
echo "supplied $name $version"
"#;

fn key(n: usize) -> String {
    format!("buildpack-{n}_cached-{:032x}", n as u128 * 0x1234_5678_9abc_def0)
}

/// Returns the buildpack number `n` of a version.
fn buildpack(n: usize, version: u64) -> Vec<u8> {
    let code = if n == COUNT - 1 { 0 } else { 1 };
    let script = format!("#!/bin/sh\necho sample-{n}\nexit {code}\n");
    let length = if n == COUNT - 1 { DEPENDENCY } else { DEPENDENCY / 6 };
    let large = Dice::branch(version, n as u64).bytes(length, true);
    let sum = Body::given(&large).sha256();
    let manifest = format!("language: sample-{n}\nversion: {version}\nsha256: {sum}\n");
    let runs = |member: Member| member.mode(0o100_755);
    let other = Dice::branch(version, 100 + n as u64).bytes(500_000, true);
    let directory = format!("dependencies/{n:032x}");
    Zip::of([
        runs(Member::deflated("bin/detect", script)),
        runs(Member::deflated("bin/supply", "#!/bin/sh\nexit 0\n")),
        runs(Member::deflated("bin/finalize", "#!/bin/sh\nexit 0\n")),
        Member::stored("VERSION", format!("{version}\n")),
        Member::deflated("manifest.yml", manifest),
        Member::deflated(format!("{directory}/large.tgz"), large),
        Member::deflated("dependencies/other/other.tgz", other),
    ])
    .bytes()
}

/// An origin with twelve buildpacks, and a mount of them.
struct Cell {
    origin: Origin,
    mounted: Mounted,
    /// A directory that the container sees as /hold.
    hold: PathBuf,
    total: u64,
}

impl Cell {
    fn new() -> Cell {
        let origin = Origin::start();
        let mut catalog = String::new();
        let mut total = 0;
        for n in 0..COUNT {
            total += put(&origin, n, 1);
            let (url, key) = (origin.url(&format!("/{n}.zip")), key(n));
            let _ = writeln!(
                catalog,
                "[downloads.buildpack-{n}]\nurl = \"{url}\"\nas = \"directory\"\nbuildpack_key = \"{key}\""
            );
        }
        let mounted = Mounted::with().catalog("buildpacks.toml", &catalog).start();
        let hold = mounted.scratch().join("hold");
        std::fs::create_dir(&hold).expect("make a directory");
        Cell { origin, mounted, hold, total }
    }

    /// Returns the names that a builder knows them by: the digits of xxhash64, or of md5.
    fn aliases(&self, n: usize) -> [String; 2] {
        let name = format!("buildpack-{n}");
        let links = std::fs::read_dir(self.mounted.mnt()).expect("list the mount").flatten();
        let mut found: Vec<String> = links
            .filter(|entry| entry.path().read_link().is_ok_and(|to| to == Path::new(&name)))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        found.sort_by_key(String::len);
        found.try_into().unwrap_or_else(|found| panic!("{name} has the aliases {found:?}"))
    }

    /// Runs the builder in a container with these directories.
    fn builder<'a>(&'a self, binds: &[(&'a Path, &'a str)], packs: &[String]) -> Container {
        let mut args = vec!["/bin/sh", "-c", BUILDER, "builder"];
        args.extend(packs.iter().map(String::as_str));
        Container::new(&[binds, &[(self.hold.as_path(), "/hold")]].concat(), &args)
    }

    fn figure(&self, what: &str, begin: Instant) {
        let sent: u64 = self.origin.seen().iter().map(|seen| seen.sent).sum();
        figure(&format!(
            "{what}: {:?}, {} requests, {} of {} KiB fetched",
            begin.elapsed(),
            self.origin.seen().len(),
            sent / 1024,
            self.total / 1024
        ));
        // The large dependency of one, and little else of all twelve.
        let most = DEPENDENCY as u64 + COUNT as u64 * 250_000;
        assert!(sent <= most, "{what}: {sent} bytes fetched");
        assert!(self.origin.seen().len() <= COUNT * 8 + 40, "{what}: too many requests");
    }
}

/// A builder that has detected its buildpack, and waits before it reads on.
struct Waiting {
    runner: Proc,
    /// It waits while this file is there.
    wait: PathBuf,
    log: PathBuf,
    _container: Container,
}

impl Waiting {
    /// Starts a builder with one buildpack, bound at a place.
    #[track_caller]
    fn start(cell: &Cell, host: &Path, place: &str) -> Waiting {
        let wait = cell.hold.join("wait");
        std::fs::write(&wait, "").expect("have the builder wait");
        let container = cell.builder(&[(host, place)], &[place.to_owned()]);
        let log = cell.mounted.scratch().join("builder.log");
        let out = std::fs::File::create(&log).expect("make a log");
        let err = out.try_clone().expect("share the log");
        let runner = Proc::start(container.command().stdout(out).stderr(Stdio::from(err)));
        let waiting = Waiting { runner, wait, log, _container: container };
        wait_until("the builder waits", Duration::from_secs(20), || {
            waiting.said().contains("waiting")
        });
        waiting
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Lets it go on; says whether it succeeded, and what it printed.
    #[track_caller]
    fn go_on(&mut self) -> (bool, String) {
        std::fs::remove_file(&self.wait).expect("have the builder go on");
        let status = self.runner.wait(Duration::from_secs(40)).expect("the builder ends");
        (status.success(), self.said())
    }
}

fn put(origin: &Origin, n: usize, version: u64) -> u64 {
    let body = Body::given(buildpack(n, version));
    let (etag, length) = (Some(format!("\"{n}-{version}\"")), body.len());
    origin.put(&format!("/{n}.zip"), Item { etag, ranges: true, ..Item::new(body) });
    length
}

#[track_caller]
fn succeed(container: &Container, version: u64) {
    let output = container.run();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}{errors}", output.status);
    let n = COUNT - 1;
    assert!(said.ends_with(&format!("supplied sample-{n} {version}\n")), "{said}{errors}");
}

#[test]
fn a_builder_finds_its_buildpack_among_twelve_bound_one_by_one() {
    needs!("fuse", "root", "runc");
    let cell = Cell::new();
    let hosts: Vec<PathBuf> =
        (0..COUNT).map(|n| cell.mounted.path(&format!("buildpack-{n}"))).collect();
    let places: Vec<String> =
        (0..COUNT).map(|n| format!("/tmp/buildpacks/{}", cell.aliases(n)[0])).collect();
    let binds: Vec<(&Path, &str)> =
        hosts.iter().map(PathBuf::as_path).zip(places.iter().map(String::as_str)).collect();
    for round in ["cold", "warm"] {
        let begin = Instant::now();
        succeed(&cell.builder(&binds, &places), 1);
        cell.figure(&format!("bound one by one, {round}"), begin);
    }
}

#[test]
fn a_builder_finds_its_buildpack_with_the_whole_mount_as_its_directory() {
    needs!("fuse", "root", "runc");
    let cell = Cell::new();
    let mnt = cell.mounted.mnt();
    for digits in [0, 1] {
        let places: Vec<String> =
            (0..COUNT).map(|n| format!("/tmp/buildpacks/{}", cell.aliases(n)[digits])).collect();
        let begin = Instant::now();
        succeed(&cell.builder(&[(&mnt, "/tmp/buildpacks")], &places), 1);
        cell.figure(["by xxhash64", "by md5"][digits], begin);
    }
    for n in 0..COUNT {
        let [xxhash, md5] = cell.aliases(n);
        assert_eq!((xxhash.len(), md5.len()), (16, 32));
    }
    // What a builder asks for first and does not find is an answer at once, without a request.
    let requests = cell.origin.seen().len();
    let begin = Instant::now();
    assert!(!mnt.join("0123456789abcdef").exists());
    assert!(begin.elapsed() < Duration::from_millis(100), "{:?}", begin.elapsed());
    assert_eq!(cell.origin.seen().len(), requests);
}

#[test]
fn the_hashes_of_a_key_are_those_of_the_builder() {
    needs!("fuse", "md5sum");
    let catalog = "[downloads.a]\nurl = \"http://127.0.0.1:9/a\"\nas = \"directory\"\nbuildpack_key = \"abc\"\n";
    let mounted = Mounted::with().catalog("a.toml", catalog).start();
    // xxhash64 of "abc", from the specification's test vectors; and RFC 1321's of md5.
    for alias in ["44bc2cf5ad770999", "900150983cd24fb0d6963f7d28e17f72"] {
        let to = std::fs::read_link(mounted.path(alias)).expect(alias);
        assert_eq!(to, Path::new("a"));
    }
}

#[test]
fn a_builder_sees_one_version_throughout_and_its_successor_the_next() {
    needs!("fuse", "root", "runc");
    let cell = Cell::new();
    let last = COUNT - 1;
    let host = cell.mounted.path(&format!("buildpack-{last}"));
    let mnt = cell.mounted.mnt();
    let bound = "/tmp/buildpacks/bound".to_owned();
    let path = format!("/tmp/buildpacks/{}", cell.aliases(last)[0]);

    // Bound before the archive is replaced: the version that it began with.
    let mut builder = Waiting::start(&cell, &host, &bound);
    // All of the old version has to be there: the origin will not have it any more.
    let large = format!("dependencies/{last:032x}/large.tgz");
    for file in ["VERSION", "manifest.yml", &large] {
        std::fs::read(host.join(file)).expect("read a file of the old version");
    }
    put(&cell.origin, last, 2);
    cell.mounted.settle();
    // A new one that comes by path gets the new version, whole.
    let (success, said) = builder.go_on();
    assert!(success && said.ends_with(&format!("supplied sample-{last} 1\n")), "before: {said}");
    succeed(&cell.builder(&[(&mnt, "/tmp/buildpacks")], &[path]), 2);
    succeed(&cell.builder(&[(&host, &bound)], std::slice::from_ref(&bound)), 2);
}

#[test]
fn a_builder_whose_archive_is_replaced_early_never_mixes_versions() {
    needs!("fuse", "root", "runc");
    let cell = Cell::new();
    let last = COUNT - 1;
    let host = cell.mounted.path(&format!("buildpack-{last}"));
    let bound = "/tmp/buildpacks/bound".to_owned();
    let mut builder = Waiting::start(&cell, &host, &bound);
    // Its large dependency was not fetched, and is gone at the origin: EIO, and not that of another
    // version, whatever else of the old one is there.
    put(&cell.origin, last, 2);
    cell.mounted.settle();
    let (success, said) = builder.go_on();
    assert!(!success && said.contains("Input/output error"), "{said}");
    succeed(&cell.builder(&[(&host, &bound)], std::slice::from_ref(&bound)), 2);
    let fetched = cell.mounted.number("bytes_from_origin");
    assert!(fetched < 2 * DEPENDENCY as u64 + 8 * MIB, "{fetched} bytes fetched");
}
