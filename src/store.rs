//! The only room that knows the disk layout.
//!
//! ```text
//! <store>/v1/blobs/<id>        the bytes of a committed blob
//! <store>/v1/blobs/<id>.meta   its sidecar: what it is, and checksums of every MiB
//! <store>/v1/parts/<id>        the bytes of a download that is not finished
//! <store>/v1/parts/<id>.meta   which of them are present, where a later daemon may go on with it
//! <store>/v1/trees/<id>         what was unpacked of an archive, in one sparse file
//! <store>/v1/trees/<id>.index   what lies in it
//! <store>/v1/trees/<id>.filled  which of it is unpacked: a byte for each content
//! <store>/v1/state             ids used up, and whether the data can be trusted
//! <store>/v1/lock              one daemon per store; holds its pid
//! ```
//!
//! A blob is committed by the rename of its sidecar, after its data and the sidecar itself were
//! fsynced. What lies in the store without an intact sidecar that fits its data is removed at the
//! next start. An unfinished part survives the death of the daemon with what was noted of it, and the
//! end of the boot only where it was suspended, which fsyncs it; its bytes cannot be told from holes
//! otherwise. Trees hold for one boot, and never without their archive. There is no database: a
//! directory of some hundred large files needs none.

mod blob;
mod canopy;
mod checksum;
mod durable;
mod follower;
mod layout;
mod lock;
mod open;
mod part;
mod ranges;
mod recover;
mod sealed;
mod sidecar;
mod site;
mod staging;
mod state;
mod turns;
mod verify;
mod waiters;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;
use std::{fs, io};

pub use blob::{Blob, Broken, WaitError};
pub use canopy::Canopy;
pub use sidecar::{Record, Trust};
pub use staging::{Allocation, Staging};

use self::canopy::Grove;
use self::layout::{ID_LIMIT, Layout};
use self::lock::Lock;
use self::part::Part;
use self::recover::{Intact, Survey};
use self::sidecar::Sidecar;
use self::site::Site;
use self::state::State;
use self::turns::Turns;
use crate::sys;
use crate::types::BlobId;

/// How many ids are reserved on disk at a time. Those that a daemon does not use are skipped.
const RESERVE: u64 = 1 << 16;

/// The turn at the state file; no blob has this id.
const STATE: BlobId = BlobId(0);

/// Why the store cannot be used; the text names the path and says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

/// A directory of blobs, held by one daemon.
pub struct Store {
    site: Arc<Site>,
    /// The next id to give out.
    next: AtomicU64,
    /// No id from here on reaches the disk before the state file says that it may be used.
    reserved: AtomicU64,
    _lock: Lock,
}

/// What recovery found.
pub struct Recovered {
    /// Every committed blob, in the order of the ids.
    pub blobs: Vec<Found>,
    /// Every part that [`Store::resume`] can go on with, in the order of the ids.
    pub unfinished: Vec<Unfinished>,
    /// How many files in the place of blobs and trees did not match and were removed.
    pub dropped: usize,
    /// How many files of downloads that cannot go on were removed.
    pub parts: usize,
}

/// A blob that recovery found.
pub struct Found {
    /// The blob.
    pub blob: Arc<Blob>,
    /// What its sidecar says.
    pub record: Record,
    /// The bytes of disk it takes (data, sidecar and tree, allocated blocks).
    pub usage: u64,
    /// How many of them the tree takes.
    pub tree: u64,
    /// When it was used last, as far as [`Blob::note_use`] was told.
    pub used_at: SystemTime,
    /// Whether its data need [`Store::verify`] before they are served.
    pub trust: Trust,
}

/// A part that recovery found.
pub struct Unfinished {
    /// Its number; who goes on with it gives it another.
    pub id: BlobId,
    /// What its sidecar says; the length is the announced one.
    pub record: Record,
    /// What is present of it: each range as its first byte and the one after its last, in order.
    pub present: Vec<(u64, u64)>,
    /// The bytes of disk it takes (data, sidecar and tree, allocated blocks).
    pub usage: u64,
    /// How many of them the tree takes.
    pub tree: u64,
}

impl Store {
    /// Opens or makes a store and takes its lock. Blocks on the disk.
    ///
    /// Lists the sidecars, drops what does not match and every part that cannot go on. Reads no data. Makes the directory itself, but not its parent.
    ///
    /// # Errors
    /// Not writable, not a directory, of another format, or held by another daemon (named by pid).
    pub fn open(dir: &Path) -> Result<(Store, Recovered), StoreError> {
        // The working directory may change, the store must not.
        let dir = std::path::absolute(dir).map_err(|e| open::unusable(dir, &e))?;
        let layout = Arc::new(Layout::new(&dir));
        let (lock, new) = open::prepare(&dir, &layout)?;
        let mut survey = recover::survey(&layout).map_err(|e| open::unusable(layout.root(), &e))?;
        let boot = state::boot_id();
        let state = last_state(&layout, &survey, new).take_over(boot.clone());
        let site = Site { layout, turns: Turns::default(), boot, epoch: state.epoch };
        survey.keep_trusted(&site);
        let grove = Grove::survey(&site, |id| survey.knows(id))
            .map_err(|e| open::unusable(&site.layout.trees(), &e))?;
        let store = Store {
            site: Arc::new(site),
            next: AtomicU64::new(state.next_id),
            reserved: AtomicU64::new(state.next_id),
            _lock: lock,
        };
        match store.reserve() {
            // What is here can be served from a full disk, and eviction may make room.
            Err(e) if e.kind() == io::ErrorKind::StorageFull => tracing::warn!(
                path = %store.site.layout.root().display(),
                "the disk is full; nothing can be downloaded until there is room"
            ),
            reserved => reserved.map_err(|e| open::unusable(&store.site.layout.state(), &e))?,
        }
        let recovered = store.recovered(survey, &grove);
        Ok((store, recovered))
    }

    /// Returns a number never used before in this store, also by an earlier daemon. Does not touch
    /// the disk.
    pub fn allocate(&self) -> BlobId {
        BlobId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes the private file of a download. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said; `ENOSPC` is passed on.
    pub fn stage(&self, id: BlobId, length: Option<u64>, room: Allocation) -> io::Result<Staging> {
        self.use_id(id)?;
        Staging::new(&self.site, id, length, room)
    }

    /// Takes over an unfinished part under the new number `id`, and returns it with what is known of
    /// it. Whoever has the old file open reads on: it is the same. Blocks on the disk.
    ///
    /// No [`Staging`] of the old part is alive any more.
    ///
    /// # Errors
    /// `ENOENT` where there is no such part, `InvalidData` where it is damaged or belongs to a boot
    /// that may have lost bytes of it, else what the disk said. Nothing is then left of it.
    pub fn resume(
        &self,
        id: BlobId,
        from: BlobId,
        room: Allocation,
    ) -> io::Result<(Staging, Record)> {
        self.use_id(id)?;
        Staging::resume(&self.site, id, from, room)
    }

    /// Returns the files of the tree that an archive is shown as; makes none. Does not touch the disk.
    pub fn canopy(&self, id: BlobId) -> Canopy {
        Canopy::new(&self.site, id)
    }

    /// Unlinks a committed blob or an unfinished part, with its sidecar and its tree. Blocks on the
    /// disk.
    ///
    /// Those who hold a file open read on. A [`Staging`] that is alive is dropped instead.
    ///
    /// # Errors
    /// What the disk said; a file that is gone already is none.
    pub fn remove(&self, id: BlobId) -> io::Result<()> {
        let _turn = self.site.turns.take(id);
        // The sidecar first: data without one are rubbish, a sidecar without data is a lie.
        durable::remove(&self.site.layout.meta(id))?;
        durable::remove(&self.site.layout.data(id))?;
        durable::remove(&self.site.layout.new_meta(id))?;
        durable::remove(&self.site.layout.part_meta(id))?;
        durable::remove(&self.site.layout.part(id))?;
        canopy::remove(&self.site.layout, id)
    }

    /// Rewrites the sidecar of a committed blob (new validators after a 304, a digest that was
    /// verified). Blocks on the disk. After a power cut the old or the new one is there.
    ///
    /// # Errors
    /// What the disk said, `ENOENT` for a blob that was removed; `InvalidInput` for another length.
    /// The old sidecar is then still in place.
    pub fn update(&self, blob: &Blob, record: &Record) -> io::Result<()> {
        self.rewrite(blob.id(), |sidecar| {
            let (old, new) = (sidecar.record.length, record.length);
            if old != new {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("blob {} has {old} bytes, not {new}", blob.id()),
                ));
            }
            sidecar.record = record.clone();
            Ok(())
        })
    }

    /// Reads the data of a committed blob and returns whether they match their checksums and the
    /// digest in `record`, if there is one. Blocks on the disk for as long as reading all takes.
    ///
    /// A blob that matches is trusted from then on, also by later daemons.
    ///
    /// # Errors
    /// What the disk said, in which case nothing is known of the blob. Files that are missing,
    /// damaged or of the wrong length give `false`, with the reason in the log.
    pub fn verify(&self, blob: &Blob, record: &Record) -> io::Result<bool> {
        let id = blob.id();
        let sidecar = match verify::verify(&self.site.layout, id, record.digest.as_ref())? {
            Ok(sidecar) if sidecar.record.length == record.length => sidecar,
            Ok(_) => return Ok(false),
            Err(why) => {
                tracing::warn!(blob = %id, "a blob in the store is damaged: {why}");
                return Ok(false);
            }
        };
        if sidecar.trust(self.site.epoch) == Trust::Unverified
            && let Err(e) = self.note_verified(id)
        {
            tracing::warn!(blob = %id, "cannot note that a blob was verified, it will be verified again: {e}");
        }
        Ok(true)
    }

    /// Says whether two committed blobs hold the same bytes, by their lengths and checksums. Reads
    /// no data. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said, `NotFound` where one is gone.
    pub fn alike(&self, one: BlobId, other: BlobId) -> io::Result<bool> {
        let read = |id| Sidecar::read(id, &self.site.layout.meta(id));
        let (one, other) = (read(one)?, read(other)?);
        Ok(one.record.length == other.record.length && one.crc32c == other.crc32c)
    }

    /// Returns the allocated bytes of a committed blob or an unfinished part, sidecar and tree
    /// included. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said, `ENOENT` where there is neither.
    pub fn usage(&self, id: BlobId) -> io::Result<u64> {
        let layout = &self.site.layout;
        let of = |data: &Path, meta: &Path| -> io::Result<u64> {
            let (data, meta) = (fs::symlink_metadata(data)?, fs::symlink_metadata(meta)?);
            Ok(durable::allocated(&data) + durable::allocated(&meta))
        };
        let archive = match of(&layout.data(id), &layout.meta(id)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                of(&layout.part(id), &layout.part_meta(id))
            }
            found => found,
        };
        Ok(archive? + canopy::usage(layout, id)?)
    }

    /// Returns the allocated bytes of every file under `blobs/`, `parts/` and `trees/`, whether it is
    /// accounted for or not. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said.
    pub fn resident(&self) -> io::Result<u64> {
        let mut sum = 0;
        let layout = &self.site.layout;
        for dir in [layout.blobs(), layout.parts(), layout.trees()] {
            for entry in fs::read_dir(dir)? {
                match entry?.metadata() {
                    Ok(meta) => sum += durable::allocated(&meta),
                    // Removed since it was listed.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(sum)
    }

    /// Returns (bytes free for us, bytes in all) of the filesystem below. May block on the disk.
    ///
    /// # Errors
    /// What statvfs said.
    pub fn disk(&self) -> io::Result<(u64, u64)> {
        let space = sys::statvfs(self.site.layout.root())?;
        Ok((space.free, space.total))
    }

    /// Returns where other rooms may keep small files of theirs. Does not touch the disk.
    pub fn state_dir(&self) -> &Path {
        self.site.layout.root()
    }

    /// Makes an empty file beside the blobs that has no name any more. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said.
    pub fn scratch(&self) -> io::Result<fs::File> {
        let path = self.site.layout.parts().join("scratch");
        let open =
            fs::File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let file = open?;
        fs::remove_file(&path)?;
        Ok(file)
    }

    /// Marks the store as cleanly stopped, so that the next start trusts it. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said.
    pub fn close(&self) -> io::Result<()> {
        let _turn = self.site.turns.take(STATE);
        // Not the next id exactly: an id may be given out even now.
        let next = self.next.load(Ordering::Relaxed);
        self.write_state(true, next.max(self.reserved.load(Ordering::Acquire)))?;
        // Whoever stages all the same has to take the mark away first.
        self.reserved.store(0, Ordering::Release);
        Ok(())
    }

    /// Lets an id reach the disk, once the state file says that it may be used.
    fn use_id(&self, id: BlobId) -> io::Result<()> {
        let reserved = self.reserved.load(Ordering::Acquire);
        if id.0.saturating_add(RESERVE / 2) < reserved {
            return Ok(());
        }
        // There is no hurry as long as the id itself lies below.
        self.reserve().or_else(|e| if id.0 < reserved { Ok(()) } else { Err(e) })
    }

    /// Reserves more ids on disk, unless somebody else has just done it.
    fn reserve(&self) -> io::Result<()> {
        let _turn = self.site.turns.take(STATE);
        let next = self.next.load(Ordering::Relaxed);
        if next.saturating_add(RESERVE / 2) < self.reserved.load(Ordering::Acquire) {
            return Ok(());
        }
        let reserved = next.saturating_add(RESERVE);
        if reserved > ID_LIMIT {
            return Err(io::Error::other("the numbers for its blobs are used up"));
        }
        self.write_state(false, reserved)?;
        self.reserved.store(reserved, Ordering::Release);
        Ok(())
    }

    fn write_state(&self, clean: bool, next_id: u64) -> io::Result<()> {
        let state = State { boot: self.site.boot.clone(), clean, epoch: self.site.epoch, next_id };
        state.write(&self.site.layout)
    }

    /// Writes down that the data of a blob were good in this epoch.
    fn note_verified(&self, id: BlobId) -> io::Result<()> {
        // An epoch that is not on disk yet could be counted up to again after a power cut.
        self.reserve()?;
        self.rewrite(id, |sidecar| {
            sidecar.epoch = self.site.epoch;
            Ok(())
        })
    }

    fn rewrite(
        &self,
        id: BlobId,
        change: impl FnOnce(&mut Sidecar) -> io::Result<()>,
    ) -> io::Result<()> {
        let _turn = self.site.turns.take(id);
        let (path, temporary) = (self.site.layout.meta(id), self.site.layout.new_meta(id));
        let mut sidecar = Sidecar::read(id, &path)?;
        change(&mut sidecar)?;
        durable::replace(&path, &temporary, &sidecar.encode()?)
    }

    fn recovered(&self, survey: Survey, grove: &Grove) -> Recovered {
        let found = |(id, Intact { sidecar, usage, used_at }): (BlobId, Intact)| Found {
            trust: sidecar.trust(self.site.epoch),
            blob: Arc::new(Blob::whole(id, self.site.layout.clone(), sidecar.record.length)),
            record: sidecar.record,
            usage: usage + grove.usage(id),
            tree: grove.usage(id),
            used_at,
        };
        let unfinished = |(id, (part, usage)): (BlobId, (Part, u64))| Unfinished {
            id,
            present: part.present,
            record: part.record,
            usage: usage + grove.usage(id),
            tree: grove.usage(id),
        };
        Recovered {
            blobs: survey.blobs.into_iter().map(found).collect(),
            unfinished: survey.unfinished.into_iter().map(unfinished).collect(),
            dropped: survey.dropped + grove.dropped,
            parts: survey.parts,
        }
    }
}

/// Returns the state the last daemon left, or one that is safe if it is lost or older than what
/// lies in the store.
fn last_state(layout: &Layout, survey: &Survey, new: bool) -> State {
    let (id, epoch) = survey.highest();
    match State::read(&layout.state()) {
        Some(state) if id < state.next_id && epoch <= state.epoch => state,
        None if new => State::fresh(),
        _ => State::lost(id, epoch),
    }
}
