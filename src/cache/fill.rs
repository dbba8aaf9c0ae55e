//! Filling the gaps of one blob until it is whole: over one connection, or over several where the
//! origin serves ranges.
//!
//! What readers wait for comes first, by requests of their own; the rest follows behind, or does
//! not come where only what is read is wanted. A body that ends early is asked for from where it
//! ended. Everything is held together by one strong tag: an origin that answers with another
//! version ends the download.
//!
//! One task decides ([`Fill::run`]); each connection is a task that carries bytes ([`carry`]).

mod asking;
mod carry;
mod connection;
mod grant;
mod outcome;
mod plan;
mod rest;
mod shared;
mod trouble;
mod width;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::error::OpenError;
use super::lanes::Lane;
use super::ledger::Reservation;
use crate::metrics::Refusal;
use crate::origin::{Body, Patience};
use asking::Asking;
use connection::{Connection, Ended};
pub(super) use grant::GROWTH;
use plan::{ClaimId, Kind, Plan};
use rest::Rest;
pub(super) use shared::{Job, Shared};
use trouble::Trouble;
use width::{Seen, Width};

/// Only bodies of at least this length are filled over several connections.
const WIDE: u64 = 16 << 20;

/// How long a chunk should keep a connection busy, and the limits of its length.
const CHUNK_TIME: f64 = 0.3;
const SMALLEST_CHUNK: u64 = 2 << 20;
const LARGEST_CHUNK: u64 = 64 << 20;

/// A reader waits for bytes that are fewer than this ahead of a connection, at least.
const NEAR: u64 = 1 << 20;

/// What counts as the time that an answer takes to begin; more was spent in asking again.
const LONGEST_LATENCY: Duration = Duration::from_secs(1);

/// How soon a reader for whom there was no place is looked at again.
const CROWDED: Duration = Duration::from_millis(10);

/// How often the rate is looked at while the number of connections is being decided, and after.
const TICK: Duration = Duration::from_millis(10);
const SLOW_TICK: Duration = Duration::from_secs(1);

/// How a fill ended without a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// Every byte is there; `pieced` says whether more than one answer brought them.
    Whole { pieced: bool },
    /// Gaps are left, and nobody wants them now.
    Aside,
}

/// What the first connection brings: a body, and the bytes it holds of a known length.
pub(super) struct First {
    pub(super) body: Box<dyn Body>,
    /// Where the answer is only a part.
    pub(super) part: Option<Range<u64>>,
}

/// The filling of one blob.
pub(super) struct Fill {
    shared: Arc<Shared>,
    connections: JoinSet<Ended>,
    /// How many connections there may be at once.
    most: usize,
    width: Width,
    trouble: Trouble,
    asking: Asking,
    /// All of the body is to come: the whole was sent where only its beginning was asked for.
    sent_whole: bool,
    /// How much had come when something failed last, and since when it was waited for, until more has
    /// come: meanwhile one connection asks, and one for readers, who take the retries that there are
    /// for the origin.
    recovering: Option<(u64, Option<Instant>)>,
    /// What came with the head is being compared with the part that is gone on with.
    comparing: bool,
    /// A body whose length was not announced has ended.
    ended: bool,
    /// Nothing new is asked for before.
    pause: Option<Instant>,
    /// How long an answer takes to begin.
    latency: Duration,
    began: Instant,
    rest: Rest,
    /// Where a reader waits for whom there was no place: the next to be served.
    turned_away: Option<u64>,
    noting: Option<JoinHandle<()>>,
}

impl Fill {
    /// Prepares the filling of a blob.
    pub(super) fn new(job: Job) -> Fill {
        let most = job.cache.origin.connections(&job.source).max(1);
        let asking = Asking::new(job.ranges, job.offered);
        let wide = asking.ahead() && job.length.is_some_and(|length| length >= WIDE);
        Fill {
            shared: Arc::new(Shared::new(job)),
            connections: JoinSet::new(),
            most,
            width: Width::new(if wide { most } else { 1 }),
            trouble: Trouble::default(),
            asking,
            sent_whole: false,
            recovering: None,
            comparing: false,
            ended: false,
            pause: None,
            latency: Duration::ZERO,
            began: Instant::now(),
            rest: Rest::default(),
            turned_away: None,
            noting: None,
        }
    }

    /// Fills the blob. Gives back the reservation; what has come is on the disk by then.
    ///
    /// # Errors
    /// The origin failed for longer than it is borne with, or has another version; the disk
    /// failed; there is no room; or nobody wants the blob any more ([`Refusal::Interrupted`]).
    pub(super) async fn run(
        mut self,
        first: Option<First>,
    ) -> (Option<Reservation>, Result<Filled, OpenError>) {
        let result = self.fill(first).await;
        self.rest.busy(&self.shared);
        self.connections.shutdown().await;
        self.shared.writes_returned().await;
        if let Some(noting) = self.noting.take() {
            // It only ever logs.
            let _ = noting.await;
        }
        (self.shared.grant.take(), result)
    }

    async fn fill(&mut self, first: Option<First>) -> Result<Filled, OpenError> {
        if let Some(First { body, part }) = first {
            self.sent_whole = part.is_none();
            self.comparing = part.is_some() && self.shared.blob.filled() > 0;
            let (kind, range) = match part {
                Some(part) => (Kind::Chunk, part),
                None => (Kind::Stream, 0..self.shared.length.unwrap_or(u64::MAX)),
            };
            self.begin(kind, range, Some(body), Patience::Cold);
        }
        let (shared, stopping) = (self.shared.clone(), self.shared.cache.stopping());
        tokio::pin!(stopping);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Registered before the look at who waits, and at the end, so that nothing is overlooked.
            let demand = shared.blob.demand();
            tokio::pin!(demand);
            if let Some(broken) = shared.blob.broken() {
                // Another version claims to be the same, and is not.
                return Err(broken.into());
            }
            if self.whole() {
                shared.cache.ledger.committing(shared.blob.id());
                return Ok(Filled::Whole { pieced: shared.pieced() });
            }
            if let (Some(length), true) = (shared.length, self.all()) {
                self.rest.busy(&shared);
                if self.asking.by_ranges() {
                    // It may have begun as one of which only what is read is fetched.
                    shared.grant.ensure(length, 0).await?;
                }
            }
            if self.pause.is_none_or(|until| until <= Instant::now()) {
                self.pause = None;
                if shared.plan().count().0 == 0 && self.turned_away.is_none() {
                    // It begins where a reader waits, who then needs no piece.
                    self.follow();
                }
                self.serve().await?;
                if self.turned_away.is_none() {
                    self.follow();
                }
                if !self.asking.by_ranges() && self.connections.is_empty() {
                    // Whichever connection was the last to end, nobody else brings the rest.
                    self.again()?;
                }
            }
            let looking = !self.connections.is_empty() && self.wide();
            let pressed = shared.cache.ledger.pressed();
            if self.wake().is_some() && self.pause.is_none() && self.rest.may_begin(&shared) {
                shared.cache.ledger.committing(shared.blob.id());
                return Ok(Filled::Aside);
            }
            let wake = self.wake();
            tokio::select! {
                Some(ended) = self.connections.join_next() => {
                    let ended = ended.map_err(|_| stopped())?;
                    self.ended(ended)?;
                }
                () = demand => {}
                () = shared.noted() => self.note(),
                _ = tick.tick(), if looking => self.look(&mut tick),
                () = at(wake), if wake.is_some() => {}
                () = tokio::time::sleep(CROWDED), if self.crowded() => {}
                () = pressed => {}
                () = &mut stopping => return Ok(Filled::Aside),
            }
        }
    }

    /// Says whether every byte is there.
    fn whole(&self) -> bool {
        match self.shared.length {
            Some(length) => self.shared.blob.filled() == length && !self.comparing,
            None => self.ended,
        }
    }

    /// Says whether all of the body is to come, whatever is read.
    fn all(&self) -> bool {
        !self.asking.ahead() || self.wants_all()
    }

    /// Says whether all of the body is wanted.
    fn wants_all(&self) -> bool {
        self.sent_whole || self.shared.source.wants_all() || self.shared.blob.wants_all()
    }

    fn wide(&self) -> bool {
        let long = self.shared.length.is_some_and(|length| length >= WIDE);
        self.asking.ahead() && self.all() && long
    }

    /// Returns how many connections are to bring what is to come anyway.
    fn connections(&self) -> usize {
        if self.asking.ahead() { self.width.connections() } else { 1 }
    }

    /// Says whether a claim may be about to have had its turn, for which a reader waits.
    fn crowded(&self) -> bool {
        let turned_away = self.turned_away.is_some() && self.pause.is_none();
        // The end of a piece brings us here by itself.
        turned_away && self.shared.plan().count().1 < self.most
    }

    /// Asks for what readers wait for and nobody brings soon.
    async fn serve(&mut self) -> Result<(), OpenError> {
        let next = self.turned_away.take().unwrap_or(0);
        let Some(length) = self.shared.length.filter(|_| self.asking.ahead()) else {
            return Ok(());
        };
        let mut wanted = self.shared.blob.wanted();
        let before = wanted.partition_point(|range| range.start < next);
        wanted.rotate_left(before);
        if !wanted.is_empty() {
            self.rest.busy(&self.shared);
        }
        let near = NEAR.max((self.rate() * self.latency.as_secs_f64()) as u64);
        let (shared, recovers) = (self.shared.clone(), self.recovers());
        let lacking = |plan: &Plan, range: &Range<u64>| {
            plan.piece(range, length, near, |range| shared.blob.missing(range))
        };
        for (at, range) in wanted.iter().enumerate() {
            loop {
                let Some(piece) = lacking(&shared.plan(), range) else { break };
                let (filling, pieces) = shared.plan().count();
                if recovers && pieces > 0 {
                    self.turned_away = Some(range.start);
                    return Ok(());
                }
                if filling + pieces >= self.most {
                    if pieces < self.most {
                        shared.stop_one(near);
                    }
                    self.turned_away = Some(range.start);
                    return Ok(());
                }
                // What it takes out of a chunk is counted twice.
                let outstanding = shared.plan().outstanding() + (piece.end - piece.start);
                let needed = shared.blob.filled() + outstanding;
                if let Err(error) = shared.grant.ensure(needed.min(length), GROWTH).await {
                    // Whoever waits for what is under way has its room.
                    let lacked = |range| lacking(&shared.plan(), range);
                    let lacked: Vec<_> = wanted[at..].iter().filter_map(lacked).collect();
                    return self.refuse_at(&lacked, error);
                }
                // It may have come meanwhile, or come near.
                let choose = |plan: &Plan| lacking(plan, range).filter(|now| *now == piece);
                if let Some(chosen) = shared.claim(Kind::Piece, choose) {
                    let lane = shared.cache.lanes.enter(&shared.source.url);
                    self.start(lane, Kind::Piece, chosen);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Keeps as many connections busy as there should be with what is to come anyway.
    fn follow(&mut self) {
        let Some(length) = self.shared.length.filter(|_| self.asking.by_ranges() && self.all())
        else {
            return;
        };
        let (shared, recovers) = (self.shared.clone(), self.recovers());
        loop {
            let (filling, pieces) = shared.plan().count();
            if recovers && filling + pieces > 0 {
                return;
            }
            if filling >= self.connections() || filling + pieces >= self.most {
                return;
            }
            // The first may always be; one more is not to be one too many for the origin, which may
            // have other bodies to send.
            let (lanes, url) = (&shared.cache.lanes, &shared.source.url);
            let lane = match filling {
                0 => Some(lanes.enter(url)),
                _ => lanes.enter_within(url, self.most),
            };
            let Some(lane) = lane else { return };
            let (from, size) = (shared.position(), self.chunk(length));
            let missing = |range| shared.blob.missing(range);
            let choose = |plan: &Plan| plan.chunk(from, size, length, missing);
            let Some(chosen) = shared.claim(Kind::Chunk, choose) else { return };
            self.start(lane, Kind::Chunk, chosen);
        }
    }

    /// Returns how long a chunk should be: long enough for its round trip not to matter, short
    /// enough for the last ones to end together.
    fn chunk(&self, length: u64) -> u64 {
        let connections = self.connections() as u64;
        if connections == 1 {
            return length;
        }
        let left = length.saturating_sub(self.shared.blob.filled());
        let each = self.rate() / connections as f64;
        let time = CHUNK_TIME.max(10.0 * self.latency.as_secs_f64());
        let fair = (left / (2 * connections)).max(SMALLEST_CHUNK);
        ((each * time) as u64).clamp(SMALLEST_CHUNK, LARGEST_CHUNK).min(fair)
    }

    /// Returns the mean rate so far, in bytes per second.
    fn rate(&self) -> f64 {
        let time = self.began.elapsed().as_secs_f64();
        if time > 0.0 { self.shared.brought() as f64 / time } else { 0.0 }
    }

    /// Starts the connection that brings what a GET of the whole does, or has brought already.
    fn begin(
        &mut self,
        kind: Kind,
        range: Range<u64>,
        body: Option<Box<dyn Body>>,
        patience: Patience,
    ) {
        let lane = self.shared.cache.lanes.enter(&self.shared.source.url);
        if let Some(chosen) = self.shared.claim(kind, |_| Some(range)) {
            let connection = Connection::new(&self.shared, kind, chosen, lane);
            self.connections.spawn(connection.run(body, patience));
        }
    }

    /// Starts a connection that asks for a range.
    fn start(&mut self, lane: Lane, kind: Kind, chosen: (ClaimId, Range<u64>)) {
        let patience = self.patience();
        let connection = Connection::new(&self.shared, kind, chosen, lane);
        self.connections.spawn(connection.run(None, patience));
    }

    /// Looks whether more connections would help.
    fn look(&mut self, tick: &mut tokio::time::Interval) {
        let now = Instant::now();
        let Some(length) = self.shared.length else { return };
        let missing = length.saturating_sub(self.shared.blob.filled());
        let seen = {
            let plan = self.shared.plan();
            Seen { filling: plan.count().0, flowing: plan.flowing() }
        };
        self.width.sample(now, self.shared.brought(), missing, seen);
        let every = if self.width.settled() { SLOW_TICK } else { TICK };
        if tick.period() != every {
            *tick = interval(every);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            tick.reset();
        }
    }

    /// Returns when to look again without being told.
    fn wake(&mut self) -> Option<Instant> {
        if self.pause.is_some() {
            return self.pause;
        }
        if !self.connections.is_empty() || self.all() {
            self.rest.busy(&self.shared);
            return None;
        }
        Some(self.rest.wake(&self.shared))
    }

    /// Has the part's sidecar say what is there, for a successor of this daemon.
    fn note(&mut self) {
        if self.noting.as_ref().is_some_and(|noting| !noting.is_finished()) {
            return;
        }
        let shared = self.shared.clone();
        self.noting = Some(tokio::task::spawn_blocking(move || shared.write_note()));
    }
}

async fn at(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}

fn stopped() -> OpenError {
    OpenError::new(Refusal::Store, "the daemon is stopping")
}
