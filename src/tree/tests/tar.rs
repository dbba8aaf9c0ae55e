//! Tars, as they should be and as they should not.

use std::io::{self, Read};
use std::time::{Duration, SystemTime};

use super::held::{self, Taken};
use super::tars::{Block, file, link, padded, pax, record, tar};
use crate::tree::tar::read;
use crate::tree::{Format, Index, Kind, Limits, NodeNo, TreeError, Why};

/// Reads a tar, and checks what must hold of every one that is read.
fn index(bytes: &[u8]) -> Result<Index, TreeError> {
    held::tar(bytes, Limits::default())
}

fn walk(index: &Index, path: &[u8]) -> Option<NodeNo> {
    path.split(|b| *b == b'/').try_fold(NodeNo::ROOT, |dir, name| index.child(dir, name))
}

fn node(index: &Index, path: impl AsRef<[u8]>) -> NodeNo {
    let path = path.as_ref();
    walk(index, path).unwrap_or_else(|| panic!("no {}", path.escape_ascii()))
}

fn refusal(bytes: &[u8]) -> String {
    match index(bytes) {
        Ok(_) => panic!("taken"),
        Err(error) => {
            assert_eq!(error.why, Why::Damaged);
            error.message
        }
    }
}

#[test]
fn kinds_modes_times_and_links_are_those_of_the_headers() {
    let bytes = tar([
        Block::new("./", b'5', 0).with(""),
        Block::new("bin/detect", b'0', 10).set(100, "0000755\0").with("#!/bin/sh\n"),
        file("lib/a.so", "elf"),
        link("lib/b.so", b'2', "a.so"),
        link("lib/c.so", b'1', "./lib/a.so"),
        link("dev/null", b'3', ""),
        link("fifo", b'6', ""),
        Block::new("contiguous", b'7', 2).with("77"),
        Block::v7("old/", 0, 0).with(""),
        Block::v7("old/file", 0, 3).with("old"),
        file("empty", ""),
    ]);
    let index = index(&bytes).unwrap();
    let attr = |path: &str| index.attr(node(&index, path)).unwrap();
    let detect = attr("bin/detect");
    assert_eq!((detect.kind, detect.mode, detect.size), (Kind::File, 0o555, 10));
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(0o13615674562);
    assert_eq!(detect.modified, Some(at));
    assert_eq!(index.attr(NodeNo::ROOT).unwrap().modified, Some(at), "`./` is the root");
    assert_eq!(attr("lib").modified, None, "implied");
    let so = attr("lib/a.so");
    assert_eq!((so.mode, so.size, so.links), (0o444, 3, 2));
    assert_eq!(node(&index, "lib/a.so"), node(&index, "lib/c.so"));
    assert_eq!(index.target(node(&index, "lib/b.so")), Some(&b"a.so"[..]));
    assert_eq!((attr("lib/b.so").mode, attr("lib/b.so").size), (0o777, 4));
    assert_eq!((attr("contiguous").kind, attr("contiguous").size), (Kind::File, 2));
    assert_eq!((attr("old").kind, attr("old/file").size), (Kind::Directory, 3));
    assert_eq!((walk(&index, b"dev"), walk(&index, b"fifo")), (None, None), "left out");
    assert_eq!(index.attr(NodeNo::ROOT).unwrap().links, 5);
    assert_eq!(attr("empty").size, 0);
}

#[test]
fn long_names_come_from_the_prefix_from_gnu_and_from_pax() {
    let long = format!("{}/file", "d".repeat(200));
    let target = "t".repeat(300);
    let bytes = tar([
        Block::new("name", b'0', 0).set(345, "prefix").with(""),
        Block::new("name", b'0', 0).set(257, "ustar  \0").set(345, "no prefix").with(""),
        Block::new("star", b'0', 0).set(345, [b's'; 131]).set(476, "x").set(508, "tar\0").with(""),
        Block::new("././@LongLink", b'L', 206).with(format!("{long}\0")),
        Block::new("././@LongLink", b'K', 301).with(format!("{target}\0")),
        link("cut", b'2', "cut"),
        pax(b'x', [record("path", "pax/\u{fc}\nname"), record("linkpath", "to")].concat()),
        link("other", b'2', "other"),
        pax(b'x', [record("path", "gone"), record("path", "")].concat()),
        file("header", ""),
        pax(b'g', record("comment", "0123456789")),
        file("last", ""),
    ]);
    let index = index(&bytes).unwrap();
    for path in ["prefix/name", "name", "header", "last"] {
        node(&index, path);
    }
    node(&index, format!("{}/star", "s".repeat(131)));
    assert_eq!(index.target(node(&index, &long)), Some(target.as_bytes()));
    assert_eq!(index.target(node(&index, "pax/\u{fc}\nname")), Some(&b"to"[..]));
    assert_eq!(walk(&index, b"gone"), None);
}

#[test]
fn numbers_are_octal_or_binary_and_times_have_fractions() {
    let time = |header: Block, records: Vec<u8>| {
        let member = header.with("");
        let bytes = tar([if records.is_empty() { vec![] } else { pax(b'x', records) }, member]);
        let index = index(&bytes).unwrap();
        index.attr(NodeNo(1)).unwrap().modified.map(|time| {
            match time.duration_since(SystemTime::UNIX_EPOCH) {
                Ok(after) => (after.as_secs() as i64, after.subsec_nanos()),
                Err(before) => {
                    let before = before.duration();
                    let part = u32::from(before.subsec_nanos() > 0);
                    (
                        -(before.as_secs() as i64) - i64::from(part),
                        part * (1_000_000_000 - before.subsec_nanos()),
                    )
                }
            }
        })
    };
    let header = || Block::new("f", b'0', 0);
    assert_eq!(time(header().set(136, "   17       "), vec![]), Some((15, 0)));
    assert_eq!(time(header().set(136, [0; 12]), vec![]), Some((0, 0)));
    assert_eq!(time(header().set(136, "-1         \0"), vec![]), None);
    let minus_five = [&[0xff; 11][..], &[0xfb]].concat();
    assert_eq!(time(header().set(136, minus_five), vec![]), Some((-5, 0)));
    let huge = [&[0x80][..], &[0x7f; 11]].concat();
    let (first, last) = (-(1i64 << 31), (1i64 << 34) - (1i64 << 31) - 1);
    assert_eq!(time(header().set(136, huge), vec![]), Some((last, 0)));
    let below = [&[0xff, 0][..], &[0; 10]].concat();
    assert_eq!(time(header().set(136, below), vec![]), Some((first, 0)));
    for (text, expected) in [
        ("1.5", (1, 500_000_000)),
        ("-1.25", (-2, 750_000_000)),
        ("1234567890.1234567899", (1_234_567_890, 123_456_789)),
        ("-99999999999999999999", (first, 0)),
        ("99999999999999999999.5", (last, 0)),
    ] {
        assert_eq!(time(header(), record("mtime", text)), Some(expected), "{text}");
    }
    for text in ["", "-", ".5", "1e9", "1.-5", " 1", "0x10"] {
        let bytes = tar([pax(b'x', record("mtime", text)), file("f", "")]);
        assert_eq!(index(&bytes).is_ok(), text.is_empty(), "{text}");
    }
}

#[test]
fn a_tar_that_is_cut_anywhere_is_an_error() {
    let members =
        [pax(b'x', record("path", "a/b")), file("f", "x".repeat(600)), link("s", b'2', "f")];
    let whole = tar(members);
    let end = whole.len() - 1024;
    for length in 0..end + 512 {
        let message = refusal(&whole[..length]);
        assert!(message.contains("cut"), "{length}: {message}");
    }
    for length in end + 512..=whole.len() {
        index(&whole[..length]).unwrap_or_else(|error| panic!("{length}: {error}"));
    }
}

#[test]
fn what_follows_the_end_means_nothing_and_a_hole_before_it_does() {
    let members = || [file("a", "1"), file("b", "2")];
    let whole = tar(members());
    for after in [vec![0; 10_240], b"rubbish".to_vec(), whole.clone()] {
        let index = index(&[&whole[..], &after].concat()).unwrap();
        assert_eq!(index.nodes(), 3);
    }
    let [a, b] = members();
    let message = refusal(&tar([a, vec![0; 512], b]));
    assert!(message.contains("missing"), "{message}");
    assert_eq!(index(&[0; 10_240]).unwrap().nodes(), 1, "a tar of nothing");
    refusal(&[&[0; 10_240][..], b"CD001"].concat());
    refusal(b"");
}

#[test]
fn a_checksum_may_have_been_added_up_with_signs() {
    let mut block = Block::new("\u{fc}", b'0', 0).set(148, "        ").0;
    let sum: i64 = block.iter().map(|byte| i64::from(*byte as i8)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    node(&index(&tar([block.to_vec()])).unwrap(), "\u{fc}");
    block[0] ^= 1;
    assert!(refusal(&tar([block.to_vec()])).contains("no tar begins here"));
    assert!(refusal(&tar([file("f", ""), block.to_vec()])).contains("at byte 512"));
}

#[test]
fn what_programs_read_differently_is_refused() {
    let sized = |size: &str, header: Vec<u8>| tar([pax(b'x', record("size", size)), header]);
    index(&sized("3", file("f", "abc"))).unwrap();
    for (bytes, expected) in [
        (sized("0", file("f", "abc")), "its header 3"),
        (sized("512", file("f", "")), "its header 0"),
        (sized("-1", file("f", "abc")), "\"size\" says \"-1\""),
        (sized("18446744073709551616", file("f", "")), "\"size\" says"),
        (sized("3", link("l", b'1', "f")), "type '1'"),
        (tar([pax(b'g', record("size", "3")), file("f", "abc")]), "global"),
        (tar([pax(b'g', record("path", "x")), file("f", "abc")]), "global"),
        (tar([pax(b'x', record("GNU.sparse.major", "1")), file("f", "")]), "--sparse"),
        (tar([pax(b'x', record("GNU.sparse.size", "1")), file("f", "")]), "--sparse"),
        (tar([Block::new("f", b'S', 0).with("")]), "--sparse"),
        (tar([Block::new("f", b'M', 0).with("")]), "volume"),
        (tar([Block::new("f", b'0', 0).set(124, "00000000009\0").with("")]), "size"),
        (tar([Block::new("f", b'0', 0).set(124, [0xff; 12]).with("")]), "size"),
        (tar([pax(b'x', "9 path=a\n")]), "should follow"),
        (tar([pax(b'x', "12 path=a\n"), file("f", "")]), "PAX record"),
        (tar([pax(b'x', "junk"), file("f", "")]), "PAX record"),
        (tar([Block::new("n", b'L', 2 << 20).with(vec![b'a'; 2 << 20])]), "extended header"),
        (tar([file("f", ""), link("l", b'1', "nothing")]), "hard link"),
        (tar([link("a", b'1', "b"), link("b", b'1', "a")]), "hard link"),
        (tar([Block::new("d/", b'5', 0).with(""), link("l", b'1', "d")]), "hard link"),
        (tar([pax(b'x', record("path", "a\0b")), file("f", "")]), "NUL"),
        (tar([pax(b'x', record("linkpath", "a\0b")), link("f", b'2', "")]), "NUL"),
        (tar([link("f", b'2', "")]), "0 bytes"),
        (tar([file("", "")]), "empty"),
    ] {
        let message = refusal(&bytes);
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

#[test]
fn sizes_that_mean_nothing_are_passed_over() {
    let bytes = tar([
        file("f", "abc"),
        // Directories, links and devices have no bytes, and what else is left out has.
        Block::new("d", b'5', 4096).with(""),
        Block::new("l", b'1', 3).set(157, "f").with(""),
        Block::new("s", b'2', 99).set(157, "f").with(""),
        Block::new("dump", b'D', 6).with("Yname\0"),
        Block::new("label", b'V', 0).with(""),
        Block::new("old/", b'0', 5).with("bytes"),
        Block::new("new kind", b'Z', 3).with("new"),
    ]);
    let index = index(&bytes).unwrap();
    let attr = |path: &str| index.attr(node(&index, path)).unwrap();
    assert_eq!(attr("l").links, 2);
    assert_eq!((attr("dump").kind, attr("old").kind), (Kind::Directory, Kind::Directory));
    assert_eq!((attr("new kind").kind, attr("new kind").size), (Kind::File, 3));
}

#[test]
fn an_endless_stream_of_nothing_ends() {
    // Global headers, which no limit of the index counts, for ever.
    let global = pax(b'g', record("comment", vec![b'x'; 1 << 19]));
    struct Endless(Vec<u8>, usize);
    impl Read for Endless {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let part = &self.0[self.1 % self.0.len()..];
            let length = part.len().min(buf.len());
            buf[..length].copy_from_slice(&part[..length]);
            self.1 += length;
            Ok(length)
        }
    }
    for block in [global, vec![0; 1 << 20]] {
        let error = read(Endless(block, 0), &mut Taken::new(Limits::default())).unwrap_err();
        assert_eq!(error.why, Why::Limit, "{error}");
    }
}

#[test]
fn an_error_of_the_stream_comes_out_as_what_it_is() {
    struct Failing(Option<io::Error>);
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(self.0.take().unwrap_or_else(|| io::ErrorKind::Interrupted.into()))
        }
    }
    let read = |error: io::Error| {
        read(Failing(Some(error)), &mut Taken::new(Limits::default())).unwrap_err()
    };
    let silent = TreeError::new(Why::Silent, "no byte came");
    let error = read(io::Error::other(silent));
    assert_eq!((error.why, error.message.as_str()), (Why::Silent, "no byte came"));
    let error = read(io::Error::new(io::ErrorKind::InvalidData, "bad block"));
    assert_eq!(error.why, Why::Damaged);
    assert!(error.message.contains("bad block"), "{error}");
}

#[test]
fn kinds_of_archives_are_told_by_their_beginning() {
    assert_eq!(Format::of(&tar([file("f", "")])), Some(Format::Tar));
    assert_eq!(Format::of(&tar([Block::v7("f", 0, 0).with("")])), Some(Format::Tar));
    assert_eq!(Format::of(&tar([])), Some(Format::Tar));
    assert_eq!(Format::of(b"PK\x05\x06rest"), Some(Format::Zip));
    assert_eq!(Format::of(b"\x1f\x8b\x08rest"), Some(Format::TarGz));
    assert_eq!(Format::of(&[0x5f, 0x2a, 0x4d, 0x18, 0, 0]), Some(Format::TarZst));
    for other in [&b""[..], b"PK", &padded(b"BZh9"), &padded(b"#!/bin/sh\n"), &[0xff; 512]] {
        assert_eq!(Format::of(other), None, "{}", other.escape_ascii());
        assert_eq!(Format::unknown(other).why, Why::Damaged);
    }
    assert!(Format::unknown(b"BZh9").message.contains("bzip2"));
}
