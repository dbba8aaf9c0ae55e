//! One request and its body, from the asking to the last byte.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::carry::{Carrier, Fault};
use super::plan::{ClaimId, Kind};
use super::shared::Shared;
use crate::cache::error::OpenError;
use crate::cache::lanes::Lane;
use crate::origin::{Answer, Ask, Body, Failure, Patience, RangeAnswer, RangeAsk};

/// A claim with the connection that is to fulfil it. Dropped, the claim is free again.
pub(super) struct Connection {
    shared: Arc<Shared>,
    kind: Kind,
    claim: ClaimId,
    range: Range<u64>,
    /// Its place among those of its origin.
    _lane: Lane,
}

/// What came of a connection.
pub(super) struct Ended {
    pub(super) kind: Kind,
    /// It was given a body, and asked for none.
    pub(super) given: bool,
    /// When it was begun.
    pub(super) asked: Instant,
    /// Bytes that it brought.
    pub(super) gained: u64,
    /// How long the head of its answer took, where it had one.
    pub(super) latency: Option<Duration>,
    pub(super) ending: Ending,
}

/// How a connection ended.
pub(super) enum Ending {
    /// As planned.
    Done,
    /// For a piece, before there was an answer.
    MadeWay,
    /// Before its end.
    Failed(Fault),
    /// With no usable answer, after all the retries there are.
    Refused(Failure),
    /// The origin has another version.
    Changed,
    /// The origin serves no ranges.
    NotServed,
    /// What it answers to a question for a range cannot be used.
    Unusable(Failure),
    /// The whole would come, and there is no room for it.
    NoRoom(OpenError),
}

/// What a question brought.
enum Got {
    Body(Box<dyn Body>),
    Nothing(Ending),
}

impl Connection {
    /// Takes up a claim.
    pub(super) fn new(
        shared: &Arc<Shared>,
        kind: Kind,
        (claim, range): (ClaimId, Range<u64>),
        lane: Lane,
    ) -> Connection {
        Connection { shared: shared.clone(), kind, claim, range, _lane: lane }
    }

    /// Asks for the range, unless there is a body already, and carries what comes to the disk.
    pub(super) async fn run(self, body: Option<Box<dyn Body>>, patience: Patience) -> Ended {
        let (mut latency, given, asked) = (None, body.is_some(), Instant::now());
        let got = match body {
            Some(body) => Got::Body(body),
            None => {
                tokio::select! {
                    got = self.ask(patience) => {
                        latency = matches!(got, Got::Body(_)).then(|| asked.elapsed());
                        got
                    }
                    () = self.shared.stopped(self.claim) => Got::Nothing(Ending::MadeWay),
                }
            }
        };
        let (ending, gained) = match got {
            Got::Nothing(ending) => (ending, 0),
            Got::Body(body) => self.carry(body).await,
        };
        Ended { kind: self.kind, given, asked, gained, latency, ending }
    }

    async fn ask(&self, patience: Patience) -> Got {
        match (self.kind, self.shared.validators().strong(), self.shared.length) {
            (Kind::Chunk | Kind::Piece, Some(_), Some(length)) => {
                self.ask_range(length, patience).await
            }
            _ => self.ask_whole(patience).await,
        }
    }

    async fn ask_range(&self, length: u64, patience: Patience) -> Got {
        let ask = RangeAsk {
            source: self.shared.source.clone(),
            range: self.range.clone(),
            validators: self.shared.validators().clone(),
            length,
            patience,
        };
        match self.shared.cache.origin.range(ask).await {
            Ok(RangeAnswer::Part(body)) => Got::Body(body),
            Ok(RangeAnswer::Changed) => Got::Nothing(Ending::Changed),
            Ok(RangeAnswer::NotServed) => Got::Nothing(Ending::NotServed),
            Ok(RangeAnswer::Unusable(failure)) => Got::Nothing(Ending::Unusable(failure)),
            Err(failure) => Got::Nothing(Ending::Refused(failure)),
        }
    }

    /// Asks for the whole body once more; it counts only if it is of the same version.
    async fn ask_whole(&self, patience: Patience) -> Got {
        let ask =
            Ask { source: self.shared.source.clone(), validators: None, patience, first: None };
        match self.shared.cache.origin.get(ask).await {
            Ok(Answer::Found(head, body))
                if head.part.is_none()
                    && head.length == self.shared.length
                    && head.validators.same_strong(self.shared.validators()) =>
            {
                // Only what was read may have been going to come.
                let room = match self.shared.length {
                    Some(length) => self.shared.grant.ensure(length, 0).await,
                    None => Ok(()),
                };
                match room {
                    Ok(()) => Got::Body(body),
                    Err(error) => Got::Nothing(Ending::NoRoom(error)),
                }
            }
            Ok(_) => Got::Nothing(Ending::Changed),
            Err(failure) => Got::Nothing(Ending::Refused(failure)),
        }
    }

    async fn carry(&self, body: Box<dyn Body>) -> (Ending, u64) {
        // What a reader waits for does not queue behind other downloads.
        let slots = (self.kind != Kind::Piece).then(|| self.shared.cache.slots.clone());
        let carrier = Carrier::new(self.shared.clone(), self.claim, self.range.start);
        let (gained, result) = carrier.run(body, slots).await;
        match result {
            Ok(()) => (Ending::Done, gained),
            Err(fault) => (Ending::Failed(fault), gained),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.plan().drop_claim(self.claim);
    }
}
