//! What the end of a connection means for the download.

use std::ops::Range;
use std::time::{Duration, Instant};

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
        let Ended { kind, given, asked, gained, latency, ending } = ended;
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
                        self.asking.stream_ended();
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
            Ending::Changed
                if self.streams() || self.asking.gave_whole() && kind != Kind::Stream =>
            {
                self.without_ranges("another version came for a range");
                Ok(())
            }
            Ending::Changed => Err(self.changed()),
            Ending::NotServed => {
                self.without_ranges("the origin serves no ranges");
                Ok(())
            }
            Ending::Unusable(failure) => {
                self.without_ranges(&failure.to_string());
                Ok(())
            }
            Ending::Failed(Fault::Final(error)) => Err(error),
            Ending::NoRoom(error) => self.refuse(error),
            // The whole is asked for when the last of these has ended.
            Ending::Refused(_) | Ending::Failed(_)
                if !self.asking.by_ranges() && kind != Kind::Stream =>
            {
                Ok(())
            }
            Ending::Refused(failure) => {
                self.recover(asked);
                self.given_up(kind, &failure, false)
            }
            Ending::Failed(Fault::Origin(failure)) => {
                // What brings bytes is not waited for since it was asked for.
                self.recover(if gained > 0 { Instant::now() } else { asked });
                if !self.asking.by_ranges() {
                    let error = self.refusal(&failure);
                    // What it brought is there to be read.
                    return match gained > 0 || failure.passing {
                        true => self.refuse(error),
                        false => Err(error),
                    };
                }
                let alone = self.shared.plan().count().0 == 0;
                if alone && gained == 0 && self.asking.gave_whole_alone() {
                    // That one brought bytes, and nobody else does.
                    self.instead(&failure);
                    return Ok(());
                }
                let (silent, now) = (failure.kind == FailureKind::Silent, Instant::now());
                let body = Failed { bytes: gained, silent, asked, brought: self.shared.brought() };
                let Some(pause) = self.trouble.failed(body, now) else {
                    return self.given_up(kind, &failure, true);
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

    /// Notes a failure of what has been waited for since then.
    fn recover(&mut self, asked: Instant) {
        self.recovers();
        let since = self.recovering.and_then(|(_, since)| since);
        let since = since.map_or(asked, |since| since.min(asked));
        self.recovering = Some((self.shared.brought(), Some(since)));
    }

    /// Says whether nothing has come since the last failure.
    pub(super) fn recovers(&mut self) -> bool {
        self.recovering.take_if(|(before, _)| self.shared.brought() > *before);
        self.recovering.is_some()
    }

    /// Says whether one answer goes on bringing all there is, whatever becomes of others.
    fn streams(&self) -> bool {
        self.all() && self.shared.plan().streams()
    }

    /// Leaves what comes to the answer under way: asking for ranges ahead of it went wrong. Should it
    /// be cut, the rest is asked for all the same, and the answer to that decides.
    fn stream_alone(&mut self, why: &str) {
        tracing::info!(name = %self.shared.entry.name(), why, "no range is asked for while the whole comes");
        self.asking.one_by_one();
        self.shared.plan().read_through();
    }

    /// Goes on without ranges, of which none make sense.
    fn without_ranges(&mut self, why: &str) {
        self.begin_anew(why, Patience::Cold);
    }

    /// Goes on without ranges, which failed.
    fn instead(&mut self, failure: &Failure) {
        let since = self.recovering.and_then(|(_, since)| since);
        let spent = since.map_or(Duration::ZERO, |since| since.elapsed());
        self.begin_anew(&failure.to_string(), Patience::Instead { spent });
        if !self.asking.by_ranges() {
            // They may be silent as well, and the whole is not asked for beside them.
            self.shared.stop_all();
        }
    }

    /// Goes on with the answer that brings the whole, else with the whole once more.
    fn begin_anew(&mut self, why: &str, patience: Patience) {
        if self.streams() {
            return self.stream_alone(why);
        }
        self.asking.whole(patience);
        tracing::info!(name = %self.shared.entry.name(), why, "the body is fetched from its beginning");
    }

    fn changed(&self) -> OpenError {
        let text = format!(
            "{}: the origin has another version now than the one being fetched",
            self.shared.entry.name()
        );
        OpenError::new(Refusal::Changed, text)
    }

    /// Returns how long a range is tried. One that may never come leaves the whole time to come before
    /// a reader has waited for too long.
    pub(super) fn patience(&self) -> Patience {
        match self.all() && !self.asking.gave_range() {
            true => Patience::Range,
            false => Patience::Cold,
        }
    }

    /// Decides what it means that the origin failed for good; `begun` says whether it answered. Where
    /// others bring all of the body, it was one connection too many, whatever it said. What no range is
    /// given of may still come with the whole; where only what is read is fetched, and the origin is
    /// away, that would be more than anybody wants, and an outage is not the end of it.
    ///
    /// # Errors
    /// The failure, where nobody else brings what was to come.
    fn given_up(&mut self, kind: Kind, failure: &Failure, begun: bool) -> Result<(), OpenError> {
        let filling = self.shared.plan().count().0;
        if self.streams() && (begun || kind == Kind::Piece) {
            self.stream_alone(&failure.to_string());
            return Ok(());
        }
        if kind != Kind::Stream && filling > 0 && self.all() {
            tracing::info!(name = %self.shared.entry.name(), why = %failure, "left to the other connections");
            match kind {
                Kind::Piece => self.asking.one_by_one(),
                _ => self.width.refused(filling, Instant::now()),
            }
            return Ok(());
        }
        if self.asking.by_ranges() && (begun || !failure.passing || self.all()) {
            self.instead(failure);
            return Ok(());
        }
        let error = self.refusal(failure);
        if failure.passing { self.refuse(error) } else { Err(error) }
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
        // Who asks next has not waited yet.
        self.recovering = Some((self.shared.brought(), None));
        self.asking.ranges_again();
        Ok(())
    }

    /// As [`refuse`](Fill::refuse), of those alone who wait for bytes in these ranges.
    ///
    /// # Errors
    /// The same.
    pub(super) fn refuse_at(
        &self,
        ranges: &[Range<u64>],
        error: OpenError,
    ) -> Result<(), OpenError> {
        if self.wants_all() {
            return Err(error);
        }
        tracing::warn!(name = %self.shared.entry.name(), why = error.why.as_str(), %error, "a part could not be fetched");
        let reason = error.broken();
        ranges.iter().for_each(|range| self.shared.blob.refuse_at(range, &reason));
        Ok(())
    }

    fn refusal(&self, failure: &Failure) -> OpenError {
        let mut error = OpenError::from(failure);
        error.message = format!("{}: {}", self.shared.entry.name(), error.message);
        error
    }
}
