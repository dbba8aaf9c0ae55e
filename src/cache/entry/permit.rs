//! Who leads a flight, and owes all who wait an answer.

use std::sync::Arc;
use std::time::Instant;

use super::{Entry, Slot, State};
use crate::cache::flight::{Landing, Pulse, Seat, Ticket, flight};
use crate::cache::version::Peek;
use crate::source::Source;

/// The leader's duty to answer. Dropped without one, the entry is as before and the waiters elect
/// another leader.
pub(in crate::cache) struct Permit {
    entry: Arc<Entry>,
    /// What the catalogs named when it took off.
    source: Arc<Source>,
    seat: Seat,
    landed: bool,
}

impl Entry {
    pub(super) fn permit(self: &Arc<Self>, source: &Arc<Source>) -> (Permit, Ticket) {
        let (seat, ticket) = flight();
        let (entry, source) = (self.clone(), source.clone());
        (Permit { entry, source, seat, landed: false }, ticket)
    }
}

impl Permit {
    /// Returns the entry this flight is for.
    pub(in crate::cache) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// Says whether the catalogs name another source now: what this flight ends with says nothing
    /// of that.
    pub(in crate::cache) fn is_of_another_source(&self) -> bool {
        self.source.identity() != self.entry.identity()
    }

    /// Returns the clock that the waiters' deadlines are counted from.
    pub(in crate::cache) fn pulse(&self) -> Arc<Pulse> {
        self.seat.pulse()
    }

    /// Says what is known of the body that the flight brings, for who waits for its length alone.
    pub(in crate::cache) fn body_comes(&self, head: Peek) {
        self.entry.state().peeked = Some((Instant::now(), Peek { coming: true, ..head }));
        // After it, so that whoever looks again finds it.
        self.seat.head_known();
    }

    /// Puts the slot where the flight has brought it; the waiters are answered separately, once
    /// the kernel has been told.
    pub(in crate::cache) fn settle(&mut self, change: impl FnOnce(&mut State)) {
        let mut state = self.entry.state();
        state.end_flight();
        self.landed = true;
        change(&mut state);
    }

    /// Answers all who wait.
    pub(in crate::cache) fn answer(self, landing: Landing) {
        self.seat.answer(landing);
    }
}

impl State {
    /// Takes the flight out of the slot and leaves the version at hand, if any.
    fn end_flight(&mut self) {
        if let Some((_, peek)) = &mut self.peeked {
            peek.coming = false;
        }
        self.slot = match std::mem::replace(&mut self.slot, Slot::Absent) {
            Slot::Fetching(_) | Slot::Absent => Slot::Absent,
            Slot::Refreshing(version, _) | Slot::Ready(version) => Slot::Ready(version),
        };
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.landed {
            self.entry.state().end_flight();
        }
    }
}
