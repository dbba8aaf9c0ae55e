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
    /// Who waits for a length alone may look for it now.
    HeadKnown,
    /// No progress for as long as the caller would wait.
    Stalled(Duration),
}

/// What those who wait are told.
#[derive(Default)]
struct Told {
    landing: Option<Landing>,
    /// How often a head became known whose body the flight brings.
    heads: u32,
}

/// The seat of one who waits.
#[derive(Clone)]
pub(super) struct Ticket {
    told: watch::Receiver<Told>,
    pulse: Arc<Pulse>,
    /// Which heads were known to one who waits for a length alone.
    heads: Option<u32>,
}

/// The seat of the leader's answer.
pub(super) struct Seat {
    told: watch::Sender<Told>,
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
    let (tx, rx) = watch::channel(Told::default());
    let pulse = Arc::new(Pulse { start: Instant::now(), last: AtomicU64::new(0) });
    (Seat { told: tx, pulse: pulse.clone() }, Ticket { told: rx, pulse, heads: None })
}

impl Seat {
    /// Answers all who wait.
    pub(super) fn answer(&self, landing: Landing) {
        // Nobody waiting any more is no error: the flight has served the cache.
        self.told.send_modify(|told| told.landing = Some(landing));
    }

    /// Has those look again who wait for a length alone.
    pub(super) fn head_known(&self) {
        self.told.send_modify(|told| told.heads += 1);
    }

    /// Returns the clock that deadlines are counted from.
    pub(super) fn pulse(&self) -> Arc<Pulse> {
        self.pulse.clone()
    }
}

impl Ticket {
    /// Returns a seat for one who waits for a length that is not known yet.
    pub(super) fn for_length(&self) -> Ticket {
        Ticket { heads: Some(self.told.borrow().heads), ..self.clone() }
    }

    /// Waits for the answer, for as long as there is progress at least every `stall`.
    pub(super) async fn wait(mut self, stall: Duration) -> Result<Landing, NoLanding> {
        let began = Instant::now();
        loop {
            let deadline = self.pulse.last().max(began) + stall;
            let known = self.heads;
            let told = self.told.wait_for(|told| {
                told.landing.is_some() || known.is_some_and(|heads| told.heads > heads)
            });
            match tokio::time::timeout_at(deadline.into(), told).await {
                Ok(Ok(told)) => return told.landing.clone().ok_or(NoLanding::HeadKnown),
                Ok(Err(_closed)) => return Err(NoLanding::LeaderDied),
                Err(_elapsed) if self.pulse.last() + stall > Instant::now() => {}
                Err(_elapsed) => return Err(NoLanding::Stalled(stall)),
            }
        }
    }
}
