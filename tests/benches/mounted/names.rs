//! Ten thousand names, and a daemon that does nothing.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use crate::report::Report;
use crate::support::mounted::Setup;
use crate::support::{Mounted, median, process};

/// How many names each side is asked for.
const LOOKUPS: usize = 1000;

/// Measures the start and the lookups with many names, and the memory of an idle daemon.
pub(crate) fn run(report: &mut Report) {
    let few = with_names(LOOKUPS).start();
    let mut many = with_names(10 * LOOKUPS).start();
    let mut starts = vec![many.started_in.as_secs_f64()];
    for _ in 0..4 {
        many.stop();
        many.start();
        starts.push(many.started_in.as_secs_f64());
    }
    report.below("10,000 names: ready after", "s", median(starts), "", 1.0);
    // By turns: what a lookup costs is what it costs to wake a thread, and that changes from one
    // moment to the next.
    let (times_few, times_many) =
        (0..LOOKUPS).map(|n| (lookup(&few, n), lookup(&many, 10 * n))).unzip();
    report.at_most(
        "cold lookup with 10,000 names, p50",
        "us",
        median(times_many),
        (median(times_few), "with 1,000 names"),
        1.25,
    );
    report.note(&few);
    report.note(&many);
    let idle = Mounted::with().start();
    std::thread::sleep(Duration::from_secs(1));
    let resident = process::memory(idle.pid()).0 as f64 / 1024.0;
    report.below("resident memory of an idle daemon", "MiB", resident, "", 24.0);
}

fn with_names(count: usize) -> Setup {
    let mut text = String::new();
    for n in 0..count {
        text += &format!("[downloads.n{n}]\nurl = \"http://127.0.0.1:9/{n}\"\n");
    }
    Mounted::with().catalog("test.toml", &text)
}

/// Returns the microseconds of the first lookup of a name.
fn lookup(mounted: &Mounted, n: usize) -> f64 {
    let path = mounted.path(&format!("n{n}"));
    let begin = Instant::now();
    File::options().read(true).custom_flags(libc::O_PATH).open(path).expect("a lookup");
    begin.elapsed().as_secs_f64() * 1e6
}
