//! Bodies left unread for a moment after their head was asked for, so that the open that usually
//! follows a stat adopts them instead of asking again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::entry::Entry;
use crate::origin::{Body, Head};

/// How long a body waits for an open.
pub(super) const PARKED_FOR: Duration = Duration::from_secs(1);

/// How many bodies wait at once; the oldest go first. Each holds a connection.
const PLACES: usize = 32;

/// An answer whose body nobody reads yet. Dropping it closes the connection.
pub(super) struct Parked {
    pub(super) head: Head,
    pub(super) body: Box<dyn Body>,
    /// The identity of the source it came from.
    pub(super) source: String,
    /// Tells this parking from a later one of the same entry.
    number: u64,
}

/// Who is parked, oldest first. Locked alone.
#[derive(Default)]
pub(super) struct ParkingLot(Mutex<Lot>);

#[derive(Default)]
struct Lot {
    next: u64,
    order: VecDeque<(Weak<Entry>, u64)>,
}

impl ParkingLot {
    /// Parks an answer at its entry, drops the oldest one where the lot is full, and drops this
    /// one after [`PARKED_FOR`]. Call within the runtime.
    pub(super) fn park(&self, entry: &Arc<Entry>, source: String, head: Head, body: Box<dyn Body>) {
        let mut lot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = lot.next;
        lot.next += 1;
        lot.order.push_back((Arc::downgrade(entry), number));
        let oldest = (lot.order.len() > PLACES).then(|| lot.order.pop_front()).flatten();
        drop(lot);

        let before = entry.state().parked.replace(Parked { head, body, source, number });
        drop(before);
        if let Some((entry, number)) = oldest {
            leave(&entry, number);
        }
        let entry = Arc::downgrade(entry);
        tokio::spawn(async move {
            tokio::time::sleep(PARKED_FOR).await;
            leave(&entry, number);
        });
    }
}

fn leave(entry: &Weak<Entry>, number: u64) {
    let Some(entry) = entry.upgrade() else { return };
    let parked = entry.state().parked.take_if(|parked| parked.number == number);
    // Closing the connection happens here, with no lock held.
    drop(parked);
}
