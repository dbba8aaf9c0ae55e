//! The local header before a member's bytes.

use std::ops::Range;

use super::super::error::{TreeError, Why};
use super::super::index::{Content, Packed};
use super::directory::{DEFLATED, ENCRYPTED, STORED};
use super::extra;
use super::record::Record;

/// How many bytes a local header takes at most, its name and extra field included.
pub const HEADER: u64 = 30 + 2 * 65_535;

/// A local file header (4.3.7).
const LOCAL: &[u8] = b"PK\x03\x04";
const FIXED: usize = 30;

/// The bit of the general purpose flag (4.4.4) that says: checksum and lengths follow the data.
const DESCRIPTOR: u16 = 1 << 3;

/// Holds the local header of a member against what the central directory said, and returns where
/// the packed bytes lie. `header` begins at the header's place; `Err(Ok(n))` asks for `n` bytes of
/// it. The range must not reach into the central directory, which begins at `directory`.
///
/// Method, encryption and name have to agree; checksum and lengths too, unless they stand behind
/// the data.
///
/// # Errors
/// `Err(Err(_))`: they disagree.
pub fn data(
    header: &[u8],
    content: &Content,
    directory: u64,
) -> Result<Range<u64>, Result<u64, TreeError>> {
    let (at, method, length, crc) = match content.packed {
        Packed::Stored { header, crc } => (header, STORED, content.size, crc),
        Packed::Deflated { header, length, crc } => (header, DEFLATED, length, crc),
        other => {
            return Err(Err(TreeError::new(
                Why::Damaged,
                format!("zip: no local header tells where a member is that is {other:?}"),
            )));
        }
    };
    let wrong = |what: String| {
        Err(Err(TreeError::new(
            Why::Damaged,
            format!(
                "zip: the local header at {at} {what}; the archive was damaged, or made to show \
                 different things to different programs"
            ),
        )))
    };
    let cut = format!("reaches into the central directory at {directory}");
    let record = Record(header);
    // What is asked for is there: it ends before the central directory begins.
    let room = directory.saturating_sub(at);
    let lengths = record.u16(26).zip(record.u16(28));
    let Some((name_length, extra_length)) = lengths else {
        return if room < FIXED as u64 { wrong(cut) } else { Err(Ok(FIXED as u64)) };
    };
    if !record.starts_with(LOCAL) {
        return wrong("is none".to_owned());
    }
    let (name_length, extra_length) = (usize::from(name_length), usize::from(extra_length));
    let whole = FIXED + name_length + extra_length;
    if room < whole as u64 {
        return wrong(cut);
    }
    let fields = (
        record.u16(6).zip(record.u16(8)),
        record.u32(14).zip(record.u32(18).zip(record.u32(22))),
        record.bytes(FIXED, name_length).zip(record.bytes(FIXED + name_length, extra_length)),
    );
    let (Some((flags, local_method)), Some((local_crc, sizes)), Some((name, extra))) = fields
    else {
        return Err(Ok(whole as u64));
    };
    if crc32c::crc32c(name) != content.name {
        return wrong("has another name than the central directory".to_owned());
    }
    if local_method != method {
        return wrong(format!("says method {local_method}, the central directory {method}"));
    }
    if flags & ENCRYPTED != 0 {
        return wrong("says that the member is encrypted, the central directory not".to_owned());
    }
    if flags & DESCRIPTOR == 0 {
        let Some([size, packed]) = extra::zip64(extra, [sizes.1, sizes.0]) else {
            return wrong("says that its lengths are in a zip64 field, and has none".to_owned());
        };
        let (said, known) = ((local_crc, packed, size), (crc, length, content.size));
        if said != known {
            return wrong(format!(
                "says checksum, packed and unpacked length {said:x?}, the central directory \
                 {known:x?}"
            ));
        }
    }
    let range = at
        .checked_add(whole as u64)
        .and_then(|begin| Some(begin..begin.checked_add(length)?))
        .filter(|range| range.end <= directory);
    match range {
        Some(range) => Ok(range),
        None => wrong(format!(
            "has {length} bytes behind it that reach into the central directory at {directory}"
        )),
    }
}
