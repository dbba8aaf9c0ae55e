//! Private files that become blobs.

mod ending;
mod intake;
mod resume;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use self::intake::Intake;
use super::follower::Follower;
use super::ranges::RangeSet;
use super::site::Site;
use super::{Blob, durable};
use crate::digest::{Algorithm, Digest};
use crate::sys;
use crate::types::BlobId;

/// How many chunks go into one system call; below `IOV_MAX`, and small enough for the stack.
const SLICES: usize = 64;

/// How many bytes one write reads back at most, so that closing a gap before much that is present
/// does not keep a connection waiting. The end reads the rest.
const CATCH_UP: u64 = 8 << 20;

/// Whether the space of an announced length is taken at the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// All of it with the first write, so that a full disk is known early.
    Whole,
    /// What is written, when it is written.
    Sparse,
}

/// A download on its way to disk, which several connections may fill at once.
///
/// It ends once: committed, suspended or kept private. Dropping it before that removes the part and
/// fails its blob; that blocks on the disk. A process that dies leaves the data and what was
/// [noted](Staging::note).
pub struct Staging {
    site: Arc<Site>,
    blob: Arc<Blob>,
    file: File,
    /// What the blob hands out until the data lie at their final place.
    readable: Arc<File>,
    announced: Option<u64>,
    /// Whether an announced length is still to be allocated.
    unallocated: AtomicBool,
    intake: Intake,
    follower: Follower,
    /// What becomes of the files is decided. Changes only in a turn at this blob.
    settled: AtomicBool,
}

impl Staging {
    /// Makes the part of a download. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said; nothing is then left behind.
    pub(super) fn new(
        site: &Arc<Site>,
        id: BlobId,
        length: Option<u64>,
        room: Allocation,
    ) -> io::Result<Staging> {
        let path = site.layout.part(id);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let readable = File::open(&path).inspect_err(|_| ending::discard(&path))?;
        Ok(Staging::over(site, id, length, room, (file, readable), RangeSet::default()))
    }

    /// Makes the staging of a file, opened for writing and for reading, that holds some bytes.
    fn over(
        site: &Arc<Site>,
        id: BlobId,
        length: Option<u64>,
        room: Allocation,
        (file, readable): (File, File),
        present: RangeSet,
    ) -> Staging {
        let readable = Arc::new(readable);
        let blob = Blob::filling(id, site.layout.clone(), length, present.clone(), &readable);
        Staging {
            site: site.clone(),
            blob: Arc::new(blob),
            file,
            readable,
            announced: length,
            unallocated: AtomicBool::new(room == Allocation::Whole),
            intake: Intake::new(present),
            follower: Follower::new(),
            settled: AtomicBool::new(false),
        }
    }

    /// Returns the blob with gaps that readers wait on.
    pub fn blob(&self) -> Arc<Blob> {
        self.blob.clone()
    }

    /// Asks for a digest of the whole body; call before the first write, also where a part was
    /// resumed. Once bytes went by it does nothing, and [`end`](Staging::end) returns none.
    ///
    /// Once every byte is there, reads of the blob then wait until [`end`](Staging::end) is called, so
    /// that nobody has read all of it before the digest was compared.
    #[expect(clippy::should_implement_trait, reason = "it asks for a digest, which is no `Hash`")]
    pub fn hash(&self, algorithm: Algorithm) {
        if !self.intake.ended() {
            self.follower.lend().hash(algorithm);
            self.blob.doubt();
        }
    }

    /// Writes chunks one after another from byte `at` on, in any order and from several threads at
    /// once, wakes the readers they were for, and keeps checksums and digest of the bytes present
    /// from the beginning on. Blocks on the disk.
    ///
    /// Callers write ranges that do not overlap. Where they do all the same, the first to come
    /// wins: bytes that are present, or being written by somebody else, are left out.
    ///
    /// With [`Allocation::Whole`] the first call also allocates the space of an announced length.
    ///
    /// # Errors
    /// What the disk said, `ENOSPC` among it; `InvalidData` for bytes past the announced length, and
    /// `InvalidInput` after the end. What was not written is then missing as before; if it was the
    /// allocation that failed, or reading back what others wrote, all is there.
    pub fn write(&self, at: u64, chunks: &[Bytes]) -> io::Result<()> {
        let new = self.claim(at, chunks)?;
        for (index, range) in new.iter().enumerate() {
            let chunks = part_of(at, chunks, range);
            write_all(&self.file, range.start, &chunks)
                .inspect_err(|_| self.intake.give_back(&new[index..]))?;
            self.blob.fill(range.clone());
            self.follow(range.start, &chunks)?;
        }
        // After the readers of the first bytes were woken: this takes a while for large files.
        if !new.is_empty() && self.unallocated.swap(false, Ordering::Relaxed) {
            allocate(&self.file, self.announced)?;
        }
        Ok(())
    }

    /// Returns the bytes of disk that the part takes now. Blocks on the disk.
    pub fn allocated(&self) -> u64 {
        // A file that cannot be asked has at least what was written.
        self.file.metadata().map_or_else(|_| self.written(), |found| durable::allocated(&found))
    }

    /// Returns how many bytes are present.
    pub fn written(&self) -> u64 {
        self.blob.filled()
    }

    /// Says that no more will come, and that it is what it should be: sets the length, so that readers
    /// at the end of a body of unknown length return, lets those go on that waited for a comparison,
    /// and returns the digest as [`digest`](Staging::digest) does. May block on the disk.
    ///
    /// A length that was announced stays, whether it was reached or not.
    pub fn end(&self) -> Option<Digest> {
        let digest = self.digest();
        if let Some(end) = self.intake.end()
            && self.announced.is_none()
        {
            self.blob.set_length(end);
        }
        self.blob.trust();
        digest
    }

    /// Returns the digest asked for, of what was written so far, and ends the hashing: so that it
    /// can be compared before readers are told that this is the end. Reads back what was not
    /// followed yet, which blocks on the disk.
    ///
    /// `None` also where there are gaps, or bytes that cannot be read back: a commit then says so.
    pub fn digest(&self) -> Option<Digest> {
        let mut prefix = self.follower.lend();
        let reached = self.blob.prefix();
        if reached < self.written() {
            return None;
        }
        match prefix.read(&self.readable, reached) {
            Ok(()) => prefix.digest(),
            Err(e) => {
                tracing::warn!(blob = %self.blob.id(), "what was downloaded cannot be read back: {e}");
                None
            }
        }
    }

    /// Takes on the bytes of a write, and returns the ranges that are new.
    fn claim(&self, at: u64, chunks: &[Bytes]) -> io::Result<Vec<Range<u64>>> {
        let to = chunks
            .iter()
            .try_fold(at, |sum, chunk| sum.checked_add(chunk.len() as u64))
            .filter(|to| self.announced.is_none_or(|length| *to <= length))
            .ok_or_else(|| {
                let length = self.announced.unwrap_or(u64::MAX);
                self.error(
                    io::ErrorKind::InvalidData,
                    format_args!("more came than the {length} bytes announced"),
                )
            })?;
        let settled = self.settled.load(Ordering::Acquire);
        self.intake.claim(at..to).filter(|_| !settled).ok_or_else(|| {
            self.error(io::ErrorKind::InvalidInput, format_args!("bytes came after its end"))
        })
    }

    /// Takes bytes that were just written into checksums and digest, if nobody else is at it: from
    /// memory if they go on where those end. Others that come to lie behind it are read back.
    fn follow(&self, at: u64, chunks: &[Bytes]) -> io::Result<()> {
        let present = self.blob.prefix();
        let Some(mut prefix) = self.follower.try_lend(present) else {
            return Ok(());
        };
        let most = prefix.reached().saturating_add(CATCH_UP);
        prefix.read(&self.readable, at.min(present).min(most))?;
        prefix.follow(at, chunks);
        let most = prefix.reached().saturating_add(CATCH_UP);
        prefix.read(&self.readable, present.min(most))
    }

    fn error(&self, kind: io::ErrorKind, why: fmt::Arguments<'_>) -> io::Error {
        io::Error::new(kind, format!("blob {}: {why}", self.blob.id()))
    }
}

/// Allocates space for a file of known length, where the filesystem can.
fn allocate(file: &File, length: Option<u64>) -> io::Result<()> {
    let Some(length) = length.filter(|length| *length > 0) else {
        return Ok(());
    };
    match sys::fallocate(file, length) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => Ok(()),
        done => done,
    }
}

/// Returns those bytes of chunks that begin at byte `at` which lie in `range`; copies none.
fn part_of(at: u64, chunks: &[Bytes], range: &Range<u64>) -> Vec<Bytes> {
    let mut start = at;
    let mut found = Vec::new();
    for chunk in chunks {
        let end = start + chunk.len() as u64;
        let (from, to) = (range.start.max(start), range.end.min(end));
        if from < to {
            // Both fit, being no more than the length of the chunk.
            found.push(chunk.slice((from - start) as usize..(to - start) as usize));
        }
        start = end;
    }
    found
}

/// Writes chunks one after another from byte `at` on.
fn write_all(file: &File, mut at: u64, chunks: &[Bytes]) -> io::Result<()> {
    for chunks in chunks.chunks(SLICES) {
        let mut slices = [IoSlice::new(&[]); SLICES];
        for (slice, chunk) in slices.iter_mut().zip(chunks) {
            *slice = IoSlice::new(chunk);
        }
        let mut left = &mut slices[..chunks.len()];
        // Skips empty slices, so that a write of nothing is not taken for a full disk.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let written = sys::pwritev(file, left, at)?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            at += written as u64;
            IoSlice::advance_slices(&mut left, written);
        }
    }
    Ok(())
}
