//! Extra fields of a member (4.5).

use super::super::stamp;
use super::record::Record;

/// Returns the fields of an extra area up to the first that is cut: some tools pad the area with
/// bytes that are no fields.
pub(super) fn fields(mut area: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let record = Record(area);
        let (id, length) = (record.u16(0)?, usize::from(record.u16(2)?));
        let field = record.bytes(4, length)?;
        area = area.get(4 + length..)?;
        Some((id, field))
    })
}

/// Returns the first field with this number.
fn field(area: &[u8], wanted: u16) -> Option<Record<'_>> {
    fields(area).find(|(id, _)| *id == wanted).map(|(_, field)| Record(field))
}

/// Fills in the numbers that did not fit in their fields, from the zip64 field (4.5.3), which has
/// those alone, in this order. `None` where it should and does not.
pub(super) fn zip64<const N: usize>(area: &[u8], fields: [u32; N]) -> Option<[u64; N]> {
    let mut numbers = fields.map(u64::from);
    let mut at = 0;
    for (number, _) in numbers.iter_mut().zip(fields).filter(|(_, field)| *field == u32::MAX) {
        *number = field(area, 0x0001)?.u64(at)?;
        at += 8;
    }
    Some(numbers)
}

/// Returns the name in the Unicode path field (4.6.9) if it was made for this one.
pub(super) fn unicode_path<'a>(area: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let record = field(area, 0x7075)?;
    let sound = record.u8(0)? == 1 && record.u32(1)? == crc32fast::hash(name);
    record.0.get(5..).filter(|_| sound)
}

/// Returns the time of the last modification: the best that there is of the extended timestamp,
/// that of Windows NT, the old one of Unix, and the DOS time.
pub(super) fn modified(area: &[u8], date: u16, time: u16) -> Option<(i64, u32)> {
    let extended = || {
        let record = field(area, 0x5455)?;
        (record.u8(0)? & 1 == 1).then(|| record.u32(1)).flatten()
    };
    let windows = || {
        // Attributes by number behind four reserved bytes; the first that is 1 holds the times.
        let attributes = field(area, 0x000a)?.0.get(4..)?;
        let (_, times) = fields(attributes).find(|(id, _)| *id == 1)?;
        Record(times).u64(0).map(stamp::windows)
    };
    let unix = || field(area, 0x5855)?.u32(4);
    let seconds = |seconds: u32| (of_unix(seconds, date, time), 0);
    extended()
        .map(seconds)
        .or_else(windows)
        .or_else(|| unix().map(seconds))
        .or_else(|| stamp::dos(date, time).map(|seconds| (seconds, 0)))
}

/// Tells times before 1970 from those after 2038, which have the same 32 bits: a DOS time cannot
/// be before 1980, and says its first day then.
fn of_unix(seconds: u32, date: u16, time: u16) -> i64 {
    const FIRST_DAY: u16 = 1 << 5 | 1;
    let negative = seconds > i32::MAX as u32 && date <= FIRST_DAY && time == 0;
    if negative { i64::from(seconds as i32) } else { i64::from(seconds) }
}
