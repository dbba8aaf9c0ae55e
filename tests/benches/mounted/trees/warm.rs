//! A warm tree of 20,000 files, beside the same tree on the disk, and beside other filesystems that
//! show archives.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::{Sample, directories, seconds, shell};
use crate::report::Report;
use crate::support::guards::TempDir;
use crate::support::{Mounted, Nginx, Proc, median, process, wait_until};

const ROUNDS: usize = 5;

/// How many seconds another filesystem is given for a task, or twice what we take; some would take
/// an hour.
const PATIENCE: f64 = 20.0;

/// What is done with a tree, `$1`; how many times as long as on the disk it may take.
const TASKS: &[(&str, &str, f64)] = &[
    ("find -name", "find \"$1\" -name '*.nothing'", 1.0),
    ("find -size", "find \"$1\" -size +100M", 2.0),
    ("tar cf - | cat", "tar -C \"$1\" -cf - . | cat > /dev/null", 2.0),
    ("grep -r", "grep -rq 'this is in no file' \"$1\" || test $? = 1", 2.0),
    ("cp -r", "cp -r \"$1\" \"$2\"", 2.0),
];

pub(super) fn run(report: &mut Report, sample: &Sample) {
    let zip = sample.zip();
    let nginx = Nginx::start();
    nginx.put_file("sample.zip", &zip);
    let catalog = directories([("tree".to_owned(), nginx.url("sample.zip"))], "");
    let mounted = Mounted::with()
        .args(["--quota", "8GiB", "--revalidate-window", "1h"])
        .catalog("trees.toml", &catalog)
        .start();
    let others: Vec<Other> =
        OTHERS.iter().filter_map(|kind| Other::mount(kind, sample, &zip)).collect();
    let ours = mounted.path("tree");
    // Its own daemon, and so its own store.
    let only = Mounted::with()
        .args(["--quota", "8GiB", "--revalidate-window", "1h", "--directories-only"])
        .catalog("trees.toml", &catalog)
        .start();
    let alone = only.path("tree");
    for (name, script, limit) in TASKS {
        let mut times = vec![Vec::new(); 3 + others.len()];
        // Warms up, and says how fast the disk is today.
        let patience = PATIENCE.max(2.0 * task(script, &ours, mounted.scratch())).ceil();
        let patient = format!(
            "timeout {patience} sh -ec '{}' sh \"$1\" \"$2\" || test $? = 124",
            script.replace('\'', "'\\''")
        );
        let unpacked = sample.tree();
        let places = [(&ours, *script), (&unpacked, *script), (&alone, *script)];
        let places: Vec<(&PathBuf, &str)> = places
            .into_iter()
            .chain(others.iter().map(|other| (&other.at, patient.as_str())))
            .collect();
        for round in 0..=ROUNDS {
            for ((place, script), times) in places.iter().zip(&mut times) {
                let slow = times.last().is_some_and(|time| *time > patience);
                if !slow {
                    let time = task(script, place, mounted.scratch());
                    // The first round warms up, unless it is the only one.
                    if round > 0 || time > patience {
                        times.push(time);
                    }
                }
            }
        }
        let times: Vec<f64> = times.into_iter().map(|times| median(times) * 1e3).collect();
        let what = format!("warm tree of 20,000 files: {name}");
        report.at_most(&what, "ms", times[0], (times[1], "the same tree on the disk"), *limit);
        let what = "the same, a mount of directories only";
        report.at_most(what, "ms", times[2], (times[1], "the same tree on the disk"), *limit);
        for (other, time) in others.iter().zip(&times[3..]) {
            let name = other.kind.name;
            let stopped = format!("{name}, stopped before its end");
            let name = if *time > patience * 1e3 { &stopped } else { name };
            report.at_most("the first beside", "ms", times[0], (*time, name), 1.0);
        }
    }
    report.note(&mounted);
    report.note(&only);
}

fn task(script: &str, tree: &Path, scratch: &Path) -> f64 {
    let out = scratch.join("copy");
    let time = seconds(script, tree, &out);
    shell("rm -rf \"$2\"", tree, &out);
    time
}

/// Another filesystem that shows an archive.
struct Kind {
    name: &'static str,
    /// What packs its archive, where that is no zip; `$1` is the tree and `$2` the archive.
    pack: Option<&'static str>,
    /// Its command, to which the archive and the mountpoint are added.
    args: &'static [&'static str],
}

const OTHERS: &[Kind] = &[
    Kind {
        name: "squashfuse",
        pack: Some("mksquashfs \"$1\" \"$2\" -quiet -no-progress"),
        args: &["-f"],
    },
    Kind { name: "fuse-zip", pack: None, args: &["-f", "-r"] },
    Kind { name: "archivemount", pack: None, args: &["-f", "-o", "readonly"] },
];

/// One of them, mounted; unmounted when dropped.
struct Other {
    kind: &'static Kind,
    at: PathBuf,
    server: Proc,
    _dir: TempDir,
}

impl Other {
    fn mount(kind: &'static Kind, sample: &Sample, zip: &Path) -> Option<Other> {
        if process::find(kind.name).is_none() || process::find("mksquashfs").is_none() {
            eprintln!("  not measured: {} or mksquashfs is missing", kind.name);
            return None;
        }
        let dir = TempDir::new();
        let archive = match kind.pack {
            Some(script) => sample.pack(script, "sample.other"),
            None => zip.to_owned(),
        };
        let at = dir.path().join("mnt");
        std::fs::create_dir(&at).expect("make a mountpoint");
        let mut command = process::command(kind.name);
        command.args(kind.args).arg(archive).arg(&at).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Proc::start(&mut command);
        let shown = at.join("VERSION");
        wait_until("another filesystem is mounted", Duration::from_secs(60), || shown.exists());
        Some(Other { kind, at, server, _dir: dir })
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        process::run("umount", [&self.at]);
        self.server.wait(Duration::from_secs(10));
    }
}
