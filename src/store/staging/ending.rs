//! What becomes of a part: a blob, something to go on with later, or nothing.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::{fs, io};

use super::Staging;
use crate::store::part::{self, Part};
use crate::store::sidecar::Sidecar;
use crate::store::{Broken, Record, canopy, durable};

impl Staging {
    /// Writes down which bytes are present, so that the successor of a daemon that is killed can go
    /// on from here. Cheap: waits for no fsync, since within one boot the page cache holds what was
    /// written; a power cut takes it away.
    ///
    /// Does nothing for a part of unknown length, which is not kept, nor once it has ended.
    ///
    /// # Errors
    /// What the disk said, `InvalidInput` if `record` has another length than was announced; what
    /// was noted before is then still in place.
    pub fn note(&self, record: &Record) -> io::Result<()> {
        // Without a name for the boot nobody could tell that this is still the same.
        if self.announced.is_none() || self.site.boot.is_none() {
            return Ok(());
        }
        let (layout, id) = (&self.site.layout, self.blob.id());
        let _turn = self.site.turns.take(id);
        if self.settled.load(Ordering::Acquire) {
            return Ok(());
        }
        let note = Part { boot: self.site.boot.clone(), ..self.part(record)? }.encode()?;
        durable::replace_unsynced(&layout.part_meta(id), &layout.new_meta(id), &[&note])
    }

    /// Makes the part durable for [`Store::resume`](crate::store::Store::resume), by a later daemon
    /// too, and returns the bytes of disk it takes. Blocks on the disk.
    ///
    /// The caller fails the blob first with a reason of its own, and sees to it that no write is
    /// under way.
    ///
    /// # Errors
    /// What the disk said; `InvalidInput` for a part of unknown length, or one that has ended
    /// already. Unless it had, it is then removed.
    pub fn suspend(&self, record: &Record) -> io::Result<u64> {
        self.settle(|| {
            let (layout, id) = (&self.site.layout, self.blob.id());
            // What comes after this look is not written down, whether fsync finds it or not.
            let sidecar = self.part(record)?.encode()?;
            self.file.sync_all()?;
            durable::replace(&layout.part_meta(id), &layout.new_meta(id), &sidecar)?;
            durable::sync_dir(&layout.parts())?;
            self.fail();
            self.allocated_with(&layout.part_meta(id))
        })
    }

    /// Keeps a part that is never to be committed for as long as its blob lives;
    /// [`Store::remove`](crate::store::Store::remove) takes the file away. Returns the bytes of
    /// disk it takes. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said; `InvalidInput` for a part that has ended already. Unless it had, it is
    /// then removed.
    pub fn keep_private(&self) -> io::Result<u64> {
        self.settle(|| {
            // No successor is to go on with it.
            durable::remove(&self.site.layout.part_meta(self.blob.id()))?;
            self.blob.keep_open(self.readable.clone());
            Ok(self.allocated())
        })
    }

    /// Makes the blob durable and visible: fsync data, sidecar, renames, fsync of the directories.
    /// Returns the bytes of disk it takes. Blocks on the disk; readers do not wait for it.
    ///
    /// # Errors
    /// What the disk said; `InvalidInput` before [`end`](Staging::end) or for a part that has ended
    /// already, `InvalidData` if there are gaps, or the length differs from what was announced or
    /// recorded, or the digest from what was computed. Unless it had ended, the part is then removed
    /// and never retried.
    pub fn commit(&self, record: &Record) -> io::Result<u64> {
        self.settle(|| {
            let (layout, id) = (&self.site.layout, self.blob.id());
            let sidecar = self.checked(record)?.encode()?;
            self.file.sync_all()?;
            durable::write(&layout.new_meta(id), &sidecar)?;
            fs::rename(layout.part(id), layout.data(id))?;
            // From here on recovery finds the blob.
            fs::rename(layout.new_meta(id), layout.meta(id))?;
            discard(&layout.part_meta(id));
            durable::sync_dir(&layout.blobs())?;
            durable::sync_dir(&layout.parts())?;
            let usage = self.allocated_with(&layout.meta(id))?;
            self.blob.set_committed(record.length);
            Ok(usage)
        })
    }

    /// Ends the part in one way, the first time only. Where that fails nothing is left of it.
    fn settle<T>(&self, way: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let _turn = self.site.turns.take(self.blob.id());
        if self.settled.swap(true, Ordering::AcqRel) {
            return Err(self.error(
                io::ErrorKind::InvalidInput,
                format_args!("what becomes of it was decided before"),
            ));
        }
        way().inspect_err(|_| self.abandon())
    }

    /// Returns the sidecar to commit with, and refuses what must not be committed.
    fn checked(&self, record: &Record) -> io::Result<Sidecar> {
        use io::ErrorKind::{InvalidData, InvalidInput};
        if !self.intake.ended() {
            return Err(self.error(InvalidInput, format_args!("its end was not reached")));
        }
        if let Some(reason) = self.blob.broken() {
            return Err(self.error(InvalidData, format_args!("it has failed: {reason}")));
        }
        let expected = self.announced.unwrap_or(record.length);
        let written = self.written();
        if written != expected || written != record.length || written != self.blob.prefix() {
            return Err(self.error(InvalidData, format_args!("{written} bytes came of {expected}")));
        }
        let mut prefix = self.follower.lend();
        prefix.read(&self.readable, written)?;
        if record.digest.is_some() && record.digest != prefix.digest() {
            return Err(self.error(
                InvalidData,
                format_args!("its digest is not the one it is recorded with"),
            ));
        }
        let crc32c = prefix.checksums();
        Ok(Sidecar::whole(self.blob.id(), self.site.epoch, record.clone(), crc32c))
    }

    /// Returns what a later daemon goes on from, as of now.
    fn part(&self, record: &Record) -> io::Result<Part> {
        if self.announced != Some(record.length) {
            return Err(self.error(
                io::ErrorKind::InvalidInput,
                format_args!("a part is kept with the length announced for it"),
            ));
        }
        Ok(Part {
            id: self.blob.id(),
            epoch: self.site.epoch,
            boot: None,
            record: record.clone(),
            present: part::pairs(&self.blob.present_ranges()),
        })
    }

    fn allocated_with(&self, sidecar: &Path) -> io::Result<u64> {
        let sidecar = fs::symlink_metadata(sidecar)?;
        Ok(durable::allocated(&self.file.metadata()?) + durable::allocated(&sidecar))
    }

    fn fail(&self) {
        self.blob.fail(Broken {
            message: "the download was given up".to_owned(),
            errno: libc::EIO,
            tainted: false,
            superseded: false,
        });
    }

    /// Fails the blob and removes its files.
    fn abandon(&self) {
        self.fail();
        // A commit that failed may have got as far as the final names; the sidecar goes first, so
        // that a blob is never visible without its data.
        let (layout, id) = (&self.site.layout, self.blob.id());
        discard(&layout.meta(id));
        discard(&layout.data(id));
        discard(&layout.new_meta(id));
        discard(&layout.part_meta(id));
        discard(&layout.part(id));
        if let Err(e) = canopy::remove(layout, id) {
            tracing::warn!(blob = %id, "the tree of a failed download cannot be removed: {e}; the next start tries again");
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _turn = self.site.turns.take(self.blob.id());
        if !self.settled.load(Ordering::Acquire) {
            self.abandon();
        }
    }
}

/// Removes a file of a download that came to nothing.
pub(super) fn discard(path: &Path) {
    if let Err(e) = durable::remove(path) {
        tracing::warn!(path = %path.display(), "the file of a failed download cannot be removed: {e}; the next start tries again");
    }
}
