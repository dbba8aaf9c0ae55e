//! A cold tar.gz of 300 MB, which only its stream can bring.

use std::time::{Duration, Instant};

use super::{ROUND_TRIP, Sample, directories, seconds, shell};
use crate::proxy;
use crate::report::Report;
use crate::support::{Mounted, Nginx, median, process};

const ROUNDS: usize = 3;

pub(super) fn run(report: &mut Report, sample: &Sample) {
    // Sorted, so that it is known which file is in the first tenth and which is the last.
    let archive =
        sample.pack("tar --sort=name -C \"$1\" -cf - . | gzip -1 > \"$2\"", "sample.tar.gz");
    for (limit, place) in [("", "on loopback"), ("limit_rate 50m;", "50 MB/s and 20 ms")] {
        let nginx = Nginx::with(limit);
        nginx.put_file("sample.tar.gz", &archive);
        let base = if limit.is_empty() {
            nginx.url("")
        } else {
            let addr = proxy::start(nginx.port(), Duration::from_millis(ROUND_TRIP));
            format!("http://{addr}/")
        };
        measure(report, &base, place);
    }
}

fn measure(report: &mut Report, base: &str, place: &str) {
    let url = |n: usize| (format!("n{n}"), format!("{base}sample.tar.gz?n={n}"));
    let catalog = directories((0..2 * ROUNDS).map(url), "");
    let mounted =
        Mounted::with().args(["--quota", "12GiB"]).catalog("trees.toml", &catalog).start();
    let out = mounted.scratch().join("out");
    let script = format!("mkdir \"$2\"; curl -s {base}sample.tar.gz | tar -C \"$2\" -xzf -");
    let (mut early, mut last, mut beside) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..ROUNDS {
        let read = |n: usize, file: &str| {
            let begin = Instant::now();
            std::fs::read(mounted.path(&format!("n{n}/lib/{file}"))).expect("read");
            begin.elapsed().as_secs_f64()
        };
        early.push(read(2 * n, "d030/module-01500.rb"));
        mounted.wait_complete(&format!("n{}", 2 * n));
        last.push(read(2 * n + 1, "d399/module-19999.rb"));
        rest(&mounted);
        beside.push(seconds(&script, &out, &out));
        shell("rm -rf \"$2\"", &out, &out);
        rest(&mounted);
    }
    let beside = median(beside);
    let what = format!("last file of a cold tar.gz (300 MB), {place}");
    report.at_most(&what, "s", median(last), (beside, "curl | tar xz, whole"), 1.1);
    let what = "a file in its first tenth";
    report.at_most(what, "s", median(early), (beside, "curl | tar xz, whole"), 0.2);
    report.note(&mounted);
}

fn rest(mounted: &Mounted) {
    process::run("sync", ["-f".as_ref(), mounted.store().as_os_str()]);
}
