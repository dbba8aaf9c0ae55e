//! Files that are complete, within the window: nobody is asked.

use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::report::Report;
use crate::support::{Body, MIB, Mounted, Nginx, median, os};

const LEN: u64 = 1024 * MIB;
const ROUNDS: usize = 7;

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
        if passthrough {
            sequential(report, "warm read of 1 GiB, passthrough", &ours, &below, Cache::Warm, 0.95);
            calls(report, &ours, &below);
        } else {
            sequential(
                report,
                "warm read of 1 GiB again, --no-passthrough",
                &ours,
                &below,
                Cache::Warm,
                0.9,
            );
            sequential(
                report,
                "warm read of 1 GiB, --no-passthrough, empty kernel cache",
                &ours,
                &below,
                Cache::Empty,
                0.25,
            );
        }
        report.note(&mounted);
    }
}

/// Whether the kernel holds our file's pages when a read begins; those of the file below it always.
#[derive(Clone, Copy, PartialEq)]
enum Cache {
    Warm,
    Empty,
}

fn sequential(
    report: &mut Report,
    what: &str,
    ours: &Path,
    below: &Path,
    cache: Cache,
    limit: f64,
) {
    read_through(below);
    let (mut us, mut native) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        if cache == Cache::Empty {
            let file = File::open(ours).expect("open");
            os::drop_pages(&file).expect("drop our pages");
        }
        let (a, b) = (read_through(ours), read_through(below));
        // The first round warms up.
        if round > 0 {
            us.push(a);
            native.push(b);
        }
    }
    report.at_least(what, "MB/s", median(us), (median(native), "the file underneath"), limit);
}

fn calls(report: &mut Report, ours: &Path, below: &Path) {
    const COUNT: usize = 5000;
    let (mut open, mut open_native, mut stat, mut stat_native) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        open.push(per_call(COUNT, || open_read_close(ours)));
        open_native.push(per_call(COUNT, || open_read_close(below)));
        stat.push(per_call(COUNT, || {
            let _ = black_box(std::fs::metadata(ours).expect("stat"));
        }));
        stat_native.push(per_call(COUNT, || {
            let _ = black_box(std::fs::metadata(below).expect("stat"));
        }));
    }
    let native = format!("{:.2} us, the file underneath", median(open_native));
    report.below("open + read 4 KiB + close within the window", "us", median(open), &native, 25.0);
    report.at_most("stat", "us", median(stat), (median(stat_native), "the file underneath"), 1.5);
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
