//! What kind of archive a file is, told by its content.

use super::error::{TreeError, Why};
use super::tar;

/// How many bytes from the beginning tell the kind.
pub const HEAD: u64 = 512;

/// A kind of archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// zip.
    Zip,
    /// tar, uncompressed.
    Tar,
    /// tar in gzip.
    TarGz,
    /// tar in zstd.
    TarZst,
    /// tar in xz.
    TarXz,
}

/// What a file of each kind begins with. A zip begins with its first member, with its end record
/// if it has none, or with the marker of one that was to be split and was not.
const KNOWN: &[(&[u8], Format)] = &[
    (b"PK\x03\x04", Format::Zip),
    (b"PK\x05\x06", Format::Zip),
    (b"PK\x07\x08PK\x03\x04", Format::Zip),
    (b"PK00PK\x03\x04", Format::Zip),
    (b"\x1f\x8b\x08", Format::TarGz),
    (b"\x28\xb5\x2f\xfd", Format::TarZst),
    (b"\xfd7zXZ\x00", Format::TarXz),
];

/// What other files begin with that somebody may take for an archive.
const OTHERS: &[(&[u8], &str)] = &[
    (b"BZh", "bzip2"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"!<arch>\n", "ar (a .deb or static library)"),
    (b"\xed\xab\xee\xdb", "rpm"),
    (b"LZIP", "lzip"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x1f\x9d", "compress (.Z)"),
    (b"hsqs", "squashfs"),
    (b"070701", "cpio"),
    (b"070702", "cpio"),
    (b"070707", "cpio"),
    (b"<!DOCTYPE", "a web page"),
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "XML"),
    (b"\x7fELF", "an ELF program without a zip at its end"),
];

impl Format {
    /// Tells the kind from the first [`HEAD`] bytes (fewer where the file is shorter); `None` for
    /// what is none of them. Whether there is a tar inside a compressed stream shows only later. A
    /// zip with something before it is told by its end alone: see [`zip::end`](super::zip::end).
    pub fn of(head: &[u8]) -> Option<Format> {
        let known = KNOWN.iter().find(|(magic, _)| head.starts_with(magic));
        if let Some((_, format)) = known {
            return Some(*format);
        }
        // A zstd stream may begin with a frame that is skipped, of which there are 16 kinds.
        if let [first, 0x2a, 0x4d, 0x18, ..] = head
            && first >> 4 == 5
        {
            return Some(Format::TarZst);
        }
        tar::begins(head).then_some(Format::Tar)
    }

    /// Returns the error for a file that is none of them.
    pub fn unknown(head: &[u8]) -> TreeError {
        let other = OTHERS.iter().find(|(magic, _)| head.starts_with(magic));
        let looks = match (other, head.is_empty()) {
            (Some((_, name)), _) => format!("looks like {name}"),
            (None, true) => "is empty".to_owned(),
            (None, false) => {
                let begins = &head[..head.len().min(8)];
                format!("begins with the bytes {begins:02x?}")
            }
        };
        TreeError::new(
            Why::Damaged,
            format!(
                "no archive that can be shown: the file {looks}; zip, tar, tar.gz, tar.zst and \
                 tar.xz can. Show it as a file, or pack it as one of these"
            ),
        )
    }
}
