//! Zips, as they should be and as they should not.

use std::time::{Duration, Instant, SystemTime};

use super::held;
use super::zips::{File, Zip, chained};
use crate::tree::{Index, Kind, Limits, NodeNo, TreeError, Why, zip};

/// Reads a zip as a tree does, and checks what must hold of every one that is read.
pub(super) fn index(bytes: &[u8]) -> Result<(zip::End, Index), TreeError> {
    index_within(bytes, &Limits::default())
}

pub(super) fn index_within(bytes: &[u8], limits: &Limits) -> Result<(zip::End, Index), TreeError> {
    held::zip(bytes, limits)
}

pub(super) fn walk(index: &Index, path: &str) -> Option<NodeNo> {
    path.split('/').try_fold(NodeNo::ROOT, |dir, name| index.child(dir, name.as_bytes()))
}

/// Returns a stored file's bytes, by way of its local header.
pub(super) fn read(
    bytes: &[u8],
    end: &zip::End,
    index: &Index,
    path: &str,
) -> Result<Vec<u8>, TreeError> {
    let node = walk(index, path).expect("a path in the archive");
    let content = index.content(index.content_of(node).expect("a file")).expect("a content");
    let range = held::packed(bytes, end, &content)?;
    Ok(bytes[range.start as usize..range.end as usize].to_vec())
}

pub(super) fn sample() -> Zip {
    Zip::of([
        File::new("bin/detect", "#!/bin/sh\n").mode(0o100_755),
        File::new("lib/", "").mode(0o040_755),
        File::new("lib/a.so", "elf"),
        File::new("lib/b.so", "a.so").mode(0o120_777),
    ])
}

#[test]
fn a_zip_is_listed_by_its_directory_and_read_by_its_local_headers() {
    let bytes = sample().bytes();
    let (end, index) = index(&bytes).unwrap();
    assert_eq!((end.members, end.shift), (4, 0));
    let detect = walk(&index, "bin/detect").unwrap();
    let attr = index.attr(detect).unwrap();
    assert_eq!((attr.kind, attr.mode, attr.size, attr.links), (Kind::File, 0o555, 10, 1));
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_580_702_706);
    assert_eq!(attr.modified, Some(at), "2020-02-03 04:05:06 UTC");
    assert_eq!(index.attr(walk(&index, "lib/a.so").unwrap()).unwrap().mode, 0o444);
    let bin = index.attr(walk(&index, "bin").unwrap()).unwrap();
    assert_eq!((bin.kind, bin.modified, bin.links), (Kind::Directory, None, 2));
    assert_eq!(index.attr(NodeNo::ROOT).unwrap().links, 4);
    let link = walk(&index, "lib/b.so").unwrap();
    assert_eq!(index.attr(link).unwrap().kind, Kind::Symlink);
    assert_eq!((index.target(link), index.attr(link).unwrap().size), (None, 4));
    for (path, data) in [("bin/detect", "#!/bin/sh\n"), ("lib/a.so", "elf"), ("lib/b.so", "a.so")] {
        assert_eq!(read(&bytes, &end, &index, path).unwrap(), data.as_bytes());
    }
    let again = Index::decode(&index.encode()).unwrap();
    let names = |index: &Index| {
        index.children(NodeNo::ROOT, 0).map(|(n, b)| (n, b.to_vec())).collect::<Vec<_>>()
    };
    assert_eq!(names(&again), [(NodeNo(1), b"bin".to_vec()), (NodeNo(3), b"lib".to_vec())]);
    assert_eq!(names(&index), names(&again));
}

#[test]
fn many_members_are_indexed_and_back_in_time_and_memory() {
    // A debug build takes some twenty times as long.
    let members = if cfg!(debug_assertions) { 10_000 } else { 195_000 };
    let files = (0..members).map(|n| {
        let mut file = File::new(format!("dependencies/{:03}/src/module_{n:06}.py", n / 100), "");
        file.method = 8;
        file
    });
    let bytes = Zip::of(files).bytes();
    let begun = Instant::now();
    let (_, index) = index(&bytes).unwrap();
    let built = begun.elapsed();
    let each = index.memory() / u64::from(index.nodes());
    let encoded = index.encode();
    let begun = Instant::now();
    let again = Index::decode(&encoded).unwrap();
    let decoded = begun.elapsed();
    println!(
        "{} nodes: built in {built:?}, back in {decoded:?}, {each} bytes of memory and {} on the \
         disk each",
        index.nodes(),
        encoded.len() / index.nodes() as usize
    );
    assert!(each <= 150, "{each} bytes of memory a member");
    assert_eq!(again.memory(), index.memory());
    assert!(built < Duration::from_secs(2), "built in {built:?}");
    assert!(decoded < Duration::from_millis(300), "back in {decoded:?}");
}

pub(super) fn refusal(bytes: &[u8]) -> String {
    match index(bytes) {
        Ok(_) => panic!("taken"),
        Err(error) => {
            assert_eq!(error.why, Why::Damaged);
            error.message
        }
    }
}

/// Puts bytes into a copy of others, over what is there.
pub(super) fn patched(bytes: &[u8], at: usize, with: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + with.as_ref().len()].copy_from_slice(with.as_ref());
    bytes
}

#[test]
fn zip64_records_tell_the_same_as_narrow_ones() {
    let mut wide = sample();
    wide.zip64 = true;
    wide.files.iter_mut().for_each(|file| file.zip64 = true);
    let bytes = wide.bytes();
    let (end, index) = index(&bytes).unwrap();
    assert_eq!(read(&bytes, &end, &index, "lib/a.so").unwrap(), b"elf");
    // The records are looked at before what is saturated, and have to agree with what is not.
    let tail = bytes.len() - 22;
    for (at, with) in [(10, 7u16), (8, 0)] {
        let bytes = patched(&bytes, tail + at, with.to_le_bytes());
        assert_eq!(self::index(&bytes).is_ok(), at == 8, "{at}");
    }
    assert!(refusal(&patched(&bytes, tail + 16, 1u32.to_le_bytes())).contains("disagree"));
    let locator = tail - 20;
    assert!(refusal(&patched(&bytes, locator, b"XXXX")).contains("missing"));
    assert!(refusal(&patched(&bytes, locator + 16, 2u32.to_le_bytes())).contains("disks"));
    let record = locator - 56;
    assert!(refusal(&patched(&bytes, record, b"XXXX")).contains("no zip64 end record"));
    for at in [32, 40, 48] {
        for value in [u64::MAX, 1 << 62, 1] {
            refusal(&patched(&bytes, record + at, value.to_le_bytes()));
        }
    }
    // A member that says so and has no such field.
    let mut files = sample().files;
    files[0].size = u64::from(u32::MAX);
    assert!(refusal(&Zip::of(files).bytes()).contains("zip64 field"));
}

#[test]
fn a_zip64_record_may_have_more_than_the_tail_holds() {
    let mut zip = sample();
    zip.zip64 = true;
    let bytes = zip.bytes();
    let record = bytes.len() - 22 - 20 - 56;
    let vendor = 200_000usize;
    let mut long = patched(&bytes, record + 4, (44 + vendor as u64).to_le_bytes());
    long.splice(record + 56..record + 56, vec![7; vendor]);
    assert_eq!(index(&long).unwrap().0.members, 4);
}

#[test]
fn end_records_that_lead_from_one_to_the_next_are_not_followed() {
    for back in [42, 1 << 20] {
        let bytes = chained(3 << 20, back);
        let length = bytes.len() as u64;
        let mut from = length - zip::TAIL;
        let mut asked = 0;
        while let Err(Ok(longer)) = zip::end(&bytes[from as usize..], length) {
            assert!(longer < from && length - longer < 2 << 20, "{longer} of {length}");
            (from, asked) = (longer, asked + 1);
        }
        assert!(asked <= 1, "asked {asked} times");
        assert!(refusal(&bytes).contains("no zip64 end record"));
    }
}

#[test]
fn comments_and_rubbish_and_what_stands_before_do_no_harm() {
    let members = |zip: Zip| {
        let bytes = zip.bytes();
        let (end, index) = index(&bytes).unwrap();
        assert_eq!(read(&bytes, &end, &index, "lib/a.so").unwrap(), b"elf");
        (end.members, end.shift)
    };
    let with = |change: fn(&mut Zip)| {
        let mut zip = sample();
        change(&mut zip);
        zip
    };
    assert_eq!(members(with(|zip| zip.comment = vec![b'c'; 65_535])), (4, 0));
    // The end record of an empty zip, and one that says nothing true, within the comment.
    assert_eq!(members(with(|zip| zip.comment = b"PK\x05\x06".repeat(40))), (4, 0));
    assert_eq!(members(with(|zip| zip.comment = [&b"PK\x05\x06"[..], &[0; 18]].concat())), (4, 0));
    assert_eq!(members(with(|zip| zip.before = vec![b'#'; 9_999])), (4, 9_999));
    assert_eq!(members(with(|zip| zip.after = vec![b'#'; 60_000])), (4, 0));
    assert_eq!(members(with(|zip| zip.after = b"PK\x05\x06".to_vec())), (4, 0));
    assert!(refusal(&with(|zip| zip.after = vec![b'#'; 70_000]).bytes()).contains("no end"));
    // A shorter tail is asked for more before it is given up.
    let bytes = with(|zip| zip.comment = vec![b'c'; 5_000]).bytes();
    let length = bytes.len() as u64;
    let asked = zip::end(&bytes[bytes.len() - 4_096..], length);
    assert!(matches!(asked, Err(Ok(0))), "{asked:?}");
}
