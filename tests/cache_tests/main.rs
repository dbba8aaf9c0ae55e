//! The public data of the http-tests/cache-tests project, played on a real mount with
//! `revalidate = "http"`. `scripts/cache-tests` fetches the data and runs this; without the
//! variable CACHED_DOWNLOADS_CACHE_TESTS, which names it, nothing is run.

#[path = "../support/mod.rs"]
mod support;

mod applies;
mod data;
mod origin;
mod play;
mod report;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Mutex;

use data::Suite;
use play::{Outcome, Player};
use support::{Mounted, needs};

/// How many tests are played at once; nearly all of their time is waiting.
const AT_ONCE: usize = 64;

#[test]
fn every_required_test_that_applies_passes() {
    let Some(file) = std::env::var_os("CACHED_DOWNLOADS_CACHE_TESTS") else {
        eprintln!("not run: CACHED_DOWNLOADS_CACHE_TESTS names no data; see scripts/cache-tests");
        return;
    };
    needs!("fuse");
    let text = std::fs::read_to_string(&file).expect("read the file that the variable names");
    let suites: Vec<Suite> = serde_json::from_str(&text).expect("the data of cache-tests");

    let mut report = report::Report::default();
    let mut catalog = String::new();
    let mut players = VecDeque::new();
    for suite in &suites {
        for test in &suite.tests {
            match applies::reason_against(test) {
                Some(reason) => report.left_out(suite, test, reason),
                None => {
                    let player = Player::new(test);
                    let _ = writeln!(catalog, "{}", player.binding());
                    players.push_back((suite, player));
                }
            }
        }
    }
    let setup = Mounted::with().args(["--revalidate-window", "0"]);
    let mounted = setup.catalog("cache-tests.toml", &catalog).start();
    let (players, report) = (Mutex::new(players), Mutex::new(report));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((suite, player)) = next(&players) {
                    let outcome: Outcome = player.play(&mounted.path(&player.test.id));
                    report.lock().expect("the report").played(suite, player.test, outcome);
                }
            });
        }
    });
    let report = report.into_inner().expect("the report");
    println!("{report}");
    assert!(report.passes(), "a required test failed, see above");
}

fn next<T>(queue: &Mutex<VecDeque<T>>) -> Option<T> {
    queue.lock().expect("the queue").pop_front()
}
