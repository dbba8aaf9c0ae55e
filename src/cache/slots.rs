//! Whose turn it is to receive a body: so many are received at once, and nobody waits for the end of
//! one that takes long.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a turn lasts while others wait. An origin that serves them all well is hardly held up,
/// and none waits long enough to take its reader for gone.
pub(super) const TURN: Duration = Duration::from_secs(2);

/// How often a wait counts as progress.
const BEAT: Duration = Duration::from_secs(1);

/// The slots of all downloads. Whoever waits is served in the order of coming.
pub(super) struct Slots {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// A slot; dropping it makes room.
pub(super) struct Slot {
    _permit: OwnedSemaphorePermit,
    since: Instant,
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
                Ok(permit) => {
                    return permit.ok().map(|_permit| Slot { _permit, since: Instant::now() });
                }
                Err(_) => waits(),
            }
        }
    }

    /// Says whether it is the turn of another.
    pub(super) fn is_over(&self, slot: &Slot) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0 && slot.since.elapsed() >= TURN
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
    async fn a_turn_is_over_only_while_others_wait() {
        let slots = Arc::new(Slots::new(1));
        let mut slot = slots.turn(|| {}).await.unwrap();
        slot.since = Instant::now().checked_sub(TURN).unwrap();
        assert!(!slots.is_over(&slot), "nobody waits");
        let other = tokio::spawn({
            let slots = slots.clone();
            async move { slots.turn(|| {}).await }
        });
        tokio::task::yield_now().await;
        assert!(slots.is_over(&slot));
        slot.since = Instant::now();
        assert!(!slots.is_over(&slot), "it has just begun");
        drop(slot);
        let slot = other.await.unwrap().unwrap();
        assert!(!slots.is_over(&slot));
    }

    #[tokio::test]
    async fn who_gives_up_waiting_is_not_counted() {
        let slots = Slots::new(1);
        let slot = slots.turn(|| {}).await.unwrap();
        let beats = AtomicUsize::new(0);
        let beat = || _ = beats.fetch_add(1, Ordering::Relaxed);
        let wait = slots.turn(beat);
        assert!(tokio::time::timeout(BEAT * 3 / 2, wait).await.is_err());
        assert_eq!(beats.into_inner(), 1);
        assert!(!slots.is_over(&Slot { since: slot.since.checked_sub(TURN).unwrap(), ..slot }));
    }
}
