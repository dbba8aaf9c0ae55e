//! Keeps a thread of the runtime awake for the question that follows at once.
//!
//! A program that opens names one after the other asks its next question right after the answer to
//! the last. Waking the runtime for it takes as long as the question itself where the origin is
//! near, so whoever has answered lingers a moment, yielding to whatever else can run. Where nobody
//! asks, that is tried ever more rarely.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::luck::{Luck, within};

/// How long an errand lingers when it is done.
const LASTS: Duration = Duration::from_micros(200);

/// Knows of the errands that begin.
pub(super) struct Linger {
    begun: AtomicU64,
    /// Locked alone, and never across a wait. Empty while somebody lingers: one is enough.
    luck: Mutex<Option<Luck>>,
}

impl Linger {
    /// Nobody has asked yet.
    pub(super) fn new() -> Linger {
        Linger { begun: AtomicU64::new(0), luck: Mutex::new(Some(Luck::NEW)) }
    }

    /// Says that an errand begins.
    pub(super) fn begins(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns when the next errand has begun, or after a little while.
    pub(super) async fn stay(&self) {
        let Some(mut luck) = self.take() else { return };
        if luck.stay() {
            luck.fared(self.next_begins().await);
        }
        self.put(luck);
    }

    async fn next_begins(&self) -> bool {
        let begun = self.begun.load(Ordering::Relaxed);
        let look = |_: &mut Context<'_>| match self.begun.load(Ordering::Relaxed) == begun {
            true => Poll::Pending,
            false => Poll::Ready(()),
        };
        within(LASTS, look).await.is_some()
    }

    fn take(&self) -> Option<Luck> {
        self.luck.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, luck: Luck) {
        *self.luck.lock().unwrap_or_else(PoisonError::into_inner) = Some(luck);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_errand_lingers_until_the_next_begins_or_a_little_while() {
        let linger = Linger::new();
        assert!(!linger.next_begins().await);
        let (came, ()) = tokio::join!(linger.next_begins(), async { linger.begins() });
        assert!(came);
        linger.stay().await;
        let mut known = linger.take().expect("put back");
        assert!(!known.stay(), "the last was in vain");
        // Somebody else lingers: this returns at once, and leaves what is known to them.
        linger.stay().await;
        assert!(linger.take().is_none());
    }
}
