//! The cache: entries, their flights and downloads, and the account of bytes.
//!
//! One open: the entry's slot is taken for a moment; a fresh version is pinned and handed out with
//! no wait. Otherwise one caller becomes the leader and its errand runs in a task of its own, while
//! everybody who opens the name meanwhile waits for the same answer.
//!
//! Locks: an entry's state before the ledger; the table of names and the index of blobs alone.

mod doubt;
mod download;
mod entry;
mod errand;
mod error;
mod evict;
mod fill;
mod flight;
pub mod freshness;
mod grove;
mod kept;
mod lanes;
mod ledger;
mod lie;
mod linger;
mod names;
mod order;
mod parking;
mod plot;
mod reaper;
mod room;
mod seats;
mod slots;
mod table;
mod tell;
mod version;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};

pub use entry::{Entry, Shows};
pub use error::OpenError;
pub use evict::EvictOutcome;
pub use ledger::{Balance, KernelRef, Ledger, Limits, Pin};
pub use names::{Names, Shown, number};
pub use plot::check_digest;
pub use seats::Bound;
pub use table::Table;
pub use version::{Leftover, Peek, Version};

use crate::metrics::{Counters, Refusal};
use crate::origin::Origin;
use crate::store::{Recovered, Store};
use crate::tree;
use crate::types::{BlobId, Ino, Name, Pending};
use entry::{Step, Want};
use flight::{Landed, NoLanding};
use lanes::Lanes;
use ledger::Victim;
use slots::Slots;

/// How many leaders may die before a caller stops to elect another. A flight that finds its blob
/// evicted or verified ends this way too.
const ELECTIONS: u32 = 8;

/// How the cache behaves, apart from its limits of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Opens this close together share one answer of the origin.
    pub window: Duration,
    /// How long a caller waits without any progress.
    pub stall: Duration,
    /// How many bodies are received at once.
    pub max_downloads: usize,
    /// How much of an archive that is shown as a directory is believed.
    pub archives: tree::Limits,
}

/// What the cache needs of the kernel.
pub trait KernelSide: Send + Sync {
    /// Has the kernel drop what it remembers of a name that moved to another version or state.
    /// The future ends once it has.
    fn moved(&self, name: &Name) -> Pending<'static, ()>;

    /// Tells the kernel the length of a file that it was not told with the file's name. The future
    /// ends once it knows.
    fn sized(&self, ino: Ino, length: u64) -> Pending<'static, ()>;

    /// Has the kernel drop every attribute and page it keeps of a file that nobody has open. The
    /// future ends once it has.
    fn stale(&self, ino: Ino) -> Pending<'static, ()>;

    /// As [`moved`](KernelSide::moved), for a name whose body goes with its last handle; nobody waits.
    fn leaving(&self, name: &Name);

    /// Has the kernel drop what it keeps of the trees of a blob that nobody holds: their entries and
    /// what is cached below them. It is asked at once, whatever becomes of the future, which ends
    /// once it was told.
    fn clear(&self, blob: BlobId) -> Pending<'static, ()>;

    /// Has the kernel drop the listing of the root that it keeps, since names came or went.
    fn relisted(&self);
}

/// A version that stays for as long as this value lives.
pub struct Opened {
    /// The version.
    pub version: Arc<Version>,
    /// Its pin.
    pub pin: Pin,
    /// Whether a flight was waited for, which told the kernel of any change before it answered.
    pub waited: bool,
}

/// The length and time that a stat shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Length in bytes.
    pub length: u64,
    /// mtime and ctime.
    pub shown_at: SystemTime,
}

/// The cache.
pub struct Cache {
    names: RwLock<Arc<Names>>,
    /// Which entry a blob belongs to, for those who know only the blob.
    blobs: Mutex<HashMap<BlobId, Arc<Entry>>>,
    ledger: Ledger,
    store: Arc<Store>,
    origin: Arc<dyn Origin>,
    counters: Arc<Counters>,
    timing: Timing,
    slots: Arc<Slots>,
    lanes: Arc<Lanes>,
    lot: parking::ParkingLot,
    grove: grove::Grove,
    linger: linger::Linger,
    victims: mpsc::UnboundedSender<Victim>,
    kernel: OnceLock<Arc<dyn KernelSide>>,
    /// Set when downloads are to put aside what they have.
    stopping: watch::Sender<bool>,
}

impl Cache {
    /// Builds the cache over what recovery found, bound to the names of the catalogs, and starts
    /// the reaper. Blobs of names that no catalog claims are removed. Call within the runtime.
    pub fn new(
        store: Arc<Store>,
        recovered: Recovered,
        origin: Arc<dyn Origin>,
        counters: Arc<Counters>,
        limits: Limits,
        timing: Timing,
        table: Table,
    ) -> Arc<Cache> {
        let (victims, reaper) = mpsc::unbounded_channel();
        let cache = Arc::new(Cache {
            names: RwLock::default(),
            blobs: Mutex::default(),
            ledger: Ledger::new(limits, victims.clone()),
            store,
            origin,
            counters,
            timing,
            slots: Arc::new(Slots::new(timing.max_downloads)),
            lanes: Arc::default(),
            lot: parking::ParkingLot::default(),
            grove: grove::Grove::default(),
            linger: linger::Linger::new(),
            victims,
            kernel: OnceLock::new(),
            stopping: watch::Sender::new(false),
        });
        tokio::spawn(reaper::reap(Arc::downgrade(&cache), reaper));
        let may_prune = table.may_prune;
        cache.bind(table);
        cache.adopt(recovered, may_prune);
        cache
    }

    /// Says who tells the kernel; before, nobody is told. What passes the limits, where they are
    /// lower than at the last start, is evicted from now on. Call within the runtime.
    pub fn attach(self: &Arc<Self>, kernel: Arc<dyn KernelSide>) {
        // A second mount of one cache does not exist.
        let _ = self.kernel.set(kernel);
        tokio::spawn(self.clone().trim());
    }

    /// Has every download put aside what it has, so that a later daemon goes on with it, and waits
    /// until they have.
    pub async fn stop(&self) {
        self.stopping.send_replace(true);
        // Each download holds a receiver.
        self.stopping.closed().await;
    }

    /// Waits until downloads are to stop.
    fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopping = self.stopping.subscribe();
        async move {
            // The sender lives as long as the cache, which its downloads hold.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        }
    }

    /// Returns the names shown now.
    pub fn names(&self) -> Arc<Names> {
        self.names.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Returns the counters.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Returns how it behaves in time.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// Returns what a name shows now; never waits. A version whose blob was evicted is forgotten
    /// here.
    pub fn shows(&self, entry: &Arc<Entry>) -> Shows {
        loop {
            let shows = entry.shows(|| self.store.allocate());
            match &shows {
                Shows::Version(version) if !self.ledger.contains(version.blob.id()) => {
                    entry.lost(version.blob.id(), true);
                }
                _ => return shows,
            }
        }
    }

    /// Opens a name: a version that is current by the source's policy, pinned. Returns at once
    /// when it is fresh; else waits for the one flight, for as long as it makes progress.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing at hand is lost by one.
    pub async fn open(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<Opened, OpenError> {
        let (mut waited, mut elections) = (false, 0);
        loop {
            match entry.step(Want::Version, self.timing.window) {
                Step::Take { version, stale } => {
                    if let Some(pin) = self.ledger.pin(version.blob.id()) {
                        if stale {
                            self.counters.stale_served.inc();
                        } else if !waited {
                            self.counters.hits.inc();
                        }
                        return Ok(opened(version, pin, waited));
                    }
                    entry.lost(version.blob.id(), true);
                }
                Step::TakeAndLead { version, permit, errand } => {
                    let pin = self.ledger.pin(version.blob.id());
                    tokio::spawn(errand::run(self.clone(), permit, errand));
                    if let Some(pin) = pin {
                        self.counters.hits.inc();
                        return Ok(opened(version, pin, waited));
                    }
                    entry.lost(version.blob.id(), true);
                }
                step => {
                    waited = true;
                    if let Some(Landed::Version { version, pin, stale }) =
                        self.follow(entry, step, &mut elections).await?
                        // A flight that began before the catalogs changed brought another source's.
                        && entry.means(&version)
                    {
                        if stale {
                            self.counters.stale_served.inc();
                        }
                        return Ok(opened(version, pin, waited));
                    }
                }
            }
        }
    }

    /// Returns the length and time of a name nothing was fetched of, asking the origin for the
    /// head where nothing else tells. Where no length is announced it downloads, and waits for the
    /// end.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn size(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<Size, OpenError> {
        let mut elections = 0;
        loop {
            let version = match entry.step(Want::Length, self.timing.window) {
                Step::Take { version, .. } => version,
                Step::TakeHead(peek) => return Ok(peek.size()),
                step => match self.follow(entry, step, &mut elections).await? {
                    Some(Landed::Version { version, .. }) if entry.means(&version) => version,
                    Some(Landed::Version { .. }) => continue,
                    Some(Landed::Head(peek)) if peek.source == entry.identity() => {
                        return Ok(peek.size());
                    }
                    Some(Landed::Head(_)) | None => continue,
                },
            };
            return self.size_of(&version).await;
        }
    }

    /// Returns the length and time of a version; waits for the end of a body that announces none.
    ///
    /// # Errors
    /// The download failed, or nothing came for as long as a caller waits.
    pub async fn size_of(&self, version: &Version) -> Result<Size, OpenError> {
        let length = match version.blob.length() {
            Some(length) => length,
            None => version.blob.wait_length(self.timing.stall).await.map_err(OpenError::from)?,
        };
        Ok(Size { length, shown_at: version.shown_at })
    }

    /// Does what a step says; `None` means: decide again.
    async fn follow(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        step: Step,
        elections: &mut u32,
    ) -> Result<Option<Landed>, OpenError> {
        if let Step::Join(_) | Step::Lead(..) = step {
            // Whoever polls this once without a task of its own, as the kernel's threads do, moves
            // it into one here: flight and timers are then begun on a thread of the runtime, and
            // one thread is woken instead of several.
            tokio::task::yield_now().await;
        }
        let ticket = match step {
            Step::Join(ticket) => ticket,
            Step::Lead(permit, errand, ticket) => {
                tokio::spawn(errand::run(self.clone(), permit, errand));
                ticket
            }
            Step::Refuse(error) => return Err(error),
            // Its permit falls, and the flight with it.
            Step::Take { .. } | Step::TakeAndLead { .. } => return Ok(None),
            Step::TakeHead(peek) => return Ok(Some(Landed::Head(peek))),
        };
        match ticket.wait(self.timing.stall).await {
            Ok(landing) => landing.map(Some),
            Err(NoLanding::HeadKnown) => Ok(None),
            Err(NoLanding::LeaderDied) if *elections < ELECTIONS => {
                *elections += 1;
                Ok(None)
            }
            Err(NoLanding::LeaderDied) => {
                let text =
                    format!("{}: {ELECTIONS} flights in a row came to nothing", entry.name());
                Err(OpenError::new(Refusal::Store, text))
            }
            Err(NoLanding::Stalled(stall)) => {
                let text = format!("{}: no answer within {stall:?}", entry.name());
                Err(OpenError::new(Refusal::Silent, text))
            }
        }
    }

    /// Compares every recovered blob that is in doubt with its checksums, one after another, so
    /// that the first open of each need not.
    pub async fn verify_behind(self: &Arc<Self>) {
        for entry in self.names().entries() {
            if entry.version().is_some_and(|version| version.untrusted) {
                // The verdict for a version in doubt is to verify it, before anything is asked.
                let step = entry.step(Want::Version, self.timing.window);
                if let Step::Lead(permit, errand @ entry::Errand::Verify(_), _) = step {
                    errand::run(self.clone(), permit, errand).await;
                }
            }
        }
    }

    /// Says whether what a name shows may be used without asking its origin; never waits. Also when
    /// the origin is known to fail and the copy may be served meanwhile.
    pub fn is_fresh(&self, entry: &Arc<Entry>) -> bool {
        entry.is_fresh(self.timing.window)
    }

    /// Returns a number for an inode that is no blob.
    pub fn allocate(&self) -> BlobId {
        self.store.allocate()
    }

    /// Lets a version go that no entry points at any more.
    fn orphan(&self, version: Option<&Version>) {
        if let Some(version) = version {
            let blob = version.blob.id();
            self.ledger.orphan(blob);
            // It goes when the kernel has forgotten it, which may be long after anybody walked there.
            self.tell_walked(blob);
        }
    }

    fn kernel(&self) -> &dyn KernelSide {
        self.kernel.get().map_or(&NoKernel, |kernel| kernel.as_ref())
    }

    fn index(&self, blob: BlobId, entry: &Arc<Entry>) {
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        blobs.insert(blob, entry.clone());
    }

    fn entry_of(&self, blob: BlobId) -> Option<Arc<Entry>> {
        let blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        blobs.get(&blob).cloned()
    }

    fn forget_blob(&self, blob: BlobId) -> Option<Arc<Entry>> {
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        blobs.remove(&blob)
    }
}

/// Hands out a version, and has its use written down now and then. Call within the runtime.
fn opened(version: Arc<Version>, pin: Pin, waited: bool) -> Opened {
    if version.complete() && version.blob.use_is_due() {
        let blob = version.blob.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = blob.note_use() {
                tracing::debug!(blob = %blob.id(), %error, "its use was not written down");
            }
        });
    }
    Opened { version, pin, waited }
}

/// Stands in until a mount is attached.
struct NoKernel;

impl KernelSide for NoKernel {
    fn moved(&self, _name: &Name) -> Pending<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn sized(&self, _ino: Ino, _length: u64) -> Pending<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn stale(&self, _ino: Ino) -> Pending<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn leaving(&self, _name: &Name) {}

    fn clear(&self, _blob: BlobId) -> Pending<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn relisted(&self) {}
}
