//! The bytes of disk a download may take.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cache::Cache;
use crate::cache::error::OpenError;
use crate::cache::ledger::Reservation;
use crate::cache::room::overhead;
use crate::types::Name;

/// What a body of unknown length reserves at first, and at least each time it grows.
pub(in crate::cache) const GROWTH: u64 = 1 << 20;

/// The most it reserves ahead.
const LARGEST_GROWTH: u64 = 64 << 20;

/// The reservation of a download. Locked alone, and never across a wait.
pub(super) struct Grant {
    cache: Arc<Cache>,
    name: Name,
    /// The length is unknown: what comes next was not reserved at the beginning.
    growing: bool,
    reservation: Mutex<Option<Reservation>>,
}

impl Grant {
    pub(super) fn new(
        cache: &Arc<Cache>,
        name: &Name,
        growing: bool,
        reservation: Reservation,
    ) -> Grant {
        let reservation = Mutex::new(Some(reservation));
        Grant { cache: cache.clone(), name: name.clone(), growing, reservation }
    }

    /// Makes sure that a body of unknown length may reach so far; waits for room.
    pub(super) async fn cover(&self, end: u64) -> Result<(), OpenError> {
        if !self.growing {
            return Ok(());
        }
        self.ensure(end, (end / 2).clamp(GROWTH, LARGEST_GROWTH)).await
    }

    /// Makes sure that `total` bytes may be on the disk, and reserves `ahead` more where it is too
    /// little; waits for room.
    pub(super) async fn ensure(&self, total: u64, ahead: u64) -> Result<(), OpenError> {
        let needed = total + overhead(total);
        let have = self.lock().as_ref().map_or(u64::MAX, Reservation::bytes);
        if needed <= have {
            return Ok(());
        }
        let more = self.cache.reserve_exactly(self.name.as_str(), needed - have + ahead).await?;
        if let Some(reservation) = &mut *self.lock() {
            reservation.absorb(more);
        }
        Ok(())
    }

    /// Says how many bytes are on the disk; `None`: all that were reserved.
    pub(super) fn allocated(&self, bytes: Option<u64>) {
        if let Some(reservation) = &mut *self.lock() {
            let bytes = bytes.unwrap_or(reservation.bytes());
            reservation.allocated(bytes);
        }
    }

    /// Hands the reservation over, at the end of the download.
    pub(super) fn take(&self) -> Option<Reservation> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Reservation>> {
        self.reservation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
