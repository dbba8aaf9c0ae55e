//! Catalogs on disk: what is seen of them, and what a restart remembers.

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::catalog::{CatalogError, Catalogs, Change, Rules, Secrets};

struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("catalog.d")).unwrap();
        Place { root }
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("catalog.d")
    }

    /// Writes a catalog the way writers should.
    fn write(&self, file: &str, binds: &[(&str, &str)]) {
        let text: String = binds
            .iter()
            .map(|(n, host)| format!("[downloads.\"{n}\"]\nurl = \"http://{host}/\"\n"))
            .collect();
        self.raw(file, &format!("[downloads]\n{text}"));
    }

    fn raw(&self, file: &str, text: &str) {
        let private = self.dir().join(".new");
        std::fs::write(&private, text).unwrap();
        std::fs::rename(private, self.dir().join(file)).unwrap();
    }

    fn delete(&self, file: &str) {
        std::fs::remove_file(self.dir().join(file)).unwrap();
    }

    fn open(&self) -> Catalogs {
        self.open_paths(&[self.dir()]).unwrap()
    }

    fn open_paths(&self, paths: &[PathBuf]) -> Result<Catalogs, CatalogError> {
        Catalogs::open(paths, &[], Secrets::None.into(), self.root.path())
    }
}

/// Shows what is in force: `n=host`, with `!` in conflict.
fn shown(catalogs: &Catalogs) -> String {
    let names = catalogs.bindings().names().map(|(name, binding)| {
        let mark = if binding.conflict.is_some() { "!" } else { "" };
        format!("{name}={}{mark}", binding.source.url.host_str().unwrap_or_default())
    });
    names.collect::<Vec<_>>().join(" ")
}

fn counts(change: &Change) -> (usize, usize, usize, usize) {
    let diff = &change.diff;
    (diff.added.len(), diff.removed.len(), diff.changed.len(), change.problems.len())
}

#[test]
fn files_come_change_break_and_go() {
    let place = Place::new();
    place.write("a.toml", &[("n", "x"), ("m", "x")]);
    place.raw("b.json", "{\"downloads\":{}}");
    place.raw("notes.txt", "not a catalog");
    place.raw(".hidden.toml", "not a catalog");
    let mut catalogs = place.open();
    assert_eq!(shown(&catalogs), "m=x n=x");
    assert!(catalogs.problems().is_empty());
    assert_eq!(counts(&catalogs.reload()), (0, 0, 0, 0));

    place.write("a.toml", &[("n", "y"), ("k", "y")]);
    assert_eq!(counts(&catalogs.reload()), (1, 1, 1, 0));
    assert_eq!(shown(&catalogs), "k=y n=y");

    place.raw("a.toml", "[downloads");
    assert_eq!(counts(&catalogs.reload()), (0, 0, 0, 1), "broken: no opinion");
    place.raw("a.toml", "");
    assert_eq!(counts(&catalogs.reload()), (0, 0, 0, 1), "truncated: no opinion");
    place.delete("a.toml");
    std::os::unix::fs::symlink("nowhere", place.dir().join("a.toml")).unwrap();
    assert_eq!(counts(&catalogs.reload()), (0, 0, 0, 1), "dangling: no opinion");
    place.delete("a.toml");
    std::fs::create_dir(place.dir().join("a.toml")).unwrap();
    assert_eq!(counts(&catalogs.reload()), (0, 0, 0, 1), "not a file: no opinion");
    std::fs::remove_dir(place.dir().join("a.toml")).unwrap();
    assert_eq!(counts(&catalogs.reload()), (0, 2, 0, 0), "deleted: withdrawn");
    assert!(catalogs.bindings().is_empty());
}

#[test]
fn a_directory_that_is_gone_has_no_opinion() {
    let place = Place::new();
    place.write("a.toml", &[("n", "x")]);
    let file = place.root.path().join("single.d");
    std::fs::create_dir(&file).unwrap();
    let file = file.join("s.toml");
    std::fs::write(&file, "[downloads.s]\nurl='http://s/'").unwrap();
    let mut catalogs = place.open_paths(&[place.dir(), file.clone()]).unwrap();
    std::fs::rename(place.dir(), place.root.path().join("away")).unwrap();
    std::fs::rename(file.parent().unwrap(), place.root.path().join("away2")).unwrap();
    assert_eq!(counts(&catalogs.reload()), (0, 0, 0, 2));
    assert_eq!(counts(&catalogs.reload()), (0, 0, 0, 2));
    assert_eq!(shown(&catalogs), "n=x s=s");
    std::fs::rename(place.root.path().join("away"), place.dir()).unwrap();
    std::fs::rename(place.root.path().join("away2"), file.parent().unwrap()).unwrap();
    assert_eq!(counts(&catalogs.reload()), (0, 0, 0, 0));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(counts(&catalogs.reload()), (0, 1, 0, 0), "a deleted file withdraws");
}

#[test]
fn owners_agree_and_disagree_across_restarts() {
    let place = Place::new();
    place.write("a.toml", &[("n", "x")]);
    place.write("b.toml", &[("n", "x")]);
    assert_eq!(shown(&place.open()), "n=x");
    // While nobody runs, the first owner departs.
    place.write("a.toml", &[("n", "y")]);
    assert_eq!(shown(&place.open()), "n=x!");
    // And the second one: what is in force stands in no file any more.
    place.write("b.toml", &[("n", "z")]);
    assert_eq!(shown(&place.open()), "n=x!");
    assert_eq!(shown(&place.open()), "n=x!");
    // One becomes unreadable: the conflict goes on.
    place.raw("b.toml", "?");
    let mut catalogs = place.open();
    assert_eq!(shown(&catalogs), "n=x!");
    assert!(catalogs.bindings().may_prune(), "what it said last is known");
    // It is deleted.
    place.delete("b.toml");
    catalogs.reload();
    assert_eq!(shown(&catalogs), "n=y");
}

#[test]
fn a_restart_beside_an_unreadable_catalog_prunes_nothing() {
    let place = Place::new();
    place.write("a.toml", &[("n", "x"), ("m", "x")]);
    place.write("b.toml", &[("k", "x")]);
    place.open();
    place.raw("a.toml", "?");
    let mut catalogs = place.open();
    assert_eq!(shown(&catalogs), "k=x m=x n=x");
    assert_eq!(catalogs.problems().len(), 1);
    place.write("a.toml", &[("n", "x")]);
    assert_eq!(counts(&catalogs.reload()), (0, 1, 0, 0));

    // Even what was in force is lost: then nothing may be pruned until all is read.
    place.raw("a.toml", "?");
    std::fs::write(place.root.path().join("catalogs.json"), "damaged").unwrap();
    let mut catalogs = place.open();
    assert_eq!(shown(&catalogs), "k=x");
    assert_eq!(catalogs.problems().len(), 2, "{:?}", catalogs.problems());
    assert!(!catalogs.bindings().may_prune());
    place.write("a.toml", &[("n", "x")]);
    catalogs.reload();
    assert!(catalogs.bindings().may_prune());
}

#[test]
fn a_bad_start() {
    let place = Place::new();
    let refused = |paths: &[PathBuf]| place.open_paths(paths).err().unwrap().to_string();
    let missing = place.root.path().join("missing");
    let text = refused(std::slice::from_ref(&missing));
    let expected = format!("{}: the catalog cannot be used: No such file", missing.display());
    assert!(text.starts_with(&expected), "{text}");
    place.raw("bad.toml", "[downloads.a]\nurl = 1\nx = 2");
    let file = place.dir().join("bad.toml");
    assert_eq!(refused(std::slice::from_ref(&file)).lines().count(), 2);
    assert_eq!(place.open().problems().len(), 2, "in a directory it is reported");
    let twice = ["a=http://h/", "a=http://i/"].map(|text| text.parse().unwrap());
    assert!(Catalogs::open(&[], &twice, Secrets::None.into(), place.root.path()).is_err());
}

#[test]
fn the_command_line_is_an_owner() {
    let place = Place::new();
    place.write("a.toml", &[("n", "x")]);
    let downloads = ["n=http://y/", "m=http://y/"].map(|text| text.parse().unwrap());
    let open = |downloads: &[_]| {
        Catalogs::open(&[place.dir()], downloads, Secrets::None.into(), place.root.path()).unwrap()
    };
    let mut catalogs = open(&downloads);
    assert_eq!(shown(&catalogs), "m=y n=x!");
    assert_eq!(counts(&catalogs.reload()), (0, 0, 0, 0));
    let conflict = catalogs.bindings().get("n").unwrap().conflict.clone().unwrap();
    assert_eq!(conflict.to_string(), "command line declares http://y/");
    assert_eq!(shown(&open(&[])), "n=x", "the next start says it anew, or not at all");
}

#[test]
fn where_there_are_directories_only_no_file_is_remembered() {
    let place = Place::new();
    place.raw(
        "a.toml",
        "[downloads]\nn.url = 'http://x/'\nd = { url = 'http://x/', as = 'directory' }",
    );
    assert_eq!(shown(&place.open()), "d=x n=x");
    place.raw("a.toml", "[downloads");
    assert_eq!(shown(&place.open()), "d=x n=x", "what it said last holds");
    let rules = Rules { secrets: Secrets::None, directories_only: true };
    let open = || Catalogs::open(&[place.dir()], &[], rules.clone(), place.root.path()).unwrap();
    assert_eq!(shown(&open()), "d=x", "but not as a file");
    place.write("a.toml", &[("n", "x")]);
    assert_eq!(shown(&open()), "n=x", "which is a directory now");
}

#[test]
fn a_state_that_cannot_be_kept_is_a_problem_and_no_more() {
    let place = Place::new();
    place.write("a.toml", &[("n", "x")]);
    let nowhere = Path::new("/proc/nowhere");
    let catalogs = Catalogs::open(&[place.dir()], &[], Secrets::None.into(), nowhere).unwrap();
    assert_eq!(shown(&catalogs), "n=x");
    assert!(catalogs.problems()[0].text.contains("cannot be kept"));
}

#[test]
fn changes_are_seen_within_a_second() {
    let place = Place::new();
    place.write("a.toml", &[("n", "x")]);
    let catalogs = place.open();
    let (tell, told) = channel();
    let watcher = catalogs.watch(move || tell.send(Instant::now()).unwrap());
    let second = Duration::from_secs(1);
    told.recv_timeout(second).expect("the first call comes at once");
    let settle = || while told.recv_timeout(second).is_ok() {};
    let within = |what: &str| {
        told.recv_timeout(second).unwrap_or_else(|_| panic!("{what}: not seen"));
        settle();
    };
    settle();
    place.write("a.toml", &[("n", "y")]);
    within("rename over");
    place.delete("a.toml");
    within("delete");
    std::fs::rename(place.dir(), place.root.path().join("away")).unwrap();
    within("the directory is gone");
    std::fs::create_dir(place.dir()).unwrap();
    within("it is made again");
    place.write("b.toml", &[("n", "y")]);
    within("a file in the new directory");
    assert!(std::fs::read(place.dir().join("b.toml")).is_ok());
    assert!(told.recv_timeout(2 * second).is_err(), "reading is no change");
    let dropped = Instant::now();
    drop(watcher);
    assert!(dropped.elapsed() < second);
}

#[test]
fn ten_thousand_names_are_kept_and_reloaded() {
    let place = Place::new();
    let names: Vec<_> = (0..10_000).map(|i| format!("name-{i}")).collect();
    let binds: Vec<_> = names.iter().map(|n| (n.as_str(), "host")).collect();
    place.write("a.toml", &binds);
    let started = Instant::now();
    let mut catalogs = place.open();
    let opened = started.elapsed();
    assert_eq!(catalogs.reload().bindings.len(), 10_000);
    let reloaded = started.elapsed() - opened;
    let bindings = catalogs.bindings();
    let started = Instant::now();
    assert!(names.iter().all(|name| bindings.get(name).is_some()));
    let found = started.elapsed();
    println!("opened in {opened:?}, reloaded in {reloaded:?}, all found in {found:?}");
    // Generous: a debug build on a busy machine. It catches what is not linear.
    assert!(opened + reloaded < Duration::from_secs(20));
}
