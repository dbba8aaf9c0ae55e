//! Trees over kill -9, and over a wish for room.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::support::dice::Dice;
use crate::support::tar_bytes::{Block, tar};
use crate::support::zip_bytes::{Member, Zip, filter};
use crate::support::{
    Body, Item, MIB, Mounted, Origin, Proc, figure, needs, process, scaled, status, wait_until,
};

/// What an archive holds: paths and bytes.
type Files = BTreeMap<String, Vec<u8>>;

/// Makes files of about `total` bytes in all; half of them pack well.
fn files(seed: u64, count: u64, total: u64) -> Files {
    let each = (total / count) as usize;
    let one = |n: u64| {
        let mut dice = Dice::branch(seed, n);
        let len = each / 2 + dice.below(each as u64) as usize;
        let noise = n.is_multiple_of(2);
        (format!("d{}/f{n}", n % 7), dice.bytes(len, noise))
    };
    (0..count).map(one).collect()
}

fn zip(files: &Files) -> Vec<u8> {
    // Every third is stored, so that both ways of a zip are met.
    let member = |(n, (name, bytes)): (usize, (&String, &Vec<u8>))| {
        if n % 3 == 0 { Member::stored(name, bytes) } else { Member::deflated(name, bytes) }
    };
    Zip::of(files.iter().enumerate().map(member)).bytes()
}

fn tar_of(files: &Files) -> Vec<u8> {
    let blocks: Vec<Block> = files.iter().map(|(name, bytes)| Block::file(name, bytes)).collect();
    tar(&blocks)
}

/// Puts an archive at the origin, in ranges and with a strong tag.
fn put(origin: &Origin, path: &str, bytes: &[u8], tag: &str) {
    let etag = Some(format!("\"{tag}\""));
    origin.put(path, Item { etag, ranges: true, ..Item::new(Body::given(bytes)) });
}

fn directory(name: &str, url: &str) -> String {
    format!("[downloads.\"{name}\"]\nurl = \"{url}\"\nas = \"directory\"\n")
}

/// Reads every file of a tree, and checks that there are no others.
#[track_caller]
fn check_all(root: &Path, files: &Files, when: &str) {
    for (name, bytes) in files {
        let read = std::fs::read(root.join(name)).unwrap_or_else(|e| panic!("{when}: {name}: {e}"));
        assert!(read == *bytes, "{when}: {name} has other bytes");
    }
    let mut found = 0;
    for dir in std::fs::read_dir(root).expect("list the tree").flatten() {
        found += std::fs::read_dir(dir.path()).expect("list a directory").count();
    }
    assert_eq!(found, files.len(), "{when}: files listed");
}

/// Reads files here and there until the filesystem is gone.
fn wander(root: &Path, files: &Files, seed: u64) {
    let names: Vec<&String> = files.keys().collect();
    let mut dice = Dice::new(seed);
    loop {
        let name = names[dice.below(names.len() as u64) as usize];
        let Ok(mut file) = std::fs::File::open(root.join(name)) else { return };
        let mut bytes = Vec::new();
        if file.read_to_end(&mut bytes).is_err() {
            return;
        }
        // A file cut short by the end of the daemon would be an error above.
        assert!(bytes == files[name], "{name} has other bytes");
    }
}

#[test]
fn a_tree_is_right_after_kill_9_at_any_moment() {
    needs!("fuse", "gzip");
    let rounds = scaled(6, 60);
    let origin = Origin::start();
    let files = files(1, 120, 12 * MIB);
    let plain = tar_of(&files);
    let archives = [
        ("zip", zip(&files)),
        ("tar", plain.clone()),
        ("tar.gz", filter("gzip", &["-1nc"], &plain)),
        ("tar.zst", filter("zstd", &["-qc"], &plain)),
    ];
    let names: Vec<&str> = archives.iter().map(|(name, _)| *name).collect();
    let mut catalog = String::new();
    for (name, bytes) in &archives {
        let path = format!("/{name}");
        put(&origin, &path, bytes, name);
        // Slow enough that a kill meets archives that arrive, fast enough that some are whole.
        origin.edit(&path, |item| item.rate = Some(40 * MIB));
        catalog += &directory(name, &origin.url(&path));
    }
    let mut mounted = Mounted::with().catalog("trees.toml", &catalog).start();
    for round in 0..rounds {
        let evicted = names[round as usize % names.len()];
        let _ = mounted.client(&["evict", evicted]);
        std::thread::scope(|scope| {
            for (n, name) in names.iter().enumerate() {
                let (root, files) = (mounted.path(name), &files);
                scope.spawn(move || wander(&root, files, round * 10 + n as u64));
            }
            std::thread::sleep(Duration::from_millis(20 + round * 67 % 600));
            mounted.signal(libc::SIGKILL);
        });
        mounted.kill();
        mounted.start();
        assert!(
            mounted.started_in < Duration::from_secs(1),
            "ready after {:?}",
            mounted.started_in
        );
        for name in &names {
            check_all(&mounted.path(name), &files, &format!("round {round}, {name}"));
        }
    }
    figure(&format!("{rounds} kills among {} trees of 120 files", names.len()));
}

#[test]
fn a_large_index_is_whole_after_kill_9_while_it_is_made() {
    needs!("fuse");
    const MEMBERS: usize = 60_000;
    let name = |n: usize| format!("d{:03}/f{n}", n / 100);
    let zip = Zip::of((0..MEMBERS).map(|n| Member::stored(name(n), "x"))).bytes();
    let origin = Origin::start();
    put(&origin, "/a", &zip, "1");
    let catalog = directory("a", &origin.url("/a"));
    let mut mounted = Mounted::with().catalog("trees.toml", &catalog).start();
    let root = mounted.path("a");
    let count = |dir: &Path| std::fs::read_dir(dir).expect("list").count();
    for round in 0..scaled(5, 40) {
        let _ = mounted.client(&["evict", "a"]);
        let mut ls = process::command("ls");
        let ls = ls.arg(&root).stdout(Stdio::null()).stderr(Stdio::null());
        let ls = Proc::start(ls);
        std::thread::sleep(Duration::from_millis(round * 37 % 500));
        mounted.kill();
        drop(ls);
        mounted.start();
        assert_eq!(count(&root), MEMBERS / 100, "round {round}");
        assert_eq!(count(&root.join("d599")), 100, "round {round}");
        assert_eq!(std::fs::read(root.join(name(MEMBERS - 1))).expect("read"), b"x");
    }
}

#[test]
fn what_was_unpacked_is_not_fetched_again_after_kill_9() {
    needs!("fuse", "gzip");
    let origin = Origin::start();
    let files = files(2, 40, 4 * MIB);
    put(&origin, "/zip", &zip(&files), "1");
    put(&origin, "/tar", &filter("gzip", &["-1nc"], &tar_of(&files)), "1");
    let catalog = directory("zip", &origin.url("/zip")) + &directory("tar", &origin.url("/tar"));
    let mut mounted = Mounted::with().catalog("trees.toml", &catalog).start();
    for name in ["zip", "tar"] {
        check_all(&mounted.path(name), &files, "cold");
    }
    mounted.wait_complete("tar");
    mounted.kill();
    origin.forget();
    mounted.start();
    for name in ["zip", "tar"] {
        check_all(&mounted.path(name), &files, "after kill -9");
    }
    let (sent, conditional) = (origin.sent("/zip") + origin.sent("/tar"), origin.answered(304));
    figure(&format!("{sent} bytes fetched again, {conditional} answers of 304"));
    assert_eq!(origin.count("/tar", 200) + origin.count("/tar", 206), 0, "the tar was whole");
    assert!(sent <= MIB, "{sent} bytes fetched again");
}

#[test]
fn a_tree_is_evicted_while_nobody_is_in_it_and_kept_while_somebody_is() {
    needs!("fuse");
    let origin = Origin::start();
    let mut catalog = String::new();
    let files: Vec<Files> = (0..6).map(|n| files(10 + n, 30, 6 * MIB)).collect();
    for (n, files) in files.iter().enumerate() {
        put(&origin, &format!("/{n}"), &zip(files), &n.to_string());
        catalog += &directory(&format!("n{n}"), &origin.url(&format!("/{n}")));
    }
    let setup = Mounted::with().catalog("trees.toml", &catalog);
    let mounted = setup.args(["--quota", "24MiB", "--hard-limit", "34MiB"]).start();
    let held = {
        let (name, _) = files[0].iter().next().expect("a file");
        check_all(&mounted.path("n0"), &files[0], "cold");
        std::fs::File::open(mounted.path("n0").join(name)).expect("open a file of the tree")
    };
    for (n, files) in files.iter().enumerate().skip(1) {
        check_all(&mounted.path(&format!("n{n}")), files, &format!("n{n}"));
        assert!(mounted.du() <= 34 * MIB, "{} bytes after n{n}", mounted.du());
    }
    assert!(mounted.number("evictions") >= 3, "{} evictions", mounted.number("evictions"));
    let requests = origin.requests("/0");
    check_all(&mounted.path("n0"), &files[0], "held");
    assert!(origin.count("/0", 200) + origin.count("/0", 206) <= requests, "fetched again");
    assert_ne!(mounted.state("n0"), "absent");
    drop(held);
    // Nobody is in it any more: it goes with its unpacked bytes.
    // What was booked ahead of its writing is settled once nobody unpacks any more.
    wait_until("the books agree with the disk", Duration::from_secs(5), || {
        mounted.number("stored").abs_diff(mounted.du()) < 128 << 10
    });
    wait_until("n0 can be evicted", Duration::from_secs(10), || {
        mounted.client(&["evict", "n0"]).status.success()
    });
    assert_eq!(mounted.state("n0"), "absent");
    wait_until("its files are gone", Duration::from_secs(5), || {
        trees(&mounted).len() <= mounted.blobs().len() * 3
    });
}

/// Returns the names of the files of trees in the store.
fn trees(mounted: &Mounted) -> Vec<String> {
    let entries = std::fs::read_dir(mounted.store().join("v1/trees")).into_iter().flatten();
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[test]
fn no_file_of_a_tree_stays_without_its_archive() {
    needs!("fuse", "gzip");
    let origin = Origin::start();
    let files = files(3, 20, MIB);
    put(&origin, "/a", &filter("gzip", &["-1nc"], &tar_of(&files)), "1");
    let catalog = directory("a", &origin.url("/a"));
    let mut mounted = Mounted::with().catalog("trees.toml", &catalog).start();
    check_all(&mounted.path("a"), &files, "cold");
    mounted.wait_complete("a");
    assert!(!trees(&mounted).is_empty(), "the store holds what was unpacked");
    mounted.kill();
    // The archive is gone, as after damage; what was unpacked from it goes too.
    for id in mounted.blobs() {
        std::fs::remove_file(mounted.store().join("v1/blobs").join(id)).expect("remove the blob");
    }
    mounted.start();
    assert_eq!(trees(&mounted), Vec::<String>::new());
    check_all(&mounted.path("a"), &files, "fetched again");
    assert_eq!(status::name(&mounted.ls(), "a")["name"], "a");
}
