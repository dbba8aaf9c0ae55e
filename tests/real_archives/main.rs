//! Real archives, each beside what its own unpacker makes of it. `scripts/real-archives` fetches
//! them and runs this; without the variable CACHED_DOWNLOADS_REAL_ARCHIVES, which names a file with
//! a path on each line, nothing is run.

#[path = "../support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::guards::TempDir;
use support::survey::{Rules, Survey, differences, survey};
use support::{Mounted, Nginx, needs, process, timed};

/// unzip gives files two seconds where the archive has no more, and links no times; what is
/// implied has none. Wheels and npm's tarballs have no entries for directories.
const RULES: Rules = Rules {
    precision: Duration::from_secs(1),
    no_modes: false,
    directories_timed: false,
    links_timed: false,
};

/// Unpacks an archive as its users do.
fn unpack(archive: &Path, to: &Path) {
    let script = match archive.extension().and_then(|extension| extension.to_str()) {
        Some("whl") => "unzip -qq \"$1\" -d \"$2\"",
        _ => "mkdir \"$2\"; tar --warning=no-unknown-keyword -xpf \"$1\" -C \"$2\"",
    };
    let output = process::command("sh")
        .args(["-ec", script, "sh"])
        .args([archive, to])
        .envs([("LC_ALL", "C.UTF-8"), ("TZ", "UTC")])
        .output()
        .expect("run sh");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{archive:?}: {said}");
}

/// Says how what is shown differs, in a few lines.
fn compare(shown: &Path, expected: &Survey) -> Result<(), String> {
    let shown = survey(shown)?;
    let lines = differences(&shown, expected, &RULES);
    match lines.len() {
        0 => Ok(()),
        count => Err(format!("{count} differences:\n{}", lines[..count.min(20)].join("\n"))),
    }
}

#[test]
fn real_archives_show_what_their_unpackers_make() {
    let Some(list) = std::env::var_os("CACHED_DOWNLOADS_REAL_ARCHIVES") else {
        eprintln!(
            "not run: CACHED_DOWNLOADS_REAL_ARCHIVES names no list; see scripts/real-archives"
        );
        return;
    };
    needs!("fuse", "nginx", "unzip");
    let list = std::fs::read_to_string(list).expect("read the list that the variable names");
    let archives: Vec<PathBuf> = list.lines().map(PathBuf::from).collect();
    assert!(!archives.is_empty(), "the list is empty");

    let (nginx, dir) = (Nginx::start(), TempDir::new());
    let mut catalog = String::new();
    for (n, archive) in archives.iter().enumerate() {
        let name = format!("n{n}");
        nginx.put_file(&name, archive);
        let url = nginx.url(&name);
        let _ = writeln!(catalog, "[downloads.{name}]\nurl = \"{url}\"\nas = \"directory\"");
    }
    let mut mounted = Mounted::with().catalog("real.toml", &catalog).start();
    let mut expected = Vec::new();
    for (n, archive) in archives.iter().enumerate() {
        let unpacked = dir.path().join(format!("n{n}"));
        unpack(archive, &unpacked);
        expected.push(survey(&unpacked).expect("look at what was unpacked"));
    }
    let mut failures = String::new();
    for round in ["cold", "warm", "after a restart"] {
        if round == "after a restart" {
            mounted.stop();
            mounted.start();
        }
        for (n, archive) in archives.iter().enumerate() {
            let (result, time) = timed(|| compare(&mounted.path(&format!("n{n}")), &expected[n]));
            let name = archive.file_name().unwrap_or_default();
            let length = std::fs::metadata(archive).map_or(0, |meta| meta.len()) / 1024;
            println!(
                "{name:?}, {round}: {length} KiB, {} nodes, {time:?}: {}",
                expected[n].len(),
                if result.is_ok() { "the same" } else { "DIFFERENT" }
            );
            if let Err(error) = result {
                let _ = writeln!(failures, "{name:?}, {round}: {error}");
            }
        }
    }
    assert!(failures.is_empty(), "{failures}");
}
