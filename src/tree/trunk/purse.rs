//! Room for what is unpacked: booked in steps, given back when nothing is going on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::Room;
use crate::tree::error::TreeError;

/// What is booked at least, so that thousands of small members need few bookings.
const STEP: u64 = 8 << 20;

/// How many may be at work at once; more than ever are.
const WORKERS: u32 = 1024;

/// How long nobody is at work before what was booked and not used is given back.
pub(super) const REST: Duration = Duration::from_millis(100);

/// What a tree has booked. Who writes to the files of the tree is a worker from before its booking
/// until after its last write, so that nothing is given back that will still be used.
pub(super) struct Purse {
    room: Arc<dyn Room>,
    /// Bytes that were booked and are not claimed yet.
    left: AtomicU64,
    workers: Arc<Semaphore>,
    /// Told when a worker leaves.
    idle: Arc<Notify>,
}

/// The right to write to the files of a tree; dropping it ends it.
pub(super) struct Worker {
    place: Option<OwnedSemaphorePermit>,
    idle: Arc<Notify>,
}

impl Purse {
    pub(super) fn new(room: Arc<dyn Room>) -> Purse {
        Purse {
            room,
            left: AtomicU64::new(0),
            workers: Arc::new(Semaphore::new(WORKERS as usize)),
            idle: Arc::new(Notify::new()),
        }
    }

    /// Enters a worker; waits while what was booked is being given back.
    pub(super) async fn enter(&self) -> Worker {
        loop {
            // It is never closed.
            if let Ok(place) = self.workers.clone().acquire_owned().await {
                return Worker { place: Some(place), idle: self.idle.clone() };
            }
        }
    }

    /// Books `bytes` for a worker. Waits while room is made.
    ///
    /// # Errors
    /// There is no room.
    pub(super) async fn take(&self, _worker: &Worker, bytes: u64) -> Result<(), TreeError> {
        loop {
            let take = |left: u64| left.checked_sub(bytes);
            if self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok() {
                return Ok(());
            }
            let step = bytes.max(STEP);
            if self.room.grow(step).await.is_ok() {
                self.left.fetch_add(step, Ordering::AcqRel);
            } else {
                // Not that much; what is needed may fit.
                return self.room.grow(bytes).await;
            }
        }
    }

    /// Takes back what a worker booked and has no use for, for others while somebody is at work.
    pub(super) fn give_back(&self, _worker: &Worker, bytes: u64) {
        self.left.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Waits until a worker leaves.
    pub(super) async fn left(&self) {
        self.idle.notified().await;
    }

    /// Gives back what was booked and not used, if nobody is at work: `on_disk` is asked what the
    /// files take.
    pub(super) async fn settle(&self, on_disk: impl AsyncFnOnce() -> Option<u64>) {
        let Ok(_all) = self.workers.try_acquire_many(WORKERS) else { return };
        self.close(on_disk).await;
    }

    /// As [`settle`](Purse::settle), after everybody has left.
    pub(super) async fn settle_last(&self, on_disk: impl AsyncFnOnce() -> Option<u64>) {
        let Ok(_all) = self.workers.acquire_many(WORKERS).await else { return };
        self.close(on_disk).await;
    }

    async fn close(&self, on_disk: impl AsyncFnOnce() -> Option<u64>) {
        if let Some(bytes) = on_disk().await {
            self.left.store(0, Ordering::Release);
            self.room.settled(bytes);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // First the place, then the word of it, which is kept for who asks later.
        drop(self.place.take());
        self.idle.notify_one();
    }
}
