//! What the end of a connection means for the download.

use std::time::Instant;

use super::carry::Fault;
use super::connection::{Ended, Ending};
use super::plan::Kind;
use super::trouble::{Failed, Trouble};
use super::{Fill, LONGEST_LATENCY};
use crate::cache::error::OpenError;
use crate::metrics::Refusal;
use crate::origin::{Failure, FailureKind, Patience};

impl Fill {
    /// Decides what the end of a connection means.
    ///
    /// # Errors
    /// The end of the download: nobody else brings what this connection was to bring.
    pub(super) fn ended(&mut self, ended: Ended) -> Result<(), OpenError> {
        let Ended { kind, given, gained, latency, ending } = ended;
        if let Some(latency) = latency {
            self.latency = latency.min(LONGEST_LATENCY);
        }
        self.comparing &= !given;
        match ending {
            Ending::MadeWay => Ok(()),
            Ending::Done => {
                if gained > 0 {
                    self.trouble.came();
                }
                match kind {
                    Kind::Stream => {
                        self.ended |= self.shared.length.is_none();
                        self.asking.stream_made_way();
                    }
                    Kind::Chunk | Kind::Piece if !given => self.asking.range_came(),
                    Kind::Chunk | Kind::Piece => {}
                }
                Ok(())
            }
            // Whatever became of others, every byte has come meanwhile.
            Ending::Changed
            | Ending::NotServed
            | Ending::Unusable(_)
            | Ending::Refused(_)
            | Ending::Failed(Fault::Origin(_))
                if self.whole() =>
            {
                Ok(())
            }
            Ending::Changed if self.streams() => {
                self.stream_alone("another version came for a range")
            }
            Ending::Changed if self.asking.gave_whole() && kind != Kind::Stream => {
                self.without_ranges("another version came for a range")
            }
            Ending::Changed => Err(self.changed()),
            Ending::NotServed => self.without_ranges("the origin serves no ranges"),
            Ending::Unusable(failure) => self.without_ranges(&failure.to_string()),
            Ending::Failed(Fault::Final(error)) => Err(error),
            Ending::NoRoom(error) => self.refuse(error),
            // The whole is asked for when the last of these has ended.
            Ending::Refused(_) | Ending::Failed(_)
                if !self.asking.by_ranges() && kind != Kind::Stream =>
            {
                Ok(())
            }
            Ending::Refused(failure) => {
                self.recovering = Some(self.shared.brought());
                self.given_up(kind, &failure)
            }
            Ending::Failed(Fault::Origin(failure)) => {
                let brought = self.shared.brought();
                self.recovering = Some(brought);
                let silent = failure.kind == FailureKind::Silent;
                let body = Failed { bytes: gained, silent, brought };
                if !self.asking.by_ranges() {
                    return self.given_up(kind, &failure);
                }
                if kind != Kind::Stream && body.in_vain() && self.asking.gave_whole_alone() {
                    // That one brought bytes.
                    return self.instead(&failure);
                }
                let now = Instant::now();
                let Some(pause) = self.trouble.failed(body, now) else {
                    return match kind {
                        Kind::Stream => self.given_up(kind, &failure),
                        // It answers, so it is there; its ranges are not.
                        Kind::Chunk | Kind::Piece => self.instead(&failure),
                    };
                };
                tracing::debug!(name = %self.shared.entry.name(), %failure, "a body ended early; the rest is asked for");
                self.shared.cache.counters.resumed.inc();
                self.pause = Some(now + pause);
                Ok(())
            }
        }
    }

    /// Fetches the whole body once more, for what is still missing of it.
    ///
    /// # Errors
    /// It came before and left gaps, so it would again.
    pub(super) fn again(&mut self) -> Result<(), OpenError> {
        let Some(patience) = self.asking.ask_whole() else {
            let text = format!("{}: the whole came, and gaps are left", self.shared.entry.name());
            return Err(OpenError::new(Refusal::BadBody, text));
        };
        let length = self.shared.length.unwrap_or(u64::MAX);
        self.shared.plan().read_through();
        self.begin(Kind::Stream, 0..length, None, patience);
        Ok(())
    }

    /// Says whether nothing has come since the last failure.
    pub(super) fn recovers(&mut self) -> bool {
        self.recovering.take_if(|before| self.shared.brought() > *before);
        self.recovering.is_some()
    }

    /// Says whether one answer goes on bringing all there is, whatever becomes of others.
    fn streams(&self) -> bool {
        self.all() && self.shared.plan().streams()
    }

    /// Leaves what comes to the answer under way: asking for ranges ahead of it went wrong. Should it
    /// be cut, the rest is asked for all the same, and the answer to that decides.
    fn stream_alone(&mut self, why: &str) -> Result<(), OpenError> {
        tracing::info!(name = %self.shared.entry.name(), why, "no range is asked for while the whole comes");
        self.asking.one_by_one();
        self.shared.plan().read_through();
        Ok(())
    }

    /// Goes on without ranges: with the answer under way, else with the whole once more.
    fn without_ranges(&mut self, why: &str) -> Result<(), OpenError> {
        self.begin_anew(why, Patience::Cold)
    }

    /// The same after ranges failed for as long as they are borne with.
    fn instead(&mut self, failure: &Failure) -> Result<(), OpenError> {
        self.begin_anew(&failure.to_string(), Patience::Instead)
    }

    fn begin_anew(&mut self, why: &str, patience: Patience) -> Result<(), OpenError> {
        if self.streams() {
            return self.stream_alone(why);
        }
        self.asking.whole(patience);
        tracing::info!(name = %self.shared.entry.name(), why, "the body is fetched from its beginning");
        Ok(())
    }

    fn changed(&self) -> OpenError {
        let text = format!(
            "{}: the origin has another version now than the one being fetched",
            self.shared.entry.name()
        );
        OpenError::new(Refusal::Changed, text)
    }

    /// Says whether the whole is asked for where ranges are refused. Where only what is read is
    /// fetched, and ranges have come, it is taken for an outage: the whole is more than anybody wants.
    fn has_whole_to_ask(&self) -> bool {
        self.asking.by_ranges() && (self.all() || !self.asking.gave_range())
    }

    /// Returns how long a range is tried: with the whole, no longer than a reader waits.
    pub(super) fn patience(&self) -> Patience {
        if self.has_whole_to_ask() { Patience::Range } else { Patience::Cold }
    }

    /// Decides what it means that the origin failed for good. Where others bring all of the body, it
    /// was one connection too many, whatever it said. What no range is given of may still come with
    /// the whole. Where only what is read is fetched, an outage is not the end of it.
    ///
    /// # Errors
    /// The failure, where nobody else brings what was to come.
    fn given_up(&mut self, kind: Kind, failure: &Failure) -> Result<(), OpenError> {
        let filling = self.shared.plan().count().0;
        if kind != Kind::Stream && filling > 0 && self.all() {
            tracing::info!(name = %self.shared.entry.name(), why = %failure, "left to the other connections");
            match kind {
                Kind::Piece => self.asking.one_by_one(),
                _ => self.width.refused(filling, Instant::now()),
            }
            return Ok(());
        }
        if kind != Kind::Stream && (self.has_whole_to_ask() || !away(failure)) {
            return self.instead(failure);
        }
        let error = self.refusal(failure);
        if away(failure) { self.refuse(error) } else { Err(error) }
    }

    /// Refuses those who wait what they wait for, where only what is read is fetched. What is there
    /// goes on being served: it must not go because somebody wanted more while that could not be had.
    ///
    /// # Errors
    /// The same, where all is wanted.
    fn refuse(&mut self, error: OpenError) -> Result<(), OpenError> {
        if !self.asking.was_ahead() || self.wants_all() {
            return Err(error);
        }
        tracing::warn!(name = %self.shared.entry.name(), why = error.why.as_str(), %error, "a part could not be fetched");
        self.shared.blob.refuse(&error.broken());
        self.trouble = Trouble::default();
        self.asking.ranges_again();
        Ok(())
    }

    fn refusal(&self, failure: &Failure) -> OpenError {
        let mut error = OpenError::from(failure);
        error.message = format!("{}: {}", self.shared.entry.name(), error.message);
        error
    }
}

/// Says whether the origin could not be had at all, which may pass.
fn away(failure: &Failure) -> bool {
    matches!(failure.kind, FailureKind::Unreachable | FailureKind::Silent | FailureKind::Status)
}
