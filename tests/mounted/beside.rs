//! Ranges that go wrong while the whole comes: nobody is refused what one answer brings.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::support::origin::{Fault, Place, When};
use crate::support::{Body, Item, KIB, MIB, Mounted, Origin, figure, needs, timed};

/// Long enough for further connections to be tried, and slow enough for one to help.
const LEN: u64 = 20 * MIB;
const RATE: u64 = 10_000_000;

/// What every question for a range is answered with, though the whole is right.
const FAULTS: &[(&str, Fault)] = &[
    ("never answers", Fault::Silent),
    ("closes before the head", Fault::CloseFirst),
    ("is not HTTP", Fault::Garbage),
    ("403", Fault::Status(403, &[])),
    ("404", Fault::Status(404, &[])),
    ("416", Fault::Status(416, &[])),
    ("503, try again in an hour", Fault::Status(503, &[("Retry-After", "3600")])),
    ("304", Fault::NotModified(None)),
    ("another first byte", Fault::Partial(Place::First)),
    ("another length", Fault::Partial(Place::Complete)),
    ("another tag", Fault::PartialOf("\"other\"")),
    ("several parts", Fault::Multipart),
    ("the whole", Fault::Whole),
    ("compressed", Fault::Coded),
    ("cut before its first byte", Fault::Cut(0)),
    ("stalls", Fault::Stall(50_000)),
    ("announces too much", Fault::TooLong(5)),
];

#[test]
fn ranges_that_go_wrong_keep_nobody_from_the_whole() {
    needs!("fuse");
    // Ranges that stall are given up when two in a row were in vain, ten seconds each. One that comes
    // between begins the series anew.
    read_beside(FAULTS, Duration::from_secs(60));
}

/// With nothing else to come, a range that begins takes the place of the stream.
#[test]
fn ranges_that_stall_are_given_up_for_the_whole() {
    needs!("fuse");
    read_beside(&[("stalls, alone", Fault::Stall(50_000))], Duration::from_secs(60));
}

/// Has, of each, a program read in order, and one the end at once, which is asked for by range.
fn read_beside(faults: &[(&str, Fault)], within: Duration) {
    let body = Body::made(1, LEN);
    let origins: Vec<Origin> = faults
        .iter()
        .map(|(_, fault)| {
            let item = Item { rate: Some(RATE), ..Item::ranged(1, LEN) };
            let origin = Origin::start();
            origin.put("/a", item.strike(When::Part, fault.clone(), usize::MAX));
            origin
        })
        .collect();
    let names: Vec<String> = (0..origins.len()).map(|n| format!("n{n}")).collect();
    let urls: Vec<String> = origins.iter().map(|origin| origin.url("/a")).collect();
    let catalog: Vec<_> =
        names.iter().map(String::as_str).zip(urls.iter().map(String::as_str)).collect();
    let mounted = Mounted::names(&catalog);
    std::thread::scope(|scope| {
        for (((what, _), name), origin) in faults.iter().zip(&names).zip(&origins) {
            let (mounted, body) = (&mounted, &body);
            scope.spawn(move || {
                let path = mounted.path(name);
                let file = File::open(&path).unwrap_or_else(|e| panic!("{what}: open: {e}"));
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        let mut end = vec![0; 4 * KIB as usize];
                        file.read_exact_at(&mut end, LEN - 4 * KIB)
                            .unwrap_or_else(|e| panic!("{what}: the end: {e}"));
                        assert_eq!(body.differs(LEN - 4 * KIB, &end), None, "{what}");
                    });
                    let (all, time) = timed(|| std::fs::read(&path));
                    let all = all.unwrap_or_else(|e| panic!("{what}: {e}"));
                    assert!(all == body.all(), "{what}");
                    figure(&format!("{what}: {time:.1?}, {} requests", origin.requests("/a")));
                    assert!(time < within, "{what}: {time:?}");
                });
            });
        }
    });
}
