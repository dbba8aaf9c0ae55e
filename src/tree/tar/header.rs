//! The header of a member: one block of fields at fixed places.

use std::ops::Range;

use super::super::error::TreeError;
use super::super::path::shown;
use super::block::{BLOCK, damaged, is_zeros};

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const KIND: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..263;
const PREFIX: Range<usize> = 345..500;
/// star keeps times behind a shorter prefix, and says so at the end.
const STAR_PREFIX: Range<usize> = 345..476;
const STAR: Range<usize> = 508..512;

/// A header whose checksum is right.
pub(super) struct Header {
    block: [u8; BLOCK],
    /// Its place in the uncompressed stream.
    pub(super) at: u64,
    pub(super) kind: u8,
}

impl Header {
    /// Reads a header; `None` for a block of zeros.
    pub(super) fn read(block: [u8; BLOCK], at: u64) -> Result<Option<Header>, TreeError> {
        if is_zeros(&block) {
            return Ok(None);
        }
        let header = Header { block, at, kind: block[KIND] };
        let said = number(&header.block[CHECKSUM]);
        let sums = header.sums();
        // Some old tars added up bytes with a sign.
        if said.is_some_and(|said| sums.contains(&said)) {
            return Ok(Some(header));
        }
        let what = if at == 0 {
            "no tar begins here: the checksum of the first header is wrong".to_owned()
        } else {
            format!(
                "the header of the next member is damaged: its checksum should be {}, and its \
                 field says {}",
                sums[0],
                shown(&header.block[CHECKSUM])
            )
        };
        Err(damaged(at, what))
    }

    /// Adds the bytes up, those of the checksum's own field as spaces: without and with a sign.
    fn sums(&self) -> [i64; 2] {
        let mut sums = [0, 0];
        for (at, byte) in self.block.iter().enumerate() {
            let byte = if CHECKSUM.contains(&at) { b' ' } else { *byte };
            sums[0] += i64::from(byte);
            sums[1] += i64::from(byte as i8);
        }
        sums
    }

    /// Returns the path as the header alone gives it.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(&self.block[NAME]);
        // GNU tar has other things there, and another magic.
        let prefix = match (&self.block[MAGIC], &self.block[STAR]) {
            (b"ustar\0", b"tar\0") => text(&self.block[STAR_PREFIX]),
            (b"ustar\0", _) => text(&self.block[PREFIX]),
            _ => b"",
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    /// Returns the target of a link as the header alone gives it.
    pub(super) fn link(&self) -> Vec<u8> {
        text(&self.block[LINK]).to_vec()
    }

    /// Returns the length of what follows.
    pub(super) fn size(&self) -> Result<u64, TreeError> {
        number(&self.block[SIZE]).and_then(|size| u64::try_from(size).ok()).ok_or_else(|| {
            damaged(
                self.at,
                format!(
                    "the size of {} is {}, which is no number of bytes",
                    shown(&self.path()),
                    shown(&self.block[SIZE])
                ),
            )
        })
    }

    /// Returns the permission bits, if it has any.
    pub(super) fn mode(&self) -> Option<i64> {
        number(&self.block[MODE])
    }

    /// Returns the time of the last modification, if it has one.
    pub(super) fn modified(&self) -> Option<(i64, u32)> {
        number(&self.block[MTIME]).map(|seconds| (seconds, 0))
    }
}

/// Returns a field's text, which ends with a NUL or with the field.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Reads a number: octal digits between spaces and NULs, none meaning 0; or, for what does not fit
/// (GNU), two's complement behind a first byte 0x80 or 0xff. One that does not fit in 64 bits is as
/// large as possible. `None` for what is no number.
fn number(field: &[u8]) -> Option<i64> {
    if let [sign @ (0x80 | 0xff), digits @ ..] = field {
        let start = if *sign == 0xff { -1 } else { 0 };
        let limit = if *sign == 0xff { i64::MIN } else { i64::MAX };
        let fits = |sum: &i64| (i64::MIN >> 8..=i64::MAX >> 8).contains(sum);
        let add = |sum: i64, digit: &u8| Some(sum).filter(fits).map(|s| s << 8 | i64::from(*digit));
        return Some(digits.iter().try_fold(start, add).unwrap_or(limit));
    }
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let begin = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let digits = field[begin..].split(blank).next().unwrap_or_default();
    // At most 12 digits of three bits.
    digits.iter().try_fold(0, |sum, digit| match digit {
        b'0'..=b'7' => Some(sum << 3 | i64::from(digit - b'0')),
        _ => None,
    })
}
