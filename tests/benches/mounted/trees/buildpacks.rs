//! Twelve cold buildpacks of 250 MB, of which a builder runs a script each.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{MB, ROUND_TRIP, directories, execute, script, shell};
use crate::proxy;
use crate::report::Report;
use crate::support::dice::Dice;
use crate::support::guards::TempDir;
use crate::support::{Mounted, Nginx, median, process};

const COUNT: usize = 12;
const ROUNDS: usize = 5;

pub(super) fn run(report: &mut Report) {
    let pack = Pack::new();
    let nginx = Nginx::with("limit_rate 50m;");
    nginx.put_file("pack.zip", &pack.zip);
    let addr = proxy::start(nginx.port(), Duration::from_millis(ROUND_TRIP));
    let base = format!("http://{addr}/pack.zip");
    let whole = download_and_unzip(&base);
    let beside = (whole, "curl (five at once) and unzip, all twelve, once");
    detect(report, &nginx, &base, "no digest", "", beside, &pack);
    let eventual = format!("sha256 = \"{}\"\nintegrity = \"eventual\"", pack.sha256);
    detect(report, &nginx, &base, "eventual digests", &eventual, beside, &pack);
    strict(report, &nginx, &pack);
}

/// A buildpack and what is known of it. All names have the same bytes, from URLs of their own.
struct Pack {
    _dir: TempDir,
    zip: PathBuf,
    sha256: String,
    length: f64,
}

impl Pack {
    fn new() -> Pack {
        let dir = TempDir::new();
        let (tree, zip) = (dir.path().join("tree"), dir.path().join("pack.zip"));
        std::fs::create_dir_all(tree.join("bin")).expect("make a directory");
        for name in ["detect", "supply", "finalize", "release"] {
            script(&tree.join("bin").join(name));
        }
        std::fs::write(tree.join("VERSION"), "1.0.0\n").expect("write a file");
        std::fs::write(tree.join("manifest.yml"), "language: sample\n").expect("write a file");
        for n in 0..10 {
            let at = tree.join(format!("dependencies/{n:032x}"));
            std::fs::create_dir_all(&at).expect("make a directory");
            // Packed before, so deflating gains nothing.
            let bytes = Dice::new(n).bytes(25_000_000, true);
            std::fs::write(at.join("dependency.tgz"), bytes).expect("write a file");
        }
        shell("cd \"$1\"; zip -1qr \"$2\" .", &tree, &zip);
        let sum = process::quiet("sha256sum", [&zip]);
        let length = std::fs::metadata(&zip).expect("stat").len() as f64;
        Pack { _dir: dir, zip, sha256: sum[..64].to_owned(), length }
    }
}

/// Fetches and unpacks all twelve, five downloads at once, as cells do today.
fn download_and_unzip(url: &str) -> f64 {
    let dir = TempDir::new();
    let fetch = "seq 12 | xargs -P 5 -I N curl -sS -o \"$1/N.zip\" \"$2?curl=N\";
        for n in $(seq 12); do unzip -qq -d \"$1/$n\" \"$1/$n.zip\"; done";
    super::seconds(fetch, dir.path(), url.as_ref())
}

/// Stats and runs bin/detect of each of twelve, one after another.
fn detect(
    report: &mut Report,
    nginx: &Nginx,
    base: &str,
    mode: &str,
    more: &str,
    beside: (f64, &str),
    pack: &Pack,
) {
    let (mut times, mut fetched, mut requests) = (Vec::new(), Vec::new(), 0);
    for round in 0..ROUNDS {
        let url = |n: usize| (format!("n{n}"), format!("{base}?{mode}{round}n={n}"));
        let names = (0..COUNT).map(url).map(|(name, url)| (name, url.replace(' ', "")));
        let catalog = directories(names, more);
        let mounted =
            Mounted::with().args(["--quota", "8GiB"]).catalog("trees.toml", &catalog).start();
        let before = nginx.log().len();
        let begin = Instant::now();
        for n in 0..COUNT {
            let pack = mounted.path(&format!("n{n}"));
            std::fs::metadata(pack.join("bin")).expect("stat");
            std::fs::metadata(pack.join("bin/detect")).expect("stat");
            execute(&pack.join("bin/detect"));
        }
        times.push(begin.elapsed().as_secs_f64());
        fetched.push(mounted.number("bytes_from_origin") as f64);
        requests = nginx.log().len() - before;
        report.note(&mounted);
    }
    let (times, fetched) = (median(times), median(fetched));
    let what =
        format!("stat and bin/detect of 12 cold buildpacks (3 GB), {mode}, 50 MB/s and 20 ms");
    report.below(&what, "s", times, &format!("{:.1} s, {}", beside.0, beside.1), 3.0);
    let share = fetched / (pack.length * COUNT as f64) * 100.0;
    let beside = format!("{:.2} MB in {requests} requests", fetched / MB);
    report.below("fetched for that", "%", share, &beside, 1.0);
}

/// Reads the last byte, which is there when all has come and its digest has matched.
fn read_the_end(path: &Path) {
    let file = File::open(path).expect("open");
    let length = file.metadata().expect("stat").len();
    file.read_exact_at(&mut [0], length - 1).expect("read");
}

/// With digests checked first the archives are downloaded: no more than that is paid for.
fn strict(report: &mut Report, nginx: &Nginx, pack: &Pack) {
    const ROUNDS: usize = 3;
    let digest = format!("sha256 = \"{}\"", pack.sha256);
    let (mut ours, mut beside) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for form in ["directory", "file"] {
            let one = |n: usize| {
                let url = nginx.url(&format!("pack.zip?{form}{round}n={n}"));
                format!("[downloads.n{n}]\nurl = \"{url}\"\nas = \"{form}\"\n{digest}\n")
            };
            let catalog: String = (0..COUNT).map(one).collect();
            let mounted =
                Mounted::with().args(["--quota", "12GiB"]).catalog("packs.toml", &catalog).start();
            let begin = Instant::now();
            std::thread::scope(|scope| {
                for n in 0..COUNT {
                    let path = mounted.path(&format!("n{n}"));
                    scope.spawn(move || match form {
                        "directory" => execute(&path.join("bin/detect")),
                        _ => read_the_end(&path),
                    });
                }
            });
            let time = begin.elapsed().as_secs_f64();
            if form == "directory" {
                ours.push(time)
            } else {
                beside.push(time)
            }
            report.note(&mounted);
        }
    }
    let what = "bin/detect of 12 cold buildpacks at once, strict digests, 50 MB/s each";
    report.at_most(what, "s", median(ours), (median(beside), "the downloads alone"), 1.05);
}
