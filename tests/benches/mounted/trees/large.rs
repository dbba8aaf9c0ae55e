//! A zip of 200,000 members: what its index costs.

use std::time::Instant;

use super::directories;
use crate::report::Report;
use crate::support::zip_bytes::{Member, Zip};
use crate::support::{Body, Mounted, Nginx, median, process};

const MEMBERS: usize = 199_000;
const ROUNDS: usize = 5;

pub(super) fn run(report: &mut Report) {
    let name = |n: usize| format!("lib/d{:04}/module-{n:06}.rb", n / 100);
    let zip = Zip {
        zip64: Some((None, None)),
        ..Zip::of((0..MEMBERS - MEMBERS / 100 - 10).map(|n| Member::stored(name(n), "x")))
    };
    let nginx = Nginx::start();
    nginx.put("large.zip", &Body::given(zip.bytes()));
    let (mut cold, mut again, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let url = nginx.url(&format!("large.zip?n={round}"));
        let catalog = directories([("a".to_owned(), url)], "");
        let mut mounted = Mounted::with().catalog("trees.toml", &catalog).start();
        let list = |mounted: &Mounted| {
            let begin = Instant::now();
            assert_eq!(std::fs::read_dir(mounted.path("a")).expect("list").count(), 1);
            begin.elapsed().as_secs_f64()
        };
        cold.push(list(&mounted));
        mounted.stop();
        mounted.start();
        let before = process::memory(mounted.pid()).0;
        again.push(list(&mounted));
        let grown = process::memory(mounted.pid()).0 - before;
        memory.push(grown as f64 * 1024.0 / MEMBERS as f64);
        report.note(&mounted);
    }
    report.below("index of a cold zip of 200,000 members, on loopback", "s", median(cold), "", 2.0);
    report.below("back after a restart", "s", median(again), "", 0.3);
    let what = "resident memory for each of its members, after a restart";
    report.below(what, "bytes", median(memory), "", 150.0);
}
