//! Hostile compressed streams, and files that are no archives.

use super::{Case, Expect, file, refused, shows};
use crate::support::dice::Dice;
use crate::support::tar_bytes::{Block, tar};
use crate::support::zip_bytes::filter;

const GZIP: (&str, &[&str]) = ("gzip", &["-nc"]);
const ZSTD: (&str, &[&str]) = ("zstd", &["-qc"]);
const XZ: (&str, &[&str]) = ("xz", &["-c"]);

fn pack((program, args): (&str, &[&str]), bytes: &[u8]) -> Vec<u8> {
    filter(program, args, bytes)
}

/// A small tar, and what it shows.
fn plain() -> Vec<u8> {
    tar(&[Block::file("a", "alpha"), Block::directory("d")])
}

fn noise() -> Vec<u8> {
    Dice::new(7).bytes(5000, true)
}

fn fine() -> Expect {
    shows([("a", file("alpha")), ("d", super::DIR)])
}

pub(super) fn all() -> Vec<Case> {
    [gzips(), zstds(), xzs(), bombs(), no_archives()].concat()
}

/// Returns bytes with one changed, counted from the end.
fn spoiled(mut bytes: Vec<u8>, from_end: usize) -> Vec<u8> {
    let at = bytes.len() - from_end;
    bytes[at] ^= 0x55;
    bytes
}

fn gzips() -> Vec<Case> {
    let whole = pack(GZIP, &plain());
    let noise = noise();
    let nothing = pack(GZIP, b"");
    // RFC 1952: a name that is told to follow the header.
    let named = |name: &[u8]| [&whole[..3], &[8], &whole[4..10], name, &whole[10..]].concat();
    let flagged = [&whole[..3], &[0xe0], &whole[4..]].concat();
    let halves = {
        let plain = plain();
        [pack(GZIP, &plain[..700]), pack(GZIP, &plain[700..])].concat()
    };
    vec![
        Case::new("gzip", whole.clone(), fine()),
        Case::new("gzip with a name", named(b"archive.tar\0"), fine()),
        Case::new(
            "gzip with a name of 1 MiB",
            named(&[vec![b'n'; 1 << 20], vec![0]].concat()),
            refused("field too long"),
        ),
        Case::new(
            "gzip with a name without end",
            named(&vec![b'n'; 1 << 20])[..1 << 20].to_vec(),
            refused(""),
        ),
        Case::new("gzip with reserved flags", flagged, refused("")),
        Case::new("gzip, wrong checksum", spoiled(whole.clone(), 8), refused("checksum")),
        Case::new("gzip, wrong length", spoiled(whole.clone(), 1), refused("damaged")),
        Case::new("gzip, damaged", spoiled(whole.clone(), 30), refused("")),
        Case::new("gzip in two members", halves, fine()),
        Case::new("gzip of gzip", pack(GZIP, &pack(GZIP, &noise)), refused("no tar")),
        Case::new("gzip of nothing", nothing.clone(), refused("")),
        Case::new("gzip of text", pack(GZIP, b"no tar at all, but some text\n"), refused("")),
        Case::new(
            "gzip behind 2000 empty ones",
            [nothing.repeat(2000), whole.clone()].concat(),
            fine(),
        ),
        Case::new("gzip of a zip", pack(GZIP, &super::small_zip()), refused("tar")),
    ]
}

fn zstds() -> Vec<Case> {
    let whole = pack(ZSTD, &plain());
    let noise = noise();
    let skipped = |bytes: &[u8]| {
        [b"\x50\x2a\x4d\x18", &(bytes.len() as u32).to_le_bytes()[..], bytes].concat()
    };
    // RFC 8878: a frame whose window is said to be 2^41 bytes and more, with one empty block.
    let wide = b"\x28\xb5\x2f\xfd\x00\xff\x01\x00\x00".to_vec();
    let dictionary = b"\x28\xb5\x2f\xfd\x03\x58\x01\x02\x03\x04\x01\x00\x00".to_vec();
    vec![
        Case::new("zstd", whole.clone(), fine()),
        Case::new(
            "zstd behind what is skipped",
            [skipped(b"skip this"), whole.clone()].concat(),
            fine(),
        ),
        Case::new("zstd, skipped alone", skipped(&[7; 600]), refused("")),
        Case::new(
            "zstd, skips 4 GiB",
            b"\x50\x2a\x4d\x18\xff\xff\xff\xff more".to_vec(),
            refused(""),
        ),
        Case::new("zstd, wrong checksum", spoiled(whole.clone(), 1), refused("damaged")),
        Case::new(
            "zstd, two frames",
            [pack(ZSTD, &plain()[..700]), pack(ZSTD, &plain()[700..])].concat(),
            fine(),
        ),
        Case::new("zstd of a window of 2^41", wide, refused("")),
        Case::new("zstd with a dictionary", dictionary, refused("")),
        Case::new("zstd of zstd", pack(ZSTD, &pack(ZSTD, &noise)), refused("no tar")),
        Case::new("zstd of nothing", pack(ZSTD, b""), refused("")),
        Case::new(
            "zstd that remembers 2 GiB",
            filter("zstd", &["-qc", "--ultra", "--long=31"], &plain()),
            refused(""),
        ),
    ]
}

fn xzs() -> Vec<Case> {
    let whole = pack(XZ, &plain());
    let noise = noise();
    let padded = [&whole[..], &[0; 8]].concat();
    vec![
        Case::new("xz", whole.clone(), fine()),
        Case::new("xz, no check", filter("xz", &["-c", "-C", "none"], &plain()), fine()),
        Case::new("xz, SHA-256", filter("xz", &["-c", "-C", "sha256"], &plain()), fine()),
        Case::new(
            "xz, several blocks",
            filter("xz", &["-c", "--block-size=512"], &plain()),
            fine(),
        ),
        Case::new(
            "xz for a processor",
            filter("xz", &["-c", "--x86", "--lzma2"], &plain()),
            fine(),
        ),
        Case::new(
            "xz, two streams",
            [pack(XZ, &plain()[..700]), pack(XZ, &plain()[700..])].concat(),
            fine(),
        ),
        Case::new("xz, padding behind", padded, fine()),
        Case::new("xz, wrong index", spoiled(whole.clone(), 16), refused("damaged")),
        Case::new("xz, wrong end", spoiled(whole.clone(), 1), refused("damaged")),
        Case::new("xz, damaged", spoiled(whole.clone(), 50), refused("")),
        Case::new("xz of xz", pack(XZ, &pack(XZ, &noise)), refused("no tar")),
        Case::new("xz of nothing", pack(XZ, b""), refused("")),
        Case::new(
            "xz that remembers 1.5 GiB",
            filter("xz", &["-c", "--lzma2=dict=1536MiB"], &plain()),
            refused(""),
        ),
        Case::new("lzma", filter("xz", &["-c", "--format=lzma"], &plain()), refused("no archive")),
    ]
}

/// Little that becomes much: stopped where it passes 200 times the archive.
fn bombs() -> Vec<Case> {
    let zeros = |mib: usize| tar(&[Block::file("zeros", vec![0; mib << 20])]);
    let skipped = tar(&[Block::new(b'3', "device", ""), Block::file("a", "alpha")]);
    let several: Vec<Block> =
        (0..32).map(|n| Block::file(format!("{n}"), vec![0; 1 << 20])).collect();
    vec![
        Case::new(
            "gzip, 1000 to 1",
            pack(("gzip", &["-9nc"]), &zeros(32)),
            refused("archives.ratio"),
        ),
        Case::new(
            "gzip, 1000 to 1, in pieces",
            pack(("gzip", &["-9nc"]), &tar(&several)),
            refused("archives.ratio"),
        ),
        Case::new("xz, 6000 to 1", pack(XZ, &zeros(32)), refused("archives.ratio")),
        Case::new("zstd, 30000 to 1", pack(ZSTD, &zeros(32)), refused("archives.ratio")),
        Case::new("gzip behind a device", pack(GZIP, &skipped), shows([("a", file("alpha"))])),
        Case::new(
            "zeros behind the end, 10 MiB",
            pack(GZIP, &[plain(), vec![0; 10 << 20]].concat()),
            fine(),
        ),
        // One member of a gzip for each 64 MiB.
        Case::new(
            "zeros behind the end, 2.5 GiB",
            [pack(GZIP, &plain()), pack(GZIP, &vec![0; 64 << 20]).repeat(40)].concat(),
            refused("headers, padding and members that are left out"),
        ),
    ]
}

fn no_archives() -> Vec<Case> {
    let noise = noise();
    let looks = |begin: &[u8]| [begin, &noise].concat();
    let no = || refused("no archive that can be shown");
    vec![
        Case::new("nothing", Vec::new(), refused("is empty")),
        Case::new("one byte", b"P".to_vec(), no()),
        Case::new("text", b"this is a text\n".repeat(100), no()),
        Case::new("noise", noise.clone(), no()),
        Case::new(
            "a web page",
            b"<!DOCTYPE html><html>not found</html>".to_vec(),
            refused("a web page"),
        ),
        Case::new("bzip2", filter("bzip2", &["-c"], &plain()), refused("bzip2")),
        Case::new("7z", looks(b"7z\xbc\xaf\x27\x1c"), refused("7z")),
        Case::new("rar", looks(b"Rar!\x1a\x07\x01\0"), refused("rar")),
        Case::new("a Debian package", looks(b"!<arch>\ndebian-binary   "), refused("ar (")),
        Case::new("cpio", looks(b"070701"), refused("cpio")),
        Case::new("squashfs", looks(b"hsqs"), refused("squashfs")),
        Case::new("a picture", looks(b"\x89PNG\r\n\x1a\n"), no()),
        Case::new("a program", looks(b"\x7fELF"), refused("ELF")),
        Case::new("gzip's first bytes", b"\x1f\x8b\x08".to_vec(), refused("")),
        Case::new("xz's first bytes", b"\xfd7zXZ\0".to_vec(), refused("")),
        Case::new("zstd's first bytes", b"\x28\xb5\x2f\xfd".to_vec(), refused("")),
    ]
}
