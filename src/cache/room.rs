//! Making room: what [`Ledger::reserve`](super::ledger::Ledger::reserve) decides, carried out.

use std::sync::Arc;
use std::time::Duration;

use super::Cache;
use super::error::OpenError;
use super::ledger::{Answer, Reservation, Victim};
use crate::metrics::Refusal;
use crate::types::{BlobId, Bytes};

/// How long the kernel may take to forget an invalidated entry before somebody must hold it.
const FORGETS_WITHIN: Duration = Duration::from_millis(100);

/// How long it may take to forget a tree that was walked through: thousands of entries.
const TREES_FORGOTTEN_WITHIN: Duration = Duration::from_millis(500);

/// How long others may hold more than they need: a handle is released behind the back of close(2),
/// so a program that closes one file and opens another may be ahead of itself; and a tree gives back
/// what it booked ahead a tenth of a second after its last member.
const SETTLES_WITHIN: Duration = Duration::from_millis(300);

/// What a blob takes beyond its bytes: the sidecar, and the blocks that map its extents.
pub(super) fn overhead(length: u64) -> u64 {
    const BLOCK: u64 = 4096;
    length.next_multiple_of(BLOCK) - length + 4 * BLOCK + length / 16384
}

impl Cache {
    /// Reserves room for a body of `length` bytes with its overhead, less `there` bytes that are in
    /// the store already. Waits while enough is going.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`] when it could never fit, [`Refusal::HardLimit`] or
    /// [`Refusal::DiskFull`] when it does not fit now.
    pub(super) async fn reserve(
        self: &Arc<Self>,
        name: &str,
        length: u64,
        there: u64,
    ) -> Result<Reservation, OpenError> {
        self.check_fits(name, length)?;
        let bytes = length.saturating_add(overhead(length));
        self.reserve_exactly(name, bytes.saturating_sub(there)).await
    }

    /// Refuses a body that could never fit.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`].
    pub(super) fn check_fits(&self, name: &str, length: u64) -> Result<(), OpenError> {
        let hard = self.ledger.limits().hard;
        if length.saturating_add(overhead(length)) > hard {
            let text = format!(
                "{name}: its length of {} does not fit the hard limit of {}; raise quota and hard_limit",
                Bytes(length),
                Bytes(hard)
            );
            return Err(OpenError::new(Refusal::TooLarge, text));
        }
        Ok(())
    }

    pub(super) async fn reserve_exactly(
        self: &Arc<Self>,
        name: &str,
        bytes: u64,
    ) -> Result<Reservation, OpenError> {
        let until = tokio::time::Instant::now() + SETTLES_WITHIN;
        loop {
            // Registered before the question, so that no change between the two is missed.
            let changed = self.ledger.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let ceiling = self.ceiling().await?;
            let room = self.ledger.reserve(bytes, ceiling);
            for victim in room.victims {
                self.reap(victim);
            }
            if !room.leaving.is_empty() {
                self.see_off(room.leaving);
            }
            match room.answer {
                Answer::Granted(reservation) => return Ok(reservation),
                Answer::Wait => changed.await,
                Answer::Refused(_) if tokio::time::Instant::now() < until => {
                    // Either something changes until then, or it is final.
                    let _ = tokio::time::timeout_at(until, changed).await;
                }
                Answer::Refused(short) => {
                    let why = if short.disk { Refusal::DiskFull } else { Refusal::HardLimit };
                    return Err(OpenError::new(why, format!("{name}: no room: {short}")));
                }
            }
        }
    }

    /// Returns how many bytes the filesystem below lets the store hold.
    async fn ceiling(self: &Arc<Self>) -> Result<u64, OpenError> {
        // Before the disk is asked: what is allocated meanwhile must not count twice.
        let (on_disk, min_free) = (self.ledger.on_disk(), self.ledger.limits().min_free);
        let store = self.store.clone();
        let disk = tokio::task::spawn_blocking(move || store.disk()).await;
        match disk {
            Ok(Ok((free, _))) => Ok(on_disk.saturating_add(free.saturating_sub(min_free))),
            Ok(Err(error)) => Err(OpenError::disk("the store's filesystem", &error)),
            Err(_) => Err(OpenError::new(Refusal::Store, "the daemon is stopping")),
        }
    }

    /// Has the kernel forget blobs; those it keeps are held by somebody.
    pub(super) fn see_off(self: &Arc<Self>, blobs: Vec<BlobId>) {
        let farewell = |blob: &BlobId| Some(self.bid_farewell(&self.entry_of(*blob)?, *blob));
        let told: Vec<_> = blobs.iter().filter_map(farewell).collect();
        let forgets_within = match blobs.iter().any(|blob| self.grove.knows(*blob)) {
            true => TREES_FORGOTTEN_WITHIN,
            false => FORGETS_WITHIN,
        };
        let ledger = self.ledger.clone();
        tokio::spawn(async move {
            // The time counts from when the kernel was told.
            for told in told {
                told.await;
            }
            tokio::time::sleep(forgets_within).await;
            for blob in blobs {
                ledger.stayed(blob);
            }
        });
    }

    /// Hands a victim to the reaper.
    pub(super) fn reap(&self, victim: Victim) {
        // Fails only while the daemon stops; recovery will see the file again.
        let _ = self.victims.send(victim);
    }
}
