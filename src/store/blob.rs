//! The bytes of a version on disk, whole or still with gaps.

mod wait;

use std::fmt;
use std::fs::File;
use std::io;
use std::iter;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use self::wait::WaitError;

use super::layout::Layout;
use super::ranges::RangeSet;
use super::waiters::{Waiters, Wake};
use crate::types::BlobId;

/// The value of `Blob::committed` before the commit; no file can be that long.
const UNCOMMITTED: u64 = u64::MAX;

/// How many seconds a use may go unwritten; the order of eviction after a restart is as exact.
const USE_NOTED_EVERY: u64 = 60;

/// How much is read at once when all of a blob is.
const READ_STEP: usize = 1 << 20;

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
    /// Told of each new wait for bytes, and of the end of all.
    demand: Notify,
    /// Somebody reads all of it from the beginning to the end.
    all: AtomicBool,
    file: Mutex<Weak<File>>,
    /// The file of a part that is never committed, which has no other place to be opened at.
    private: OnceLock<Arc<File>>,
    made: Instant,
    /// When its use was last written down, in seconds after it was made.
    noted: AtomicU64,
}

/// What changes while bytes arrive.
struct Filling {
    length: Option<u64>,
    present: RangeSet,
    /// Whether nobody may read while every byte is present: they are still to be compared.
    doubted: bool,
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
    /// The origin has another version by now; asking it again brings that one.
    pub superseded: bool,
}

impl Blob {
    /// Makes the blob of a download, of which some bytes may be there. `file` is where its bytes go; whoever writes them keeps it
    /// until the file lies at its final place, where it is opened from then on.
    pub(super) fn filling(
        id: BlobId,
        layout: Arc<Layout>,
        length: Option<u64>,
        present: RangeSet,
        file: &Arc<File>,
    ) -> Blob {
        Blob::new(id, layout, UNCOMMITTED, length, present, Arc::downgrade(file))
    }

    /// Makes a blob that was committed earlier.
    pub(super) fn whole(id: BlobId, layout: Arc<Layout>, length: u64) -> Blob {
        Blob::new(id, layout, length, Some(length), RangeSet::default(), Weak::new())
    }

    fn new(
        id: BlobId,
        layout: Arc<Layout>,
        committed: u64,
        length: Option<u64>,
        present: RangeSet,
        file: Weak<File>,
    ) -> Blob {
        Blob {
            id,
            layout,
            committed: AtomicU64::new(committed),
            broken: OnceLock::new(),
            filling: Mutex::new(Filling {
                length,
                present,
                doubted: false,
                progress: Instant::now(),
                waiters: Waiters::default(),
            }),
            demand: Notify::new(),
            all: AtomicBool::new(false),
            file: Mutex::new(file),
            private: OnceLock::new(),
            made: Instant::now(),
            noted: AtomicU64::new(0),
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
        if let Some(file) = self.held_file() {
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

    /// Returns the open file if somebody holds it open, without a look at the disk.
    pub fn held_file(&self) -> Option<Arc<File>> {
        self.file_lock().upgrade()
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

    /// Says that all of it is wanted, whatever the source's policy says of how much is fetched.
    pub fn want_all(&self) {
        self.all.store(true, Ordering::Release);
        self.demand.notify_waiters();
    }

    /// Says whether somebody wants all of it.
    pub fn wants_all(&self) -> bool {
        self.all.load(Ordering::Acquire)
    }

    /// Returns the bytes present.
    pub fn filled(&self) -> u64 {
        self.committed_length().unwrap_or_else(|| self.lock().present.total())
    }

    /// Returns when bytes came last, or when the blob was made or opened, if none did since.
    pub fn progress(&self) -> Instant {
        self.lock().progress
    }

    /// Returns the gaps within `range`, clipped to the length, in order.
    pub fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        if self.committed() {
            return Vec::new();
        }
        let filling = self.lock();
        filling.present.missing(&clip(&range, filling.length))
    }

    /// Returns what is present of `range`, in order.
    pub fn held(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let missing = self.missing(range.clone());
        let Range { start: mut at, end } = clip(&range, self.length());
        let mut held = Vec::with_capacity(missing.len() + 1);
        for gap in missing.into_iter().chain(iter::once(end..end)) {
            if at < gap.start {
                held.push(at..gap.start);
            }
            at = gap.end;
        }
        held
    }

    /// Says whether chunks that follow one another from byte `at` on are what is present there. What is
    /// not present agrees with everything. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said; `NotFound` once the blob was removed and nobody holds it open.
    pub fn agrees(&self, at: u64, chunks: &[Bytes]) -> io::Result<bool> {
        use std::os::unix::fs::FileExt as _;
        let file = self.file()?;
        let mut buffer = Vec::new();
        let mut start = at;
        for chunk in chunks {
            for held in self.held(start..start + chunk.len() as u64) {
                let came = &chunk[(held.start - start) as usize..(held.end - start) as usize];
                buffer.resize(came.len(), 0);
                file.read_exact_at(&mut buffer, held.start)?;
                if buffer != came {
                    return Ok(false);
                }
            }
            start += chunk.len() as u64;
        }
        Ok(true)
    }

    /// Returns the ranges present, in order; no two of them touch.
    pub fn present_ranges(&self) -> Vec<Range<u64>> {
        match self.committed_length() {
            Some(0) => Vec::new(),
            Some(length) => iter::once(0..length).collect(),
            None => self.lock().present.ranges().to_vec(),
        }
    }

    /// Returns how many bytes from the first on are there without a gap.
    pub(super) fn prefix(&self) -> u64 {
        let all = 0..u64::MAX;
        self.lock().present.first_missing(&all).unwrap_or(all.end)
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
        // Whoever fills it is to learn of it as well.
        self.demand.notify_waiters();
    }

    /// Ends the waits of all who wait now, with `reason`. The blob goes on: what is present stays
    /// so, and who asks later waits anew.
    pub fn refuse(&self, reason: &Broken) {
        let woken = self.lock().waiters.all();
        end(woken, Some(reason));
    }

    /// As [`refuse`](Blob::refuse), of those alone whose first missing byte lies in `range`.
    pub fn refuse_at(&self, range: &Range<u64>, reason: &Broken) {
        let woken = self.lock().waiters.at(range);
        end(woken, Some(reason));
    }

    /// Marks bytes as present and wakes those who waited for them.
    pub(super) fn fill(&self, range: Range<u64>) {
        let woken = {
            let mut filling = self.lock();
            let Filling { length, present, progress, waiters, .. } = &mut *filling;
            *progress = Instant::now();
            present.insert(range.clone());
            waiters.filled(range, |wanted| present.first_missing(&clip(wanted, *length)))
        };
        wake(woken);
    }

    /// Counts this moment as progress, though no byte came: whoever waits goes on waiting.
    pub fn beat(&self) {
        self.lock().progress = Instant::now();
    }

    /// Says whether a use is to be written down by now, and if so, only the first caller.
    pub fn use_is_due(&self) -> bool {
        let (now, noted) = (self.made.elapsed().as_secs(), self.noted.load(Ordering::Relaxed));
        now >= noted.saturating_add(USE_NOTED_EVERY)
            && self.noted.compare_exchange(noted, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Writes down that a committed blob is used now, as the time of modification of its file, so
    /// that a later daemon knows in which order blobs were used. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said; that order is then the one of before.
    pub fn note_use(&self) -> io::Result<()> {
        self.file()?.set_modified(SystemTime::now())
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

    /// Has reads wait for [`trust`](Blob::trust) once every byte is present: what was read before may
    /// turn out to be wrong, and a program that reads all of it, in whatever order, must learn of that.
    /// While there are gaps nobody can have read all, and what is there is served.
    pub(super) fn doubt(&self) {
        self.lock().doubted = true;
    }

    /// Lets reads go on, and wakes those that wait for that.
    pub(super) fn trust(&self) {
        let woken = {
            let mut filling = self.lock();
            filling.doubted = false;
            let length = filling.length;
            length.map_or_else(Vec::new, |length| filling.waiters.past(length))
        };
        wake(woken);
    }

    /// Makes the blob a committed one. Every byte was marked as present before.
    pub(super) fn set_committed(&self, length: u64) {
        self.committed.store(length, Ordering::Release);
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
    /// Returns `range` clipped to the length, or its first byte that is missing: the one after the
    /// last where all are there and still to be compared.
    fn ready(&self, range: &Range<u64>) -> Result<Range<u64>, u64> {
        let clipped = clip(range, self.length);
        match (self.present.first_missing(&clipped), self.length) {
            (Some(missing), _) => Err(missing),
            (None, Some(length)) if self.doubted && self.present.total() == length => Err(length),
            (None, _) => Ok(clipped),
        }
    }
}

/// Returns the part of a range below the length; with an end before its start, an empty one.
fn clip(range: &Range<u64>, length: Option<u64>) -> Range<u64> {
    let length = length.unwrap_or(u64::MAX);
    let start = range.start.min(length);
    start..range.end.min(length).max(start)
}

fn wake(woken: Vec<Wake>) {
    end(woken, None);
}

/// Ends waits, in vain where there is a reason.
fn end(woken: Vec<Wake>, reason: Option<&Broken>) {
    for wake in woken {
        // An error says that the waiter has just given up.
        let _ = wake.send(reason.cloned());
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
