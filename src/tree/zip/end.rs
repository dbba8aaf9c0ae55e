//! The end record, with which the reading of a zip begins.

use std::ops::Range;

use super::super::error::{TreeError, Why};
use super::record::Record;

/// How many bytes from the end hold the end record, however long its comment is.
pub const TAIL: u64 = 22 + 65_535 + 20 + 56;

/// What the end of a zip says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Where the central directory lies in the file.
    pub directory: Range<u64>,
    /// How many members it has.
    pub members: u64,
    /// What has to be added to every offset in it (something stands before the archive).
    pub shift: u64,
}

/// The end of central directory record (4.3.16).
const RECORD: &[u8] = b"PK\x05\x06";
const RECORD_LENGTH: usize = 22;

/// The zip64 end of central directory locator (4.3.15), just before the end record.
const LOCATOR: &[u8] = b"PK\x06\x07";
const LOCATOR_LENGTH: usize = 20;

/// The zip64 end of central directory record (4.3.14), just before the locator.
const END64: &[u8] = b"PK\x06\x06";
const END64_LENGTH: usize = 56;

/// How far before its locator a zip64 end record may begin: what it has beyond its fixed fields is
/// for vendors.
const END64_REACH: u64 = 1 << 20;

/// How many bytes from the end hold all that a locator in the tail can mean. Nothing asks for more,
/// or records that lead from one to the next would have the whole file read.
const LONGEST: u64 = TAIL + LOCATOR_LENGTH as u64 + END64_REACH;

/// A central directory file header (4.3.12).
const MEMBER: &[u8] = b"PK\x01\x02";
const MEMBER_LENGTH: u64 = 46;

/// Why a place holds no end record that could be believed.
enum Not {
    /// It only looks like one, or contradicts itself.
    Sound(String),
    /// More of the tail is needed: as much as [`LONGEST`].
    Seen,
}

/// Reads the end of a zip of `length` bytes; `tail` are its last bytes. `Err(Ok(from))` asks for a
/// longer tail that begins at `from`; that happens twice at most.
///
/// An end record is believed where it agrees with what stands before it: the central directory
/// ends just there. The last such record counts whose comment ends with the file; only without one,
/// the last with something behind its comment. So bytes of a comment that look like a record, and
/// up to 64 KiB of rubbish behind the archive, do no harm.
///
/// # Errors
/// `Err(Err(_))`: no zip, or one that contradicts itself.
pub fn end(tail: &[u8], length: u64) -> Result<End, Result<u64, TreeError>> {
    let Some(begin) = length.checked_sub(tail.len() as u64) else {
        return Err(Err(TreeError::new(
            Why::Damaged,
            format!("{} bytes were read of an archive of {length} bytes", tail.len()),
        )));
    };
    let seen_all = tail.len() as u64 >= TAIL.min(length);
    let mut reason = None;
    for rubbish in [false, true] {
        if rubbish && !seen_all {
            return Err(Ok(length.saturating_sub(TAIL)));
        }
        for at in places(tail) {
            let comment = Record(&tail[at..]).u16(20).map_or(0, usize::from);
            let rest = tail.len() - at - RECORD_LENGTH;
            if (rest == comment) == rubbish || comment > rest {
                continue;
            }
            match read(tail, begin, at) {
                Ok(end) => return Ok(end),
                Err(Not::Seen) => return Err(Ok(length.saturating_sub(LONGEST))),
                // What the last place says is what a person has to know.
                Err(Not::Sound(why)) => drop(reason.get_or_insert(why)),
            }
        }
    }
    let why = reason.unwrap_or_else(|| {
        "no end of central directory record in the last 64 KiB; the archive is no zip, or cut"
            .to_owned()
    });
    Err(Err(TreeError::new(Why::Damaged, format!("zip: {why}"))))
}

/// Returns where end records may begin, the last first: in the last [`TAIL`] bytes, however many there
/// are to look at.
fn places(tail: &[u8]) -> impl Iterator<Item = usize> {
    let first = tail.len().saturating_sub(TAIL as usize);
    let last = (tail.len() + 1).saturating_sub(RECORD_LENGTH);
    (first..last).rev().filter(|at| tail[*at..].starts_with(RECORD))
}

/// Reads the end record at `at`, and the zip64 one that belongs to it.
fn read(tail: &[u8], begin: u64, at: usize) -> Result<End, Not> {
    let short = || Not::Sound("the end record is cut".to_owned());
    let record = Record(&tail[at..]);
    let disks = [record.u16(4).ok_or_else(short)?, record.u16(6).ok_or_else(short)?];
    let here = record.u16(8).ok_or_else(short)?;
    let members = record.u16(10).ok_or_else(short)?;
    let size = record.u32(12).ok_or_else(short)?;
    let offset = record.u32(16).ok_or_else(short)?;
    let place = begin + at as u64;
    if let Some(locator) = at.checked_sub(LOCATOR_LENGTH)
        && tail[locator..].starts_with(LOCATOR)
    {
        let end = read64(tail, begin, locator)?;
        let agree = (members == u16::MAX || u64::from(members) == end.members)
            && (size == u32::MAX || u64::from(size) == end.directory.end - end.directory.start)
            && (offset == u32::MAX || u64::from(offset) + end.shift == end.directory.start);
        return if agree {
            Ok(end)
        } else {
            Err(Not::Sound(format!(
                "the end record at {place} and its zip64 record disagree about the central directory"
            )))
        };
    }
    if size == u32::MAX || offset == u32::MAX {
        return Err(Not::Sound(format!(
            "the zip64 record of the end record at {place} is missing"
        )));
    }
    if disks != [0, 0] || here != members {
        return Err(Not::Sound(several_disks(place)));
    }
    sound(tail, begin, place, u64::from(offset), u64::from(size), u64::from(members), None)
}

/// Reads the zip64 end record that belongs to the locator at `at`.
fn read64(tail: &[u8], begin: u64, at: usize) -> Result<End, Not> {
    let place = begin + at as u64;
    let cut = || Not::Sound(format!("the zip64 locator at {place} is cut"));
    let locator = Record(&tail[at..]);
    let stated = locator.u64(8).ok_or_else(cut)?;
    if locator.u32(4) != Some(0) || locator.u32(16).is_none_or(|disks| disks > 1) {
        return Err(Not::Sound(several_disks(place)));
    }
    // Where it says, if nothing stands before the archive; else just before the locator.
    let is_at = |from: u64| {
        let from = usize::try_from(from.checked_sub(begin)?).ok()?;
        let record = Record(tail.get(from..at)?);
        let length = usize::try_from(record.u64(4)?).ok()?.checked_add(12)?;
        (record.starts_with(END64) && length == at - from && length >= END64_LENGTH)
            .then_some((from, record))
    };
    let near = place.saturating_sub(END64_LENGTH as u64);
    let Some((from, record)) = is_at(stated).or_else(|| is_at(near)) else {
        if near < begin || (stated < begin && stated >= place.saturating_sub(END64_REACH)) {
            return Err(Not::Seen);
        }
        return Err(Not::Sound(format!(
            "no zip64 end record where the locator at {place} says ({stated}), nor before it"
        )));
    };
    let place = begin + from as u64;
    let cut = || Not::Sound(format!("the zip64 end record at {place} is cut"));
    let disks = [record.u32(16).ok_or_else(cut)?, record.u32(20).ok_or_else(cut)?];
    let (here, members) = (record.u64(24).ok_or_else(cut)?, record.u64(32).ok_or_else(cut)?);
    let (size, offset) = (record.u64(40).ok_or_else(cut)?, record.u64(48).ok_or_else(cut)?);
    if disks != [0, 0] || here != members {
        return Err(Not::Sound(several_disks(place)));
    }
    sound(tail, begin, place, offset, size, members, place.checked_sub(stated))
}

fn several_disks(place: u64) -> String {
    format!(
        "the end record at {place} belongs to an archive of several disks; join them into one file"
    )
}

/// Holds the central directory against its place: it ends where its end record begins.
fn sound(
    tail: &[u8],
    begin: u64,
    place: u64,
    offset: u64,
    size: u64,
    members: u64,
    shift: Option<u64>,
) -> Result<End, Not> {
    let says = format!(
        "the end record at {place} says that the central directory has {size} bytes at {offset} \
         and {members} members"
    );
    let begins = place.checked_sub(size);
    let shifted = begins.and_then(|begins| begins.checked_sub(offset));
    let (Some(begins), Some(shifted)) = (begins, shifted) else {
        return Err(Not::Sound(format!("{says}, which lies outside the file")));
    };
    if shift.is_some_and(|shift| shift != shifted) {
        return Err(Not::Sound(format!("{says}, which its zip64 locator contradicts")));
    }
    // Many members of a directory without zip64 are counted modulo 65536.
    let fits = members <= size / MEMBER_LENGTH && (members > 0 || size == 0);
    let modulo = members == 0 && size >= MEMBER_LENGTH << 16;
    if !fits && !modulo {
        return Err(Not::Sound(format!("{says}, which do not fit in it")));
    }
    if size == 0 && shifted != 0 {
        return Err(Not::Sound(format!("{says}, and yet something stands before it")));
    }
    let visible = begins.checked_sub(begin).and_then(|at| tail.get(usize::try_from(at).ok()?..));
    if size > 0 && visible.is_some_and(|directory| !directory.starts_with(MEMBER)) {
        return Err(Not::Sound(format!("{says}, and there is none")));
    }
    Ok(End { directory: begins..place, members, shift: shifted })
}
