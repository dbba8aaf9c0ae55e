//! Files that are complete, within the window: nobody is asked.

use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::floor::Floor;
use crate::report::Report;
use crate::support::{Body, MIB, Mounted, Nginx, median, os};

const LEN: u64 = 1024 * MIB;
const ROUNDS: usize = 15;

/// What the floor is called in the table.
const FLOOR: &str = "a FUSE server that only answers";

/// What a file whose pages lie one by one is called there.
const PAGED: &str = "such a file in pages of 4 KiB";

/// Measures reads, opens and stats of complete files.
pub(crate) fn run(report: &mut Report) {
    let nginx = Nginx::start();
    nginx.put("big", &Body::made(1, LEN));
    for passthrough in [true, false] {
        let mut setup = Mounted::with().download("big", &nginx.url("big")).args([
            "--revalidate-window",
            "1h",
            "--quota",
            "4GiB",
        ]);
        if !passthrough {
            setup = setup.args(["--no-passthrough"]);
        }
        let mounted = setup.start();
        let ours = mounted.path("big");
        read_through(&ours);
        mounted.wait_complete("big");
        let below = blob(&mounted);
        let floor = Floor::mount(&below, passthrough);
        let paged = mounted.scratch().join("paged");
        if !passthrough {
            std::fs::copy(&below, &paged).expect("copy the blob");
        }
        let files = Files { ours: &ours, below: &below, floor: &floor.path(), paged: &paged };
        if passthrough {
            sequential(report, "warm read of 1 GiB, passthrough", &files, Cache::Warm, 0.95);
            calls(report, &files);
        } else {
            let what = "warm read of 1 GiB again, --no-passthrough";
            sequential(report, what, &files, Cache::Again, 0.9);
            let what = "warm read of 1 GiB, --no-passthrough, empty kernel cache";
            sequential(report, what, &files, Cache::Empty, 0.25);
        }
        report.note(&mounted);
    }
}

/// Whether the kernel holds our file's pages when a read begins; those of files on the disk always.
#[derive(Clone, Copy, PartialEq)]
enum Cache {
    Warm,
    Empty,
    /// All of them, brought anew for each round: which memory they come to lie in decides on the
    /// speed of copying them, and lasts as long as they do.
    Again,
}

/// The same bytes at several places.
struct Files<'a> {
    ours: &'a Path,
    /// The blob on disk.
    below: &'a Path,
    /// On a mount that does nothing but answer.
    floor: &'a Path,
    /// On the disk, and in the kernel's memory as files of a FUSE mount are: page by page. Linux 6.18
    /// keeps those of ext4 in folios of up to 2 MiB, which are copied twice as fast.
    paged: &'a Path,
}

/// How much of the floor's speed is ours, where the kernel does the same for both.
const OF_THE_FLOOR: f64 = 0.9;

fn sequential(report: &mut Report, what: &str, files: &Files<'_>, cache: Cache, limit: f64) {
    read_through(files.below);
    let mut paths = vec![files.ours, files.floor, files.below];
    if cache != Cache::Warm {
        paths.push(files.paged);
        bring_in_pages(files.paged);
    }
    let mut rates = vec![Vec::new(); paths.len()];
    for round in 0..=ROUNDS {
        // Each is first as often as the others.
        let turns = (0..paths.len()).map(|at| (at + round) % paths.len());
        if cache != Cache::Warm {
            for path in [files.ours, files.floor] {
                os::drop_pages(&File::open(path).expect("open")).expect("drop the mount's pages");
            }
        }
        if cache == Cache::Again {
            for at in turns.clone() {
                match paths[at] {
                    path if path == files.paged => bring_in_pages(path),
                    path => drop(read_through(path)),
                }
            }
        }
        for at in turns {
            let rate = read_through(paths[at]);
            // The first round warms up.
            if round > 0 {
                rates[at].push(rate);
            }
        }
    }
    let rates: Vec<f64> = rates.into_iter().map(median).collect();
    report.at_least(what, "MB/s", rates[0], (rates[2], "the file underneath"), limit);
    if let Some(paged) = rates.get(3) {
        report.at_least("the same beside", "MB/s", rates[0], (*paged, PAGED), limit);
    }
    report.at_least("the same beside", "MB/s", rates[0], (rates[1], FLOOR), OF_THE_FLOOR);
}

/// Has the kernel hold a file's pages one by one: it reads ahead in large folios, but not for who
/// says that reads are at random.
fn bring_in_pages(path: &Path) {
    let file = File::open(path).expect("open");
    file.sync_all().expect("its pages are clean");
    os::drop_pages(&file).expect("drop its pages");
    os::reads_at_random(&file).expect("no read-ahead");
    let mut buf = vec![0; 1 << 20];
    while (&file).read(&mut buf).expect("read") > 0 {}
}

fn calls(report: &mut Report, files: &Files<'_>) {
    const COUNT: usize = 2500;
    let mut open = [const { Vec::new() }; 3];
    let mut stat = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for (at, path) in [files.ours, files.floor, files.below].into_iter().enumerate() {
            open[at].push(per_call(COUNT, || open_read_close(path)));
            stat[at].push(per_call(COUNT, || {
                let _ = black_box(std::fs::metadata(path).expect("stat"));
            }));
        }
    }
    let [open, open_floor, open_native] = open.map(median);
    let [stat, stat_floor, stat_native] = stat.map(median);
    let native = format!("{open_native:.2} us, the file underneath");
    report.below("open + read 4 KiB + close within the window", "us", open, &native, 25.0);
    report.at_most("the same beside", "us", open, (open_floor, FLOOR), 1.5);
    report.at_most("stat", "us", stat, (stat_native, "the file underneath"), 1.5);
    report.at_most("the same beside", "us", stat, (stat_floor, FLOOR), 1.25);
}

/// Opens a file, reads a page and closes it.
pub(crate) fn open_read_close(path: &Path) {
    let file = File::open(path).expect("open");
    let mut page = [0; 4096];
    file.read_exact_at(&mut page, 0).expect("read");
    black_box(page);
}

/// Returns the mean microseconds of a call.
pub(crate) fn per_call(count: usize, mut call: impl FnMut()) -> f64 {
    let begin = Instant::now();
    for _ in 0..count {
        call();
    }
    begin.elapsed().as_secs_f64() * 1e6 / count as f64
}

/// Reads a whole file and returns MB/s.
pub(crate) fn read_through(path: &Path) -> f64 {
    let begin = Instant::now();
    let mut file = File::open(path).expect("open");
    let mut buf = vec![0; 1 << 20];
    let mut total = 0_u64;
    loop {
        match file.read(&mut buf).expect("read") {
            0 => break,
            n => total += n as u64,
        }
    }
    black_box(&buf);
    total as f64 / 1e6 / begin.elapsed().as_secs_f64()
}

/// Returns the file underneath the only complete name.
fn blob(mounted: &Mounted) -> PathBuf {
    let id = mounted.blobs().pop().expect("one blob");
    mounted.store().join("v1/blobs").join(id)
}
