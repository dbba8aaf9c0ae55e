//! How many bodies are received at once, and how those that are slow keep nobody waiting.
//!
//! A body waits for its slot before its first byte, and never after: an origin may drop a body that
//! nobody reads for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How often a wait counts as progress.
const BEAT: Duration = Duration::from_secs(1);

/// How long a body is waited for in all, until its pace is told.
const WINDOW: Duration = Duration::from_secs(2);

/// What brings less than this, in bytes per second, needs no slot: neither the memory nor the disk
/// that slots are there to spare.
const SLOW: u64 = 8 << 20;

/// The slots of all downloads. Whoever waits is served in the order of coming.
pub(super) struct Slots {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// A slot; dropping it makes room.
pub(super) struct Slot(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// How fast a body comes: the time is its origin's alone, not that of our disk.
#[derive(Default)]
pub(super) struct Pace {
    waited: Duration,
    bytes: u64,
}

/// One who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Slots {
    /// Makes so many slots, one at least.
    pub(super) fn new(count: usize) -> Slots {
        Slots { free: Arc::new(Semaphore::new(count.max(1))), waiting: AtomicUsize::new(0) }
    }

    /// Waits for a slot, and calls `waits` about every second meanwhile: it is the turn of others,
    /// which bring bytes, and whoever waits for the bytes of this download is not to take that for
    /// an origin that has fallen silent.
    pub(super) async fn turn(&self, waits: impl Fn()) -> Option<Slot> {
        let _waiting = Waiting::among(&self.waiting);
        let mut permit = std::pin::pin!(self.free.clone().acquire_owned());
        loop {
            match tokio::time::timeout(BEAT, &mut permit).await {
                // The semaphore is never closed.
                Ok(permit) => return permit.ok().map(Slot),
                Err(_) => waits(),
            }
        }
    }

    /// Returns a slot if one is free.
    pub(super) fn free_one(&self) -> Option<Slot> {
        self.free.clone().try_acquire_owned().ok().map(Slot)
    }

    /// Says whether somebody waits for a slot.
    pub(super) fn are_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

impl Pace {
    /// Notes bytes that came after having been waited for.
    pub(super) fn came(&mut self, bytes: u64, waited: Duration) {
        self.bytes += bytes;
        self.waited += waited;
    }

    /// Says whether the body is slow, at the end of each window.
    pub(super) fn is_slow(&mut self) -> Option<bool> {
        if self.waited < WINDOW {
            return None;
        }
        let slow = (self.bytes as f64) < SLOW as f64 * self.waited.as_secs_f64();
        *self = Pace::default();
        Some(slow)
    }
}

impl<'a> Waiting<'a> {
    fn among(waiting: &'a AtomicUsize) -> Waiting<'a> {
        waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_is_counted_beats_and_gives_up() {
        let slots = Slots::new(0);
        let slot = slots.turn(|| {}).await.unwrap();
        assert!(!slots.are_wanted());
        let beats = AtomicUsize::new(0);
        let wait = slots.turn(|| _ = beats.fetch_add(1, Ordering::Relaxed));
        let mut wait = Box::pin(wait);
        assert!(tokio::time::timeout(BEAT * 3 / 2, &mut wait).await.is_err());
        assert!(slots.are_wanted());
        drop(wait);
        assert!(!slots.are_wanted());
        assert_eq!(beats.into_inner(), 1);
        drop(slot);
        assert!(slots.turn(|| {}).await.is_some());
    }

    #[test]
    fn a_pace_is_told_once_for_each_window_of_waiting() {
        let mut pace = Pace::default();
        assert_eq!(pace.is_slow(), None);
        pace.came(SLOW, WINDOW);
        assert_eq!((pace.is_slow(), pace.is_slow()), (Some(true), None));
        pace.came(4 * SLOW, WINDOW);
        assert_eq!(pace.is_slow(), Some(false));
        pace.came(0, WINDOW / 2);
        assert_eq!(pace.is_slow(), None);
    }
}
