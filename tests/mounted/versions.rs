//! A name changes at its origin at random moments, while its bytes come in pieces from there.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::origin::{Fault, When};
use crate::support::os::Mapping;
use crate::support::{Body, Item, KIB, MIB, Mounted, Origin, Raise, figure, needs, scaled};

const CHANGES: u64 = 10_000;
const READERS: u64 = 8;
/// Bytes per second: a body takes as long as some changes of its name.
const RATE: u64 = 8 * MIB;

/// A sequence of numbers that look random (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Returns the length of a version's body: neighbours differ.
fn length(seed: u64) -> u64 {
    MIB + seed % 5 * 100 * KIB
}

/// Returns a version that changes, is cut, or comes to its end, wherever the dice say.
fn version(seed: u64, dice: &mut Dice) -> Item {
    let item = Item { rate: Some(RATE), ..Item::ranged(seed, length(seed)) };
    let at = dice.below(length(seed));
    match dice.below(4) {
        0 => {
            let next = Item { rate: Some(RATE), ..Item::ranged(seed + 1, length(seed + 1)) };
            let item = Item { next: Some(Box::new(next)), ..item };
            let when = if dice.below(2) == 0 { When::Plain } else { When::Part };
            item.strike(when, Fault::Change(at), 1)
        }
        1 => item.strike(When::Plain, Fault::Cut(at), 1),
        2 => item.strike(When::Part, Fault::Reset(at), 1),
        _ => item,
    }
}

/// Opens a name once and reads in one of several ways; every byte has to be of one version.
/// Returns that version's number.
///
/// # Errors
/// What open(2) or read(2) said.
fn read_once(mounted: &Mounted, name: &str, dice: &mut Dice) -> io::Result<u64> {
    let file = File::open(mounted.path(name))?;
    let how = dice.below(3);
    // The first read decides which version this handle has, wherever it is.
    let mut first = [0; 16];
    file.read_exact_at(&mut first, dice.below(MIB / 4096) * 4096)?;
    let seed = u64::from_le_bytes(first[..8].try_into().unwrap_or_default());
    let body = Body::made(seed, length(seed));
    let check = |at: u64, len: u64| -> io::Result<()> {
        let mut buf = vec![0; len.min(body.len() - at) as usize];
        file.read_exact_at(&mut buf, at)?;
        assert_eq!(body.differs(at, &buf), None, "{name}: two versions in one handle");
        Ok(())
    };
    if how == 0 {
        for _ in 0..8 {
            check(dice.below(body.len()), 1 + dice.below(20_000))?;
        }
        return Ok(seed);
    }
    for at in (0..body.len()).step_by(100_000) {
        check(at, 100_000)?;
    }
    assert_eq!(file.read_at(&mut first, body.len())?, 0, "{name}: the end is elsewhere");
    if how == 1 {
        // All has been read, so that no page can be missing.
        let mapped = Mapping::new(&file, body.len() as usize, true)?;
        for _ in 0..8 {
            let at = dice.below(body.len() - 4096);
            let bytes = mapped.copy(at as usize, 4096);
            assert_eq!(body.differs(at, &bytes), None, "{name}: two versions in one mapping");
        }
    }
    Ok(seed)
}

#[test]
fn no_handle_sees_two_versions_whenever_and_wherever_a_name_changes() {
    needs!("fuse");
    // A version that landed within the last second is a hit, so a name shows one in a second at the
    // most: in the long form there are enough names for as many versions to be read as changes are
    // wanted.
    let names = scaled(40, 400);
    let wanted = scaled(300, CHANGES) as usize;
    let origin = Origin::start();
    let mut text = String::new();
    for n in 0..names {
        let url = origin.url(&format!("/{n}"));
        origin.put(&format!("/{n}"), Item::ranged(2 * n, length(2 * n)));
        let fill = if n % 2 == 0 { "all" } else { "on-read" };
        text += &format!("[downloads.n{n}]\nurl = \"{url}\"\nfill = \"{fill}\"\n");
    }
    let mounted =
        Mounted::with().catalog("test.toml", &text).args(["--revalidate-window", "0"]).start();
    let done = AtomicBool::new(false);
    let (good, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let seen = Mutex::new(HashSet::new());
    let read = || seen.lock().expect("the versions read").len();
    let mut changes = 0;
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let finished = Raise(&done);
        for reader in 0..READERS {
            let (mounted, done, good, failed) = (&mounted, &done, &good, &failed);
            let seen = &seen;
            scope.spawn(move || {
                let mut dice = Dice(0x9e37_79b9 + reader);
                while !done.load(Ordering::Relaxed) {
                    let n = dice.below(names);
                    match read_once(mounted, &format!("n{n}"), &mut dice) {
                        Ok(seed) => {
                            assert_eq!(seed / 2 % names, n, "n{n} has the body of another");
                            good.fetch_add(1, Ordering::Relaxed);
                            seen.lock().expect("the versions read").insert(seed);
                        }
                        // What was missing of a version that is gone.
                        Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => panic!("n{n}: {error}"),
                    }
                }
            });
        }
        let mut dice = Dice(7);
        while changes < CHANGES || read() < wanted {
            changes += 1;
            let n = dice.below(names);
            let seed = 2 * (changes * names + n);
            origin.put(&format!("/{n}"), version(seed, &mut dice));
            std::thread::sleep(Duration::from_micros(dice.below(2000)));
        }
        drop(finished);
    });
    let (good, failed) = (good.into_inner(), failed.into_inner());
    let (whole, parts) = (origin.answered(200), origin.answered(206));
    figure(&format!(
        "{changes} changes in {:.1?}: {} versions read by {good} handles, {failed} failed by EIO; {whole} answers of 200, {parts} of 206",
        begin.elapsed(),
        read(),
    ));
    assert!(good > 100 && parts > 100, "{good} handles read, {parts} parts: too little was tried");
    mounted.settle();
    for n in 0..names {
        let item = Item::ranged(2 * n, length(2 * n));
        origin.put(&format!("/{n}"), item.clone());
        crate::support::wait_until("the last version comes", Duration::from_secs(10), || {
            item.body.check(&mounted.path(&format!("n{n}"))).is_ok()
        });
    }
}
