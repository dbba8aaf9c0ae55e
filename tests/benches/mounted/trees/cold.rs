//! A cold zip of 300 MB and 20,000 members.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{MB, RATE, ROUND_TRIP, Sample, directories, execute, seconds};
use crate::proxy;
use crate::report::Report;
use crate::support::{Mounted, Nginx, median, process};

const ROUNDS: usize = 5;

pub(super) fn run(report: &mut Report, sample: &Sample) {
    let zip = sample.zip();
    far(report, &zip);
    near(report, &zip);
    every_byte(report, &zip);
}

/// Returns the length of the central directory, in bytes: it stands ten bytes before the end of a
/// zip without a comment.
fn directory_length(zip: &Path) -> f64 {
    let file = File::open(zip).expect("open the zip");
    let end = file.metadata().expect("stat").len();
    let mut length = [0; 4];
    file.read_exact_at(&mut length, end - 10).expect("read the end record");
    f64::from(u32::from_le_bytes(length))
}

/// An origin far away, from which little is to be asked.
fn far(report: &mut Report, zip: &Path) {
    let nginx = Nginx::with("limit_rate 50m;");
    nginx.put_file("sample.zip", zip);
    let round_trip = Duration::from_millis(ROUND_TRIP);
    let addr = proxy::start(nginx.port(), round_trip);
    let url = |n: usize| (format!("n{n}"), format!("http://{addr}/sample.zip?n={n}"));
    let catalog = directories((0..2 * ROUNDS).map(url), "");
    let mounted = Mounted::with().args(["--quota", "8GiB"]).catalog("trees.toml", &catalog).start();
    let length = std::fs::metadata(zip).expect("stat").len() as f64;
    let transfer = directory_length(zip) / RATE * 1e3;

    let times = (0..ROUNDS).map(|n| {
        let begin = Instant::now();
        let count = std::fs::read_dir(mounted.path(&format!("n{n}"))).expect("list").count();
        assert_eq!(count, 3);
        begin.elapsed().as_secs_f64() * 1e3
    });
    let times = median(times.collect());
    let what = "ls of the root of a cold zip (300 MB, 20,000 members), 50 MB/s and 20 ms";
    let allowed = |trips: u64| (trips * ROUND_TRIP) as f64 + transfer;
    let beside = |trips: u64| format!("{trips} round trips and the directory");
    report.below(what, "ms", times, &beside(6), allowed(6).round());

    let before = mounted.number("bytes_from_origin") as f64;
    let requests = nginx.log().len();
    let times = (ROUNDS..2 * ROUNDS).map(|n| {
        let begin = Instant::now();
        execute(&mounted.path(&format!("n{n}/bin/detect")));
        begin.elapsed().as_secs_f64() * 1e3
    });
    let times = median(times.collect());
    let what = "first script of such a zip run, from cold";
    report.below(what, "ms", times, &beside(8), allowed(8).round());
    let fetched = (mounted.number("bytes_from_origin") as f64 - before) / ROUNDS as f64;
    let requests = (nginx.log().len() - requests) as f64 / ROUNDS as f64;
    let beside = format!("{:.2} MB in {requests:.1} requests", fetched / MB);
    report.below("fetched for that", "%", fetched / length * 100.0, &beside, 3.0);
    report.note(&mounted);
}

/// On loopback.
fn near(report: &mut Report, zip: &Path) {
    let nginx = Nginx::start();
    nginx.put_file("sample.zip", zip);
    let url = |n: usize| (format!("n{n}"), nginx.url(&format!("sample.zip?n={n}")));
    let catalog = directories((0..2 * ROUNDS).map(url), "");
    let mounted = Mounted::with().args(["--quota", "8GiB"]).catalog("trees.toml", &catalog).start();
    let first = (0..ROUNDS).map(|n| {
        let begin = Instant::now();
        let path = mounted.path(&format!("n{n}/lib/d123/module-06150.rb"));
        std::fs::read(path).expect("read");
        begin.elapsed().as_secs_f64() * 1e3
    });
    let first = median(first.collect());
    report.below("first file of such a zip on loopback", "ms", first, "", 50.0);
    let all = (ROUNDS..2 * ROUNDS).map(|n| {
        seconds("test $(find \"$1\" | wc -l) -ge 20000", &mounted.path(&format!("n{n}")), zip)
    });
    report.below("all names of such a zip (find)", "s", median(all.collect()), "", 0.5);
    report.note(&mounted);
}

/// Everything, once.
fn every_byte(report: &mut Report, zip: &Path) {
    const ROUNDS: usize = 3;
    let nginx = Nginx::start();
    nginx.put_file("sample.zip", zip);
    let url = |n: usize| (format!("n{n}"), nginx.url(&format!("sample.zip?n={n}")));
    let catalog = directories((0..ROUNDS).map(url), "");
    let mounted = Mounted::with().args(["--quota", "8GiB"]).catalog("trees.toml", &catalog).start();
    let (mut ours, mut beside) = (Vec::new(), Vec::new());
    let out = mounted.scratch().join("out");
    let script = format!(
        "curl -s -o \"$2.zip\" {}; mkdir \"$2\"; unzip -qq -d \"$2\" \"$2.zip\"",
        nginx.url("sample.zip")
    );
    for n in 0..ROUNDS {
        let tree = mounted.path(&format!("n{n}"));
        ours.push(seconds("tar -C \"$1\" -cf - . | cat > /dev/null", &tree, &out));
        rest(&mounted);
        beside.push(seconds(&script, &tree, &out));
        super::shell("rm -rf \"$2\" \"$2.zip\"", &tree, &out);
        rest(&mounted);
    }
    let what = "every byte of a cold zip (tar cf - | cat), on loopback";
    report.at_most(what, "s", median(ours), (median(beside), "curl and unzip"), 1.3);
    report.note(&mounted);
}

/// Lets the disk come to rest, so that no side pays for the other.
fn rest(mounted: &Mounted) {
    process::run("sync", ["-f".as_ref(), mounted.store().as_os_str()]);
}
