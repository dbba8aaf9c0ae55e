//! Many downloads at once in little memory.

use crate::support::cgroup::MemoryLimit;
use crate::support::{
    Body, Framing, Item, MIB, Mounted, Origin, figure, needs, process, scaled, timed,
};

const DOWNLOADS: u64 = 64;
const LIMIT: u64 = 256 * MIB;

#[test]
fn sixty_four_downloads_at_once_fit_into_256_mib() {
    needs!("fuse", "root", "cgroup");
    // All of them take twice the limit, or sixteen times, with what the page cache holds.
    let len = scaled(8, 64) * MIB;
    let limit = MemoryLimit::new(LIMIT).expect("a limit on memory");
    let origin = Origin::start();
    let (mut catalog, mut bodies) = (String::new(), Vec::new());
    for n in 0..DOWNLOADS {
        // Of different lengths, so that they do not all do the same at the same time.
        let body = Body::made(n, len + n * 1000);
        let item = Item { ranges: n % 2 == 0, ..Item::made(n, body.len()) };
        let framing = if n % 8 == 1 { Framing::Chunked } else { Framing::Length };
        origin.put(&format!("/{n}"), Item { framing, ..item });
        catalog += &format!("[downloads.n{n}]\nurl = \"{}\"\n", origin.url(&format!("/{n}")));
        if n % 16 == 3 {
            catalog += &format!("sha256 = \"{}\"\n", body.sha256());
        }
        bodies.push(body);
    }
    let setup = Mounted::with().catalog("test.toml", &catalog);
    let config = setup.dir().join("config.toml");
    std::fs::write(&config, format!("max_downloads = {DOWNLOADS}\n")).expect("configure");
    let mounted =
        setup.args(["--config".to_owned(), config.display().to_string()]).memory(&limit).start();
    let pid = mounted.pid();
    let (wrong, took) = timed(|| {
        std::thread::scope(|scope| {
            let readers: Vec<_> = bodies
                .iter()
                .enumerate()
                .map(|(n, body)| {
                    let path = mounted.path(&format!("n{n}"));
                    scope.spawn(move || body.check(&path).map_err(|error| format!("n{n}: {error}")))
                })
                .collect();
            let results = readers.into_iter().map(|reader| reader.join().expect("a reader"));
            results.filter_map(Result::err).collect::<Vec<String>>()
        })
    });
    assert_eq!(wrong, Vec::<String>::new());
    for n in 0..DOWNLOADS {
        mounted.wait_complete(&format!("n{n}"));
    }
    assert_eq!(limit.killed(), 0, "killed for want of memory");
    assert_eq!(mounted.number("pid"), u64::from(pid), "the daemon is the one that was started");
    let (_, highest) = process::memory(pid);
    figure(&format!(
        "{DOWNLOADS} downloads of {} MiB under {} MiB: {took:.1?}, the daemon took {} MiB, with its page cache {} MiB",
        len / MIB,
        LIMIT / MIB,
        highest >> 10,
        limit.peak().map_or(0, |peak| peak / MIB),
    ));
}
