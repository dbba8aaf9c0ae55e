//! What extended headers say about a member: the records of PAX, the long names of GNU tar.

use super::super::error::TreeError;
use super::super::path::shown;
use super::block::{damaged, is_zeros};

/// What is known of a member beyond its header. PAX outranks GNU, which outranks the header.
#[derive(Default)]
pub(super) struct Extended {
    pub(super) long_name: Option<Vec<u8>>,
    pub(super) long_link: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) modified: Option<(i64, u32)>,
    sparse: bool,
    /// Whether there was an extended header at all.
    seen: bool,
}

impl Extended {
    /// Takes the records of one header, each `<length> <key>=<value>\n`; of two with one key the
    /// later counts, and an empty value takes back what was said.
    pub(super) fn read(&mut self, records: &[u8], at: u64) -> Result<(), TreeError> {
        self.seen = true;
        let mut rest = records;
        while !rest.is_empty() {
            // Some tools fill the block with zeros and count them.
            if is_zeros(rest) {
                break;
            }
            let Some((key, value, after)) = record(rest) else {
                let place = records.len() - rest.len();
                return Err(damaged(
                    at,
                    format!(
                        "the PAX record at byte {place} of the extended header, {}, is none",
                        shown(&rest[..rest.len().min(40)])
                    ),
                ));
            };
            self.take(key, value, at)?;
            rest = after;
        }
        Ok(())
    }

    fn take(&mut self, key: &[u8], value: &[u8], at: u64) -> Result<(), TreeError> {
        let wrong = || damaged(at, format!("the PAX record {} says {}", shown(key), shown(value)));
        let some = !value.is_empty();
        match key {
            b"path" => self.path = some.then(|| value.to_vec()),
            b"linkpath" => self.link = some.then(|| value.to_vec()),
            b"size" if some => self.size = Some(whole(value).ok_or_else(wrong)?),
            b"size" => self.size = None,
            b"mtime" if some => self.modified = Some(time(value).ok_or_else(wrong)?),
            b"mtime" => self.modified = None,
            b"SCHILY.realsize" => self.sparse = true,
            _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
            _ => {}
        }
        Ok(())
    }

    /// Fills in what is said of all members.
    pub(super) fn inherit(&mut self, globals: &Extended) {
        self.modified = self.modified.or(globals.modified);
        self.sparse |= globals.sparse;
    }

    /// Says whether it has what can only be meant for one member.
    pub(super) fn is_about_one(&self) -> bool {
        self.path.is_some() || self.link.is_some() || self.size.is_some()
    }

    /// Says whether there was anything before a member.
    pub(super) fn is_something(&self) -> bool {
        self.seen || self.long_name.is_some() || self.long_link.is_some()
    }

    /// Says whether the member's bytes are only those that are not zero.
    pub(super) fn is_sparse(&self) -> bool {
        self.sparse
    }

    pub(super) fn path(&self) -> Option<&[u8]> {
        self.path.as_deref().or(self.long_name.as_deref())
    }

    pub(super) fn link(&self) -> Option<&[u8]> {
        self.link.as_deref().or(self.long_link.as_deref())
    }
}

/// Takes the first record off: its key, its value, and what follows it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(whole(&bytes[..space])?).ok()?;
    let (record, after) = bytes.split_at_checked(length)?;
    let (b'\n', record) = record.get(space + 1..)?.split_last()? else { return None };
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], after))
}

/// Reads decimal digits.
fn whole(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Reads a time: decimal seconds since 1970, with a sign and a fraction if need be. One that does
/// not fit is as far away as possible.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let (negative, value) = match value {
        [b'-', value @ ..] => (true, value),
        value => (false, value),
    };
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let (seconds, fraction) = (parts.next()?, parts.next().unwrap_or_default());
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    if seconds.is_empty() || !digits(seconds) || !digits(fraction) {
        return None;
    }
    let seconds = whole(seconds).and_then(|n| i64::try_from(n).ok()).unwrap_or(i64::MAX);
    let nanos = (0..9)
        .fold(0, |sum, at| sum * 10 + fraction.get(at).map_or(0, |digit| u32::from(digit - b'0')));
    Some(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}
