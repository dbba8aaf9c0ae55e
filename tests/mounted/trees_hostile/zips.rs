//! Hostile zips.

use super::{Case, DIR, Node, fails, file, link, refused, runs, shows};
use crate::support::zip_bytes::{Header, Member, Zip, crc32, deflate, extra};

/// A member beside those that are wrong; it is always readable.
fn good() -> Member {
    Member::stored("good", "good\n")
}

fn one(member: Member) -> Vec<u8> {
    Zip::of([good(), member]).bytes()
}

fn zip(members: impl IntoIterator<Item = Member>) -> Vec<u8> {
    Zip::of([good()].into_iter().chain(members)).bytes()
}

/// What such a zip shows.
fn with_good(more: &[(&str, Node)]) -> super::Expect {
    let good = ("good", file("good\n"));
    shows(more.iter().cloned().chain([good]))
}

pub(super) fn all() -> Vec<Case> {
    [paths(), kinds(), links(), members(), local_headers(), numbers(), ends(), bombs()].concat()
}

fn paths() -> Vec<Case> {
    let named = |name: &[u8]| one(Member::stored(name, "x"));
    let deep = |depth: usize| ["d"; 65][..depth].join("/");
    let long = vec!["n".repeat(200); 21].join("/");
    let utf8 = |header: &mut Header| header.flags |= 1 << 11;
    let unicode = |path: &[u8], crc: u32| {
        let mut field = vec![1];
        field.extend_from_slice(&crc.to_le_bytes());
        field.extend_from_slice(path);
        [&0x7075_u16.to_le_bytes(), &(field.len() as u16).to_le_bytes(), &field[..]].concat()
    };
    let with_unicode = |path: &[u8], crc: u32| {
        one(Member::stored("plain", "x").both(|header| header.extra = unicode(path, crc)))
    };
    let name_255 = "n".repeat(255);
    vec![
        Case::new("absolute", named(b"/etc/x"), refused("absolute")),
        Case::new("two slashes first", named(b"//x"), refused("absolute")),
        Case::new("climbing", named(b"../x"), refused("climbs")),
        Case::new("climbing far", named(b"../../../../../../tmp/x"), refused("climbs")),
        Case::new("climbing from within", named(b"a/../../x"), refused("climbs")),
        Case::new("climbing and staying", named(b"a/../b"), refused("climbs")),
        Case::new("the parent", named(b".."), refused("climbs")),
        Case::new("ends in the parent", named(b"a/.."), refused("climbs")),
        Case::new("no name", named(b""), refused("is empty")),
        Case::new("a file as the root", named(b"."), refused("root of the archive")),
        Case::new("NUL in a name", named(b"a\0b"), refused("NUL")),
        Case::new("component of 256", named("n".repeat(256).as_bytes()), refused("255 bytes")),
        Case::new("path of 4200", named(long.as_bytes()), refused("archives.path")),
        Case::new("depth of 65", named(deep(65).as_bytes()), refused("archives.depth")),
        Case::new("NUL in a directory", one(Member::directory("a\0/")), refused("NUL")),
        Case::new(
            "unicode path that climbs",
            with_unicode(b"../x", crc32(b"plain")),
            refused("climbs"),
        ),
        Case::new(
            "unicode path of another name",
            with_unicode(b"../x", 1),
            with_good(&[("plain", file("x"))]),
        ),
        Case::new(
            "unicode path",
            with_unicode("naïve".as_bytes(), crc32(b"plain")),
            with_good(&[("naïve", file("x"))]),
        ),
        Case::new(
            "component of 255",
            named(name_255.as_bytes()),
            with_good(&[(&name_255, file("x"))]),
        ),
        Case::new("empty components", named(b"a//b"), with_good(&[("a", DIR), ("a/b", file("x"))])),
        Case::new("dots", named(b"./a/./b"), with_good(&[("a", DIR), ("a/b", file("x"))])),
        Case::new("dots in names", named(b"..a"), with_good(&[("..a", file("x"))])),
        Case::new("backslashes", named(b"..\\x"), with_good(&[("..\\x", file("x"))])),
        Case::new("a drive", named(b"C:/x"), with_good(&[("C:", DIR), ("C:/x", file("x"))])),
        Case::new("control bytes", named(b"\x01\n\x7f"), with_good(&[("\x01\n\x7f", file("x"))])),
        Case::new(
            "no UTF-8",
            named(b"caf\xe9"),
            super::shows_bytes(vec![
                (b"caf\xe9".to_vec(), file("x")),
                (b"good".to_vec(), file("good\n")),
            ]),
        ),
        Case::new(
            "no UTF-8 where it is said",
            one(Member::stored(b"caf\xe9", "x").both(utf8)),
            super::shows_bytes(vec![
                (b"caf\xe9".to_vec(), file("x")),
                (b"good".to_vec(), file("good\n")),
            ]),
        ),
        Case::new(
            "CP437",
            one(Member { system: 0, attributes: 0, ..Member::stored(b"caf\x82", "x") }),
            with_good(&[("café", runs("x"))]),
        ),
    ]
}

fn kinds() -> Vec<Case> {
    let pair = |a: Member, b: Member| zip([a, b]);
    let stored = |name: &str| Member::stored(name, "x");
    let special = |mode: u32| one(stored("special").mode(mode));
    vec![
        Case::new(
            "file, then directory",
            pair(stored("a"), stored("a/b")),
            refused("needs a directory"),
        ),
        Case::new(
            "directory, then file",
            pair(stored("a/b"), stored("a")),
            refused("has a directory"),
        ),
        Case::new(
            "directory, then link",
            pair(Member::directory("a/"), Member::symlink("a", "b")),
            refused("has a directory"),
        ),
        Case::new(
            "file, then empty directory",
            pair(stored("a"), Member::directory("a/")),
            refused("needs a directory"),
        ),
        Case::new(
            "through a link",
            pair(Member::symlink("l", "/tmp"), stored("l/x")),
            refused("needs a directory"),
        ),
        Case::new(
            "twice",
            pair(stored("a"), Member::stored("a", "second")),
            with_good(&[("a", file("second"))]),
        ),
        Case::new(
            "directory twice",
            pair(Member::directory("a/"), Member::directory("a/")),
            with_good(&[("a", DIR)]),
        ),
        Case::new(
            "case pair",
            pair(stored("a"), stored("A")),
            with_good(&[("a", file("x")), ("A", file("x"))]),
        ),
        Case::new("a directory with bytes", one(stored("d/")), with_good(&[("d", DIR)])),
        Case::new("setuid", one(stored("a").mode(0o106_755)), with_good(&[("a", runs("x"))])),
        Case::new("unreadable", one(stored("a").mode(0o100_000)), with_good(&[("a", file("x"))])),
        Case::new("fifo", one(Member::stored("special", "").mode(0o010_644)), with_good(&[])),
        Case::new(
            "what was read from a fifo",
            special(0o010_644),
            with_good(&[("special", file("x"))]),
        ),
        Case::new("character device", special(0o020_666), with_good(&[])),
        Case::new("block device", special(0o060_666), with_good(&[])),
        Case::new("socket", special(0o140_777), with_good(&[])),
        Case::new(
            "no Unix mode",
            one(Member { system: 0, attributes: 0, ..stored("a") }),
            with_good(&[("a", runs("x"))]),
        ),
        Case::new(
            "a zip in a zip",
            one(Member::stored("a.zip", zip([]))),
            with_good(&[("a.zip", Node::File(zip([]), false))]),
        ),
    ]
}

fn links() -> Vec<Case> {
    let link_to = |target: &[u8]| one(Member::symlink("l", target));
    let longest = "t".repeat(4095);
    vec![
        Case::new(
            "absolute link",
            link_to(b"/etc/passwd"),
            with_good(&[("l", link("/etc/passwd"))]),
        ),
        Case::new("climbing link", link_to(b"../../x"), with_good(&[("l", link("../../x"))])),
        Case::new("link to itself", link_to(b"l"), with_good(&[("l", link("l"))])),
        Case::new("empty link", link_to(b""), refused("1 to 4095")),
        Case::new("link of 4096", link_to(&[b't'; 4096]), refused("1 to 4095")),
        Case::new("link of 4095", link_to(longest.as_bytes()), with_good(&[("l", link(&longest))])),
        Case::new("NUL in a link", link_to(b"a\0b"), with_good(&[("l", Node::BadLink(libc::EIO))])),
        Case::new(
            "deflated link",
            one(Member { attributes: 0o120_777 << 16, ..Member::deflated("l", "somewhere") }),
            with_good(&[("l", link("somewhere"))]),
        ),
        Case::new(
            "damaged link",
            one(Member::symlink("l", "x").both(|header| header.crc ^= 1)),
            with_good(&[("l", Node::BadLink(libc::EIO))]),
        ),
    ]
}

fn members() -> Vec<Case> {
    let text = "a line that packs well\n".repeat(200);
    let packed = deflate(text.as_bytes());
    let with = |data: Vec<u8>, size: usize| {
        let member = Member::packed("a", 8, data, text.as_bytes());
        one(member.both(|header| header.size = size as u32))
    };
    let bad = |errno: i32| with_good(&[("a", fails(errno))]);
    let stored = || Member::stored("a", "alpha");
    let flag = |bit: u16| one(stored().both(|header| header.flags |= bit));
    let mut cases = vec![
        Case::new("encrypted", flag(1), bad(libc::EACCES)),
        Case::new("strongly encrypted", flag(1 | 1 << 6), bad(libc::EACCES)),
        Case::new("AES", one(stored().both(|header| header.method = 99)), bad(libc::EACCES)),
        Case::new("patched", flag(1 << 5), bad(libc::EIO)),
        Case::new("directory encrypted", flag(1 << 13), refused("encrypted")),
        Case::new("wrong checksum", one(stored().both(|header| header.crc ^= 1)), bad(libc::EIO)),
        Case::new(
            "wrong checksum, deflated",
            one(Member::deflated("a", &text).both(|header| header.crc ^= 1)),
            bad(libc::EIO),
        ),
        Case::new(
            "deflate cut",
            with(packed[..packed.len() - 3].to_vec(), text.len()),
            bad(libc::EIO),
        ),
        Case::new("no deflate", with(vec![0xff; 40], text.len()), bad(libc::EIO)),
        Case::new("nothing deflated", with(Vec::new(), text.len()), bad(libc::EIO)),
        Case::new(
            "deflate with more behind",
            with([&packed[..], b"xyz"].concat(), text.len()),
            with_good(&[("a", file(&text))]),
        ),
        Case::new("longer than said", with(packed.clone(), text.len() - 1), bad(libc::EIO)),
        Case::new("shorter than said", with(packed.clone(), text.len() + 1), bad(libc::EIO)),
        Case::new("said to be empty", with(packed.clone(), 0), bad(libc::EIO)),
    ];
    for method in [1, 2, 6, 7, 9, 10, 12, 14, 18, 93, 95, 96, 97, 98, 1000] {
        let member = stored().both(|header| header.method = method);
        cases.push(Case::new(&format!("method {method}"), one(member), bad(libc::EIO)));
    }
    cases
}

fn local_headers() -> Vec<Case> {
    let bad = || with_good(&[("a", fails(libc::EIO))]);
    let lies = |change: fn(&mut Header)| one(Member::stored("a", "alpha").local(change));
    let piped = Member::deflated("a", "alpha").both(|header| header.flags |= 8).local(|header| {
        header.crc = 0;
        header.packed = 0;
        header.size = 0;
    });
    let descriptor = [b"PK\x07\x08".to_vec(), vec![0; 12]].concat();
    vec![
        Case::new("local name", lies(|header| header.name = b"b".to_vec()), bad()),
        Case::new("local path", lies(|header| header.name = b"../../a".to_vec()), bad()),
        Case::new("local method", lies(|header| header.method = 8), bad()),
        Case::new("local encryption", lies(|header| header.flags = 1), bad()),
        Case::new("local checksum", lies(|header| header.crc ^= 1), bad()),
        Case::new("local length", lies(|header| header.size += 1), bad()),
        Case::new("local packed length", lies(|header| header.packed = 1), bad()),
        Case::new("local zip64 without", lies(|header| header.size = u32::MAX), bad()),
        Case::new(
            "local zip64",
            one(Member::stored("a", "alpha").local(|header| {
                header.size = u32::MAX;
                header.packed = u32::MAX;
                header.extra = extra(1, &[5, 5]);
            })),
            with_good(&[("a", file("alpha"))]),
        ),
        Case::new("local reaches on", lies(|header| header.extra = vec![0; 60_000]), bad_or_fine()),
        Case::new(
            "no local header",
            one(Member { offset: Some(3), ..Member::stored("a", "alpha") }),
            refused("overlap"),
        ),
        Case::new(
            "written to a pipe",
            one(Member { descriptor: descriptor.clone(), ..piped.clone() }),
            with_good(&[("a", file("alpha"))]),
        ),
        Case::new("without its descriptor", one(piped), with_good(&[("a", file("alpha"))])),
    ]
}

/// A long extra field is no lie by itself.
fn bad_or_fine() -> super::Expect {
    with_good(&[("a", file("alpha"))])
}

fn numbers() -> Vec<Case> {
    let wide = |numbers: &'static [u64], set: fn(&mut Header)| {
        one(Member::deflated("a", "alpha").central(|header| {
            set(header);
            header.extra = extra(1, numbers);
        }))
    };
    let size: fn(&mut Header) = |header| header.size = u32::MAX;
    let packed: fn(&mut Header) = |header| header.packed = u32::MAX;
    let at = |offset: u32| one(Member { offset: Some(offset), ..Member::stored("a", "alpha") });
    let place = |place: u64| {
        let mut member =
            Member::stored("a", "alpha").central(|header| header.extra = extra(1, &[place]));
        member.offset = Some(u32::MAX);
        one(member)
    };
    vec![
        Case::new("zip64 size", wide(&[5], size), with_good(&[("a", file("alpha"))])),
        Case::new("zip64 size of 2^60", wide(&[1 << 60], size), refused("archives.member")),
        Case::new("zip64 size of 2^63", wide(&[1 << 63], size), refused("archives.member")),
        Case::new("zip64 size of 2^64 - 1", wide(&[u64::MAX], size), refused("archives.member")),
        Case::new("zip64 packed 2^60", wide(&[1 << 60], packed), refused("overlap")),
        Case::new("zip64 packed 2^64 - 1", wide(&[u64::MAX], packed), refused("outside the file")),
        Case::new("zip64 without its field", wide(&[], size), refused("zip64 field, and has none")),
        Case::new("zip64 place of 2^62", place(1 << 62), refused("overlap")),
        Case::new("zip64 place of 2^64 - 1", place(u64::MAX), refused("outside the file")),
        Case::new("place behind the file", at(1 << 30), refused("overlap")),
        Case::new("one place for two", at(0), refused("overlap")),
        Case::new("place in another member", at(10), refused("overlap")),
        Case::new(
            "stored in fewer bytes",
            one(Member::stored("a", "alpha").both(|header| header.size = 500)),
            refused("stored as it is"),
        ),
        Case::new(
            "another disk",
            one(Member { disk: 3, ..Member::stored("a", "alpha") }),
            refused("disk 3"),
        ),
    ]
}

fn ends() -> Vec<Case> {
    let base = || Zip::of([good(), Member::deflated("a", "alpha")]);
    let fine = || with_good(&[("a", file("alpha"))]);
    let bytes = base().bytes();
    let cut = |n: usize| bytes[..bytes.len() - n].to_vec();
    vec![
        Case::new("empty", Zip::default().bytes(), shows([])),
        Case::new(
            "counts one more",
            Zip { count: Some(3), ..base() }.bytes(),
            refused("3 members"),
        ),
        Case::new(
            "counts one fewer",
            Zip { count: Some(1), ..base() }.bytes(),
            refused("1 members"),
        ),
        Case::new("counts none", Zip { count: Some(0), ..base() }.bytes(), refused("0 members")),
        Case::new(
            "counts 65,000",
            Zip { count: Some(65_000), ..base() }.bytes(),
            refused("65000 members"),
        ),
        Case::new(
            "directory too large",
            Zip { directory_size: Some(1 << 30), ..base() }.bytes(),
            refused("outside the file"),
        ),
        Case::new(
            "directory too small",
            Zip { directory_size: Some(10), ..base() }.bytes(),
            refused("do not fit"),
        ),
        Case::new(
            "directory elsewhere",
            Zip { directory_at: Some(1 << 30), ..base() }.bytes(),
            refused("outside the file"),
        ),
        Case::new(
            "directory a little later",
            Zip { directory_at: Some(90), ..base() }.bytes(),
            refused(""),
        ),
        Case::new("of two disks", Zip { disk: 1, ..base() }.bytes(), refused("")),
        Case::new("zip64 end", Zip { zip64: Some((None, None)), ..base() }.bytes(), fine()),
        Case::new(
            "zip64 counts 2^40",
            Zip { zip64: Some((Some(1 << 40), None)), ..base() }.bytes(),
            refused(""),
        ),
        Case::new(
            "zip64 counts 2^64 - 1",
            Zip { zip64: Some((Some(u64::MAX), None)), ..base() }.bytes(),
            refused(""),
        ),
        Case::new(
            "zip64 directory at 2^60",
            Zip { zip64: Some((None, Some(1 << 60))), ..base() }.bytes(),
            refused(""),
        ),
        Case::new(
            "something before",
            Zip { before: b"#!/bin/sh\nexit\n".to_vec(), ..base() }.bytes(),
            fine(),
        ),
        Case::new("ends that lead on", chained(42), refused("no zip64 end record")),
        Case::new("ends that lead far", chained(1 << 20), refused("no zip64 end record")),
        Case::new("something between", Zip { between: vec![7; 1000], ..base() }.bytes(), fine()),
        Case::new("comment", Zip { comment: b"of some length".to_vec(), ..base() }.bytes(), fine()),
        Case::new("longest comment", Zip { comment: vec![b'c'; 65_535], ..base() }.bytes(), fine()),
        Case::new(
            "an end in the comment",
            Zip { comment: Zip::default().bytes(), ..base() }.bytes(),
            fine(),
        ),
        Case::new("rubbish behind", Zip { after: b"rubbish".to_vec(), ..base() }.bytes(), fine()),
        Case::new(
            "much rubbish behind",
            Zip { after: vec![b'r'; 80_000], ..base() }.bytes(),
            refused(""),
        ),
        Case::new("end cut", cut(1), refused("")),
        Case::new("no end", cut(22), refused("")),
        Case::new("a header alone", b"PK\x03\x04".to_vec(), refused("")),
        Case::new("an end alone, cut", b"PK\x05\x06\0\0".to_vec(), refused("")),
    ]
}

fn bombs() -> Vec<Case> {
    let zeros = |mib: usize| vec![0; mib << 20];
    let sized = |size: u32| Member::deflated("a", "alpha").both(|header| header.size = size);
    let small = Member::packed("a", 8, deflate(&zeros(64)), &[0; 1000]);
    let many = |count: usize, name: fn(usize) -> String| {
        Zip::of((0..count).map(|n| Member::stored(name(n), ""))).bytes()
    };
    // One body, quoted by many headers: what makes a bomb of 10 MB unpack to petabytes.
    let shared = |len: usize| {
        let kernel = Member::deflated("a", vec![0; len]);
        let others = (0..200).map(|n| Member {
            offset: Some(0),
            data: Vec::new(),
            ..Member::deflated(format!("b{n}"), "").both(|header| {
                header.size = len as u32;
                header.packed = kernel.central.packed;
            })
        });
        Zip::of([kernel.clone()].into_iter().chain(others)).bytes()
    };
    vec![
        Case::new(
            "just below a MiB of zeros",
            one(Member::deflated("a", &zeros(1)[100..])),
            with_good(&[("a", Node::File(zeros(1)[100..].to_vec(), false))]),
        ),
        Case::new(
            "ten MiB of zeros",
            one(Member::deflated("a", zeros(10))),
            refused("archives.ratio"),
        ),
        Case::new("said to be 4 GiB", one(sized(u32::MAX - 1)), refused("archives.ratio")),
        Case::new(
            "said to be 12 GiB in all",
            zip((0..3).map(|n| {
                sized(u32::MAX - 1).both(|header| header.name = format!("{n}").into_bytes())
            })),
            refused("archives."),
        ),
        Case::new(
            "64 MiB said to be 1000 bytes",
            one(small),
            with_good(&[("a", fails(libc::EIO))]),
        ),
        Case::new("one body for 200", shared(1 << 10), refused("overlap")),
        Case::new("one MiB for 200", shared(1 << 20), refused("archives.ratio")),
        Case::new("3001 members", many(3001, |n| n.to_string()), refused("archives.members")),
        Case::new(
            "1600 members in directories of their own",
            many(1600, |n| format!("{n}/a")),
            refused("archives.members"),
        ),
        Case::new("long names", many(2900, |n| format!("{n:0240}")), refused("archives.index")),
    ]
}

/// Returns 8 MiB of end records, each behind a locator that says that its record lies so many bytes
/// before it; each that is believed leads to the one before.
fn chained(back: u64) -> Vec<u8> {
    let mut bytes = b"PK\x03\x04".to_vec();
    while bytes.len() < 8 << 20 {
        let stated = (bytes.len() as u64).saturating_sub(back);
        bytes.extend_from_slice(b"PK\x06\x07\0\0\0\0");
        bytes.extend_from_slice(&stated.to_le_bytes());
        bytes.extend_from_slice(b"\x01\0\0\0PK\x05\x06");
        bytes.extend_from_slice(&[0; 18]);
    }
    bytes.push(b'#');
    bytes
}
