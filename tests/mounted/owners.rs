//! Several owners bind names: they agree, disagree, fall silent and leave.

use std::time::Duration;

use crate::support::{Body, Item, Mounted, Origin, needs, status, wait_until};

fn binding(name: &str, url: &str) -> String {
    format!("[downloads.{name}]\nurl = \"{url}\"\n")
}

fn listed(mounted: &Mounted) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(mounted.mnt())
        .expect("readdir")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

#[track_caller]
fn becomes(mounted: &Mounted, expected: &[&str]) {
    let mut last = Vec::new();
    let begin = std::time::Instant::now();
    while last != expected {
        assert!(begin.elapsed() < Duration::from_secs(3), "{last:?}, expected {expected:?}");
        std::thread::sleep(Duration::from_millis(20));
        last = listed(mounted);
    }
}

/// Says whether `status` or `ls` speaks of a conflict over a name.
fn in_conflict(mounted: &Mounted, name: &str) -> bool {
    let ls = mounted.ls();
    status::name(&ls, name)["conflict"] == true
}

#[test]
fn owners_agree_disagree_agree_fall_silent_and_leave_across_a_restart() {
    needs!("fuse");
    let origin = Origin::start();
    let (one, two) = (Body::made(1, 5000), Body::made(2, 5000));
    origin.put("/one", Item::made(1, 5000));
    origin.put("/two", Item::made(2, 5000));
    let (url1, url2) = (origin.url("/one"), origin.url("/two"));
    let mut mounted = Mounted::with()
        .catalog("alpha.toml", &binding("a", &url1))
        .catalog("beta.toml", &binding("a", &url1))
        .start();

    // Agree.
    one.check(&mounted.path("a")).expect("agreed");
    assert_eq!(listed(&mounted), ["a"]);
    assert!(!in_conflict(&mounted, "a"));

    // Disagree: the binding in force stays, whoever changes.
    mounted.catalog("alpha.toml", &binding("a", &url2));
    wait_until("a conflict", Duration::from_secs(3), || in_conflict(&mounted, "a"));
    mounted.settle();
    one.check(&mounted.path("a")).expect("the binding in force");
    assert_eq!(listed(&mounted), ["a"]);
    assert_eq!(origin.requests("/two"), 0);

    // A restart forgets none of that.
    mounted.stop();
    mounted.start();
    one.check(&mounted.path("a")).expect("the binding in force after a restart");
    assert!(in_conflict(&mounted, "a"));

    // Agree on the other.
    mounted.catalog("beta.toml", &binding("a", &url2));
    wait_until("no conflict", Duration::from_secs(3), || !in_conflict(&mounted, "a"));
    mounted.settle();
    two.check(&mounted.path("a")).expect("the new source");

    // One file becomes unreadable: no opinion, the last good state stays.
    mounted.catalog("alpha.toml", "this is [not toml");
    wait_until("the fault is told", Duration::from_secs(3), || {
        mounted.status().to_string().contains("alpha.toml")
    });
    mounted.catalog("beta.toml", &binding("b", &url1));
    becomes(&mounted, &["a", "b"]);
    two.check(&mounted.path("a")).expect("alpha still claims it");

    // The unreadable one is deleted: its owner leaves, and the name with it.
    std::fs::remove_file(mounted.catalog_path("alpha.toml")).expect("delete a catalog");
    becomes(&mounted, &["b"]);
    wait_until("the blob is pruned", Duration::from_secs(10), || mounted.blobs().is_empty());
}

#[test]
fn a_catalog_directory_that_is_gone_is_no_opinion() {
    needs!("fuse");
    let origin = Origin::start();
    origin.put("/one", Item::made(1, 5000));
    let mounted = Mounted::names(&[("a", &origin.url("/one"))]);
    let dir = mounted.catalog_path("");
    let aside = mounted.scratch().join("aside");
    std::fs::rename(&dir, &aside).expect("move the directory away");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(listed(&mounted), ["a"]);
    Body::made(1, 5000).check(&mounted.path("a")).expect("still served");
    std::fs::rename(&aside, &dir).expect("move the directory back");
    mounted.catalog("more.toml", &binding("b", &origin.url("/one")));
    mounted.signal(libc::SIGHUP);
    becomes(&mounted, &["a", "b"]);
}

#[test]
fn a_change_is_seen_within_a_second_or_on_sighup() {
    needs!("fuse");
    let origin = Origin::start();
    let url = origin.url("/one");
    let mounted = Mounted::names(&[("a", &url)]);
    mounted.catalog("more.json", &format!("{{\"downloads\":{{\"b\":{{\"url\":\"{url}\"}}}}}}"));
    becomes(&mounted, &["a", "b"]);
    // Neither hidden files nor other suffixes are catalogs.
    mounted.catalog(".hidden.toml", &binding("c", &url));
    mounted.catalog("notes.txt", &binding("d", &url));
    mounted.signal(libc::SIGHUP);
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(listed(&mounted), ["a", "b"]);
    assert_eq!(origin.seen().len(), 0);
}
