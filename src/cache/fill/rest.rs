//! When a download of which only what is read is fetched, and which nobody reads now, is put aside:
//! after a while, or at once where its room is wanted.
//!
//! Its own pin keeps the blob meanwhile. So the ledger is told that it would give way, and who finds
//! no room waits until it has, or has not: the kernel is told to forget the blob first, and a
//! reference that stays is somebody's.

use std::time::{Duration, Instant};

use super::shared::Shared;

/// A file is put aside after nobody read it for this long.
const IDLE: Duration = Duration::from_secs(10);

/// A tree is walked through without anything being fetched: what was read stays with the kernel,
/// which would have to forget it.
const IDLE_TREE: Duration = Duration::from_secs(600);

/// How long the kernel may take to forget a file, and a tree.
const FORGETS_WITHIN: Duration = Duration::from_millis(100);
const TREE_FORGOTTEN_WITHIN: Duration = Duration::from_millis(500);

/// How long somebody who holds it is not asked again.
const HELD: Duration = Duration::from_secs(5);

/// How far a download is on its way to rest.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// Since when nothing was wanted.
    idle: Option<Instant>,
    /// When the kernel was told to forget the blob.
    told: Option<Instant>,
    /// Until when it would not give way.
    held: Option<Instant>,
    /// The ledger knows that it would.
    offered: bool,
}

impl Rest {
    /// Says that something is wanted.
    pub(super) fn busy(&mut self, shared: &Shared) {
        if self.offered {
            shared.cache.ledger().spare(shared.blob.id(), false);
        }
        *self = Rest::default();
    }

    /// Returns when to look again without being told; nothing is wanted now.
    pub(super) fn wake(&mut self, shared: &Shared) -> Instant {
        let now = Instant::now();
        let idle = *self.idle.get_or_insert(now);
        if !self.offered && self.held.is_none_or(|until| until <= now) {
            self.held = None;
            self.offered = true;
            shared.cache.ledger().spare(shared.blob.id(), true);
        }
        let (idle_for, forgets_within) = match shared.entry.is_tree() {
            true => (IDLE_TREE, TREE_FORGOTTEN_WITHIN),
            false => (IDLE, FORGETS_WITHIN),
        };
        let due = self.told.map_or(idle + idle_for, |told| told + forgets_within);
        self.held.map_or(due, |until| due.min(until))
    }

    /// Says whether to put it aside: called when it is time to look again, or when its room is
    /// wanted.
    pub(super) fn may_begin(&mut self, shared: &Shared) -> bool {
        let (now, due) = (Instant::now(), self.wake(shared));
        let (ledger, id) = (shared.cache.ledger(), shared.blob.id());
        if due > now && !self.is_wanted(shared) {
            return false;
        }
        if ledger.pins(id) > 1 {
            self.stays(shared, now);
        } else if ledger.alone(id) {
            tracing::debug!(name = %shared.entry.name(), "put aside");
            return true;
        } else if self.told.is_none() {
            self.told = Some(now);
            shared.cache.tell_leaving(&shared.entry);
        } else if due <= now {
            self.stays(shared, now);
        }
        false
    }

    /// Says whether its room is wanted.
    pub(super) fn is_wanted(&self, shared: &Shared) -> bool {
        self.offered && shared.cache.ledger().is_pressed(shared.blob.id())
    }

    /// Somebody holds it.
    fn stays(&mut self, shared: &Shared, now: Instant) {
        self.busy(shared);
        self.idle = Some(now);
        self.held = Some(now + HELD);
    }
}
