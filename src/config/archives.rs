//! `[archives]`: how much of an archive that is shown as a directory is believed.

use std::fmt::Display;
use std::ops::RangeInclusive;

use crate::document::{Item, Reader};
use crate::tree::Limits;
use crate::types::Bytes;

const KEYS: [&str; 7] = ["members", "index", "expanded", "ratio", "member", "depth", "path"];

/// The most that a member's number has room for beside that of its archive in an inode number.
const MEMBERS: u64 = (1 << 21) - 1;

/// The most that can be said of anything counted in bytes: what a file offset holds.
const BYTES: u64 = i64::MAX as u64;

/// Reads the table; what it leaves out keeps its default.
pub(super) fn read(reader: &mut Reader<'_>, item: &Item) -> Option<Limits> {
    let table = reader.take(item, item.table())?;
    let mut limits = Limits::default();
    for item in &table.0 {
        match item.key.as_str() {
            "members" => set(reader, item, count(item, 1..=MEMBERS), &mut limits.members),
            "index" => set(reader, item, size(item, 4096..=BYTES), &mut limits.index),
            "expanded" => set(reader, item, size(item, 1..=BYTES), &mut limits.expanded),
            "ratio" => set(reader, item, count(item, 1..=1_000_000), &mut limits.ratio),
            "member" => set(reader, item, size(item, 1..=BYTES), &mut limits.member),
            "depth" => set(reader, item, count(item, 1..=2048), &mut limits.depth),
            "path" => set(reader, item, count(item, 1..=65_535), &mut limits.path),
            _ => reader.unknown(item, "[archives]", &KEYS),
        }
    }
    Some(limits)
}

fn set<T: TryFrom<u64>>(
    reader: &mut Reader<'_>,
    item: &Item,
    read: Result<u64, String>,
    to: &mut T,
) {
    let fits = |n| T::try_from(n).map_err(|_| "is too large".to_owned());
    if let Some(value) = reader.take(item, read.and_then(fits)) {
        *to = value;
    }
}

fn count(item: &Item, range: RangeInclusive<u64>) -> Result<u64, String> {
    within(item.count().ok(), "a whole number", &range, |n| n)
}

fn size(item: &Item, range: RangeInclusive<u64>) -> Result<u64, String> {
    within(Some(item.size()?.0), "a size", &range, Bytes)
}

fn within<T: Display>(
    value: Option<u64>,
    what: &str,
    range: &RangeInclusive<u64>,
    shown: impl Fn(u64) -> T,
) -> Result<u64, String> {
    value.filter(|value| range.contains(value)).ok_or_else(|| {
        format!("must be {what} from {} to {}", shown(*range.start()), shown(*range.end()))
    })
}

/// Shows the limits in one line.
pub(super) fn shown(limits: &Limits) -> String {
    let Limits { members, index, expanded, ratio, member, depth, path } = limits;
    format!(
        "members {members}, index {}, expanded {}, ratio {ratio}, member {}, depth {depth}, path {path}",
        Bytes(*index),
        Bytes(*expanded),
        Bytes(*member)
    )
}
