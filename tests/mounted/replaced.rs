//! The file changes at the origin while somebody reads it.

use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::origin::At;
use crate::support::os::Mapping;
use crate::support::{Body, Item, KIB, MIB, Mounted, Origin, Raise, figure, needs, scaled};

#[test]
fn a_reader_keeps_the_old_version_and_a_new_open_gets_the_new_one() {
    needs!("fuse");
    let origin = Origin::start();
    let (old, new) = (Body::made(1, 8 * MIB), Body::made(2, 6 * MIB));
    origin.put("/a", Item::made(1, old.len()));
    let mounted = Mounted::names(&[("a", &origin.url("/a"))]);

    let mut held = File::open(mounted.path("a")).expect("open");
    let mut first = vec![0; 100_000];
    held.read_exact(&mut first).expect("read");
    mounted.wait_complete("a");
    let warm = File::open(mounted.path("a")).expect("open the complete file");
    let mapped = Mapping::new(&warm, old.len() as usize, true).expect("map");
    assert_eq!(old.differs(0, &mapped.copy(0, 4096)), None);

    origin.put("/a", Item::made(2, new.len()));
    mounted.settle();
    new.check(&mounted.path("a")).expect("a new open reads the new version");

    assert_eq!(old.differs(0, &first), None);
    old.check_rest(&mut held, 100_000).expect("the old handle");
    old.check_at(&held, 5 * MIB, 70_000).expect("pread of the old handle");
    old.check_at(&warm, 0, 8 << 20).expect("pread of the warm old handle");
    mapped.forget_pages();
    assert_eq!(old.differs(0, &mapped.copy(0, 8 << 20)), None, "the old mapping");
    new.check(&mounted.path("a")).expect("the new version once more");
}

#[test]
fn a_reader_keeps_the_old_version_also_while_both_arrive() {
    needs!("fuse");
    let origin = Origin::start();
    let (old, new) = (Body::made(1, 4 * MIB), Body::made(2, 4 * MIB));
    origin.put("/a", Item::made(1, old.len()));
    origin.hold("/a", At::Byte(MIB));
    let mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    let mut held = File::open(mounted.path("a")).expect("open cold");
    let mut first = vec![0; MIB as usize];
    held.read_exact(&mut first).expect("read what is there");
    origin.wait_held("/a", 1);

    // A flight is one: the second opener joins it and gets the same version.
    let mut second = File::open(mounted.path("a")).expect("open again");
    origin.release("/a");
    old.check_rest(&mut second, 0).expect("the second opener");
    mounted.wait_complete("a");

    origin.put("/a", Item::made(2, new.len()));
    origin.hold("/a", At::Byte(2 * MIB));
    mounted.settle();
    let mut fresh = File::open(mounted.path("a")).expect("open the new version");
    let mut start = vec![0; MIB as usize];
    fresh.read_exact(&mut start).expect("its first bytes");
    old.check_rest(&mut held, MIB).expect("the old handle");
    origin.release("/a");
    assert_eq!(new.differs(0, &start), None);
    new.check_rest(&mut fresh, MIB).expect("the new handle");
    assert_eq!(old.differs(0, &first), None);
}

#[test]
fn a_thousand_replacements_under_eight_readers_mix_nothing() {
    needs!("fuse");
    const LEN: u64 = 96 * KIB + 5;
    // A name moves on at most once a second, so it takes many to see many replacements.
    const NAMES: u64 = 50;
    const LIMIT: Duration = Duration::from_secs(150);
    let wanted = scaled(150, 1000);
    let origin = Origin::start();
    let mut setup = Mounted::with().args(["--revalidate-window", "0"]);
    for n in 0..NAMES {
        origin.put(&format!("/{n}"), Item::made(n, LEN));
        setup = setup.download(&format!("n{n}"), &origin.url(&format!("/{n}")));
    }
    let mounted = setup.start();
    let done = AtomicBool::new(false);
    let replaced = AtomicU64::new(0);
    let mut version = 0;
    std::thread::scope(|scope| {
        let finished = Raise(&done);
        for reader in 0..8 {
            let (mounted, done, replaced) = (&mounted, &done, &replaced);
            scope.spawn(move || {
                let mut last = [None; NAMES as usize];
                for n in (0..NAMES).cycle().skip(reader * 6) {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let file = File::open(mounted.path(&format!("n{n}"))).expect("open");
                    let seed = if (n as usize + reader).is_multiple_of(2) {
                        one_version_by_read(&file, LEN)
                    } else {
                        one_version_by_map(&file, LEN)
                    };
                    assert_eq!(seed % NAMES, n, "the body of another name");
                    let last = &mut last[n as usize];
                    match last.replace(seed) {
                        Some(before) if before == seed => {}
                        Some(before) => {
                            assert!(seed > before, "version {seed} after {before}");
                            replaced.fetch_add(1, Ordering::Relaxed);
                        }
                        None => {}
                    }
                }
            });
        }
        let begin = Instant::now();
        // Each replacement is seen by every reader, so this counts it up to eight times.
        while replaced.load(Ordering::Relaxed) < 8 * wanted && begin.elapsed() < LIMIT {
            version += 1;
            for n in 0..NAMES {
                origin.put(&format!("/{n}"), Item::made(version * NAMES + n, LEN));
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        drop(finished);
    });
    let answered = origin.answered(200);
    assert!(answered as u64 >= wanted, "only {answered} versions were fetched");
    figure(&format!(
        "{answered} versions fetched, {} changes seen by 8 readers, none mixed",
        replaced.into_inner()
    ));
    mounted.settle();
    for n in 0..NAMES {
        Body::made(version * NAMES + n, LEN)
            .check(&mounted.path(&format!("n{n}")))
            .unwrap_or_else(|error| panic!("n{n}, the last version: {error}"));
    }
}

/// Reads in small steps and returns the version that all bytes belong to.
fn one_version_by_read(mut file: &File, len: u64) -> u64 {
    let mut bytes = vec![0; len as usize];
    for part in bytes.chunks_mut(10_000) {
        file.read_exact(part).expect("read");
    }
    assert_eq!(file.read(&mut [0]).expect("read at the end"), 0);
    whole(&bytes)
}

fn one_version_by_map(file: &File, len: u64) -> u64 {
    whole(&Mapping::new(file, len as usize, true).expect("map").copy(0, len as usize))
}

fn whole(bytes: &[u8]) -> u64 {
    let seed = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
    let body = Body::made(seed, bytes.len() as u64);
    assert_eq!(body.differs(0, bytes), None, "two versions in one read");
    seed
}
