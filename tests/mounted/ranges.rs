//! Bytes out of order: what readers wait for comes first, and nothing is asked for twice.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::support::origin::{At, Fault, Seen, When};
use crate::support::{
    Body, Item, KIB, MIB, Mounted, Origin, figure, needs, scaled, status, timed, wait_until,
};

/// Returns a catalog with one download that is fetched as it is read.
fn on_read(name: &str, url: &str) -> String {
    format!("[downloads.{name}]\nurl = \"{url}\"\nfill = \"on-read\"\n")
}

/// Returns the ranges that were asked for, as first byte and the one after the last.
fn asked(seen: &[Seen]) -> Vec<(u64, u64)> {
    seen.iter()
        .filter_map(|seen| {
            let (first, last) = seen.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
            Some((first.parse().ok()?, last.parse::<u64>().ok()? + 1))
        })
        .collect()
}

#[test]
fn the_end_of_a_cold_file_comes_without_its_beginning() {
    needs!("fuse");
    let origin = Origin::start();
    let body = Body::made(1, 256 * MIB);
    origin.put("/a", Item::ranged(1, 256 * MIB));
    let mounted = Mounted::with().catalog("a.toml", &on_read("a", &origin.url("/a"))).start();
    let file = File::open(mounted.path("a")).expect("open");
    let mut end = vec![0; 64 << 10];
    let ((), time) =
        timed(|| file.read_exact_at(&mut end, 256 * MIB - 64 * KIB).expect("read the end"));
    assert_eq!(body.differs(256 * MIB - 64 * KIB, &end), None);
    let sent: u64 = origin.select("/a").iter().map(|seen| seen.sent).sum();
    figure(&format!(
        "last 64 KiB of a cold 256 MiB: {time:?}, {} requests, {sent} bytes",
        origin.requests("/a")
    ));
    assert_eq!(origin.requests("/a"), 2);
    assert!(sent <= 256 * KIB, "{sent}");
    assert_eq!(mounted.state("a"), "partial");
    // The first block came with the head, the last ones were read.
    let ls = mounted.ls();
    let present = status::name(&ls, "a")["present"].as_array().expect("the ranges present");
    let ends: Vec<(u64, u64)> = present
        .iter()
        .map(|range| (range[0].as_u64().expect("a byte"), range[1].as_u64().expect("a byte")))
        .collect();
    assert!(ends.len() == 2 && ends[0] == (0, 64 * KIB), "{ends:?}");
    assert!(ends[1].0 <= 256 * MIB - 64 * KIB && ends[1].1 == 256 * MIB, "{ends:?}");
}

#[test]
fn readers_at_random_places_ask_for_no_byte_twice() {
    needs!("fuse");
    const LEN: u64 = 256 * MIB;
    let origin = Origin::start();
    let body = Body::made(1, LEN);
    origin.put("/a", Item::ranged(1, LEN));
    let mounted = Mounted::with().catalog("a.toml", &on_read("a", &origin.url("/a"))).start();
    let file = File::open(mounted.path("a")).expect("open");
    let reads = scaled(60, 400);
    std::thread::scope(|scope| {
        for thread in 0..16u64 {
            let (file, body) = (&file, &body);
            scope.spawn(move || {
                let mut state = 0x9e37_79b9_7f4a_7c15 ^ (thread + 1);
                let mut page = [0; 4096];
                for _ in 0..reads {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    let at = state % (LEN / 4096) * 4096;
                    file.read_exact_at(&mut page, at).expect("read a page");
                    assert_eq!(body.differs(at, &page), None);
                }
            });
        }
    });
    let seen = origin.select("/a");
    let mut ranges = asked(&seen);
    assert_eq!(ranges.len(), seen.len(), "every request is for a range");
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "asked for twice: {pair:?}");
    }
    let bytes: u64 = ranges.iter().map(|(first, end)| end - first).sum();
    figure(&format!(
        "{} random reads by 16 threads: {} requests, {} MiB",
        16 * reads,
        seen.len(),
        bytes / MIB
    ));
    assert!(origin.most_at_once() <= 4, "{}", origin.most_at_once());
}

#[test]
fn a_reader_ahead_of_the_stream_does_not_wait_for_it() {
    needs!("fuse");
    let origin = Origin::start();
    let body = Body::made(1, 64 * MIB);
    origin.put("/a", Item::ranged(1, 64 * MIB));
    origin.hold("/a", At::Byte(MIB));
    let mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    let file = File::open(mounted.path("a")).expect("open");
    origin.wait_held("/a", 1);
    let mut page = [0; 4096];
    file.read_exact_at(&mut page, 50 * MIB).expect("read ahead of the stream");
    assert_eq!(body.differs(50 * MIB, &page), None);
    origin.release("/a");
    mounted.wait_complete("a");
    assert_eq!(std::fs::read(mounted.path("a")).expect("read"), body.all());
}

#[test]
fn a_reader_ahead_of_the_rest_of_a_cut_body_does_not_wait_for_it() {
    needs!("fuse");
    let origin = Origin::start();
    let body = Body::made(1, 64 * MIB);
    origin.put("/a", Item::ranged(1, 64 * MIB).strike(When::Plain, Fault::Cut(MIB), 1));
    // Only the rest comes that far.
    origin.hold("/a", At::Byte(2 * MIB));
    let mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    let file = File::open(mounted.path("a")).expect("open");
    origin.wait_held("/a", 1);
    let mut page = [0; 4096];
    file.read_exact_at(&mut page, 50 * MIB).expect("read ahead of the rest");
    assert_eq!(body.differs(50 * MIB, &page), None);
    origin.release("/a");
    mounted.wait_complete("a");
    assert_eq!(std::fs::read(mounted.path("a")).expect("read"), body.all());
}

/// Mounts `/a` of an origin that is to have so many connections.
fn with_connections(connections: usize, origin: &Origin) -> Mounted {
    let setup = Mounted::with();
    let config = setup.dir().join("config.toml");
    let text = format!("[origins.\"127.0.0.1\"]\nconnections = {connections}\n");
    std::fs::write(&config, text).expect("write the configuration");
    let args = ["--config".to_owned(), config.display().to_string()];
    setup.args(args).download("a", &origin.url("/a")).start()
}

#[test]
fn a_reader_does_not_wait_for_an_answer_about_other_bytes() {
    needs!("fuse");
    let origin = Origin::start();
    let body = Body::made(1, 64 * MIB);
    let item = Item::ranged(1, 64 * MIB).strike(When::Plain, Fault::Cut(MIB), 1);
    origin.put("/a", item.strike(When::Part, Fault::Silent, 1));
    let mounted = with_connections(1, &origin);
    let file = File::open(mounted.path("a")).expect("open");
    wait_until("the rest is asked for", Duration::from_secs(5), || origin.requests("/a") == 2);
    let (read, time) = timed(|| body.check_at(&file, 50 * MIB, 4096));
    read.expect("read ahead of it");
    assert!(time < Duration::from_secs(3), "{time:?}");
}

/// Each in its turn, and little is asked for in vain.
#[test]
fn more_readers_than_connections_are_all_served() {
    needs!("fuse");
    const LEN: u64 = 64 * MIB;
    const READERS: u64 = 8;
    for connections in [1, 4] {
        let origin = Origin::start();
        let body = Body::made(1, LEN);
        origin.put("/a", Item { rate: Some(8_000_000), ..Item::ranged(1, LEN) });
        let mounted = with_connections(connections, &origin);
        let file = File::open(mounted.path("a")).expect("open");
        let (slowest, time) = timed(|| {
            std::thread::scope(|scope| {
                let (file, body) = (&file, &body);
                let read = |reader: u64| {
                    let places = (0..8).map(|n| reader * (LEN / READERS) + n * 512 * KIB);
                    let times = places.map(|at| timed(|| body.check_at(file, at, 4096)));
                    let slowest = times.map(|(read, time)| {
                        read.expect("read a page");
                        time
                    });
                    slowest.max()
                };
                let all: Vec<_> = (0..READERS).map(|n| scope.spawn(move || read(n))).collect();
                all.into_iter().filter_map(|reader| reader.join().expect("a reader")).max()
            })
        });
        let requests = origin.requests("/a");
        figure(&format!(
            "{READERS} readers over {connections} connections: {time:.1?}, the slowest read {slowest:.1?}, {requests} requests"
        ));
        // The origin learns a little later that one has made way.
        assert!(origin.most_at_once() <= 2 * connections, "{} at once", origin.most_at_once());
        assert!(slowest < Some(Duration::from_secs(10)), "{slowest:?}");
        assert!(requests < 200, "{requests} requests for 64 reads");
    }
}

#[test]
fn a_body_that_is_cut_is_gone_on_with() {
    needs!("fuse");
    let origin = Origin::start();
    let body = Body::made(1, 8 * MIB);
    let item = Item::ranged(1, 8 * MIB).strike(When::Plain, Fault::Cut(3 * MIB), 1);
    origin.put("/a", item);
    let mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    assert_eq!(std::fs::read(mounted.path("a")).expect("read"), body.all());
    let seen = origin.select("/a");
    assert_eq!(asked(&seen), [(3 * MIB, 8 * MIB)]);
    assert_eq!(seen[1].header("if-range"), Some("\"v1\""));
}

/// Ranges are served of some and not of others, by one server.
#[test]
fn a_cut_body_is_gone_on_with_beside_another_of_which_no_ranges_are_served() {
    needs!("fuse");
    let origin = Origin::start();
    let none = Item::ranged(1, 3 * MIB).strike(When::Part, Fault::Whole, usize::MAX);
    origin.put("/none", Item { rate: Some(4_000_000), ..none });
    let mounted = Mounted::names(&[("none", &origin.url("/none")), ("cut", &origin.url("/cut"))]);
    let file = File::open(mounted.path("none")).expect("open");
    file.read_exact_at(&mut [0; 4096], 3 * MIB - 4096).expect("read the end");
    assert_eq!(asked(&origin.select("/none")).len(), 1, "asked for by range");
    let cut = Item::ranged(2, 8 * MIB).strike(When::Plain, Fault::Cut(3 * MIB), 1);
    origin.put("/cut", cut);
    let bytes = std::fs::read(mounted.path("cut")).expect("read");
    assert!(bytes == Body::made(2, 8 * MIB).all());
    assert_eq!(asked(&origin.select("/cut")), [(3 * MIB, 8 * MIB)]);
}

/// The condition is not understood, and other bytes come under the same strong tag.
#[test]
fn a_reader_of_a_part_gets_no_byte_of_another_body_with_its_tag() {
    needs!("fuse");
    const LEN: u64 = 8 * MIB;
    let origin = Origin::start();
    let body = Body::made(1, LEN);
    origin.put("/a", Item::ranged(1, LEN));
    let mounted = Mounted::with().catalog("a.toml", &on_read("a", &origin.url("/a"))).start();
    let first = File::open(mounted.path("a")).expect("open");
    let read = |at| {
        let mut bytes = vec![0; 4096];
        first.read_exact_at(&mut bytes, at).map(|()| bytes)
    };
    for at in [0, LEN / 2, LEN - 4096] {
        assert_eq!(body.differs(at, &read(at).expect("read")), None);
    }
    mounted.settle();
    let other = body.other();
    let item = Item { body: other.clone(), ..Item::ranged(1, LEN) };
    origin.put("/a", item.strike(When::Conditional, Fault::Whole, usize::MAX));
    let bytes = std::fs::read(mounted.path("a")).expect("read the other");
    assert!(bytes == other.all());
    wait_until("the lie is counted", Duration::from_secs(10), || mounted.number("lied") == 1);
    for at in (0..LEN).step_by(4096) {
        match read(at) {
            Ok(bytes) => assert_eq!(body.differs(at, &bytes), None, "at {at}"),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EIO), "at {at}"),
        }
    }
    assert!(read(LEN / 4).is_err(), "what was not there stays away");
    assert_eq!(body.differs(LEN / 2, &read(LEN / 2).expect("what was there stays")), None);
    mounted.wait_complete("a");
}

#[test]
fn what_is_there_is_kept_over_a_kill() {
    needs!("fuse");
    const LEN: u64 = 128 * MIB;
    let origin = Origin::start();
    let body = Body::made(1, LEN);
    origin.put("/a", Item { rate: Some(60_000_000), ..Item::ranged(1, LEN) });
    let mut mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    drop(File::open(mounted.path("a")).expect("open"));
    wait_until("nine tenths are there", Duration::from_secs(10), || {
        origin.sent("/a") >= LEN / 10 * 9
    });
    mounted.kill();
    origin.forget();
    mounted.start();
    let ls = mounted.ls();
    let name = status::name(&ls, "a");
    assert_eq!((&name["state"], &name["length"]), (&"kept".into(), &LEN.into()));
    let filled = name["filled"].as_u64().expect("a number");
    assert!((LEN * 3 / 4..LEN).contains(&filled), "{filled}");
    assert_eq!(name["present"][0][0], 0);
    assert_eq!(std::fs::read(mounted.path("a")).expect("read"), body.all());
    let sent = origin.sent("/a");
    figure(&format!("killed at 90 %: {} % fetched again", sent * 100 / LEN));
    assert!(sent <= LEN / 4, "{sent} of {LEN} again");
    mounted.wait_complete("a");
}

#[test]
fn connections_of_one_origin_are_counted_over_all_its_bodies() {
    needs!("fuse");
    const LEN: u64 = 48 * MIB;
    let origin = Origin::start();
    let names = ["a", "b", "c"];
    for (seed, name) in (1..).zip(names) {
        let item = Item { rate: Some(20_000_000), ..Item::ranged(seed, LEN) };
        origin.put(&format!("/{name}"), item);
    }
    let urls = names.map(|name| (name, origin.url(&format!("/{name}"))));
    let mounted = Mounted::names(&urls.each_ref().map(|(name, url)| (*name, url.as_str())));
    std::thread::scope(|scope| {
        for (seed, name) in (1..).zip(names) {
            let path = mounted.path(name);
            scope.spawn(move || Body::made(seed, LEN).check(&path).expect("all of it"));
        }
    });
    let most = origin.most_at_once();
    // While one ends the next may begin; were they counted for each body, there would be twelve.
    assert!((3..=5).contains(&most), "{most} at once");
}

#[test]
fn connections_are_added_where_each_is_limited() {
    needs!("fuse");
    const LEN: u64 = 64 * MIB;
    let origin = Origin::start();
    let body = Body::made(1, LEN);
    origin.put("/a", Item { rate: Some(20_000_000), ..Item::ranged(1, LEN) });
    origin.put(
        "/weak",
        Item {
            etag: Some("W/\"1\"".to_owned()),
            rate: Some(40_000_000),
            ..Item::ranged(1, 24 * MIB)
        },
    );
    let mounted = Mounted::names(&[("a", &origin.url("/a")), ("weak", &origin.url("/weak"))]);
    let (bytes, time) = timed(|| std::fs::read(mounted.path("a")).expect("read"));
    assert!(bytes == body.all());
    figure(&format!(
        "64 MiB at 20 MB/s for each connection: {time:?}, at most {} at once",
        origin.most_at_once()
    ));
    assert_eq!(origin.most_at_once(), 4);
    assert!(time < Duration::from_millis(2500), "{time:?}; over one connection 3.4 s");
    std::fs::read(mounted.path("weak")).expect("read");
    assert_eq!(origin.requests("/weak"), 1, "without a strong tag there is one stream");
    wait_until("both are complete", Duration::from_secs(10), || mounted.state("a") == "ready");
}

#[test]
fn a_digest_that_no_answer_has_is_not_laid_to_the_ranges() {
    needs!("fuse");
    let origin = Origin::start();
    let cut = |seed| Item::ranged(seed, 4 * MIB).strike(When::Plain, Fault::Cut(MIB), 1);
    let (declared, other) = (Body::made(2, 4 * MIB).sha256(), Body::made(9, 4).sha256());
    origin.put("/wrong", cut(1));
    origin.put("/lies", cut(2).strike(When::Part, Fault::Lie, 1));
    // Cut both times that it is asked for from its beginning.
    origin.put("/cut", cut(3).strike(When::Plain, Fault::Cut(2 * MIB), 1));
    let line = |name: &str, digest: &str| {
        let url = origin.url(&format!("/{name}"));
        format!("[downloads.{name}]\nurl = \"{url}\"\nsha256 = \"{digest}\"\n")
    };
    let catalog = line("wrong", &other) + &line("lies", &declared) + &line("cut", &other);
    let mounted = Mounted::with().catalog("test.toml", &catalog).start();
    let asked = |path: &str| -> Vec<bool> {
        let seen = origin.seen();
        let of = seen.iter().filter(|seen| seen.path == path);
        of.map(|seen| seen.header("range").is_some()).collect()
    };
    // Its bytes came in two answers, and the same in one: the catalog is wrong.
    File::open(mounted.path("wrong")).expect_err("another digest");
    assert_eq!(asked("/wrong"), [false, true, false], "cut, gone on with, fetched once more");
    // The second time it is one answer or none.
    File::open(mounted.path("cut")).expect_err("cut");
    assert_eq!(asked("/cut").iter().filter(|range| **range).count(), 1, "{:?}", asked("/cut"));
    assert_eq!(mounted.number("lied"), 0);
    // Here one answer has it, and the two had not.
    Body::made(2, 4 * MIB).check(&mounted.path("lies")).expect("fetched once more");
    wait_until("the lie is known", Duration::from_secs(5), || mounted.number("lied") == 1);
}
