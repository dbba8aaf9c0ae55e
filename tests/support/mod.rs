//! What the tests on a real mount stand on: a scripted origin, a real nginx, a mounted daemon that
//! cleans up behind itself, and guards for everything else that could be left behind.
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each target that includes this uses a part of it"
)]

pub(crate) mod body;
pub(crate) mod certs;
pub(crate) mod cgroup;
pub(crate) mod container;
pub(crate) mod dice;
pub(crate) mod forest;
pub(crate) mod guards;
pub(crate) mod mounted;
pub(crate) mod nginx;
pub(crate) mod origin;
mod origin_answer;
mod origin_item;
mod origin_send;
mod origin_serve;
mod origin_wire;
pub(crate) mod os;
pub(crate) mod outputs;
pub(crate) mod packers;
pub(crate) mod parcel;
pub(crate) mod process;
pub(crate) mod status;
pub(crate) mod survey;
pub(crate) mod tar_bytes;
pub(crate) mod zip_bytes;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub(crate) use body::Body;
pub(crate) use mounted::Mounted;
pub(crate) use nginx::Nginx;
pub(crate) use origin::{Framing, Item, Origin};
pub(crate) use process::Proc;

/// One kibibyte, in bytes.
pub(crate) const KIB: u64 = 1 << 10;
/// One mebibyte, in bytes.
pub(crate) const MIB: u64 = 1 << 20;

/// Says whether the long form of the tests was asked for.
pub(crate) fn soak() -> bool {
    std::env::var_os("CACHED_DOWNLOADS_SOAK").is_some()
}

/// Returns the number for the long form of a test when that was asked for, else the short one.
pub(crate) fn scaled<T>(short: T, long: T) -> T {
    if soak() { long } else { short }
}

/// Notes what a test measured: on its output, and in the file that CACHED_DOWNLOADS_FIGURES names.
pub(crate) fn figure(what: &str) {
    let line = format!("{}: {what}", test_name());
    println!("{line}");
    append("CACHED_DOWNLOADS_FIGURES", &line);
}

/// Returns the name of the test that this thread runs.
fn test_name() -> String {
    std::thread::current().name().unwrap_or("a test").to_owned()
}

/// Adds a line to the file that a variable of the environment names, if it does.
fn append(variable: &str, line: &str) {
    if let Some(path) = std::env::var_os(variable) {
        let file = std::fs::File::options().append(true).create(true).open(path);
        let line = format!("{line}\n");
        let written =
            file.and_then(|mut file| std::io::Write::write_all(&mut file, line.as_bytes()));
        written.expect("write a line for the script");
    }
}

/// Waits until `check` holds, looking every few milliseconds.
///
/// # Panics
/// It does not hold within `limit`.
#[track_caller]
pub(crate) fn wait_until(what: &str, limit: Duration, mut check: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !check() {
        assert!(begin.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Returns what `work` returned and how long it took.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let result = work();
    (result, begin.elapsed())
}

/// Raises a flag when dropped, so that the threads that run until then also end when the test
/// fails.
pub(crate) struct Raise<'a>(pub(crate) &'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns the middle of the values; of an even number the upper one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the value below which the share `part` (0 to 1) of the values lies.
pub(crate) fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * part) as usize;
    values[at.min(values.len() - 1)]
}

/// Says what is missing for a test, if anything; panics instead where everything must be there.
pub(crate) fn missing(needs: &[&str]) -> bool {
    let strict = std::env::var_os("CACHED_DOWNLOADS_STRICT").is_some();
    for need in needs {
        let there = match *need {
            "fuse" => exists("/dev/fuse") && (os::is_root() || mounts_for_users()),
            "root" => os::is_root(),
            "cgroup" => cgroup::MemoryLimit::available(),
            path if path.starts_with('/') => exists(path),
            program => process::find(program).is_some(),
        };
        if !there {
            assert!(!strict, "this test needs {need}");
            eprintln!("skipped: this test needs {need}");
            append("CACHED_DOWNLOADS_SKIPPED", &format!("needs {need}: {}", test_name()));
            return true;
        }
    }
    false
}

fn exists(path: &str) -> bool {
    std::path::Path::new(path).exists()
}

/// Says whether fusermount3 mounts and unmounts for an ordinary user.
fn mounts_for_users() -> bool {
    process::find("fusermount3").is_some() && exists("/etc/mtab")
}

/// Ends a test early, saying so, where it lacks something.
macro_rules! needs {
    ($($need:literal),*) => {
        if crate::support::missing(&[$($need),*]) {
            return;
        }
    };
}
pub(crate) use needs;
