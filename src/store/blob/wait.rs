//! Waiting for bytes that are still to come.

use std::ops::Range;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::{Blob, Broken, Filling, clip};

/// A wait for the length is a wait for a byte that lies past every end.
const PAST_EVERY_END: u64 = u64::MAX;

/// The longest stall that is told from "for ever"; instants have a limit.
const LONGEST_STALL: Duration = Duration::from_secs(365 * 24 * 60 * 60);

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

    /// Returns the range of everybody who waits for bytes now, clipped to the length, in order of
    /// offset. A wait for the length alone is none.
    pub fn wanted(&self) -> Vec<Range<u64>> {
        let mut wanted: Vec<_> = {
            let filling = self.lock();
            filling.waiters.ranges().map(|range| clip(range, filling.length)).collect()
        };
        wanted.retain(|range| !range.is_empty());
        wanted.sort_unstable_by_key(|range| (range.start, range.end));
        wanted
    }

    /// Returns a future that completes when somebody has begun to wait for bytes since this call.
    /// Whoever asks first and looks at [`wanted`](Blob::wanted) then misses nobody.
    pub fn demand(&self) -> impl Future<Output = ()> + Send + '_ {
        // Counts from its making, not from its first poll.
        self.demand.notified()
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
            if !range.is_empty() {
                self.demand.notify_waiters();
            }
            // Progress does not wake those it does not serve; they look when their time is up.
            loop {
                match timeout_at(deadline, &mut ticket.woken).await {
                    Ok(Ok(Some(reason))) => return Err(reason.into()),
                    Ok(Ok(None) | Err(_)) => break,
                    Err(_elapsed) => {
                        let extended = self.lock().progress + patience;
                        if extended <= deadline {
                            return Err(WaitError::Stalled(stall));
                        }
                        deadline = extended;
                    }
                }
            }
        }
    }
}

/// A registered wait; dropping it takes it out of the list.
struct Ticket<'a> {
    blob: &'a Blob,
    number: u64,
    woken: oneshot::Receiver<Option<Broken>>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        // The sender is dropped outside of the lock, because that may run a waker.
        let _wake = self.blob.lock().waiters.remove(self.number);
    }
}
