//! The demo's archive: a zip whose members are stored as they are.

use bytes::Bytes;

/// One file of the archive.
pub(super) struct Member<'a> {
    /// Where it is.
    pub(super) path: &'a str,
    /// Its Unix permissions.
    pub(super) mode: u32,
    /// What it holds.
    pub(super) body: &'a [u8],
}

/// The version of the format that stored members need, made on Unix (APPNOTE 4.4.2, 4.4.3).
const MADE_BY: u16 = 3 << 8 | 20;
const NEEDS: u16 = 20;
/// Midnight of the first of January 2026 (APPNOTE 4.4.6).
const DATE: u16 = (2026 - 1980) << 9 | 1 << 5 | 1;
const REGULAR: u32 = 0o100_000;

/// Packs members that are small enough for the format without its 64-bit extension.
pub(super) fn zip(members: &[Member<'_>]) -> Bytes {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for member in members {
        let at = narrow(out.len());
        let mut common = Vec::new();
        // Needs, flags, method (stored), time, date.
        put16(&mut common, &[NEEDS, 0, 0, 0, DATE]);
        let length = narrow(member.body.len());
        put32(&mut common, &[crc32fast::hash(member.body), length, length]);
        // The lengths of the path and of the extra field.
        put16(&mut common, &[member.path.len() as u16, 0]);

        out.extend_from_slice(b"PK\x03\x04");
        out.extend_from_slice(&common);
        out.extend_from_slice(member.path.as_bytes());
        out.extend_from_slice(member.body);

        directory.extend_from_slice(b"PK\x01\x02");
        put16(&mut directory, &[MADE_BY]);
        directory.extend_from_slice(&common);
        // Comment, disk, internal attributes; then the mode, and where the member begins.
        put16(&mut directory, &[0, 0, 0]);
        put32(&mut directory, &[(REGULAR | member.mode) << 16, at]);
        directory.extend_from_slice(member.path.as_bytes());
    }
    let (at, count) = (narrow(out.len()), members.len() as u16);
    out.extend_from_slice(&directory);
    out.extend_from_slice(b"PK\x05\x06");
    put16(&mut out, &[0, 0, count, count]);
    put32(&mut out, &[narrow(directory.len()), at]);
    put16(&mut out, &[0]);
    Bytes::from(out)
}

fn narrow(length: usize) -> u32 {
    u32::try_from(length).expect("the demo's archive is small")
}

fn put16(out: &mut Vec<u8>, values: &[u16]) {
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn put32(out: &mut Vec<u8>, values: &[u32]) {
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}
