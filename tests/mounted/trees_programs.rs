//! Ordinary programs over trees: cold, warm, and while the archive still arrives.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::support::forest::{Soil, plant};
use crate::support::guards::TempDir;
use crate::support::process::quiet;
use crate::support::survey::{Rules, Survey, differences, survey};
use crate::support::{Mounted, Nginx, needs, scaled};

/// A program that copies a tree, in the shell's words: from `$1` to `$2`, a directory that it makes.
struct Copier {
    name: &'static str,
    script: &'static str,
    /// It gives the copy the times of the original.
    times: bool,
    /// It gives several names of one file to the copy too.
    links: bool,
}

const COPIERS: &[Copier] = &[
    Copier {
        name: "tar",
        script: "mkdir \"$2\"; tar -C \"$1\" -cf - . | tar -C \"$2\" -xPpf -",
        times: true,
        links: true,
    },
    Copier { name: "cp-a", script: "cp -a \"$1\" \"$2\"", times: true, links: true },
    Copier { name: "cp-r", script: "cp -r \"$1\" \"$2\"", times: false, links: false },
    Copier { name: "rsync", script: "rsync -aH \"$1/\" \"$2\"", times: true, links: true },
    Copier {
        name: "git",
        script: "export GIT_DIR=\"$2.git\" LC_ALL=C; git init -q --bare \"$2.git\";
            git --work-tree=\"$1\" -c core.bare=false -c core.autocrlf=false add -A .;
            mkdir \"$2\"; git --work-tree=\"$2\" -c core.bare=false checkout-index -a",
        times: false,
        links: false,
    },
    Copier {
        name: "shutil",
        script: "python3 -c 'import shutil, sys; shutil.copytree(sys.argv[1], sys.argv[2], symlinks=True)' \"$1\" \"$2\"",
        times: true,
        links: false,
    },
];

/// Programs that only look; each prints the same of the original.
const LOOKERS: &[&str] = &[
    "cd \"$1\"; find . -mindepth 1 -printf '%P %y %s %l\\n' | grep -v ' d ' | LC_ALL=C sort",
    "cd \"$1\"; find . -type f -size +3k | LC_ALL=C sort",
    "cd \"$1\"; du -al --apparent-size -b . | grep -v '\\./*$' | wc -l",
    "cd \"$1\"; grep -rlF 'dependency' . | LC_ALL=C sort",
    "cd \"$1\"; find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum",
];

/// What is packed, and how it is served.
struct Sample {
    nginx: Nginx,
    tree: PathBuf,
    expected: Survey,
    _dir: TempDir,
}

impl Sample {
    fn new(limit: &str) -> Sample {
        let (dir, nginx) = (TempDir::new(), Nginx::with(limit));
        let tree = dir.path().join("tree");
        std::fs::create_dir(&tree).expect("make a directory");
        let soil = Soil { bytes: false, path: 400, symlinks: true, hard_links: true };
        plant(&tree, 4, scaled(100, 400), soil);
        // git keeps no empty directories, so the trees that are compared have none.
        std::fs::write(tree.join("manifest.yml"), "language: sample\n").expect("write a file");
        quiet(
            "find",
            [
                tree.as_os_str(),
                "-type".as_ref(),
                "d".as_ref(),
                "-empty".as_ref(),
                "-delete".as_ref(),
            ],
        );
        let expected = survey(&tree).expect("look at the original");
        for (name, script) in [
            ("zip", "cd \"$1\"; zip -qry \"$2\" ."),
            ("tar", "tar --format=posix -cf \"$2\" -C \"$1\" ."),
            ("tar.gz", "tar --format=posix -czf \"$2\" -C \"$1\" ."),
        ] {
            shell(script, &tree, &nginx.root().join(format!("{name}.archive")));
        }
        Sample { nginx, tree, expected, _dir: dir }
    }

    /// Mounts one name for each program and format, so that each meets it cold.
    fn mount(&self) -> Mounted {
        let mut catalog = String::new();
        let lookers = (0..LOOKERS.len()).map(looker);
        for program in COPIERS.iter().map(|copier| copier.name.to_owned()).chain(lookers) {
            for format in FORMATS {
                let name = format!("{program}-{format}");
                let url = self.nginx.url(&format!("{format}.archive?{name}"));
                let _ = writeln!(
                    catalog,
                    "[downloads.\"{name}\"]\nurl = \"{url}\"\nas = \"directory\""
                );
            }
        }
        Mounted::with().catalog("trees.toml", &catalog).start()
    }

    /// Has one program copy one tree, and compares the copy.
    fn copy(&self, mounted: &Mounted, copier: &Copier, format: &str, round: &str) {
        let name = format!("{}-{format}", copier.name);
        let out = mounted.scratch().join(format!("{name}.{round}"));
        shell(copier.script, &mounted.path(&name), &out);
        let mut copied = survey(&out).expect("look at the copy");
        let mut expected = self.expected.clone();
        if !copier.links || format == "zip" {
            // Each name is a file of its own.
            for side in [&mut copied, &mut expected] {
                side.iter_mut().for_each(|(path, seen)| seen.alone(path));
            }
        }
        let second = std::time::Duration::from_secs(1);
        let precision = if copier.times { second } else { std::time::Duration::MAX };
        let rules =
            Rules { precision, no_modes: false, directories_timed: false, links_timed: false };
        let lines = differences(&copied, &expected, &rules);
        assert!(lines.is_empty(), "{name}, {round}:\n{}", lines.join("\n"));
        std::fs::remove_dir_all(&out).expect("remove the copy");
        let _ = std::fs::remove_dir_all(out.with_extension(format!("{round}.git")));
    }

    /// Has one program look at one tree, and compares what it says.
    fn look(&self, mounted: &Mounted, n: usize, format: &str, round: &str) {
        let name = format!("{}-{format}", looker(n));
        let expected = shell(LOOKERS[n], &self.tree, Path::new(""));
        let shown = shell(LOOKERS[n], &mounted.path(&name), Path::new(""));
        assert_eq!(shown, expected, "{name}, {round}: {}", LOOKERS[n]);
    }
}

/// Returns what the names begin with that one of the programs that only look is run on.
fn looker(n: usize) -> String {
    format!("look{n}")
}

const FORMATS: &[&str] = &["zip", "tar", "tar.gz"];

#[track_caller]
fn shell(script: &str, from: &Path, to: &Path) -> String {
    quiet("sh", ["-ec".as_ref(), script.as_ref(), "sh".as_ref(), from, to])
}

#[test]
fn programs_take_trees_cold_and_warm_and_complain_of_nothing() {
    needs!("fuse", "nginx", "rsync", "git", "python3", "zip");
    let sample = Sample::new("");
    let mounted = sample.mount();
    for round in ["cold", "warm"] {
        for copier in COPIERS {
            for format in FORMATS {
                sample.copy(&mounted, copier, format, round);
            }
        }
        for n in 0..LOOKERS.len() {
            for format in FORMATS {
                sample.look(&mounted, n, format, round);
            }
        }
    }
}

#[test]
fn programs_take_trees_while_they_arrive() {
    needs!("fuse", "nginx", "rsync", "git", "python3", "zip");
    // About two seconds for each archive, and all at once.
    let sample = Sample::new("limit_rate 500k;");
    let mounted = sample.mount();
    std::thread::scope(|scope| {
        for copier in COPIERS {
            for format in FORMATS {
                let (sample, mounted) = (&sample, &mounted);
                scope.spawn(move || {
                    for round in ["first", "second"] {
                        sample.copy(mounted, copier, format, round);
                    }
                });
            }
        }
        for n in 0..LOOKERS.len() {
            for format in FORMATS {
                let (sample, mounted) = (&sample, &mounted);
                scope.spawn(move || {
                    for round in ["first", "second"] {
                        sample.look(mounted, n, format, round);
                    }
                });
            }
        }
    });
}
