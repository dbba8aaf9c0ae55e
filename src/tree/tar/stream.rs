//! The uncompressed stream: its blocks, its place, and how much of it may be overhead.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use super::super::error::{TreeError, Why};
use super::super::path::shown;
use super::block::{BLOCK, damaged, is_zeros};

/// Bytes read from the stream at a time.
const BUFFER: usize = 128 << 10;

/// Bytes of one extended header, at most.
const EXTENSION: u64 = 1 << 20;

/// Bytes of the stream that are no file's, at most: headers, padding, what is left out, what
/// follows the end. A bomb made of these would pass every other limit.
const OVERHEAD: u64 = 1 << 30;

pub(super) struct Stream<R> {
    inner: BufReader<R>,
    at: u64,
    overhead: u64,
}

impl<R: Read> Stream<R> {
    pub(super) fn new(stream: R) -> Stream<R> {
        Stream { inner: BufReader::with_capacity(BUFFER, stream), at: 0, overhead: 0 }
    }

    /// Returns the place of the next byte.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Reads a block; `None` where the stream ends just there.
    pub(super) fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TreeError> {
        let begin = self.at;
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let more = self.next(BLOCK as u64 - filled as u64)?;
            if more.is_empty() {
                break;
            }
            let length = more.len();
            block[filled..filled + length].copy_from_slice(more);
            filled += length;
            self.consume(length);
        }
        self.spend(BLOCK as u64)?;
        match filled {
            0 => Ok(None),
            BLOCK => Ok(Some(block)),
            _ => Err(damaged(
                begin,
                format!("the stream ends after {filled} bytes of a header; it was cut"),
            )),
        }
    }

    /// Reads what an extended header says, and its padding.
    pub(super) fn extension(&mut self, size: u64, header: u64) -> Result<Vec<u8>, TreeError> {
        if size > EXTENSION {
            return Err(damaged(
                header,
                format!("an extended header of {size} bytes; {EXTENSION} are allowed"),
            ));
        }
        let mut bytes = Vec::new();
        self.spend(size)?;
        self.pass(size, b"an extended header", |more| {
            bytes.extend_from_slice(more);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Hands the bytes of a file on, and passes over its padding.
    pub(super) fn body(
        &mut self,
        size: u64,
        path: &[u8],
        take: impl FnMut(&[u8]) -> Result<(), TreeError>,
    ) -> Result<(), TreeError> {
        self.pass(size, path, take)
    }

    /// Passes over bytes that no file has, and their padding.
    pub(super) fn skip(&mut self, size: u64, path: &[u8]) -> Result<(), TreeError> {
        self.spend(size)?;
        self.pass(size, path, |_| Ok(()))
    }

    fn pass(
        &mut self,
        size: u64,
        path: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), TreeError>,
    ) -> Result<(), TreeError> {
        let begin = self.at;
        let padding = size.wrapping_neg() % BLOCK as u64;
        self.spend(padding)?;
        for (part, length) in [(true, size), (false, padding)] {
            let mut left = length;
            while left > 0 {
                let more = self.next(left)?;
                if more.is_empty() {
                    return Err(damaged(
                        begin,
                        format!(
                            "the stream ends {left} bytes before the end of {}; it was cut",
                            shown(path)
                        ),
                    ));
                }
                let length = more.len();
                if part {
                    take(more)?;
                }
                self.consume(length);
                left -= length as u64;
            }
        }
        Ok(())
    }

    /// Reads to the end of the stream, the first block of zeros being passed. The second may be
    /// missing or cut: no member is lost by that.
    pub(super) fn finish(mut self) -> Result<(), TreeError> {
        let at = self.at;
        let nothing_before = at == BLOCK as u64;
        let mut zeros = if nothing_before { u64::MAX } else { BLOCK as u64 };
        loop {
            let more = self.next(if zeros > 0 { zeros } else { u64::MAX })?;
            if more.is_empty() {
                return Ok(());
            }
            let length = more.len();
            if zeros > 0 && !is_zeros(more) {
                return Err(damaged(
                    at,
                    "a block of zeros, which ends a tar, and then something else; members are \
                     missing there, or this is no tar",
                ));
            }
            zeros = zeros.saturating_sub(length as u64);
            self.consume(length);
            self.spend(length as u64)?;
        }
    }

    /// Returns the next bytes, at most `limit`; none at the end of the stream.
    fn next(&mut self, limit: u64) -> Result<&[u8], TreeError> {
        let at = self.at;
        loop {
            match self.inner.fill_buf() {
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error, at)),
            }
        }
        let bytes = self.inner.buffer();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(&bytes[..bytes.len().min(limit)])
    }

    fn consume(&mut self, length: usize) {
        self.inner.consume(length);
        self.at += length as u64;
    }

    fn spend(&mut self, bytes: u64) -> Result<(), TreeError> {
        self.overhead = self.overhead.saturating_add(bytes);
        if self.overhead <= OVERHEAD {
            return Ok(());
        }
        Err(TreeError::new(
            Why::Limit,
            format!(
                "tar: at byte {}: more than {OVERHEAD} bytes of headers, padding and members that \
                 are left out; that much is not read",
                self.at
            ),
        ))
    }
}

/// Makes the error for a stream that failed: what the stream itself says, if it can.
fn failed(error: io::Error, at: u64) -> TreeError {
    match error.downcast::<TreeError>() {
        Ok(error) => error,
        Err(error) => damaged(at, format!("the compressed stream is damaged: {error}")),
    }
}
