//! Cases in which kernels, caches and daemons are known to go wrong.

use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use crate::support::origin::At;
use crate::support::os::{self, Mapping};
use crate::support::{Body, Item, MIB, Mounted, Origin, Proc, figure, needs, quantile, wait_until};

#[test]
fn two_versions_open_at_once_share_no_page() {
    needs!("fuse");
    let origin = Origin::start();
    let mounted =
        Mounted::with().download("a", &origin.url("/a")).args(["--revalidate-window", "0"]).start();
    let mut held = Vec::new();
    for seed in 1..=3 {
        origin.put("/a", Item::made(seed, MIB));
        mounted.settle();
        let file = File::open(mounted.path("a")).expect("open");
        Body::made(seed, MIB).check_at(&file, 0, 4096).expect("the first page");
        held.push((seed, file));
    }
    // Complete or not, dropped from the page cache or not: each handle has its own bytes.
    for round in 0..3 {
        for (seed, file) in &mut held {
            let body = Body::made(*seed, MIB);
            body.check_at(file, 0, MIB as usize)
                .unwrap_or_else(|error| panic!("round {round}, version {seed}: {error}"));
            let mapping = Mapping::new(file, MIB as usize, round % 2 == 0).expect("map");
            assert_eq!(body.differs(0, &mapping.copy(0, MIB as usize)), None);
            let _ = os::drop_pages(file);
        }
    }
}

#[test]
fn mappings_work_before_and_after_completion() {
    needs!("fuse");
    let origin = Origin::start();
    let body = Body::made(1, 2 * MIB);
    origin.put("/a", Item::made(1, body.len()));
    origin.hold("/a", At::Byte(MIB));
    let mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    let file = File::open(mounted.path("a")).expect("open");
    let len = body.len() as usize;
    let shared = Mapping::new(&file, len, true).expect("map shared with gaps");
    let private = Mapping::new(&file, len, false).expect("map private with gaps");
    for mapping in [&shared, &private] {
        assert_eq!(body.differs(4096, &mapping.copy(4096, 8192)), None);
    }
    origin.release("/a");
    mounted.wait_complete("a");
    for mapping in [&shared, &private] {
        assert_eq!(body.differs(0, &mapping.copy(0, len)), None);
    }
    let after = File::open(mounted.path("a")).expect("open the complete file");
    let mapping = Mapping::new(&after, len, true).expect("map");
    assert_eq!(body.differs(0, &mapping.copy(0, len)), None);
}

#[test]
fn a_changed_name_opens_in_one_call_also_through_a_bound_directory() {
    needs!("fuse", "root");
    const NAMES: u64 = 50;
    let origin = Origin::start();
    let mut setup = Mounted::with().args(["--revalidate-window", "0"]);
    for n in 0..NAMES {
        setup = setup.download(&format!("n{n}"), &origin.url(&format!("/{n}")));
    }
    let mounted = setup.start();
    let bind = crate::support::guards::Bind::new(&mounted.mnt(), mounted.scratch(), "bound");
    for version in 0..3 {
        let seed = |n| version * NAMES + n;
        for n in 0..NAMES {
            origin.put(&format!("/{n}"), Item::made(seed(n), 1000));
        }
        mounted.settle();
        for n in 0..NAMES {
            let root = if (n + version) % 2 == 0 { mounted.mnt() } else { bind.path().to_owned() };
            Body::made(seed(n), 1000)
                .check(&root.join(format!("n{n}")))
                .unwrap_or_else(|error| panic!("n{n}, version {version}: {error}"));
        }
    }
}

#[test]
fn a_killed_opener_leaves_the_download_to_the_others() {
    needs!("fuse");
    let origin = Origin::start();
    let body = Body::made(1, MIB);
    origin.put("/a", Item::made(1, MIB));
    origin.hold("/a", At::Head);
    let mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    let mut first = Proc::cat(&mounted.path("a"));
    origin.wait_held("/a", 1);
    first.wait_blocked();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| body.check(&mounted.path("a")));
        wait_until("two wait", Duration::from_secs(5), || mounted.number("waiting_requests") >= 2);
        first.signal(libc::SIGKILL);
        first.wait(Duration::from_secs(1)).expect("it dies");
        origin.release("/a");
        second.join().expect("the other").expect("its bytes");
    });
    assert_eq!(origin.requests("/a"), 1, "the other did not start again");
}

#[test]
fn forty_stalled_readers_do_not_slow_a_good_one() {
    needs!("fuse");
    let origin = Origin::start();
    let body = Body::made(99, 4 * MIB);
    origin.put("/good", Item::made(99, body.len()));
    let mut setup = Mounted::with().download("good", &origin.url("/good"));
    for n in 0..8 {
        let path = format!("/stalled{n}");
        origin.put(&path, Item::made(n, 4 * MIB));
        origin.hold(&path, At::Byte(MIB));
        setup = setup.download(&format!("stalled{n}"), &origin.url(&path));
    }
    let mounted = setup.args(["--no-passthrough"]).start();
    body.check(&mounted.path("good")).expect("cold");
    mounted.wait_complete("good");
    let mut stalled: Vec<Proc> =
        (0..40).map(|n| Proc::cat(&mounted.path(&format!("stalled{}", n % 8)))).collect();
    for proc in &mut stalled {
        proc.wait_blocked();
    }
    let mut times = Vec::new();
    for n in 0..300_u64 {
        let begin = Instant::now();
        let mut file = File::open(mounted.path("good")).expect("open");
        let _ = os::drop_pages(&file);
        let mut buf = vec![0; 128 << 10];
        file.read_exact(&mut buf).expect("read");
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        assert_eq!(body.differs(0, &buf), None, "read {n}");
    }
    let high = quantile(times, 0.99);
    figure(&format!("128 KiB of a good file beside 40 stalled readers: p99 {high:.1} ms"));
    assert!(high < 50.0, "p99 {high} ms");
    for n in 0..8 {
        origin.release(&format!("/stalled{n}"));
    }
    for mut proc in stalled {
        let status = proc.wait(Duration::from_secs(20)).expect("it ends");
        assert!(status.success());
    }
}

#[test]
fn a_body_without_validators_is_served_to_its_openers_and_not_kept() {
    needs!("fuse");
    let origin = Origin::start();
    let first = Body::made(1, MIB);
    origin.put("/a", Item::new(first.clone()));
    let mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    let mut file = File::open(mounted.path("a")).expect("open");
    first.check_rest(&mut file, 0).expect("read");
    origin.put("/a", Item::new(Body::made(2, MIB)));
    mounted.settle();
    Body::made(2, MIB).check(&mounted.path("a")).expect("asked again in full");
    first.check_at(&file, 0, MIB as usize).expect("the first handle");
    drop(file);
    wait_until("the blobs go", Duration::from_secs(10), || mounted.du() < 64 * 1024);
}

#[test]
fn no_descriptor_is_left_open_behind_a_storm() {
    needs!("fuse");
    const NAMES: u64 = 40;
    let origin = Origin::start();
    let mut setup = Mounted::with().args(["--revalidate-window", "0"]);
    for n in 0..NAMES {
        setup = setup.download(&format!("n{n}"), &origin.url(&format!("/{n}")));
    }
    let mounted = setup.start();
    let storm = |version: u64| {
        for n in 0..NAMES {
            origin.put(&format!("/{n}"), Item::made(version * NAMES + n, 10_000));
        }
        mounted.settle();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for n in 0..NAMES {
                        std::fs::read(mounted.path(&format!("n{n}"))).expect("read");
                    }
                });
            }
        });
    };
    let count = || {
        std::fs::read_dir(format!("/proc/{}/fd", mounted.pid())).expect("list descriptors").count()
    };
    // The kernel remembers one version of each name, and each costs a descriptor; no more may.
    storm(0);
    mounted.wait_complete("n0");
    std::thread::sleep(Duration::from_secs(1));
    let before = count();
    for version in 1..4 {
        storm(version);
    }
    wait_until("descriptors are closed again", Duration::from_secs(15), || count() <= before + 12);
}
