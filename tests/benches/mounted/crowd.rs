//! Many at once.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::proxy;
use crate::report::Report;
use crate::support::origin::At;
use crate::support::{
    Body, Item, MIB, Mounted, Nginx, Origin, Proc, median, process, quantile, scaled,
};
use crate::warm::open_read_close;

/// The rate of an origin that is slower than this machine, in bytes per second.
const RATE: f64 = 50e6;

/// Measures fifty openers of one name, and one reader beside forty that are stalled.
pub(crate) fn run(report: &mut Report) {
    openers(report, Limit::Line);
    openers(report, Limit::Connection);
    openers(report, Limit::Nothing);
    stalled(report);
}

/// What the origin's bytes are limited by.
#[derive(Clone, Copy, PartialEq)]
enum Limit {
    /// All connections together.
    Line,
    /// Each connection, so that several bring more.
    Connection,
    Nothing,
}

impl Limit {
    fn what(self) -> &'static str {
        match self {
            Limit::Line => "an origin behind a line of 50 MB/s",
            Limit::Connection => "an origin of 50 MB/s for each connection",
            Limit::Nothing => "an origin on loopback without limit",
        }
    }
}

fn openers(report: &mut Report, limit: Limit) {
    const ROUNDS: usize = 5;
    let nginx = Nginx::with(if limit == Limit::Connection { "limit_rate 50m;" } else { "" });
    nginx.put("file", &Body::made(1, 64 * MIB));
    let addr = match limit {
        Limit::Line => proxy::line(nginx.port(), RATE),
        Limit::Connection | Limit::Nothing => ([127, 0, 0, 1], nginx.port()).into(),
    };
    let mut setup = Mounted::with().args(["--quota", "2GiB"]);
    for round in 0..ROUNDS * 2 {
        setup = setup.download(&format!("n{round}"), &format!("http://{addr}/file?n={round}"));
    }
    let mounted = setup.start();
    let (mut one, mut fifty) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        one.push(programs(1, &mounted.path(&format!("n{}", 2 * round))));
        fifty.push(programs(50, &mounted.path(&format!("n{}", 2 * round + 1))));
    }
    let what = format!("50 programs read one cold 64 MiB, {}", limit.what());
    let (fifty, beside) = (median(fifty), (median(one), "one program"));
    if limit == Limit::Line {
        report.at_most(&what, "s", fifty, beside, 1.1);
    } else {
        // Fifty copies of what one program reads: the machine's memory is the limit.
        report.told(&what, "s", fifty, beside);
    }
    std::thread::sleep(Duration::from_millis(200));
    let gets = nginx.log().iter().filter(|line| line.status == 200).count();
    report.exactly(&format!("GETs for {} such names", 2 * ROUNDS), gets, 2 * ROUNDS);
    report.note(&mounted);
}

/// Runs `cat` so many times at once and returns the seconds until the last ended.
fn programs(count: usize, path: &Path) -> f64 {
    let begin = Instant::now();
    let mut running: Vec<Proc> = (0..count).map(|_| Proc::cat(path)).collect();
    for proc in &mut running {
        let status = proc.wait(Duration::from_secs(120)).expect("cat ends");
        assert!(status.success());
    }
    begin.elapsed().as_secs_f64()
}

fn stalled(report: &mut Report) {
    let count = scaled(5000, 20_000);
    let origin = Origin::start();
    origin.put("/good", Item::made(99, MIB));
    let mut setup =
        Mounted::with().download("good", &origin.url("/good")).args(["--revalidate-window", "1h"]);
    for n in 0..40 {
        let path = format!("/stalled{n}");
        origin.put(&path, Item::made(n, 4 * MIB));
        origin.hold(&path, At::Byte(MIB));
        setup = setup.download(&format!("stalled{n}"), &origin.url(&path));
    }
    let mounted = setup.start();
    let good = mounted.path("good");
    std::fs::read(&good).expect("read");
    mounted.wait_complete("good");
    let high = || {
        let times = (0..count).map(|_| {
            let begin = Instant::now();
            open_read_close(&good);
            begin.elapsed().as_secs_f64() * 1e6
        });
        quantile(times.collect(), 0.99)
    };
    let idle = median((0..5).map(|_| high()).collect());
    let mut waiting: Vec<Proc> = (0..40)
        .map(|n| {
            Proc::start(
                process::command("cat")
                    .arg(mounted.path(&format!("stalled{n}")))
                    .stdout(Stdio::null())
                    .stderr(Stdio::null()),
            )
        })
        .collect();
    for proc in &mut waiting {
        proc.wait_blocked();
    }
    let beside = median((0..5).map(|_| high()).collect());
    report.at_most(
        "p99 of open + read + close of a warm name beside 40 stalled readers",
        "us",
        beside,
        (idle, "idle"),
        1.5,
    );
    report.note(&mounted);
    drop(waiting);
    for n in 0..40 {
        origin.release(&format!("/stalled{n}"));
    }
}
