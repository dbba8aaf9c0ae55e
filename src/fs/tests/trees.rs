//! Trees over a cache with a scripted origin, as a kernel would ask for them.

mod gone_on;

use std::time::Instant;

use super::*;
use crate::cache::number;
use crate::source::{Form, Revalidate};
use crate::tree::tests::{tars, zips};
use crate::types::BlobId;

fn directory(url: &str) -> Source {
    Source { form: Form::Directory, ..source(url) }
}

/// An archive whose one file says which version it is of.
fn archive(number: u64) -> Vec<u8> {
    let file = |path: &str| zips::File::new(path, number.to_string());
    zips::Zip::of(vec![file("version"), file("deep/er/version")]).bytes()
}

fn version(number: u64) -> Reply {
    found(&number.to_string(), &archive(number))
}

/// What a LOOKUP gives, with the time that the kernel may keep it.
async fn step(fs: &Fs, dir: Ino, name: &str) -> Result<Option<(Ino, Attr, Duration)>, i32> {
    let name = OsStr::new(name);
    let looked = match fs.lookup(dir, name) {
        Some(looked) => looked,
        None => fs.lookup_waiting(dir, name).await,
    };
    match looked {
        Ok(Looked::Found { ino, attr, entry_ttl, .. }) => Ok(Some((ino, attr, entry_ttl))),
        Ok(Looked::Absent { .. }) => Ok(None),
        Err(refused) => Err(refused.errno()),
    }
}

/// Walks down from a directory; what is passed on the way stays counted.
async fn walk(fs: &Fs, mut dir: Ino, path: &str) -> Ino {
    for part in path.split('/') {
        dir = step(fs, dir, part).await.unwrap().unwrap_or_else(|| panic!("{path}")).0;
    }
    dir
}

/// Reads the number in a file below a directory.
async fn number_in(fs: &Fs, dir: Ino, path: &str) -> u64 {
    let ino = walk(fs, dir, path).await;
    fs.open(ino).await.unwrap();
    let bytes = read(fs, ino, 0).await.unwrap();
    fs.release(ino);
    String::from_utf8(bytes).unwrap().parse().unwrap()
}

/// Counts a LOOKUP of the name that must not wait.
fn root(fs: &Fs, name: &str) -> Ino {
    look(fs, name).0
}

#[tokio::test]
async fn a_name_never_fetched_binds_at_the_first_step_and_stays_with_that() {
    let (rig, fs) = mounted(directory("http://h/a"));
    let dir = root(&fs, "a");
    let (attr, _) = fs.getattr(dir).await.unwrap();
    assert_eq!((attr.kind, attr.mode, rig.asked()), (Kind::Directory, 0o555, 0));
    rig.will(version(1));
    assert_eq!(number_in(&fs, dir, "version").await, 1);
    assert_eq!(root(&fs, "a"), dir, "the name leads there");
    later().await;
    rig.will(version(2));
    let (new, attr_of_new, _) = step(&fs, Ino::ROOT, "a").await.unwrap().unwrap();
    assert_ne!(new, dir);
    assert_eq!(number_in(&fs, new, "deep/er/version").await, 2);
    assert_eq!(number_in(&fs, dir, "deep/er/version").await, 1, "who holds it keeps it");
    let shown = fs.getattr(new).await.unwrap().0.number;
    assert_eq!((shown, attr_of_new.number), (attr.number, attr.number), "one number for a name");
    assert_eq!(rig.asked(), 2);
}

#[tokio::test]
async fn a_first_download_that_fails_spoils_no_directory() {
    let (rig, fs) = mounted(directory("http://h/a"));
    let dir = root(&fs, "a");
    rig.will(Reply::Fail(FailureKind::Status));
    assert_eq!(step(&fs, dir, "version").await.err(), Some(libc::EIO));
    later().await;
    rig.will(version(1));
    assert_eq!(number_in(&fs, dir, "version").await, 1);
}

/// C libraries take ENOENT for the end of a directory.
#[tokio::test]
async fn a_directory_that_its_origin_does_not_have_is_no_empty_one() {
    let (rig, fs) = mounted(directory("http://h/a"));
    let dir = root(&fs, "a");
    rig.will(Reply::Fail(FailureKind::Gone));
    assert_eq!(fs.listing(dir).await.err().map(|refused| refused.errno()), Some(libc::ESTALE));
    assert_eq!(step(&fs, dir, "version").await.err(), Some(libc::ENOENT));
    assert_eq!(step(&fs, Ino::ROOT, "a").await.err(), Some(libc::ENOENT));
    later().await;
    rig.will(version(1));
    // The first who asks again is not told what was so before.
    let (dir, ..) = step(&fs, Ino::ROOT, "a").await.unwrap().unwrap();
    assert_eq!(number_in(&fs, dir, "version").await, 1);
}

/// One revalidation for all who ask whether the directory still holds; a cold LOOKUP waits for
/// nothing.
#[tokio::test]
async fn the_kernels_question_waits_and_a_cold_one_does_not() {
    let (rig, fs) = mounted(directory("http://h/a"));
    let dir = root(&fs, "a");
    rig.will(version(1));
    assert_eq!(number_in(&fs, dir, "version").await, 1);
    later().await;
    rig.will_after(300, version(2));
    assert!(fs.lookup(Ino::ROOT, OsStr::new("a")).is_none(), "the kernel has it");
    let name = || OsStr::new("a");
    let begin = Instant::now();
    let (one, two, three) = tokio::join!(
        fs.lookup_waiting(Ino::ROOT, name()),
        fs.lookup_waiting(Ino::ROOT, name()),
        fs.lookup_waiting(Ino::ROOT, name()),
    );
    assert!(begin.elapsed() >= Duration::from_millis(300));
    for looked in [one, two, three] {
        let Ok(Looked::Found { ino, .. }) = looked else { panic!("{looked:?}") };
        assert_ne!(ino, dir);
    }
    assert_eq!(rig.asked(), 2, "they shared one answer");
    // The kernel drops its entry and asks once more, cold.
    let new = root(&fs, "a");
    assert_ne!(new, dir);
    later().await;

    // Its entry went, so the next LOOKUP is cold too: the version at hand, at once.
    fs.detach(&"a".parse().unwrap());
    later().await;
    rig.will_after(300, version(3));
    assert_eq!(root(&fs, "a"), new);
    until("the origin to be asked behind", || rig.asked() == 3).await;
    until("what it brought", || {
        rig.entry("a").version().unwrap().validators.etag.as_deref() == Some("\"3\"")
    })
    .await;
    let (newest, ..) = step(&fs, Ino::ROOT, "a").await.unwrap().unwrap();
    assert_ne!(newest, new);
}

#[tokio::test]
async fn a_lookup_that_waits_gives_way_to_a_notification_that_is_held_up() {
    let (rig, fs) = mounted(directory("http://h/a"));
    let dir = root(&fs, "a");
    rig.will(version(1));
    assert_eq!(number_in(&fs, dir, "version").await, 1);
    later().await;
    rig.will_after(5000, version(2));
    let begin = Instant::now();
    let passage = fs.doorway().enter();
    let (ino, ..) = step(&fs, Ino::ROOT, "a").await.unwrap().unwrap();
    assert_eq!(ino, dir, "the version at hand");
    assert!(begin.elapsed() < Duration::from_secs(3));
    drop(passage);
}

#[tokio::test]
async fn an_origin_that_fails_moves_nobody_and_one_that_has_it_no_more_ends_the_path() {
    let (rig, fs) = mounted(directory("http://h/a"));
    let dir = root(&fs, "a");
    rig.will(version(1));
    assert_eq!(number_in(&fs, dir, "version").await, 1);
    later().await;
    rig.will(Reply::Fail(FailureKind::Status));
    let (ino, ..) = step(&fs, Ino::ROOT, "a").await.unwrap().unwrap();
    assert_eq!(ino, dir);
    later().await;
    rig.will(Reply::Fail(FailureKind::Gone));
    assert_eq!(step(&fs, Ino::ROOT, "a").await.err(), Some(libc::ENOENT));
    assert_eq!(number_in(&fs, dir, "deep/er/version").await, 1, "who holds it keeps it");
    assert_eq!(step(&fs, Ino::ROOT, "a").await.err(), Some(libc::ENOENT));
    later().await;
    rig.will(version(2));
    let (back, ..) = step(&fs, Ino::ROOT, "a").await.unwrap().unwrap();
    assert_eq!(number_in(&fs, back, "version").await, 2, "found by the first who asks");
}

#[tokio::test]
async fn what_the_kernel_refers_to_keeps_the_archive_and_nothing_else_does() {
    let (rig, fs) = mounted(directory("http://h/a"));
    let dir = root(&fs, "a");
    rig.will(version(1));
    let file = walk(&fs, dir, "deep/er/version").await;
    let (deep, er) = (walk(&fs, dir, "deep").await, walk(&fs, dir, "deep/er").await);
    let blob = rig.entry("a").version().unwrap().blob.id();
    until("the download to let go", || rig.cache.ledger().pins(blob) == 0).await;
    fs.open(file).await.unwrap();
    fs.open(file).await.unwrap();
    // The tree pins it too, for a moment after it has written.
    until("all handles to share a pin", || rig.cache.ledger().pins(blob) == 1).await;
    assert_eq!(fs.handles(), 2);
    fs.release(file);
    assert_eq!((fs.handles(), rig.cache.ledger().pins(blob)), (1, 1));
    fs.release(file);
    assert_eq!((fs.handles(), rig.cache.ledger().pins(blob)), (0, 0));
    assert!(!rig.cache.ledger().alone(blob), "the kernel refers to it");
    // `deep` was passed three times, `deep/er` twice.
    fs.forget(dir, 1);
    fs.forget(deep, 2);
    fs.forget(er, 2);
    fs.forget(file, 1);
    assert!(!rig.cache.ledger().alone(blob), "`deep` is left");
    fs.forget(deep, 1);
    assert!(rig.cache.ledger().alone(blob));
    assert!(!fs.has_crowns());
    assert_eq!(step(&fs, deep, "er").await.err(), Some(libc::ESTALE));
}

#[tokio::test]
async fn a_complete_index_says_at_once_what_is_missing() {
    let (rig, fs) = mounted(directory("http://h/a"));
    let dir = root(&fs, "a");
    rig.will(version(1));
    let (_, attr, ttl) = step(&fs, dir, "version").await.unwrap().unwrap();
    assert_eq!((attr.size, attr.mode, attr.links, ttl), (1, 0o444, 1, LONG));
    let missing = fs.lookup(dir, OsStr::new("none"));
    assert!(matches!(missing, Some(Ok(Looked::Absent { ttl: LONG }))), "{missing:?}");
    let file = walk(&fs, dir, "version").await;
    assert_eq!(step(&fs, file, "none").await, Ok(None), "a file has nothing in it");
    assert_eq!(fs.readlink(file).await.err().unwrap().errno(), libc::EINVAL);
    assert!(fs.listing(file).await.is_err());
    let errno = |refused: Result<How, Refused>| refused.err().map(|refused| refused.errno());
    assert_eq!(errno(fs.open(dir).await), Some(libc::EISDIR));
}

#[tokio::test]
async fn a_listing_goes_on_where_it_was() {
    let (rig, fs) = mounted(directory("http://h/a"));
    let dir = root(&fs, "a");
    let files: Vec<_> = (0..10).map(|n| zips::File::new(format!("f{n}"), "x")).collect();
    rig.will(found("1", &zips::Zip::of(files).bytes()));
    let listing = fs.listing(dir).await.unwrap();
    let mut names = Vec::new();
    let mut offset = 0;
    // One line at a time, as a kernel with the smallest buffer.
    loop {
        let before = names.len();
        listing.after(offset, |line| {
            names.push(line.name.to_str().unwrap().to_owned());
            offset = line.offset;
            true
        });
        if names.len() == before {
            break;
        }
    }
    assert_eq!(names[..2], [".", ".."]);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 12);
    let mut numbers = Vec::new();
    listing.after(0, |line| {
        numbers.push((line.name.to_owned(), line.number));
        false
    });
    assert_eq!(numbers[0].1, number("a"));
    assert_eq!(numbers[1].1, Ino::ROOT.0);
    for (name, number) in &numbers[2..] {
        assert_eq!(*number, walk(&fs, dir, name.to_str().unwrap()).await.0, "{name:?}");
    }
}

#[tokio::test]
async fn an_archive_that_still_arrives_shows_what_has_come_and_keeps_nothing() {
    let (rig, fs) = mounted(directory("http://h/a"));
    let dir = root(&fs, "a");
    let bytes = tars::tar([tars::file("one", "1"), tars::file("two", "2")]);
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(head(Some("1"), Some(bytes.len() as u64)), sent));
    body.send(Ok(bytes[..1024].to_vec().into())).unwrap();
    let (one, _, ttl) = step(&fs, dir, "one").await.unwrap().unwrap();
    assert_eq!(ttl, Duration::ZERO, "it may be replaced further on");
    fs.open(one).await.unwrap();
    assert_eq!(read(&fs, one, 0).await.unwrap(), b"1");
    let waits = |name: &'static str| fs.lookup(dir, OsStr::new(name)).is_none();
    assert!(waits("two") && waits("none"));
    body.send(Ok(bytes[1024..].to_vec().into())).unwrap();
    drop(body);
    assert_eq!(number_in(&fs, dir, "two").await, 2);
    assert_eq!(step(&fs, dir, "none").await, Ok(None));
    let (again, _, ttl) = step(&fs, dir, "one").await.unwrap().unwrap();
    assert_eq!((again, ttl), (one, LONG));
}

#[tokio::test]
async fn what_never_changes_is_kept_for_a_minute() {
    let bytes = archive(1);
    let never =
        Source { digest: sha256(&bytes), revalidate: Revalidate::Never, ..directory("http://h/a") };
    let (rig, fs) = mounted(never);
    let (dir, _, ttl) = step(&fs, Ino::ROOT, "a").await.unwrap().unwrap();
    let minute = Duration::from_secs(60);
    assert!(ttl < minute, "nothing is known yet");
    rig.will(found("1", &bytes));
    assert_eq!(number_in(&fs, dir, "version").await, 1);
    let (_, _, ttl) = step(&fs, Ino::ROOT, "a").await.unwrap().unwrap();
    assert_eq!(ttl, minute);
}

#[tokio::test]
async fn a_directory_is_bound_to_nothing_of_another_source() {
    let (rig, fs) = mounted(directory("http://h/a"));
    let dir = root(&fs, "a");
    rig.will(version(1));
    assert_eq!(number_in(&fs, dir, "version").await, 1);
    let moved = rig.cache.bind(table([("a", directory("http://h/b"))]));
    assert_eq!(moved.iter().map(Name::as_str).collect::<Vec<_>>(), ["a"]);
    fs.detach(&moved[0]);
    rig.will(version(2));
    let new = root(&fs, "a");
    assert_ne!(new, dir);
    assert_eq!(number_in(&fs, new, "version").await, 2);
    assert_eq!(number_in(&fs, dir, "deep/er/version").await, 1, "who holds it keeps it");
}

#[tokio::test]
async fn what_leaves_is_taken_back_by_its_names() {
    let (rig, fs) = mounted(directory("http://h/a"));
    let dir = root(&fs, "a");
    rig.will(version(1));
    walk(&fs, dir, "deep/er/version").await;
    assert_eq!(step(&fs, dir, "none").await, Ok(None));
    let blob: BlobId = rig.entry("a").version().unwrap().blob.id();
    assert!(fs.leaving().is_empty(), "the name leads there");
    let [crown] = &fs.crowns_of(blob)[..] else { panic!("one tree") };
    assert!(fs.leaves(crown), "the kernel's entry leads there");
    assert!(!fs.leaves(crown), "and does no more");
    assert_eq!(fs.leaving().len(), 1);
    assert!(!crown.is_quiet() && crown.is_quiet(), "nothing was asked since");
    assert_eq!(crown.misses(), [(dir, b"none".to_vec())]);
    let (entries, below) = crown.entries(&[NodeNo::ROOT]);
    assert_eq!(entries, [(dir, b"deep".to_vec())]);
    let (entries, below) = crown.entries(&below);
    assert_eq!((entries.len(), below.len()), (1, 1));
    let (entries, below) = crown.entries(&below);
    assert_eq!((entries[0].1.as_slice(), below.len()), (b"version".as_slice(), 0));
    assert_eq!(root(&fs, "a"), dir, "looked up again");
    assert!(fs.leaving().is_empty());
}
