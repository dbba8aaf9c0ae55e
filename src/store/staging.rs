//! Private files that become blobs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::mem;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use super::checksum::Checksums;
use super::layout::Layout;
use super::sidecar::Sidecar;
use super::{Blob, Broken, Record, durable};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::sys;
use crate::types::BlobId;

/// How many chunks go into one system call; below `IOV_MAX`, and small enough for the stack.
const SLICES: usize = 64;

/// A download on its way to disk. Dropping it uncommitted removes the part and fails its blob; that
/// blocks on the disk.
pub struct Staging {
    layout: Arc<Layout>,
    epoch: u64,
    blob: Arc<Blob>,
    file: File,
    /// What the blob hands out until the data lie at their final place.
    readable: Arc<File>,
    announced: Option<u64>,
    written: u64,
    sums: Checksums,
    hasher: Option<Hasher>,
    digest: Option<Digest>,
    ended: bool,
    /// The files stay when this is dropped.
    committed: bool,
}

impl Staging {
    /// Makes the part of a download. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said; nothing is then left behind.
    pub(super) fn new(
        layout: &Arc<Layout>,
        epoch: u64,
        id: BlobId,
        length: Option<u64>,
    ) -> io::Result<Staging> {
        let path = layout.part(id);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let readable = File::open(&path).inspect_err(|_| discard(&layout.part(id)));
        let readable = Arc::new(readable?);
        Ok(Staging {
            layout: layout.clone(),
            epoch,
            blob: Arc::new(Blob::filling(id, layout.clone(), length, &readable)),
            file,
            readable,
            announced: length,
            written: 0,
            sums: Checksums::default(),
            hasher: None,
            digest: None,
            ended: false,
            committed: false,
        })
    }

    /// Returns the blob with gaps that readers wait on.
    pub fn blob(&self) -> Arc<Blob> {
        self.blob.clone()
    }

    /// Hashes what is written from here on; call before the first write. After it a hash could not
    /// cover the whole body: then this does nothing, and [`end`](Staging::end) returns none.
    pub fn hash(&mut self, algorithm: Algorithm) {
        if self.written == 0 && !self.ended {
            self.hasher = Some(Hasher::new(algorithm));
        }
    }

    /// Appends bytes, keeps the checksum per MiB, and wakes the readers they were for. Blocks on
    /// the disk.
    ///
    /// The first call also allocates the space of an announced length, so that a full disk is known
    /// at the beginning.
    ///
    /// # Errors
    /// What write(2) said, `ENOSPC` among it; `InvalidData` for more bytes than were announced, and
    /// `InvalidInput` after [`end`](Staging::end). None of the bytes counts
    /// then, unless it was the allocation that failed.
    pub fn append(&mut self, chunks: &[bytes::Bytes]) -> io::Result<()> {
        let from = self.written;
        let to = chunks
            .iter()
            .try_fold(from, |sum, chunk| sum.checked_add(chunk.len() as u64))
            .filter(|to| self.announced.is_none_or(|length| *to <= length))
            .ok_or_else(|| {
                let length = self.announced.unwrap_or(u64::MAX);
                self.error(
                    io::ErrorKind::InvalidData,
                    format_args!("more came than the {length} bytes announced"),
                )
            })?;
        if self.ended {
            return Err(
                self.error(io::ErrorKind::InvalidInput, format_args!("bytes came after its end"))
            );
        }
        let mut at = from;
        for some in chunks.chunks(SLICES) {
            at = write_at(&self.file, some, at)?;
        }
        for chunk in chunks {
            self.sums.update(chunk);
            if let Some(hasher) = &mut self.hasher {
                hasher.update(chunk);
            }
        }
        self.written = to;
        self.blob.fill(from..to);
        if from == 0 {
            // After the readers of the first bytes were woken: this takes a while for large files.
            allocate(&self.file, self.announced)?;
        }
        Ok(())
    }

    /// Returns the bytes of disk that the part takes now. Blocks on the disk.
    pub fn allocated(&self) -> u64 {
        // A file that cannot be asked has at least what was written.
        self.file.metadata().map_or(self.written, |found| durable::allocated(&found))
    }

    /// Returns how many bytes were written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Says that no more will come: sets the length, so that readers at the end of a body of
    /// unknown length return, and returns the digest asked for.
    ///
    /// A length that was announced stays, whether it was reached or not.
    pub fn end(&mut self) -> Option<Digest> {
        if !self.ended {
            self.ended = true;
            self.digest();
            if self.announced.is_none() {
                self.blob.set_length(self.written);
            }
        }
        self.digest.clone()
    }

    /// Returns the digest asked for, of what was written so far, and ends the hashing: so that it
    /// can be compared before readers are told that this is the end.
    pub fn digest(&mut self) -> Option<Digest> {
        if let Some(hasher) = self.hasher.take() {
            self.digest = Some(hasher.finish());
        }
        self.digest.clone()
    }

    /// Keeps a part that is never to be committed for as long as its blob lives;
    /// [`Store::remove`](super::Store::remove) takes the file away. Returns the bytes of disk it
    /// takes. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said; the part is then removed.
    pub fn keep_private(mut self) -> io::Result<u64> {
        let usage = self.allocated();
        self.blob.keep_open(self.readable.clone());
        self.committed = true;
        Ok(usage)
    }

    /// Makes the blob durable and visible: fsync data, sidecar, renames, fsync of the directories.
    /// Returns the bytes of disk it takes. Blocks on the disk; readers do not wait for it.
    ///
    /// # Errors
    /// What the disk said; `InvalidInput` before [`end`](Staging::end), `InvalidData` if the length
    /// differs from what was announced or recorded, or the digest from what was computed. The part
    /// is then removed and never retried.
    pub fn commit(mut self, record: &Record) -> io::Result<u64> {
        self.check(record)?;
        let id = self.blob.id();
        let crc32c = mem::take(&mut self.sums).finish();
        let sidecar = Sidecar::whole(id, self.epoch, record.clone(), crc32c).encode()?;
        self.file.sync_all()?;
        durable::write(&self.layout.part_meta(id), &sidecar)?;
        fs::rename(self.layout.part(id), self.layout.data(id))?;
        // From here on recovery finds the blob.
        fs::rename(self.layout.part_meta(id), self.layout.meta(id))?;
        durable::sync_dir(&self.layout.blobs())?;
        durable::sync_dir(&self.layout.parts())?;
        let usage = durable::allocated(&self.file.metadata()?)
            + durable::allocated(&fs::symlink_metadata(self.layout.meta(id))?);
        self.blob.set_committed(self.written);
        self.committed = true;
        Ok(usage)
    }

    /// Refuses what must not be committed.
    fn check(&self, record: &Record) -> io::Result<()> {
        use io::ErrorKind::{InvalidData, InvalidInput};
        let Staging { written, announced, .. } = self;
        if !self.ended {
            return Err(self.error(InvalidInput, format_args!("its end was not reached")));
        }
        if let Some(reason) = self.blob.broken() {
            return Err(self.error(InvalidData, format_args!("it has failed: {reason}")));
        }
        let expected = announced.unwrap_or(record.length);
        if *written != expected || *written != record.length {
            return Err(self.error(InvalidData, format_args!("{written} bytes came of {expected}")));
        }
        if record.digest.is_some() && record.digest != self.digest {
            return Err(self.error(
                InvalidData,
                format_args!("its digest is not the one it is recorded with"),
            ));
        }
        Ok(())
    }

    fn error(&self, kind: io::ErrorKind, why: std::fmt::Arguments<'_>) -> io::Error {
        io::Error::new(kind, format!("blob {}: {why}", self.blob.id()))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.committed {
            return;
        }
        self.blob.fail(Broken {
            message: "the download was given up".to_owned(),
            errno: libc::EIO,
            tainted: false,
        });
        // A commit that failed may have got as far as the final names; the sidecar goes first, so
        // that a blob is never visible without its data.
        let id = self.blob.id();
        discard(&self.layout.meta(id));
        discard(&self.layout.data(id));
        discard(&self.layout.part_meta(id));
        discard(&self.layout.part(id));
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

/// Writes chunks one after another, and returns where they end.
fn write_at(file: &File, chunks: &[bytes::Bytes], mut at: u64) -> io::Result<u64> {
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
    Ok(at)
}

/// Removes a file of a download that came to nothing.
fn discard(path: &std::path::Path) {
    if let Err(e) = durable::remove(path) {
        tracing::warn!(path = %path.display(), "the file of a failed download cannot be removed: {e}; the next start tries again");
    }
}
