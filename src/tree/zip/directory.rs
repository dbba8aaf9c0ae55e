//! The central directory: what lies in a zip and where.

use std::borrow::Cow;

use super::super::error::{TreeError, Why};
use super::super::index::{Builder, Index, Member, Packed, What};
use super::super::limits::Limits;
use super::super::path::shown;
use super::end::End;
use super::record::Record;
use super::{cp437, extra};

/// A central directory file header (4.3.12).
const MEMBER: &[u8] = b"PK\x01\x02";
const FIXED: usize = 46;

/// The bytes of a local header before its name.
const LOCAL: u64 = 30;

/// Bits of the general purpose flag (4.4.4).
pub(super) const ENCRYPTED: u16 = 1;
const PATCHED: u16 = 1 << 5;
const STRONGLY_ENCRYPTED: u16 = 1 << 6;
const UTF8: u16 = 1 << 11;
const MASKED: u16 = 1 << 13;

/// Methods (4.4.5).
pub(super) const STORED: u16 = 0;
pub(super) const DEFLATED: u16 = 8;
const AES: u16 = 99;

/// Systems that a member was made on (4.4.2) and whose modes it has.
const UNIX: u8 = 3;
const MACOS: u8 = 19;

/// Reads the central directory.
///
/// # Errors
/// It is damaged, contradicts itself, or passes a limit.
pub fn directory(
    bytes: &[u8],
    end: &End,
    length: u64,
    limits: &Limits,
) -> Result<Index, TreeError> {
    if end.members > u64::from(limits.members) {
        return Err(TreeError::new(
            Why::Limit,
            format!(
                "zip: the archive has {} members; archives.members allows {}",
                end.members, limits.members
            ),
        ));
    }
    let mut builder = Builder::new(*limits, Some(length));
    // Where each member lies: from its local header to the end of its packed bytes, at least.
    let mut places = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let place = end.directory.start + (bytes.len() - rest.len()) as u64;
        let (header, after) = Header::read(rest, place)?;
        let from = header.offset.checked_add(end.shift);
        let to = from.and_then(|from| from.checked_add(LOCAL + header.name.len() as u64));
        let to = to.and_then(|to| to.checked_add(header.packed));
        let (Some(from), Some(to)) = (from, to) else {
            return Err(damaged(format!("{} lies outside the file", header.shown())));
        };
        places.push((from, to, place));
        header.add(from, &mut builder)?;
        rest = after;
    }
    let found = places.len() as u64;
    // Without zip64 the count is modulo 65536.
    if found != end.members && (end.members > 0xffff || found & 0xffff != end.members) {
        return Err(damaged(format!(
            "the end record says that there are {} members, and the central directory has {found}",
            end.members
        )));
    }
    check_places(places, end)?;
    builder.finish()
}

/// Refuses members that share bytes, or reach into the central directory.
fn check_places(mut places: Vec<(u64, u64, u64)>, end: &End) -> Result<(), TreeError> {
    places.sort_unstable();
    let next = places.iter().skip(1).map(|(from, ..)| *from).chain([end.directory.start]);
    for ((from, to, header), next) in places.iter().zip(next) {
        if *to > next {
            return Err(damaged(format!(
                "the member whose central header is at {header} takes at least the bytes {from} to \
                 {to}, and the next thing begins at {next}; members that overlap are refused"
            )));
        }
    }
    Ok(())
}

/// One central header.
struct Header<'a> {
    system: u8,
    flags: u16,
    method: u16,
    time: u16,
    date: u16,
    crc: u32,
    packed: u64,
    size: u64,
    attributes: u32,
    offset: u64,
    name: &'a [u8],
    extra: &'a [u8],
}

impl<'a> Header<'a> {
    /// Reads the header at the beginning of `bytes`, which stands at `place`, and returns what
    /// follows it.
    fn read(bytes: &'a [u8], place: u64) -> Result<(Header<'a>, &'a [u8]), TreeError> {
        let cut = || damaged(format!("the central directory is cut in the header at {place}"));
        let record = Record(bytes);
        if !record.starts_with(MEMBER) {
            return Err(damaged(format!(
                "no header of a member at {place}, where the central directory should go on"
            )));
        }
        let number = |at| record.u16(at).ok_or_else(cut);
        let wide = |at| record.u32(at).ok_or_else(cut);
        let [name, extra, comment] = [number(28)?, number(30)?, number(32)?].map(usize::from);
        let after = bytes.get(FIXED + name + extra + comment..).ok_or_else(cut)?;
        let (name, extra) = (
            record.bytes(FIXED, name).ok_or_else(cut)?,
            record.bytes(FIXED + name, extra).ok_or_else(cut)?,
        );
        let numbers = [wide(24)?, wide(20)?, wide(42)?];
        let Some([size, packed, offset]) = extra::zip64(extra, numbers) else {
            return Err(damaged(format!(
                "the member {} says that its numbers are in a zip64 field, and has none",
                shown(name)
            )));
        };
        let header = Header {
            system: record.u8(5).ok_or_else(cut)?,
            flags: number(8)?,
            method: number(10)?,
            time: number(12)?,
            date: number(14)?,
            crc: wide(16)?,
            packed,
            size,
            attributes: wide(38)?,
            offset,
            name,
            extra,
        };
        let disk = number(34)?;
        if disk != 0 && disk != u16::MAX {
            return Err(damaged(format!(
                "{} lies on disk {disk} of an archive of several; join them into one file",
                header.shown()
            )));
        }
        if header.flags & MASKED != 0 {
            return Err(damaged("the central directory is encrypted".to_owned()));
        }
        Ok((header, after))
    }

    fn shown(&self) -> String {
        format!("the member {}", shown(self.name))
    }

    /// Adds the member whose local header is at `from`.
    fn add(&self, from: u64, builder: &mut Builder) -> Result<(), TreeError> {
        let path = self.path();
        let packed = self.packing(from)?;
        let size = self.size;
        // The kind is in the mode (stat(2)); archives without one end directories in a slash.
        let mode = self.mode();
        let what = match mode.map_or(0, |mode| mode & 0o170_000) {
            _ if path.ends_with(b"/") => What::Directory,
            0o040_000 => What::Directory,
            0o120_000 => What::PackedSymlink { size, packed },
            0 if mode.is_none() && self.attributes & 0x10 != 0 && size == 0 => What::Directory,
            // Info-ZIP packs what it reads from a pipe as a fifo with contents.
            0o010_000 if size > 0 => What::File { size, packed },
            0 | 0o100_000 => What::File { size, packed },
            _ => What::Other,
        };
        let member = Member {
            path: &path,
            what,
            executable: mode.map(|mode| mode & 0o111 != 0),
            modified: extra::modified(self.extra, self.date, self.time),
        };
        builder.add_named(&member, crc32c::crc32c(self.name)).map(drop)
    }

    /// Returns the Unix mode. Tools that know none leave it 0.
    fn mode(&self) -> Option<u32> {
        let mode = self.attributes >> 16;
        (matches!(self.system, UNIX | MACOS) && mode != 0).then_some(mode)
    }

    /// Returns the path in UTF-8 where it is known to be text, else as it is.
    fn path(&self) -> Cow<'a, [u8]> {
        if self.flags & UTF8 != 0 {
            return Cow::Borrowed(self.name);
        }
        if let Some(path) = extra::unicode_path(self.extra, self.name) {
            return Cow::Borrowed(path);
        }
        if matches!(self.system, UNIX | MACOS) || self.name.is_ascii() {
            return Cow::Borrowed(self.name);
        }
        Cow::Owned(cp437::decode(self.name).into_bytes())
    }

    fn packing(&self, header: u64) -> Result<Packed, TreeError> {
        let (length, crc, method) = (self.packed, self.crc, self.method);
        if self.flags & (ENCRYPTED | STRONGLY_ENCRYPTED) != 0 || method == AES {
            return Ok(Packed::Encrypted);
        }
        match method {
            _ if self.flags & PATCHED != 0 => Ok(Packed::Unknown { method }),
            STORED if length != self.size => Err(damaged(format!(
                "{} is stored as it is, in {length} bytes, and should have {}",
                self.shown(),
                self.size
            ))),
            STORED => Ok(Packed::Stored { header, crc }),
            DEFLATED => Ok(Packed::Deflated { header, length, crc }),
            _ => Ok(Packed::Unknown { method }),
        }
    }
}

fn damaged(what: String) -> TreeError {
    TreeError::new(Why::Damaged, format!("zip: {what}"))
}
