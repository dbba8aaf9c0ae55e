//! The one running validation or download of an entry: the leader holds the permit, others a
//! ticket.
//!
//! A flight is its own task, so a caller's deadline or death ends its wait and not the flight. A
//! permit dropped without an answer tells the waiters that the leader died, and they elect another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::OpenError;
use super::ledger::Pin;
use super::version::{Peek, Version};

/// What a flight brought.
#[derive(Clone)]
pub(super) enum Landed {
    /// A version, already pinned; `stale` when its origin failed.
    Version { version: Arc<Version>, pin: Pin, stale: bool },
    /// Only the head was asked for.
    Head(Peek),
}

/// The answer that all who wait share.
pub(super) type Landing = Result<Landed, OpenError>;

/// Why a wait for a flight ended without its answer.
pub(super) enum NoLanding {
    /// The leader died; elect another.
    LeaderDied,
    /// No progress for as long as the caller would wait.
    Stalled(Duration),
}

/// The seat of one who waits.
#[derive(Clone)]
pub(super) struct Ticket {
    landing: watch::Receiver<Option<Landing>>,
    pulse: Arc<Pulse>,
}

/// The seat of the leader's answer.
pub(super) struct Seat {
    landing: watch::Sender<Option<Landing>>,
    pulse: Arc<Pulse>,
}

/// The moment of the last progress of a flight.
pub(super) struct Pulse {
    start: Instant,
    last: AtomicU64,
}

impl Pulse {
    /// Notes progress.
    pub(super) fn beat(&self) {
        self.last.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

/// Opens a flight.
pub(super) fn flight() -> (Seat, Ticket) {
    let (tx, rx) = watch::channel(None);
    let pulse = Arc::new(Pulse { start: Instant::now(), last: AtomicU64::new(0) });
    (Seat { landing: tx, pulse: pulse.clone() }, Ticket { landing: rx, pulse })
}

impl Seat {
    /// Answers all who wait.
    pub(super) fn answer(&self, landing: Landing) {
        // Nobody waiting any more is no error: the flight has served the cache.
        self.landing.send_replace(Some(landing));
    }

    /// Returns the clock that deadlines are counted from.
    pub(super) fn pulse(&self) -> Arc<Pulse> {
        self.pulse.clone()
    }
}

impl Ticket {
    /// Waits for the answer, for as long as there is progress at least every `stall`.
    pub(super) async fn wait(mut self, stall: Duration) -> Result<Landing, NoLanding> {
        let began = Instant::now();
        loop {
            let deadline = self.pulse.last().max(began) + stall;
            let landed = self.landing.wait_for(Option::is_some);
            match tokio::time::timeout_at(deadline.into(), landed).await {
                Ok(Ok(landing)) => {
                    return landing.clone().ok_or(NoLanding::LeaderDied);
                }
                Ok(Err(_closed)) => return Err(NoLanding::LeaderDied),
                Err(_elapsed) if self.pulse.last() + stall > Instant::now() => {}
                Err(_elapsed) => return Err(NoLanding::Stalled(stall)),
            }
        }
    }
}
