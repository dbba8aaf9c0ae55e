//! What the connections of one download share.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::grant::Grant;
use super::plan::{ClaimId, Kind, Plan};
use crate::cache::Cache;
use crate::cache::entry::Entry;
use crate::cache::flight::Pulse;
use crate::cache::ledger::Reservation;
use crate::cache::lie::Beside;
use crate::source::Source;
use crate::store::{Allocation, Blob, Record, Staging};
use crate::validators::Validators;

/// How much may come before the sidecar of the part says so: what a killed daemon's successor
/// fetches again, at most, besides what is under way.
const NOTE_EVERY: u64 = 8 << 20;

/// More writes at once than connections there can be.
const WRITES: u32 = 1024;

/// What is to be filled.
pub(in crate::cache) struct Job {
    pub(in crate::cache) cache: Arc<Cache>,
    pub(in crate::cache) entry: Arc<Entry>,
    pub(in crate::cache) source: Arc<Source>,
    pub(in crate::cache) staging: Arc<Staging>,
    pub(in crate::cache) reservation: Reservation,
    pub(in crate::cache) allocation: Allocation,
    /// What the version is, for the sidecar.
    pub(in crate::cache) record: Record,
    /// The announced length.
    pub(in crate::cache) length: Option<u64>,
    /// Whether ranges can be asked for: the validators hold a strong tag, the length is known.
    pub(in crate::cache) ranges: bool,
    /// Whether the origin is known to serve them.
    pub(in crate::cache) offered: bool,
    /// A part of what claims to be the same version.
    pub(in crate::cache) beside: Option<Beside>,
    /// Beats when bytes come.
    pub(in crate::cache) pulse: Option<Arc<Pulse>>,
}

/// A download as its connections see it. Locks: the plan alone, the grant alone.
pub(in crate::cache) struct Shared {
    pub(super) cache: Arc<Cache>,
    pub(super) entry: Arc<Entry>,
    pub(super) source: Arc<Source>,
    pub(super) staging: Arc<Staging>,
    pub(super) blob: Arc<Blob>,
    pub(super) grant: Grant,
    pub(super) length: Option<u64>,
    allocation: Allocation,
    record: Record,
    /// Whether a part is of any use to a successor.
    resumable: bool,
    beside: Option<Beside>,
    pulse: Option<Arc<Pulse>>,
    plan: Mutex<Plan>,
    brought: AtomicU64,
    /// How many answers brought bytes that were kept; what was there before counts as one.
    answers: AtomicUsize,
    /// A write holds one permit, whatever becomes of the task that began it.
    writes: Arc<Semaphore>,
    /// Up to which of them the sidecar tells.
    noted: AtomicU64,
    note: Notify,
    /// Told when a claim is to make way.
    stop: Notify,
}

impl Shared {
    pub(super) fn new(job: Job) -> Shared {
        let Job { cache, entry, source, staging, reservation, record, length, .. } = job;
        let blob = staging.blob();
        let grant = Grant::new(&cache, entry.name(), length.is_none(), reservation);
        Shared {
            grant,
            length,
            allocation: job.allocation,
            resumable: job.ranges,
            beside: job.beside,
            pulse: job.pulse,
            plan: Mutex::new(Plan::new(blob.filled() > 0)),
            brought: AtomicU64::new(0),
            answers: AtomicUsize::new(usize::from(blob.filled() > 0)),
            writes: Arc::new(Semaphore::new(WRITES as usize)),
            noted: AtomicU64::new(0),
            note: Notify::new(),
            stop: Notify::new(),
            cache,
            entry,
            source,
            staging,
            blob,
            record,
        }
    }

    pub(super) fn plan(&self) -> MutexGuard<'_, Plan> {
        // Every call leaves the plan consistent, so a panic elsewhere does not spoil it.
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a claim for what `choose` chooses, both in one look at the plan: what others bring
    /// meanwhile is not to be chosen.
    pub(super) fn claim(
        &self,
        kind: Kind,
        choose: impl FnOnce(&Plan) -> Option<Range<u64>>,
    ) -> Option<(ClaimId, Range<u64>)> {
        let mut plan = self.plan();
        let range = choose(&plan)?;
        Some((plan.claim(kind, range.clone()), range))
    }

    /// Has a claim make way for what a reader waits for, if one may.
    pub(super) fn stop_one(&self, near: u64) {
        let wanted = self.blob.wanted();
        self.plan().stop_one(&wanted, near, Instant::now());
        self.stop.notify_waiters();
    }

    /// Has every claim make way.
    pub(super) fn stop_all(&self) {
        self.plan().stop_all();
        self.stop.notify_waiters();
    }

    /// Waits until a claim is to make way.
    pub(super) async fn stopped(&self, claim: ClaimId) {
        loop {
            let told = self.stop.notified();
            tokio::pin!(told);
            // Registered before the look, so that no word between the two is missed.
            told.as_mut().enable();
            if self.plan().is_stopped(claim) {
                return;
            }
            told.await;
        }
    }

    /// Returns what a write holds until it has returned.
    pub(super) async fn begin_write(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        self.writes.clone().acquire_owned().await.ok()
    }

    /// Waits until no write is under way.
    pub(super) async fn writes_returned(&self) {
        let _all = self.writes.acquire_many(WRITES).await;
    }

    /// Writes bytes to the blob, unless they may be of another version than some that came before, or
    /// that come beside them: a part at hand differs from these. Says whether they were written. Blocks
    /// on the disk.
    pub(super) fn write(&self, at: u64, chunks: &[Bytes]) -> std::io::Result<bool> {
        if let Some(beside) = &self.beside
            && !beside.compare(&self.cache, &self.entry, &self.source, at, chunks)
        {
            let (filling, pieces) = self.plan().count();
            if self.pieced() || filling + pieces > 1 {
                return Ok(false);
            }
        }
        self.staging.write(at, chunks)?;
        Ok(true)
    }

    /// Says whether what has come may have been read: it need not have its digest first.
    pub(super) fn seen(&self) -> bool {
        self.pulse.is_none()
    }

    /// Notes bytes that came.
    pub(super) fn came(&self, bytes: u64) {
        self.cache.counters.bytes_from_origin.add(bytes);
        self.brought.fetch_add(bytes, Ordering::Relaxed);
        if let Some(pulse) = &self.pulse {
            pulse.beat();
        }
    }

    /// Notes an answer of which bytes are kept.
    pub(super) fn contributed(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Says whether the bytes come from more than one answer.
    pub(super) fn pieced(&self) -> bool {
        self.answers.load(Ordering::Relaxed) > 1
    }

    /// Notes that it is the turn of other downloads, for those who wait for bytes.
    pub(super) fn queued(&self) {
        self.blob.beat();
        if let Some(pulse) = &self.pulse {
            pulse.beat();
        }
    }

    /// Returns how many bytes came.
    pub(super) fn brought(&self) -> u64 {
        self.brought.load(Ordering::Relaxed)
    }

    /// Notes that a batch is in the file.
    pub(super) fn wrote(&self) {
        self.grant.allocated(match (self.length, self.allocation) {
            // All of it, with the first batch.
            (Some(_), Allocation::Whole) => None,
            _ => Some(self.blob.filled()),
        });
        let brought = self.brought();
        if self.resumable
            // Of two connections the slower may come with the smaller sum.
            && brought.saturating_sub(self.noted.load(Ordering::Relaxed)) >= NOTE_EVERY
        {
            self.noted.store(brought, Ordering::Relaxed);
            self.note.notify_one();
        }
    }

    /// Says whether anybody but this download wants the blob.
    pub(super) fn wanted(&self) -> bool {
        self.cache.ledger.wanted(self.blob.id())
    }

    /// Waits until the sidecar has something to tell.
    pub(super) async fn noted(&self) {
        self.note.notified().await;
    }

    /// Writes the sidecar of the part. Blocks on the disk.
    pub(super) fn write_note(&self) {
        if let Err(error) = self.staging.note(&self.record) {
            tracing::debug!(name = %self.entry.name(), %error, "a successor would fetch this part again");
        }
    }

    /// Returns where readers are: the lowest byte that one waits for, else the beginning.
    pub(super) fn position(&self) -> u64 {
        self.blob.wanted().first().map_or(0, |range| range.start)
    }

    /// Returns the validators of the version.
    pub(super) fn validators(&self) -> &Validators {
        &self.record.validators
    }
}
