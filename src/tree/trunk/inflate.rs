//! The unpacking of one member of a zip: pure computing, and writing to the tree's file.

use std::fs::File;
use std::os::unix::fs::FileExt;

use flate2::{Decompress, FlushDecompress, Status};

use super::disk;
use crate::tree::error::{TreeError, Why};
use crate::tree::index::{Content, Packed};

/// How much is unpacked between two writes.
const BUFFER: usize = 256 << 10;

/// What unpacking needs, used for one member after another.
pub(super) struct Kit {
    inflate: Decompress,
    buffer: Box<[u8]>,
}

/// A member that is being unpacked.
pub(super) struct Unpacking {
    content: Content,
    expected: u32,
    crc: crc32fast::Hasher,
    /// Unpacked bytes so far.
    written: u64,
    ended: bool,
}

impl Kit {
    pub(super) fn new() -> Kit {
        Kit { inflate: Decompress::new(false), buffer: vec![0; BUFFER].into() }
    }
}

impl Unpacking {
    /// Begins a member; the kit is used for no other until its end.
    pub(super) fn new(kit: &mut Kit, content: Content) -> Unpacking {
        kit.inflate.reset(false);
        let expected = match content.packed {
            Packed::Stored { crc, .. } | Packed::Deflated { crc, .. } => crc,
            _ => 0,
        };
        Unpacking { content, expected, crc: crc32fast::Hasher::new(), written: 0, ended: false }
    }

    /// Returns how many bytes are unpacked.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Says whether the last byte has come.
    pub(super) fn ended(&self) -> bool {
        match self.content.packed {
            Packed::Deflated { .. } => self.ended,
            _ => self.written == self.content.size,
        }
    }

    /// Takes packed bytes and writes at most `most` unpacked ones; those of a stored member stay
    /// where they are, and are only checked. Returns how many packed bytes were taken. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// They are damaged, or more than they should be; what the disk said.
    pub(super) fn feed(
        &mut self,
        kit: &mut Kit,
        packed: &[u8],
        most: u64,
        file: &File,
    ) -> Result<usize, TreeError> {
        match self.content.packed {
            Packed::Deflated { .. } => self.inflate(kit, packed, most, file),
            _ => {
                self.crc.update(packed);
                self.written += packed.len() as u64;
                Ok(packed.len())
            }
        }
    }

    fn inflate(
        &mut self,
        Kit { inflate, buffer }: &mut Kit,
        packed: &[u8],
        most: u64,
        file: &File,
    ) -> Result<usize, TreeError> {
        let (mut taken, mut left) = (0, most);
        while !self.ended && left > 0 {
            let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let before = (inflate.total_in(), inflate.total_out());
            let status = inflate
                .decompress(&packed[taken..], &mut buffer[..room], FlushDecompress::None)
                .map_err(|e| damaged(format!("its deflate stream is damaged: {e}")))?;
            let read = (inflate.total_in() - before.0) as usize;
            let unpacked = (inflate.total_out() - before.1) as usize;
            taken += read;
            self.write(&buffer[..unpacked], file)?;
            left -= unpacked as u64;
            self.ended = status == Status::StreamEnd;
            if read == 0 && unpacked == 0 || taken == packed.len() && unpacked < room {
                break;
            }
        }
        Ok(taken)
    }

    fn write(&mut self, bytes: &[u8], file: &File) -> Result<(), TreeError> {
        let after = self.written + bytes.len() as u64;
        if after > self.content.size {
            let size = self.content.size;
            return Err(damaged(format!("it unpacks to more than the {size} bytes in the index")));
        }
        self.crc.update(bytes);
        file.write_all_at(bytes, self.content.at + self.written)
            .map_err(|e| disk("its unpacked bytes cannot be written", &e))?;
        self.written = after;
        Ok(())
    }

    /// Checks the whole, after its last byte.
    ///
    /// # Errors
    /// It is cut, or its checksum differs.
    pub(super) fn finish(self) -> Result<(), TreeError> {
        let (written, size) = (self.written, self.content.size);
        if !self.ended() || written != size {
            return Err(damaged(format!("it is cut: {written} of {size} bytes are there")));
        }
        let (found, expected) = (self.crc.finalize(), self.expected);
        if found != expected {
            return Err(damaged(format!(
                "its CRC-32 is {found:08x}, and should be {expected:08x}"
            )));
        }
        Ok(())
    }
}

pub(super) fn damaged(what: String) -> TreeError {
    TreeError::new(Why::Damaged, what)
}
