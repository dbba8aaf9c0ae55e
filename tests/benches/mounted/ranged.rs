//! Bytes out of order, several connections, and downloads that are gone on with.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::proxy;
use crate::report::Report;
use crate::support::{Body, Item, KIB, MIB, Mounted, Nginx, Origin, median, process, wait_until};

const LEN: u64 = 1024 * MIB;
const ROUNDS: usize = 5;
const MB: f64 = 1e6;

/// Measures reads at any place of cold blobs, and cold blobs whole.
pub(crate) fn run(report: &mut Report) {
    ends(report);
    far_ends(report);
    random(report);
    together(report);
    limited(report);
    killed(report);
    processor(report);
}

/// Returns a catalog of rounds, each a source of its own, that are fetched as they are read.
fn on_read(url: impl Fn(usize) -> String) -> String {
    (0..ROUNDS)
        .map(|n| format!("[downloads.n{n}]\nurl = \"{}\"\nfill = \"on-read\"\n", url(n)))
        .collect()
}

fn read_end(path: &Path) -> f64 {
    let begin = Instant::now();
    let file = File::open(path).expect("open");
    let mut end = vec![0; 64 << 10];
    file.read_exact_at(&mut end, LEN - 64 * KIB).expect("read the end");
    begin.elapsed().as_secs_f64() * 1e3
}

fn ends(report: &mut Report) {
    let nginx = Nginx::start();
    nginx.put("big", &Body::made(1, LEN));
    let text = on_read(|n| nginx.url(&format!("big?n={n}")));
    let mounted = Mounted::with().args(["--quota", "8GiB"]).catalog("a.toml", &text).start();
    let times = (0..ROUNDS).map(|n| read_end(&mounted.path(&format!("n{n}")))).collect();
    let fetched = mounted.number("bytes_from_origin") as f64 / MB / ROUNDS as f64;
    report.below("last 64 KiB of a cold 1 GiB, on loopback", "ms", median(times), "", 9.0);
    report.below("fetched for that", "MB", fetched, "", 0.3);
    report.note(&mounted);
}

fn far_ends(report: &mut Report) {
    let nginx = Nginx::with("limit_rate 50m;");
    nginx.put("big", &Body::made(1, LEN));
    let addr = proxy::start(nginx.port(), Duration::from_millis(50));
    let text = on_read(|n| format!("http://{addr}/big?n={n}"));
    let mounted = Mounted::with().args(["--quota", "8GiB"]).catalog("a.toml", &text).start();
    let (mut ours, mut beside) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        ours.push(read_end(&mounted.path(&format!("n{round}"))));
        let begin = Instant::now();
        let range = format!("{}-{}", LEN - 64 * KIB, LEN - 1);
        let url = format!("http://{addr}/big");
        let done = process::run("curl", ["-s", "-o", "/dev/null", "-r", &range, &url]);
        assert!(done.status.success(), "curl failed");
        beside.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    let what = "the same, at 50 MB/s and 50 ms";
    report.at_most(what, "ms", median(ours), (median(beside), "curl -r"), 3.0);
    report.note(&mounted);
}

/// Reads pages at places that look random; `seed` makes them different.
fn pages(file: &File, len: u64, count: usize, seed: u64) {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ seed;
    let mut page = [0; 4096];
    for _ in 0..count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.read_exact_at(&mut page, state % (len / 4096) * 4096).expect("read");
    }
}

fn random(report: &mut Report) {
    let nginx = Nginx::start();
    nginx.put("big", &Body::made(1, LEN));
    let text = on_read(|n| nginx.url(&format!("big?n={n}")));
    let mounted = Mounted::with().args(["--quota", "8GiB"]).catalog("a.toml", &text).start();
    let times = (0..ROUNDS).map(|n| {
        let begin = Instant::now();
        let file = File::open(mounted.path(&format!("n{n}"))).expect("open");
        pages(&file, LEN, 200, n as u64 + 1);
        begin.elapsed().as_secs_f64()
    });
    let times = median(times.collect());
    let fetched = mounted.number("bytes_from_origin") as f64 / MB / ROUNDS as f64;
    report.below("200 random reads of 4 KiB in a cold 1 GiB", "s", times, "", 0.5);
    report.below("fetched for these", "MB", fetched, "", 60.0);
    report.note(&mounted);
}

fn together(report: &mut Report) {
    const SMALLER: u64 = 256 * MIB;
    let origin = Origin::start();
    origin.put("/big", Item::ranged(1, SMALLER));
    let text = format!("[downloads.a]\nurl = \"{}\"\nfill = \"on-read\"\n", origin.url("/big"));
    let mounted = Mounted::with().catalog("a.toml", &text).start();
    let file = File::open(mounted.path("a")).expect("open");
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let file = &file;
            scope.spawn(move || pages(file, SMALLER, 200, thread + 1));
        }
    });
    let seen = origin.select("/big");
    let mut ranges: Vec<(u64, u64)> = seen
        .iter()
        .filter_map(|seen| {
            let (first, last) = seen.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
            Some((first.parse().ok()?, last.parse::<u64>().ok()? + 1))
        })
        .collect();
    ranges.sort_unstable();
    let twice: u64 = ranges.windows(2).map(|pair| pair[0].1.saturating_sub(pair[1].0)).sum();
    let fetched: u64 = ranges.iter().map(|(first, end)| end - first).sum();
    let what = format!(
        "16 threads, 3200 random reads of 4 KiB in a cold 256 MiB: {} requests, {} MiB; bytes asked for twice",
        seen.len(),
        fetched / MIB
    );
    report.exactly(&what, twice as usize, 0);
    report.note(&mounted);
}

fn limited(report: &mut Report) {
    if process::find("aria2c").is_none() {
        eprintln!("  not measured: aria2c is missing");
        return;
    }
    const SMALL: u64 = 64 * MIB;
    let origin = Origin::start();
    let mut setup = Mounted::with().args(["--quota", "2GiB"]);
    for n in 0..=ROUNDS {
        let path = format!("/n{n}");
        origin.put(&path, Item { rate: Some(50_000_000), ..Item::ranged(1, SMALL) });
        setup = setup.download(&format!("n{n}"), &origin.url(&path));
    }
    let mounted = setup.start();
    let (mut ours, mut beside) = (Vec::new(), Vec::new());
    for n in 0..=ROUNDS {
        let begin = Instant::now();
        std::fs::read(mounted.path(&format!("n{n}"))).expect("read");
        let time = begin.elapsed().as_secs_f64();
        let dir = mounted.scratch().to_str().expect("a plain path");
        let begin = Instant::now();
        let url = origin.url(&format!("/n{n}"));
        let done = process::run("aria2c", ["-q", "-x4", "-d", dir, "-o", "aria2.out", &url]);
        assert!(done.status.success(), "aria2c failed");
        let other = begin.elapsed().as_secs_f64();
        std::fs::remove_file(mounted.scratch().join("aria2.out")).expect("remove its file");
        if n > 0 {
            ours.push(time);
            beside.push(other);
        }
    }
    let what = "cold 64 MiB, each connection limited to 50 MB/s";
    report.at_most(what, "s", median(ours), (median(beside), "aria2c -x4"), 1.0);
    report.note(&mounted);
}

fn killed(report: &mut Report) {
    let origin = Origin::start();
    // Slow enough to be stopped at a certain place.
    origin.put("/big", Item { rate: Some(200_000_000), ..Item::ranged(1, LEN) });
    let mut mounted =
        Mounted::with().download("a", &origin.url("/big")).args(["--quota", "4GiB"]).start();
    drop(File::open(mounted.path("a")).expect("open"));
    wait_until("nine tenths are there", Duration::from_secs(60), || {
        origin.sent("/big") >= LEN / 10 * 9
    });
    mounted.kill();
    origin.forget();
    mounted.start();
    std::fs::read(mounted.path("a")).expect("read");
    let again = origin.sent("/big") as f64 * 100.0 / LEN as f64;
    report.below("killed at 90 % of 1 GiB: fetched again", "%", again, "", 12.0);
    report.note(&mounted);
}

fn processor(report: &mut Report) {
    let nginx = Nginx::start();
    nginx.put("big", &Body::made(1, LEN));
    let (mut ours, mut beside) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let url = nginx.url(&format!("big?n={round}"));
        let mounted = Mounted::with().download("a", &url).args(["--quota", "4GiB"]).start();
        let before = process::processor(mounted.pid());
        drop(File::open(mounted.path("a")).expect("open"));
        mounted.wait_complete("a");
        ours.push(process::processor(mounted.pid()) - before);
        let out = mounted.scratch().join("curl.out");
        let format = "user %U system %S";
        let out = out.to_str().expect("a plain path");
        let done = process::run("/usr/bin/time", ["-f", format, "curl", "-s", "-o", out, &url]);
        let text = String::from_utf8_lossy(&done.stderr).into_owned();
        let numbers = text.split_whitespace().filter_map(|word| word.parse::<f64>().ok());
        beside.push(numbers.sum());
    }
    let what = "processor time of the daemon for a cold 1 GiB";
    report.at_most(what, "s", median(ours), (median(beside), "curl -o"), 1.5);
}
