//! Files that are not here yet.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::proxy;
use crate::report::Report;
use crate::support::{Body, MIB, Mounted, Nginx, median, process};

const LEN: u64 = 1024 * MIB;
const ROUNDS: usize = 5;

/// Measures cold reads beside curl.
pub(crate) fn run(report: &mut Report) {
    full_speed(report);
    far_and_slow(report);
}

fn full_speed(report: &mut Report) {
    let nginx = Nginx::start();
    nginx.put("big", &Body::made(1, LEN));
    let mut setup = Mounted::with().args(["--quota", "8GiB"]);
    for round in 0..=ROUNDS {
        // Another query is another source: nginx does not mind, and every round is cold.
        setup = setup.download(&format!("n{round}"), &nginx.url(&format!("big?n={round}")));
    }
    let mounted = setup.start();
    let (mut first, mut whole) = (Vec::new(), Vec::new());
    let (mut curl_first, mut curl_whole) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let name = format!("n{round}");
        let (head, end) = read_cold(&mounted.path(&name));
        mounted.wait_complete(&name);
        settle(&mounted, &name);
        let out = mounted.scratch().join("curl.out");
        let (curl_head, curl_end) = curl(&nginx.url("big"), &out);
        std::fs::remove_file(&out).expect("remove curl's file");
        settle(&mounted, &name);
        if round > 0 {
            first.push(head * 1e3);
            whole.push(end);
            curl_first.push(curl_head * 1e3);
            curl_whole.push(curl_end);
        }
    }
    report.at_most(
        "cold 1 GiB from nginx on loopback, whole",
        "s",
        median(whole),
        (median(curl_whole), "curl -o"),
        1.15,
    );
    let beside = format!("{:.2} ms, curl", median(curl_first));
    report.below("the same, first byte", "ms", median(first), &beside, 3.0);
    report.note(&mounted);
}

fn far_and_slow(report: &mut Report) {
    let nginx = Nginx::with("limit_rate 50m;");
    nginx.put("big", &Body::made(1, LEN));
    let addr = proxy::start(nginx.port(), Duration::from_millis(50));
    let rounds = 7;
    let mut setup = Mounted::with().args(["--quota", "12GiB"]);
    for round in 0..rounds {
        setup = setup.download(&format!("n{round}"), &format!("http://{addr}/big?n={round}"));
    }
    let mounted = setup.start();
    let (mut ours, mut beside) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let out = mounted.scratch().join("curl.out");
        beside.push(curl_first_byte(&format!("http://{addr}/big"), &out) * 1e3);
        let begin = Instant::now();
        let mut file = File::open(mounted.path(&format!("n{round}"))).expect("open");
        file.read_exact(&mut [0]).expect("read");
        ours.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    report.at_most(
        "first byte of a cold 1 GiB at 50 MB/s and 50 ms",
        "ms",
        median(ours),
        (median(beside), "curl"),
        1.2,
    );
    report.note(&mounted);
}

/// Reads a cold name; returns the seconds until the first byte and until the end.
fn read_cold(path: &Path) -> (f64, f64) {
    let begin = Instant::now();
    let mut file = File::open(path).expect("open");
    file.read_exact(&mut [0]).expect("the first byte");
    let first = begin.elapsed().as_secs_f64();
    let mut buf = vec![0; 1 << 20];
    while file.read(&mut buf).expect("read") > 0 {}
    (first, begin.elapsed().as_secs_f64())
}

/// Fetches with curl to a file; returns its seconds until the first byte and the wall time.
fn curl(url: &str, out: &Path) -> (f64, f64) {
    let begin = Instant::now();
    let first = process::run(
        "curl",
        ["-s", "-w", "%{time_starttransfer}", "-o", out.to_str().expect("a plain path"), url],
    );
    let whole = begin.elapsed().as_secs_f64();
    assert!(first.status.success(), "curl failed");
    let text = String::from_utf8_lossy(&first.stdout).into_owned();
    (text.trim().parse().expect("a number"), whole)
}

/// Returns curl's seconds until the first byte, ending it soon after.
fn curl_first_byte(url: &str, out: &Path) -> f64 {
    let result = process::run(
        "curl",
        [
            "-s",
            "-m",
            "0.5",
            "-w",
            "%{time_starttransfer}",
            "-o",
            out.to_str().expect("a plain path"),
            url,
        ],
    );
    let text = String::from_utf8_lossy(&result.stdout).into_owned();
    text.trim().parse().expect("a number")
}

/// Removes a name's blob and lets the disk come to rest, so that no side pays for the other.
fn settle(mounted: &Mounted, name: &str) {
    let _ = mounted.client(&["evict", name]);
    process::run("sync", ["-f".as_ref(), mounted.store().as_os_str()]);
}
