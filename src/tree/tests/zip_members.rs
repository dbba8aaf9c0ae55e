//! Members of zips: what is made of their headers, and which are refused.

use std::time::{Duration, SystemTime};

use super::zip::{index, index_within, patched, read, refusal, sample, walk};
use super::zips::{File, Zip, extra};
use crate::tree::{Index, Kind, Limits, NodeNo, Packed, Why};

/// Returns the index of one member.
fn one(file: File) -> Index {
    index(&Zip::of([file]).bytes()).unwrap().1
}

/// Returns the name of the only member, as shown.
fn name(file: File) -> Vec<u8> {
    let index = one(file);
    let name = index.children(NodeNo::ROOT, 0).next().map(|(_, name)| name.to_vec());
    name.expect("a member")
}

/// Returns its time in seconds since 1970.
fn seconds(file: File) -> Option<i64> {
    let time = one(file).attr(NodeNo(1)).unwrap().modified?;
    Some(match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => after.as_secs() as i64,
        Err(before) => -(before.duration().as_secs() as i64),
    })
}

#[test]
fn names_are_utf8_where_they_say_so_bytes_from_unix_and_else_code_page_437() {
    let file = |raw: &[u8], flags: u16, system: u8| {
        let mut file = File::new(raw, "");
        (file.flags, file.system) = (flags, system);
        file
    };
    assert_eq!(name(file("\u{fc}".as_bytes(), 1 << 11, 0)), "\u{fc}".as_bytes());
    assert_eq!(name(file(b"\x81\xff", 0, 3)), b"\x81\xff");
    assert_eq!(name(file(b"\x81\xff", 0, 19)), b"\x81\xff");
    assert_eq!(name(file(b"a\x81\x80\xe1\xff", 0, 0)), "a\u{fc}\u{c7}\u{df}\u{a0}".as_bytes());
    let mut with_field = file(b"\x81", 0, 0);
    let path = [&[1][..], &crc32fast::hash(b"\x81").to_le_bytes(), "\u{4e2d}".as_bytes()].concat();
    with_field.extra = extra(0x7075, &path);
    assert_eq!(name(with_field.clone()), "\u{4e2d}".as_bytes());
    // Made for another name: somebody renamed the member and did not know the field.
    with_field.name = b"\x84".to_vec();
    assert_eq!(name(with_field), "\u{e4}".as_bytes());
    assert_eq!(name(file(b"a\\b", 0, 0)), b"a\\b");
}

#[test]
fn kinds_and_modes_are_those_of_unix_where_there_are_any() {
    let attr = |file: File| one(file).attr(NodeNo(1)).map(|attr| (attr.kind, attr.mode));
    let made_on = |system: u8, attributes: u32| {
        let mut file = File::new("f", "");
        (file.system, file.attributes) = (system, attributes);
        attr(file)
    };
    assert_eq!(made_on(3, 0o100_644 << 16), Some((Kind::File, 0o444)));
    assert_eq!(made_on(3, 0o100_100 << 16), Some((Kind::File, 0o555)));
    assert_eq!(made_on(19, 0o104_600 << 16), Some((Kind::File, 0o444)));
    assert_eq!(made_on(3, 0o640 << 16), Some((Kind::File, 0o444)), "no kind");
    assert_eq!(made_on(3, 0), Some((Kind::File, 0o555)), "no mode");
    assert_eq!(made_on(0, 0o100_644 << 16), Some((Kind::File, 0o555)), "not of Unix");
    assert_eq!(made_on(0, 0x10), Some((Kind::Directory, 0o555)));
    assert_eq!(made_on(3, 0o040_000 << 16), Some((Kind::Directory, 0o555)));
    assert_eq!(made_on(3, 0o010_644 << 16), None, "a fifo");
    let mut piped = File::new("-", "what stood in a pipe");
    (piped.system, piped.attributes) = (3, 0o010_600 << 16);
    assert_eq!(attr(piped), Some((Kind::File, 0o444)), "a fifo with contents, of zip(1)");
    assert_eq!(attr(File::new("d/", "")), Some((Kind::Directory, 0o555)));
}

#[test]
fn times_are_the_best_that_there_are() {
    let file = |extra: &[u8]| {
        let mut file = File::new("f", "");
        file.extra = extra.to_vec();
        file
    };
    let unix = extra(0x5855, &[1u32.to_le_bytes(), 55u32.to_le_bytes()].concat());
    let ticks = (11_644_473_600u64 + 44) * 10_000_000;
    let times = [&[0; 4][..], &extra(1, &[&ticks.to_le_bytes()[..], &[0; 16]].concat())].concat();
    let windows = extra(0x000a, &times);
    let extended = |time: u32| extra(0x5455, &[&[1][..], &time.to_le_bytes()].concat());
    assert_eq!(seconds(file(&[])), Some(1_580_702_706));
    assert_eq!(seconds(file(&unix)), Some(55));
    assert_eq!(seconds(file(&[unix.clone(), windows.clone()].concat())), Some(44));
    assert_eq!(seconds(file(&[unix.clone(), windows, extended(33)].concat())), Some(33));
    assert_eq!(seconds(file(&[extra(0x5455, &[2, 1, 1, 1, 1]), unix].concat())), Some(55));
    // Bytes that pad the area are no field.
    assert_eq!(seconds(file(&[extended(33), vec![0; 3]].concat())), Some(33));
    // 32 bits of before 1970 and of after 2038: the DOS time tells.
    assert_eq!(seconds(file(&extended(u32::MAX - 9))), Some(i64::from(u32::MAX) - 9));
    let mut old = file(&extended(u32::MAX - 9));
    (old.date, old.time) = (1 << 5 | 1, 0);
    assert_eq!(seconds(old), Some(-10));
    for (date, time) in [(0, 0), (13 << 5 | 1, 0), (2 << 5 | 30, 0), (1 << 5 | 1, 24 << 11)] {
        let mut none = File::new("f", "");
        (none.date, none.time) = (date, time);
        assert_eq!(seconds(none), None, "{date:x} {time:x}");
    }
    let mut leap = File::new("f", "");
    (leap.date, leap.time) = (20 << 9 | 2 << 5 | 29, 23 << 11 | 59 << 5 | 29);
    let time = one(leap).attr(NodeNo(1)).unwrap().modified.unwrap();
    assert_eq!(time, SystemTime::UNIX_EPOCH + Duration::from_secs(951_868_798));
}

#[test]
fn encrypted_members_and_unknown_methods_are_shown_and_cannot_be_read() {
    let packed = |flags: u16, method: u16| {
        let mut file = File::new("f", "12345");
        (file.flags, file.method, file.size) = (flags, method, 9);
        let index = one(file);
        let content = index.content(index.content_of(NodeNo(1)).unwrap()).unwrap();
        assert_eq!((content.size, content.at, index.unpacked() % 4096), (9, 0, 0));
        content.packed
    };
    assert_eq!(packed(1, 8), Packed::Encrypted);
    assert_eq!(packed(1 << 6, 0), Packed::Encrypted);
    assert_eq!(packed(0, 99), Packed::Encrypted);
    assert_eq!(packed(0, 12), Packed::Unknown { method: 12 });
    assert_eq!(packed(1 << 5, 8), Packed::Unknown { method: 8 });
    assert!(matches!(packed(0, 8), Packed::Deflated { length: 5, .. }));
    let mut masked = File::new("f", "");
    masked.flags = 1 << 13;
    assert!(refusal(&Zip::of([masked]).bytes()).contains("encrypted"));
}

#[test]
fn a_local_header_has_to_agree_with_the_central_one() {
    type Lie = fn(&mut File);
    let lies: &[(Lie, &str)] = &[
        (|file| file.name = b"other".to_vec(), "another name"),
        (|file| file.name = b"g".to_vec(), "another name"),
        (|file| file.method = 8, "method 8"),
        (|file| file.flags = 1, "encrypted"),
        (|file| file.crc ^= 1, "checksum"),
        (|file| file.size += 1, "length"),
        (|file| file.data.push(0), "length"),
        (|file| file.size = u64::from(u32::MAX), "zip64"),
    ];
    for (lie, expected) in lies {
        let bytes = Zip::of([File { lie: *lie, ..File::new("f", "data") }]).bytes();
        let (end, index) = index(&bytes).unwrap();
        let error = read(&bytes, &end, &index, "f").unwrap_err();
        assert_eq!(error.why, Why::Damaged);
        assert!(error.message.contains(expected), "{expected}: {error}");
    }
    // A longer header alone is no lie.
    let padded = File { local_extra: extra(0xcafe, &[0; 200]), ..File::new("f", "data") };
    let bytes = Zip::of([padded]).bytes();
    let (end, index) = self::index(&bytes).unwrap();
    assert_eq!(read(&bytes, &end, &index, "f").unwrap(), b"data");
    // The header says that more follows than there is.
    let bytes = Zip::of([File::new("f", "data")]).bytes();
    let (end, index) = self::index(&bytes).unwrap();
    let long = patched(&bytes, 28, 2u16.to_le_bytes());
    assert!(read(&long, &end, &index, "f").unwrap_err().message.contains("reach into"));
    // Found by a_zip_that_was_changed_is_refused_or_holds_together: more than the file has was
    // asked for, which a reader would have waited for.
    for at in [26, 28] {
        let long = patched(&bytes, at, u16::MAX.to_le_bytes());
        assert!(read(&long, &end, &index, "f").unwrap_err().message.contains("reaches into"));
    }
    let none = patched(&bytes, 0, b"PK\x01\x02");
    assert!(read(&none, &end, &index, "f").unwrap_err().message.contains("is none"));
    // What stands behind the data is not in the header.
    let descriptor = File {
        flags: 1 << 3,
        lie: |file| (file.crc, file.size) = (0, 0),
        ..File::new("f", "data")
    };
    let bytes = Zip::of([descriptor]).bytes();
    let (end, index) = self::index(&bytes).unwrap();
    assert_eq!(read(&bytes, &end, &index, "f").unwrap(), b"data");
}

#[test]
fn directories_that_contradict_themselves_are_refused() {
    let bytes = sample().bytes();
    let (end, _) = index(&bytes).unwrap();
    let (first, tail) = (end.directory.start as usize, end.directory.end as usize);
    let second = first + 46 + "bin/detect".len();
    for (bytes, expected) in [
        (patched(&bytes, second, b"XXXX"), "no header"),
        (patched(&bytes, second + 28, u16::MAX.to_le_bytes()), "cut"),
        (patched(&bytes, second + 34, 1u16.to_le_bytes()), "disk"),
        (patched(&bytes, first + 42, 1u32.to_le_bytes()), "overlap"),
        (patched(&bytes, second + 42, 0u32.to_le_bytes()), "overlap"),
        (patched(&bytes, second + 42, (first as u32).to_le_bytes()), "overlap"),
        (patched(&bytes, second + 42, 0xffff_fff0u32.to_le_bytes()), "overlap"),
        (patched(&bytes, first + 20, 0xffff_fff0u32.to_le_bytes()), "stored"),
        (patched(&bytes, tail + 4, 1u16.to_le_bytes()), "several disks"),
        (patched(&bytes, tail + 8, 1u16.to_le_bytes()), "several disks"),
        (patched(&bytes, tail + 12, u32::MAX.to_le_bytes()), "missing"),
        (patched(&bytes, tail + 12, 0xffff_fff0u32.to_le_bytes()), "outside"),
        (patched(&bytes, tail + 16, (first as u32 + 1).to_le_bytes()), "outside"),
        (patched(&bytes, tail + 12, 1u32.to_le_bytes()), "do not fit"),
    ] {
        let message = refusal(&bytes);
        assert!(message.contains(expected), "{expected}: {message}");
    }
    for more in [-1, 1] {
        let message = refusal(&Zip { more, ..sample() }.bytes());
        assert!(message.contains("members"), "{message}");
    }
    for length in 0..bytes.len() {
        refusal(&bytes[..length]);
    }
}

#[test]
fn more_members_than_sixteen_bits_are_counted_modulo() {
    let files = (0..65_537).map(|n| File::new(format!("{n}"), ""));
    let (end, index) = index(&Zip::of(files).bytes()).unwrap();
    assert_eq!((end.members, index.nodes()), (1, 65_538));
    let files = (0..65_536).map(|n| File::new(format!("{n}"), ""));
    assert_eq!(self::index(&Zip::of(files).bytes()).unwrap().1.nodes(), 65_537);
}

#[test]
fn duplicates_links_and_paths_follow_the_rules_of_all_trees() {
    let zip = Zip::of([
        File::new("a", "first"),
        File::new("./d//a", "x"),
        File::new("d/", "").mode(0o040_755),
        File::new("a", "last one"),
    ]);
    let (_, index) = index(&zip.bytes()).unwrap();
    assert_eq!(index.attr(walk(&index, "a").unwrap()).unwrap().size, 8);
    assert_eq!(index.attr(NodeNo(1)).unwrap().links, 0, "its name was taken");
    assert!(walk(&index, "d/a").is_some());
    assert!(index.attr(walk(&index, "d").unwrap()).unwrap().modified.is_some());
    for (files, expected) in [
        (vec![File::new("a", ""), File::new("a/b", "")], "needs a directory"),
        (vec![File::new("a/b", ""), File::new("a", "")], "has a directory"),
        (vec![File::new("a", ""), File::new("a/", "")], "needs a directory"),
        (vec![File::new("s", "t").mode(0o120_777), File::new("s/x", "")], "needs a directory"),
        (vec![File::new("../x", "")], "climbs"),
        (vec![File::new("a/../x", "")], "climbs"),
        (vec![File::new("/x", "")], "absolute"),
        (vec![File::new("", "")], "empty"),
        (vec![File::new("a\0", "")], "NUL"),
        (vec![File::new(".", "")], "root"),
        (vec![File::new("x".repeat(256), "")], "255"),
        (vec![File::new("s", "").mode(0o120_777)], "0 bytes"),
        (vec![File::new("s", "t".repeat(4096)).mode(0o120_777)], "4096 bytes"),
    ] {
        let message = refusal(&Zip::of(files).bytes());
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

#[test]
fn each_limit_has_its_own_error() {
    let limits = Limits {
        members: 5,
        index: 1000,
        expanded: 100 << 20,
        ratio: 200,
        member: 60 << 20,
        depth: 4,
        path: 30,
    };
    let sized = |name: &str, size: u64| {
        let mut file = File::new(name, "");
        (file.method, file.size) = (8, size);
        file
    };
    let names = |count: usize| (0..count).map(|n| File::new(format!("{n}"), "")).collect();
    for (files, key, found) in [
        (names(6), "members", "6 members"),
        (vec![File::new("a/b/c/d", ""), File::new("e/f", "")], "members", "more than 5"),
        (vec![File::new("a/b/c/d/e", "")], "depth", "5 components"),
        (vec![File::new("x".repeat(31), "")], "path", "31 bytes"),
        (vec![sized("a", 61 << 20)], "member", "63963136 bytes"),
        (vec![sized("a", 60 << 20), sized("b", 41 << 20)], "expanded", "105906176 bytes"),
        (vec![sized("a", 1 << 20), sized("b", 1)], "ratio", "1048577 bytes"),
    ] {
        // The archive has to be large enough that its ratio is not what is passed first.
        let before = vec![0; if key == "ratio" { 0 } else { 1 << 20 }];
        let bytes = Zip { before, ..Zip::of(files) }.bytes();
        let error = index_within(&bytes, &limits).err().unwrap_or_else(|| panic!("{key}: taken"));
        assert_eq!(error.why, Why::Limit, "{error}");
        assert!(error.message.contains(&format!("archives.{key} allows")), "{error}");
        assert!(error.message.contains(found), "{found}: {error}");
    }
    let bytes = Zip::of(names(5)).bytes();
    let error = index_within(&bytes, &Limits { index: 500, ..limits }).err().unwrap();
    assert!(error.message.contains("archives.index allows 500"), "{error}");
    index_within(&bytes, &limits).unwrap();
}
