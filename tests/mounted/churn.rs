//! Everything changes as fast as it can.

use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Body, Item, Mounted, Origin, Raise, figure, needs, scaled};

#[test]
fn no_estale_reaches_a_program_however_fast_names_change() {
    needs!("fuse");
    const LEN: u64 = 6000;
    let names: u64 = scaled(400, 2000);
    let time = Duration::from_secs(scaled(10, 120));
    let origin = Origin::start();
    let mut text = String::new();
    for n in 0..names {
        origin.put(&format!("/{n}"), Item::made(n, LEN));
        text += &format!("[downloads.n{n}]\nurl = \"{}\"\n", origin.url(&format!("/{n}")));
    }
    let mounted =
        Mounted::with().catalog("test.toml", &text).args(["--revalidate-window", "0"]).start();
    let done = AtomicBool::new(false);
    let opens = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let finished = Raise(&done);
        for thread in 0..6_u64 {
            let (mounted, done, opens) = (&mounted, &done, &opens);
            scope.spawn(move || {
                // Few names for some, so that they meet each other; all names for others.
                let range = if thread < 3 { 5 } else { names };
                let mut n = thread;
                while !done.load(Ordering::Relaxed) {
                    n = (n * 1_103_515_245 + 12345) % (1 << 31);
                    let name = format!("n{}", n % range);
                    let mut bytes = Vec::new();
                    File::open(mounted.path(&name))
                        .and_then(|mut file| file.read_to_end(&mut bytes))
                        .unwrap_or_else(|error| panic!("{name}: {error}"));
                    assert_eq!(bytes.len() as u64, LEN, "{name}");
                    let seed = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
                    assert_eq!(Body::made(seed, LEN).differs(0, &bytes), None, "{name}");
                    assert_eq!(seed % names, n % range, "{name} has the body of another");
                    opens.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let begin = Instant::now();
        let mut version = 0;
        while begin.elapsed() < time {
            version += 1;
            for n in (0..5).chain((0..names).skip((version % 7) as usize).step_by(7)) {
                origin.put(&format!("/{n}"), Item::made(version * names + n, LEN));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(finished);
    });
    let opens = opens.into_inner();
    let answered = origin.answered(200);
    figure(&format!("{opens} opens of {names} names, {answered} versions fetched, no error"));
    assert!(opens > 500, "too few opens");
}
