//! Ten thousand names, and a daemon that does nothing.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use crate::report::Report;
use crate::support::{Mounted, median, process};

/// Measures the start and the lookups with many names, and the memory of an idle daemon.
pub(crate) fn run(report: &mut Report) {
    let (few, many) = (lookups(report, 1000), lookups(report, 10_000));
    report.at_most(
        "cold lookup with 10,000 names, p50",
        "us",
        many,
        (few, "with 1,000 names"),
        1.25,
    );
    let idle = Mounted::with().start();
    std::thread::sleep(Duration::from_secs(1));
    let resident = process::memory(idle.pid()).0 as f64 / 1024.0;
    report.below("resident memory of an idle daemon", "MiB", resident, "", 24.0);
}

/// Mounts `count` names and returns the middle microseconds of a first lookup.
fn lookups(report: &mut Report, count: usize) -> f64 {
    let mut text = String::new();
    for n in 0..count {
        text += &format!("[downloads.n{n}]\nurl = \"http://127.0.0.1:9/{n}\"\n");
    }
    let mut mounted = Mounted::with().catalog("test.toml", &text).start();
    if count == 10_000 {
        let mut starts = vec![mounted.started_in.as_secs_f64()];
        for _ in 0..4 {
            mounted.stop();
            mounted.start();
            starts.push(mounted.started_in.as_secs_f64());
        }
        report.below("10,000 names: ready after", "s", median(starts), "", 1.0);
    }
    let times = (0..1000).map(|n| {
        let path = mounted.path(&format!("n{}", n * (count / 1000)));
        let begin = Instant::now();
        File::options().read(true).custom_flags(libc::O_PATH).open(path).expect("a lookup");
        begin.elapsed().as_secs_f64() * 1e6
    });
    let middle = median(times.collect());
    report.note(&mounted);
    middle
}
