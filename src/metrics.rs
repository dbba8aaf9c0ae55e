//! Counters that every room may increment and the operator may read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One monotone number.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Reads the number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why an open or a read was refused; a closed vocabulary for logs and `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// The origin says there is no such thing (404, 410).
    Gone,
    /// The origin wants other credentials.
    Denied,
    /// The origin could not be reached, or failed.
    Origin,
    /// The bytes were not what was announced.
    BadBody,
    /// The bytes do not have the digest declared.
    Digest,
    /// Nothing came within the deadline.
    Silent,
    /// The hard limit is reached and nothing can be evicted.
    HardLimit,
    /// The filesystem of the store has no room.
    DiskFull,
    /// The announced length passes the hard limit.
    TooLarge,
    /// The store failed.
    Store,
    /// The caller was told to die while it waited.
    Interrupted,
    /// The origin has another version than the one that was being fetched.
    Changed,
    /// An archive that is to be shown as a directory, or one of its members, cannot be.
    Archive,
}

impl Refusal {
    /// Every reason, in the order of the counters.
    pub const ALL: [Refusal; 13] = [
        Refusal::Gone,
        Refusal::Denied,
        Refusal::Origin,
        Refusal::BadBody,
        Refusal::Digest,
        Refusal::Silent,
        Refusal::HardLimit,
        Refusal::DiskFull,
        Refusal::TooLarge,
        Refusal::Store,
        Refusal::Interrupted,
        Refusal::Changed,
        Refusal::Archive,
    ];

    /// Returns the name used in logs and `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Gone => "gone",
            Refusal::Denied => "denied",
            Refusal::Origin => "origin",
            Refusal::BadBody => "bad-body",
            Refusal::Digest => "digest",
            Refusal::Silent => "silent",
            Refusal::HardLimit => "hard-limit",
            Refusal::DiskFull => "disk-full",
            Refusal::TooLarge => "too-large",
            Refusal::Store => "store",
            Refusal::Interrupted => "interrupted",
            Refusal::Changed => "changed",
            Refusal::Archive => "archive",
        }
    }
}

/// The counters of one daemon.
#[derive(Debug, Default)]
pub struct Counters {
    /// Opens asked for.
    pub opens: Counter,
    /// Opens answered without a request to the origin.
    pub hits: Counter,
    /// Opens or stats that found nothing in the store.
    pub misses: Counter,
    /// Questions to an origin about a version at hand.
    pub revalidations: Counter,
    /// Opens served from a copy because the origin failed.
    pub stale_served: Counter,
    /// Bytes of bodies received.
    pub bytes_from_origin: Counter,
    /// Bodies that ended early and whose rest was asked for, and parts of an earlier download that
    /// were gone on with.
    pub resumed: Counter,
    /// Blobs evicted to make room.
    pub evictions: Counter,
    /// Their bytes.
    pub evicted_bytes: Counter,
    /// Cached blobs found damaged.
    pub damaged: Counter,
    /// Trees whose index became complete.
    pub trees_indexed: Counter,
    /// Members of archives unpacked and checked.
    pub members_unpacked: Counter,
    /// Names wanted again after their blob was evicted.
    pub evicted_then_wanted: Counter,
    /// Requests of the kernel that are waiting now.
    pub waiting: Gauge,
    /// Set once a caller outside our pid namespace was seen; such callers cannot be watched.
    pub unwatchable_caller: AtomicBool,
    refusals: [Counter; Refusal::ALL.len()],
}

impl Counters {
    /// Counts a refusal.
    pub fn refused(&self, why: Refusal) {
        self.refusals[why as usize].inc();
    }

    /// Returns how often each reason was given.
    pub fn refusals(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        Refusal::ALL.into_iter().map(|why| (why, self.refusals[why as usize].get()))
    }
}

/// A number that goes up and down with the guards it hands out.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Adds one for as long as the guard lives.
    pub fn enter(&self) -> GaugeGuard<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        GaugeGuard(self)
    }

    /// Reads the number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Takes its one off the gauge when dropped.
#[derive(Debug)]
pub struct GaugeGuard<'a>(&'a Gauge);

impl Drop for GaugeGuard<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
