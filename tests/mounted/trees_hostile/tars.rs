//! Hostile tars, uncompressed.

use super::{Case, DIR, Expect, Node, file, link, refused, runs, shows};
use crate::support::tar_bytes::{Block, GNU, V7, open, record, tar};

/// A member beside those that are wrong.
fn good() -> Block {
    Block::file("good", "good\n")
}

fn with(blocks: &[Block]) -> Vec<u8> {
    tar(&[&[good()], blocks].concat())
}

fn with_good(more: &[(&str, Node)]) -> Expect {
    shows(more.iter().cloned().chain([("good", file("good\n"))]))
}

pub(super) fn all() -> Vec<Case> {
    [paths(), links(), kinds(), numbers(), extensions(), records(), ends(), bombs()].concat()
}

fn paths() -> Vec<Case> {
    let named = |name: &[u8]| with(&[Block::file(name, "x")]);
    let pax = |path: &[u8]| with(&[Block::pax(&[("path", path)]), Block::file("short", "x")]);
    let gnu = |path: &[u8]| with(&[Block::long_name(path), Block::file("short", "x")]);
    let prefixed = |prefix: &str, name: &str| {
        with(&[Block { prefix: prefix.into(), ..Block::file(name, "x") }])
    };
    let deep = |depth: usize| vec!["d"; depth].join("/");
    let long = vec!["n".repeat(200); 21].join("/");
    let full = "f".repeat(100);
    vec![
        Case::new("absolute", named(b"/etc/x"), refused("absolute")),
        Case::new("absolute in a PAX record", pax(b"/etc/x"), refused("absolute")),
        Case::new("absolute in a long name", gnu(b"/etc/x"), refused("absolute")),
        Case::new("absolute prefix", prefixed("/etc", "x"), refused("absolute")),
        Case::new("climbing", named(b"../x"), refused("climbs")),
        Case::new("climbing from within", named(b"a/../../x"), refused("climbs")),
        Case::new("climbing in a PAX record", pax(b"a/../x"), refused("climbs")),
        Case::new("climbing in a long name", gnu(b"../x"), refused("climbs")),
        Case::new("climbing prefix", prefixed("..", "x"), refused("climbs")),
        Case::new("a directory that climbs", with(&[Block::directory("../")]), refused("climbs")),
        Case::new("a device that climbs", with(&[Block::new(b'3', "../x", "")]), refused("climbs")),
        Case::new("no name", named(b""), refused("is empty")),
        Case::new("a file as the root", named(b"./"), with_good(&[])),
        Case::new(
            "a link as the root",
            with(&[Block::symlink(".", "x")]),
            refused("root of the archive"),
        ),
        Case::new("NUL in a PAX record", pax(b"a\0b"), refused("NUL")),
        Case::new("NUL in a long name", gnu(b"a\0b"), with_good(&[("a", file("x"))])),
        Case::new("component of 256", pax("n".repeat(256).as_bytes()), refused("255 bytes")),
        Case::new("path of 4200", pax(long.as_bytes()), refused("archives.path")),
        Case::new("path of 4200 in a long name", gnu(long.as_bytes()), refused("archives.path")),
        Case::new("depth of 65", pax(deep(65).as_bytes()), refused("archives.depth")),
        Case::new("name without an end", named(full.as_bytes()), with_good(&[(&full, file("x"))])),
        Case::new(
            "a prefix",
            prefixed("a/b", "c"),
            with_good(&[("a", DIR), ("a/b", DIR), ("a/b/c", file("x"))]),
        ),
        Case::new(
            "a prefix of GNU tar",
            with(&[Block { magic: *GNU, prefix: "a/b".into(), ..Block::file("c", "x") }]),
            with_good(&[("c", file("x"))]),
        ),
        Case::new(
            "empty PAX path",
            with(&[Block::pax(&[("path", b"")]), Block::file("a", "x")]),
            with_good(&[("a", file("x"))]),
        ),
    ]
}

fn links() -> Vec<Case> {
    let alpha = || Block::file("a", "alpha");
    let hard = Block::hard_link;
    let nothing = || refused("is no file or link before it");
    vec![
        Case::new("hard link to nothing", with(&[hard("h", "nothing")]), nothing()),
        Case::new("hard link to itself", with(&[hard("h", "h")]), nothing()),
        Case::new("hard links in a loop", with(&[hard("h", "i"), hard("i", "h")]), nothing()),
        Case::new("hard link to a later file", with(&[hard("h", "a"), alpha()]), nothing()),
        Case::new(
            "hard link to a directory",
            with(&[Block::directory("d"), hard("h", "d")]),
            nothing(),
        ),
        Case::new("hard link to the root", with(&[hard("h", ".")]), nothing()),
        Case::new(
            "hard link through a link",
            with(&[Block::symlink("l", "/etc"), hard("h", "l/passwd")]),
            nothing(),
        ),
        Case::new("hard link, absolute", with(&[hard("h", "/etc/passwd")]), refused("absolute")),
        Case::new("hard link, climbing", with(&[hard("h", "../../etc/passwd")]), refused("climbs")),
        Case::new("hard link, no target", with(&[hard("h", "")]), refused("is empty")),
        Case::new(
            "hard link in the place of a directory",
            with(&[alpha(), Block::directory("d"), hard("d", "a")]),
            refused("has a directory"),
        ),
        Case::new(
            "hard link",
            with(&[alpha(), hard("h", "a")]),
            with_good(&[("a", file("alpha")), ("h", file("alpha"))]),
        ),
        Case::new(
            "a chain of hard links",
            with(&[alpha(), hard("h", "./a"), hard("i", "h")]),
            with_good(&[("a", file("alpha")), ("h", file("alpha")), ("i", file("alpha"))]),
        ),
        Case::new(
            "hard link to a link",
            with(&[Block::symlink("l", "x"), hard("h", "l")]),
            with_good(&[("l", link("x")), ("h", link("x"))]),
        ),
        Case::new(
            "hard link over its file",
            with(&[alpha(), hard("h", "a"), Block::file("a", "beta")]),
            with_good(&[("a", file("beta")), ("h", file("alpha"))]),
        ),
        Case::new(
            "through a link",
            with(&[Block::symlink("l", "/tmp"), Block::file("l/x", "x")]),
            refused("needs a directory"),
        ),
        Case::new(
            "climbing link",
            with(&[Block::symlink("l", "../../x")]),
            with_good(&[("l", link("../../x"))]),
        ),
        Case::new("empty link", with(&[Block::symlink("l", "")]), refused("1 to 4095")),
        Case::new(
            "NUL in a link",
            with(&[Block::pax(&[("linkpath", b"a\0b")]), Block::symlink("l", "x")]),
            refused("NUL"),
        ),
        Case::new(
            "link of 4096",
            with(&[Block::pax(&[("linkpath", &[b't'; 4096])]), Block::symlink("l", "x")]),
            refused("1 to 4095"),
        ),
    ]
}

fn kinds() -> Vec<Case> {
    let kind = |kind: u8| with(&[Block::new(kind, "a", "")]);
    let alpha = || Block::file("a", "alpha");
    vec![
        Case::new("character device", kind(b'3'), with_good(&[])),
        Case::new("block device", kind(b'4'), with_good(&[])),
        Case::new("fifo", kind(b'6'), with_good(&[])),
        Case::new("label of a volume", kind(b'V'), with_good(&[])),
        Case::new("contiguous file", kind(b'7'), with_good(&[("a", file(""))])),
        Case::new(
            "a kind of nobody's",
            with(&[Block::new(b'Z', "a", "alpha")]),
            with_good(&[("a", file("alpha"))]),
        ),
        Case::new("old sparse", kind(b'S'), refused("sparse")),
        Case::new("another volume", kind(b'M'), refused("volume")),
        Case::new("names of the first GNU tar", kind(b'N'), refused("list of names")),
        Case::new(
            "sparse by PAX",
            with(&[Block::pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0")]), alpha()]),
            refused("sparse"),
        ),
        Case::new(
            "sparse by star",
            with(&[Block::pax(&[("SCHILY.realsize", b"100")]), alpha()]),
            refused("sparse"),
        ),
        Case::new(
            "file, then directory",
            with(&[alpha(), Block::file("a/b", "x")]),
            refused("needs a directory"),
        ),
        Case::new(
            "directory, then file",
            with(&[Block::directory("a"), alpha()]),
            refused("has a directory"),
        ),
        Case::new(
            "twice",
            with(&[alpha(), Block::file("a", "beta")]),
            with_good(&[("a", file("beta"))]),
        ),
        Case::new(
            "case pair",
            with(&[alpha(), Block::file("A", "x")]),
            with_good(&[("a", file("alpha")), ("A", file("x"))]),
        ),
        Case::new(
            "setuid",
            with(&[Block { mode: 0o6755, ..alpha() }]),
            with_good(&[("a", runs("alpha"))]),
        ),
        Case::new(
            "seventh edition",
            with(&[
                Block { magic: *V7, ..Block::new(0, "d/", "") },
                Block { magic: *V7, ..Block::new(0, "d/a", "x") },
            ]),
            with_good(&[("d", DIR), ("d/a", file("x"))]),
        ),
        Case::new(
            "a directory with bytes",
            with(&[Block::new(b'5', "d", "bytes")]),
            refused("checksum"),
        ),
    ]
}

fn numbers() -> Vec<Case> {
    let sized = |size: &[u8]| with(&[Block { size: Some(size.to_vec()), ..Block::file("a", "") }]);
    let timed = |time: &[u8]| {
        let fine = with_good(&[("a", file("x"))]);
        (with(&[Block { time: time.to_vec(), ..Block::file("a", "x") }]), fine)
    };
    let binary = |first: u8, rest: &[u8]| {
        [&[first][..], &vec![if first == 0xff { 0xff } else { 0 }; 11 - rest.len()], rest].concat()
    };
    let checksum =
        |sum: &[u8]| with(&[Block { checksum: Some(sum.to_vec()), ..Block::file("a", "x") }]);
    let mut cases = vec![
        Case::new("size in letters", sized(b"abc"), refused("no number of bytes")),
        Case::new("negative size", sized(&binary(0xff, &[0xff])), refused("no number of bytes")),
        Case::new("size of 8 GiB", sized(b"77777777777\0"), refused("archives.member")),
        Case::new(
            "size of 2^62",
            sized(&binary(0x80, &[0x40, 0, 0, 0, 0, 0, 0, 0])),
            refused("archives.member"),
        ),
        Case::new(
            "size of 2^87",
            sized(&binary(0x80, &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
            refused("archives.member"),
        ),
        Case::new("size of more than there is", sized(b"00000100000\0"), refused("cut")),
        Case::new("no size", sized(&[0; 12]), with_good(&[("a", file(""))])),
        Case::new("wrong checksum", checksum(b"000001\0 "), refused("checksum")),
        Case::new("checksum in letters", checksum(b"abcdefgh"), refused("checksum")),
    ];
    let times: [(&str, &[u8]); 5] = [
        ("time before 1970", &binary(0xff, &[0xff, 0, 0, 0, 0])),
        ("time of 2^62", &binary(0x80, &[0x40, 0, 0, 0, 0, 0, 0, 0])),
        ("time of -2^62", &binary(0xff, &[0xc0, 0, 0, 0, 0, 0, 0, 0])),
        ("time in letters", b"yesterday"),
        ("time of 8 * 2^30", b"77777777777\0"),
    ];
    for (name, time) in times {
        let (bytes, expect) = timed(time);
        cases.push(Case::new(name, bytes, expect));
    }
    cases
}

fn extensions() -> Vec<Case> {
    let alpha = || Block::file("a", "alpha");
    let fine = || with_good(&[("a", file("alpha"))]);
    let large = vec![b'x'; 2 << 20];
    let size = |said: &[u8]| with(&[Block::pax(&[("size", said)]), alpha()]);
    let global = |key: &str, value: &[u8]| {
        with(&[Block { kind: b'g', ..Block::pax(&[(key, value)]) }, alpha()])
    };
    vec![
        Case::new("PAX size of less", size(b"3"), refused("programs differ")),
        Case::new("PAX size of more", size(b"600"), refused("programs differ")),
        Case::new("PAX size of 2^60", size(b"1152921504606846976"), refused("archives.member")),
        Case::new("PAX size of 2^80", size(b"1208925819614629174706176"), refused("PAX record")),
        Case::new("PAX size in letters", size(b"five"), refused("PAX record")),
        Case::new("PAX size, negative", size(b"-5"), refused("PAX record")),
        Case::new("the same PAX size", size(b"5"), fine()),
        Case::new(
            "PAX size of a directory",
            with(&[Block::pax(&[("size", b"512")]), Block::directory("d")]),
            refused("PAX record"),
        ),
        Case::new(
            "PAX header of 2 MiB",
            with(&[Block::pax(&[("comment", &large)]), alpha()]),
            refused("extended header of"),
        ),
        Case::new(
            "long name of 2 MiB",
            with(&[Block::long_name(&large), alpha()]),
            refused("extended header of"),
        ),
        Case::new(
            "two long names",
            with(&[Block::long_name("b"), Block::long_name("c"), alpha()]),
            refused("second long name"),
        ),
        Case::new(
            "PAX header and no member",
            with(&[Block::pax(&[("path", b"b")])]),
            refused("should follow"),
        ),
        Case::new("a path for all", global("path", b"b"), refused("global")),
        Case::new("a size for all", global("size", b"5"), refused("global")),
        Case::new("a comment for all", global("comment", b"a commit"), fine()),
        Case::new("a time for all", global("mtime", b"1.5"), fine()),
        Case::new(
            "unknown records",
            with(&[
                Block::pax(&[("VENDOR.key", b"v"), ("SCHILY.xattr.user.a", b"\0\n=")]),
                alpha(),
            ]),
            fine(),
        ),
    ]
}

fn records() -> Vec<Case> {
    let records: [(&str, &[u8]); 11] = [
        ("without a length", b"path=b\n"),
        ("of length 0", b"0 path=b\n"),
        ("longer than the header", b"99 path=b\n"),
        ("of length 2^70", b"1180591620717411303424 path=b\n"),
        ("without an equals sign", b"9 pathb.\n"),
        ("without a line's end", b"10 path=bb"),
        ("with a sign", b"+9 path=b\n"),
        ("that is a length alone", b"2 "),
        ("that is bytes", b"\xff\xfe\xfd"),
        ("with a time in letters", b"17 mtime=tomorrow\n"),
        ("with a time of a sign", b"11 mtime=-\n"),
    ];
    let case = |(name, bytes): (&str, &[u8])| {
        let blocks = [Block::new(b'x', "x", bytes), Block::file("a", "alpha")];
        Case::new(&format!("PAX record {name}"), with(&blocks), refused("PAX record"))
    };
    let time = |value: &[u8]| {
        let bytes = with(&[Block::pax(&[("mtime", value)]), Block::file("a", "x")]);
        (bytes, with_good(&[("a", file("x"))]))
    };
    let times: [&[u8]; 4] =
        [b"-1.5", b"99999999999999999999999", b"1.0000000000000000000000001", b"0"];
    let times = times.into_iter().map(|value| {
        let (bytes, expect) = time(value);
        Case::new(&format!("PAX time {}", String::from_utf8_lossy(value)), bytes, expect)
    });
    let zeros = [&record("path", b"b")[..], &[0; 40]].concat();
    let padded = with(&[Block::new(b'x', "x", zeros), Block::file("a", "x")]);
    let padded = Case::new("PAX records and zeros", padded, with_good(&[("b", file("x"))]));
    records.into_iter().map(case).chain(times).chain([padded]).collect()
}

fn ends() -> Vec<Case> {
    let blocks = [good(), Block::file("a", "alpha")];
    let fine = || with_good(&[("a", file("alpha"))]);
    let and = |more: &[u8]| [&open(&blocks)[..], more].concat();
    vec![
        Case::new("no end", and(b""), refused("cut")),
        Case::new("one block of zeros", and(&[0; 512]), fine()),
        Case::new("half a block of zeros", and(&[0; 256]), refused("cut")),
        Case::new("many blocks of zeros", and(&[0; 100_000]), fine()),
        Case::new(
            "one block of zeros, then more",
            and(&[&[0; 512][..], &open(&blocks)].concat()),
            refused("block of zeros"),
        ),
        Case::new("rubbish behind the end", and(&[&[0; 1024][..], &[7; 3000]].concat()), fine()),
        Case::new(
            "a second tar behind the end",
            and(&[&[0; 1024][..], &tar(&[Block::file("b", "x")])].concat()),
            fine(),
        ),
        Case::new("rubbish instead of a header", and(&[7; 512]), refused("checksum")),
        Case::new("zeros alone", vec![0; 10_240], shows([])),
        Case::new("zeros, then something", [vec![0; 1024], vec![7; 512]].concat(), refused("")),
        Case::new("padding missing", open(&[good()])[..517].to_vec(), refused("cut")),
    ]
}

fn bombs() -> Vec<Case> {
    let many = |count: usize, name: fn(usize) -> String| {
        let blocks: Vec<Block> = (0..count).map(|n| Block::file(name(n), "")).collect();
        tar(&blocks)
    };
    vec![
        Case::new("3001 members", many(3001, |n| n.to_string()), refused("archives.members")),
        Case::new("3001 of one name", many(3001, |_| "a".to_owned()), refused("archives.members")),
        Case::new(
            "1600 members in directories of their own",
            many(1600, |n| format!("{n}/a")),
            refused("archives.members"),
        ),
    ]
}
