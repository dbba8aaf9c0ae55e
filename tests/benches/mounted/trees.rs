//! Archives as directories.

mod buildpacks;
mod cold;
mod large;
mod stream;
mod warm;

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::report::Report;
use crate::support::dice::Dice;
use crate::support::guards::TempDir;
use crate::support::process;

/// How many files the sample trees have.
const FILES: usize = 20_000;
/// A round trip to an origin that is far away, in milliseconds.
const ROUND_TRIP: u64 = 20;
/// What such an origin sends over each connection, in bytes per second.
const RATE: f64 = 50e6;
const MB: f64 = 1e6;

/// Measures cold archives, beside fetching and unpacking them.
pub(crate) fn run(report: &mut Report) {
    if !can_pack() {
        return;
    }
    let sample = Sample::new(13_500, 6_500);
    cold::run(report, &sample);
    stream::run(report, &sample);
}

/// Measures the index of a large archive.
pub(crate) fn members(report: &mut Report) {
    large::run(report);
}

/// Measures what a builder does with many of them.
pub(crate) fn packs(report: &mut Report) {
    if can_pack() {
        buildpacks::run(report);
    }
}

/// Measures a warm tree beside the same one on the disk.
pub(crate) fn unpacked(report: &mut Report) {
    if can_pack() {
        warm::run(report, &Sample::new(900, 2_700));
    }
}

fn can_pack() -> bool {
    let missing = crate::support::missing(&["zip", "unzip"]);
    if missing {
        eprintln!("  not measured: zip or unzip is missing");
    }
    !missing
}

/// A tree of [`FILES`] files in directories of fifty, and a script.
struct Sample {
    dir: TempDir,
}

impl Sample {
    /// Makes one; so many bytes of each file are noise, and so many pack well.
    fn new(noise: usize, text: usize) -> Sample {
        let dir = TempDir::new();
        let tree = dir.path().join("tree");
        for n in 0..FILES {
            let at = tree.join(format!("lib/d{:03}", n / 50));
            if n % 50 == 0 {
                std::fs::create_dir_all(&at).expect("make a directory");
            }
            let mut dice = Dice::branch(20, n as u64);
            let bytes = [dice.bytes(noise, true), dice.bytes(text, false)].concat();
            std::fs::write(at.join(format!("module-{n:05}.rb")), bytes).expect("write a file");
        }
        std::fs::create_dir(tree.join("bin")).expect("make a directory");
        script(&tree.join("bin/detect"));
        std::fs::write(tree.join("VERSION"), "1.0.0\n").expect("write a file");
        Sample { dir }
    }

    fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    /// Packs the tree by the shell's words, `$1` being the tree and `$2` the archive.
    fn pack(&self, script: &str, name: &str) -> PathBuf {
        let archive = self.dir.path().join(name);
        shell(script, &self.tree(), &archive);
        archive
    }

    fn zip(&self) -> PathBuf {
        self.pack("cd \"$1\"; zip -1qr \"$2\" .", "sample.zip")
    }
}

/// Writes a script that says that it fits.
fn script(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, "#!/bin/sh\necho sample\n").expect("write a script");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path, mode).expect("make it executable");
}

/// Runs a script of the shell; `$1` and `$2` are paths.
fn shell(script: &str, first: &Path, second: &Path) {
    let output = process::command("sh")
        .args(["-ec", script, "sh"])
        .args([first, second])
        .output()
        .expect("run sh");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {}: {said}", output.status);
}

/// Runs a script of the shell and returns the seconds it took.
fn seconds(script: &str, first: &Path, second: &Path) -> f64 {
    let begin = Instant::now();
    shell(script, first, second);
    begin.elapsed().as_secs_f64()
}

/// Runs a program of a tree to its end.
fn execute(path: &Path) {
    let output = process::command(path.to_str().expect("a plain path")).output().expect("run it");
    assert!(output.status.success() && output.stdout == b"sample\n", "{path:?}");
}

/// Returns a catalog that shows archives as directories; `more` are lines for each.
fn directories(names: impl IntoIterator<Item = (String, String)>, more: &str) -> String {
    let one = |(name, url): (String, String)| {
        format!("[downloads.\"{name}\"]\nurl = \"{url}\"\nas = \"directory\"\n{more}\n")
    };
    names.into_iter().map(one).collect()
}
