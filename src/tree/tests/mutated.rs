//! Archives that somebody changed: whatever comes of them, it is refused or holds together.

use proptest::prelude::*;
use proptest::sample::Index as At;

use super::held;
use super::tars::{Block, file, link, pax, record, tar};
use super::zip::sample;
use super::zips::{File, Zip, extra};
use crate::tree::{Format, Limits, Why};

/// Small enough that a mutation can pass each.
const LIMITS: Limits = Limits {
    members: 40,
    index: 20_000,
    expanded: 1 << 33,
    ratio: 1 << 20,
    member: 1 << 32,
    depth: 8,
    path: 300,
};

/// One change of an archive.
#[derive(Clone, Debug)]
enum Change {
    Byte(At, u8),
    /// Numbers that are at the edge of something.
    Number(At, u64, usize),
    Remove(At, usize),
    /// A copy of some bytes put elsewhere.
    Copy(At, At, usize),
    Cut(At),
}

impl Change {
    fn make(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match self {
            Change::Byte(at, byte) => bytes[at.index(length)] = *byte,
            Change::Number(at, number, width) => {
                let at = at.index(length);
                let end = length.min(at + width);
                bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
            }
            Change::Remove(at, count) => {
                let at = at.index(length);
                bytes.drain(at..length.min(at + count));
            }
            Change::Copy(from, to, count) => {
                let (from, to) = (from.index(length), to.index(length));
                let copy = bytes[from..length.min(from + count)].to_vec();
                bytes.splice(to..to, copy);
            }
            Change::Cut(at) => bytes.truncate(at.index(length)),
        }
    }
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let number = prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(u64::MAX - 1),
        Just(1 << 31),
        Just(i64::MAX as u64),
        any::<u64>(),
    ];
    let width = prop::sample::select(vec![2usize, 4, 8]);
    let count = prop::sample::select(vec![1usize, 2, 4, 30, 46, 512, 1024]);
    let change = prop_oneof![
        6 => any::<(At, u8)>().prop_map(|(at, byte)| Change::Byte(at, byte)),
        4 => (any::<At>(), number, width).prop_map(|(at, n, width)| Change::Number(at, n, width)),
        1 => (any::<At>(), count.clone()).prop_map(|(at, count)| Change::Remove(at, count)),
        1 => (any::<At>(), any::<At>(), count).prop_map(|(a, b, n)| Change::Copy(a, b, n)),
        1 => any::<At>().prop_map(Change::Cut),
    ];
    prop::collection::vec(change, 1..5)
}

fn zips() -> Vec<Vec<u8>> {
    let wide = File { zip64: true, ..File::new("wide", "12345") };
    let mut described = File::new("d/described", "12345");
    described.flags = 1 << 3 | 1 << 11;
    described.extra = extra(0x5455, &[1, 0, 0, 0, 0x80]);
    let mut dos = File::new(b"dos\x81", "1");
    (dos.system, dos.attributes) = (0, 0x20);
    dos.extra = extra(0x7075, &[1, 0, 0, 0, 0, b'x']);
    vec![
        sample().bytes(),
        Zip { zip64: true, comment: b"PK\x05\x06".to_vec(), ..Zip::of([wide.clone()]) }.bytes(),
        Zip { before: vec![b'#'; 99], after: vec![0; 9], ..Zip::of([described, dos]) }.bytes(),
        Zip { zip64: true, before: vec![b'#'; 99], ..Zip::of([wide]) }.bytes(),
        Zip::default().bytes(),
    ]
}

fn tars() -> Vec<Vec<u8>> {
    vec![
        tar([file("a/b", "12345"), link("a/c", b'1', "a/b"), link("s", b'2', "a")]),
        tar([
            pax(b'g', record("comment", "x")),
            pax(
                b'x',
                [record("path", "p/q"), record("size", "5"), record("mtime", "-1.5")].concat(),
            ),
            file("f", "12345"),
        ]),
        tar([Block::new("././@LongLink", b'L', 5).with("long\0"), file("cut", "x".repeat(1000))]),
        tar([Block::v7("old/", 0, 0).with(""), Block::v7("old/f", 0, 3).with("old")]),
        tar([]),
    ]
}

/// Gives every block of a tar that can be a header the checksum that it should have.
fn seal(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512).filter(|block| block.iter().any(|b| *b != 0)) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_zip_that_was_changed_is_refused_or_holds_together(
        which in any::<At>(),
        changes in changes(),
    ) {
        let zips = zips();
        let mut bytes = which.get(&zips).clone();
        changes.iter().for_each(|change| change.make(&mut bytes));
        if let Err(error) = held::zip(&bytes, &LIMITS) {
            prop_assert!(matches!(error.why, Why::Damaged | Why::Limit), "{error:?}");
            // Where it is: the zip's own records, or what was to be shown.
            let named = error.message.starts_with("zip: ")
                || ["member", "link"].iter().any(|kind| error.message.contains(kind));
            prop_assert!(named, "{error}");
        }
        let _ = Format::of(&bytes);
    }

    #[test]
    fn a_tar_that_was_changed_is_refused_or_holds_together(
        which in any::<At>(),
        changes in changes(),
        sealed in any::<bool>(),
    ) {
        let tars = tars();
        let mut bytes = which.get(&tars).clone();
        changes.iter().for_each(|change| change.make(&mut bytes));
        if sealed {
            seal(&mut bytes);
        }
        let _ = held::tar(&bytes, LIMITS);
        let _ = Format::of(&bytes);
    }

    #[test]
    fn bytes_of_no_archive_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(held::zip(&bytes, &LIMITS).is_err());
        prop_assert!(held::tar(&bytes, LIMITS).is_err());
    }
}
