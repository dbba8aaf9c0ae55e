//! The bytes of a version on disk, whole or still with gaps.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::layout::Layout;
use super::ranges::RangeSet;
use super::waiters::{Waiters, Wake};
use crate::types::BlobId;

/// The value of `Blob::committed` before the commit; no file can be that long.
const UNCOMMITTED: u64 = u64::MAX;

/// How much is read at once when all of a blob is.
const READ_STEP: usize = 1 << 20;

/// A wait for the length is a wait for a byte that lies past every end.
const PAST_EVERY_END: u64 = u64::MAX;

/// The longest stall that is told from "for ever"; instants have a limit.
const LONGEST_STALL: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A sparse file plus a map of the ranges present. Whole or partial is one type.
///
/// Bytes that are present stay so: ranges only grow, and a commit or a failure takes none away.
pub struct Blob {
    id: BlobId,
    layout: Arc<Layout>,
    /// The length once committed, so that the reader of a whole blob needs one atomic load.
    committed: AtomicU64,
    broken: OnceLock<Broken>,
    filling: Mutex<Filling>,
    file: Mutex<Weak<File>>,
    /// The file of a part that is never committed, which has no other place to be opened at.
    private: OnceLock<Arc<File>>,
}

/// What changes while bytes arrive.
struct Filling {
    length: Option<u64>,
    present: RangeSet,
    /// When bytes came last.
    progress: Instant,
    waiters: Waiters,
}

/// Why a blob will get no more bytes.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Broken {
    /// For a person; no secrets.
    pub message: String,
    /// The errno that readers of a missing part get.
    pub errno: i32,
    /// The bytes that came are not what they should be, so those present must not be served either.
    pub tainted: bool,
}

/// Why a wait for bytes ended without them.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WaitError {
    /// No byte came for as long as the caller would wait.
    #[error("no byte came for {0:?}")]
    Stalled(Duration),
    /// The download failed.
    #[error(transparent)]
    Broken(#[from] Broken),
}

impl Blob {
    /// Makes the blob of a download. `file` is where its bytes go; whoever writes them keeps it
    /// until the file lies at its final place, where it is opened from then on.
    pub(super) fn filling(
        id: BlobId,
        layout: Arc<Layout>,
        length: Option<u64>,
        file: &Arc<File>,
    ) -> Blob {
        Blob::new(id, layout, UNCOMMITTED, length, Arc::downgrade(file))
    }

    /// Makes a blob that was committed earlier.
    pub(super) fn whole(id: BlobId, layout: Arc<Layout>, length: u64) -> Blob {
        Blob::new(id, layout, length, Some(length), Weak::new())
    }

    fn new(
        id: BlobId,
        layout: Arc<Layout>,
        committed: u64,
        length: Option<u64>,
        file: Weak<File>,
    ) -> Blob {
        Blob {
            id,
            layout,
            committed: AtomicU64::new(committed),
            broken: OnceLock::new(),
            filling: Mutex::new(Filling {
                length,
                present: RangeSet::default(),
                progress: Instant::now(),
                waiters: Waiters::default(),
            }),
            file: Mutex::new(file),
            private: OnceLock::new(),
        }
    }

    /// Returns the number of this blob.
    pub fn id(&self) -> BlobId {
        self.id
    }

    /// Returns the length in bytes as soon as it is known: announced, or found at the end.
    pub fn length(&self) -> Option<u64> {
        self.committed_length().or_else(|| self.lock().length)
    }

    /// Says whether every byte is there, checked and committed.
    pub fn committed(&self) -> bool {
        self.committed_length().is_some()
    }

    /// Says why the rest will never come, if so. One atomic load. Bytes that are present stay
    /// readable; whether they may still be served is the caller's decision.
    pub fn broken(&self) -> Option<Broken> {
        self.broken.get().cloned()
    }

    /// Returns the open file, opening it if nobody holds it open. The descriptor closes when the
    /// last holder drops it. May block on the disk when it opens.
    ///
    /// A holder reads on after the blob was removed from the store.
    ///
    /// # Errors
    /// What open(2) said: `ENOENT` once the blob was removed and nobody holds it open.
    pub fn file(&self) -> io::Result<Arc<File>> {
        let held = self.file_lock().upgrade();
        if let Some(file) = held {
            return Ok(file);
        }
        // Opened without the lock. Ids are never reused, so the path is this blob or nothing.
        let opened = Arc::new(File::open(self.layout.data(self.id))?);
        let mut slot = self.file_lock();
        if let Some(file) = slot.upgrade() {
            return Ok(file);
        }
        *slot = Arc::downgrade(&opened);
        Ok(opened)
    }

    /// Keeps the file of a part open for as long as the blob lives.
    pub(super) fn keep_open(&self, file: Arc<File>) {
        // Kept once; a second one would be the same file.
        let _ = self.private.set(file);
    }

    /// Reads the blob from its beginning to its end. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said; `UnexpectedEof` where the file is too short.
    pub fn read_through(&self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        use std::os::unix::fs::FileExt as _;
        let (file, length) = (self.file()?, self.length().unwrap_or(0));
        let mut buffer = vec![0; READ_STEP];
        let mut at = 0;
        while at < length {
            let step = (length - at).min(READ_STEP as u64) as usize;
            file.read_exact_at(&mut buffer[..step], at)?;
            each(&buffer[..step]);
            at += step as u64;
        }
        Ok(())
    }

    /// Returns the part of `range` that lies within the blob, if all of it is present now; never waits.
    /// `None` also while the length is unknown and the range may lie past the end.
    ///
    /// A range that begins past the end gives an empty one. Costs one atomic load for a committed
    /// blob, a short lock for others, and no allocation.
    pub fn present(&self, range: Range<u64>) -> Option<Range<u64>> {
        if let Some(length) = self.committed_length() {
            return Some(clip(&range, Some(length)));
        }
        self.lock().ready(&range).ok()
    }

    /// Waits until all of `range`, clipped to the length, is present, and returns the clipped range.
    ///
    /// Dropping the future ends the wait and leaves nothing behind. A write wakes only those whose
    /// range it completes.
    ///
    /// # Errors
    /// No byte came for `stall`, counted from the start of this wait (bytes anywhere in the blob
    /// count as progress), or the download failed (then only if the range is not present).
    pub async fn wait_for(
        &self,
        range: Range<u64>,
        stall: Duration,
    ) -> Result<Range<u64>, WaitError> {
        match self.present(range.clone()) {
            Some(present) => Ok(present),
            None => self.wait(&range, stall, |f| f.ready(&range)).await,
        }
    }

    /// Waits until the length is known.
    ///
    /// # Errors
    /// As [`wait_for`](Blob::wait_for).
    pub async fn wait_length(&self, stall: Duration) -> Result<u64, WaitError> {
        let nothing = PAST_EVERY_END..PAST_EVERY_END;
        self.wait(&nothing, stall, |f| f.length.ok_or(PAST_EVERY_END)).await
    }

    /// Returns the bytes present.
    pub fn filled(&self) -> u64 {
        self.committed_length().unwrap_or_else(|| self.lock().present.total())
    }

    /// Ends the blob: whoever waits for a missing part gets `reason`. The first reason stays.
    pub fn fail(&self, reason: Broken) {
        let woken = {
            let mut filling = self.lock();
            // Set under the lock, so that nobody begins to wait after everybody was woken.
            let _ = self.broken.set(reason);
            filling.waiters.all()
        };
        wake(woken);
    }

    /// Marks bytes as present and wakes those who waited for them.
    pub(super) fn fill(&self, range: Range<u64>) {
        let woken = {
            let mut filling = self.lock();
            let Filling { length, present, progress, waiters } = &mut *filling;
            *progress = Instant::now();
            present.insert(range.clone());
            waiters.filled(range, |wanted| present.first_missing(&clip(wanted, *length)))
        };
        wake(woken);
    }

    /// Makes the length known and wakes those who waited for it, or for bytes past it.
    pub(super) fn set_length(&self, length: u64) {
        let woken = {
            let mut filling = self.lock();
            filling.length = Some(length);
            filling.progress = Instant::now();
            filling.waiters.past(length)
        };
        wake(woken);
    }

    /// Makes the blob a committed one. Every byte was marked as present before.
    pub(super) fn set_committed(&self, length: u64) {
        self.committed.store(length, Ordering::Release);
    }

    /// Waits until `ready` returns something; while it does not, it says which byte of `range` is
    /// the first that is missing.
    async fn wait<T>(
        &self,
        range: &Range<u64>,
        stall: Duration,
        ready: impl Fn(&Filling) -> Result<T, u64>,
    ) -> Result<T, WaitError> {
        let patience = stall.min(LONGEST_STALL);
        let mut deadline = Instant::now() + patience;
        loop {
            let mut ticket = {
                let mut filling = self.lock();
                let missing = match ready(&filling) {
                    Ok(value) => return Ok(value),
                    Err(missing) => missing,
                };
                if let Some(reason) = self.broken() {
                    return Err(reason.into());
                }
                let (number, woken) = filling.waiters.add(range.clone(), missing);
                Ticket { blob: self, number, woken }
            };
            // Progress does not wake those it does not serve; they look when their time is up.
            while timeout_at(deadline, &mut ticket.woken).await.is_err() {
                let extended = self.lock().progress + patience;
                if extended <= deadline {
                    return Err(WaitError::Stalled(stall));
                }
                deadline = extended;
            }
        }
    }

    fn committed_length(&self) -> Option<u64> {
        match self.committed.load(Ordering::Acquire) {
            UNCOMMITTED => None,
            length => Some(length),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Filling> {
        self.filling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file_lock(&self) -> MutexGuard<'_, Weak<File>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many wait for bytes.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiters.len()
    }
}

impl Filling {
    /// Returns `range` clipped to the length, or its first byte that is missing.
    fn ready(&self, range: &Range<u64>) -> Result<Range<u64>, u64> {
        let clipped = clip(range, self.length);
        match self.present.first_missing(&clipped) {
            None => Ok(clipped),
            Some(missing) => Err(missing),
        }
    }
}

/// A registered wait; dropping it takes it out of the list.
struct Ticket<'a> {
    blob: &'a Blob,
    number: u64,
    woken: oneshot::Receiver<()>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        // The sender is dropped outside of the lock, because that may run a waker.
        let _wake = self.blob.lock().waiters.remove(self.number);
    }
}

/// Returns the part of a range below the length; with an end before its start, an empty one.
fn clip(range: &Range<u64>, length: Option<u64>) -> Range<u64> {
    let length = length.unwrap_or(u64::MAX);
    let start = range.start.min(length);
    start..range.end.min(length).max(start)
}

fn wake(woken: Vec<Wake>) {
    for wake in woken {
        // An error says that the waiter has just given up.
        let _ = wake.send(());
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob")
            .field("id", &self.id)
            .field("length", &self.length())
            .field("committed", &self.committed())
            .finish_non_exhaustive()
    }
}
