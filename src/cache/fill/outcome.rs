//! What the end of a connection means for the download.

use std::time::Instant;

use super::carry::Fault;
use super::connection::{Ended, Ending};
use super::plan::Kind;
use super::trouble::Trouble;
use super::{Fill, LONGEST_LATENCY};
use crate::cache::error::OpenError;
use crate::metrics::Refusal;
use crate::origin::{Failure, FailureKind};

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
                if kind != Kind::Stream && !given {
                    self.served = true;
                    self.offered |= self.ranges && !self.alone;
                }
                if kind == Kind::Stream {
                    self.ended |= self.shared.length.is_none();
                    self.displaced |= self.ranges;
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
            Ending::Changed if self.displaced && kind != Kind::Stream => {
                self.without_ranges("another version came for a range")
            }
            Ending::Changed => Err(self.changed()),
            Ending::NotServed => self.without_ranges("the origin serves no ranges"),
            Ending::Unusable(failure) => self.without_ranges(&failure.to_string()),
            Ending::Failed(Fault::Final(error)) => Err(error),
            // The whole is asked for when the last of these has ended.
            Ending::Refused(_) | Ending::Failed(_) if !self.ranges && kind != Kind::Stream => {
                Ok(())
            }
            Ending::Refused(failure) => {
                self.recovering = Some(self.shared.brought());
                self.given_up(kind, &failure)
            }
            Ending::Failed(Fault::Origin(failure)) if !self.ranges => Err(self.refusal(&failure)),
            Ending::Failed(Fault::Origin(failure)) => {
                let now = Instant::now();
                self.recovering = Some(self.shared.brought());
                if kind != Kind::Stream && gained == 0 && self.displaced && !self.served {
                    // That one brought bytes.
                    return self.without_ranges(&failure.to_string());
                }
                let Some(pause) = self.trouble.failed(gained, self.shared.brought(), now) else {
                    return match kind {
                        Kind::Chunk | Kind::Piece
                            if self.all() || !away(&failure) || self.refused_some =>
                        {
                            self.without_ranges(&failure.to_string())
                        }
                        _ => self.given_up(kind, &failure),
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
        if std::mem::replace(&mut self.asked_again, true) {
            let text = format!("{}: the whole came, and gaps are left", self.shared.entry.name());
            return Err(OpenError::new(Refusal::BadBody, text));
        }
        let length = self.shared.length.unwrap_or(u64::MAX);
        self.shared.plan().read_through();
        self.begin(Kind::Stream, 0..length, None);
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
        self.leave_to_others();
        self.shared.plan().read_through();
        Ok(())
    }

    fn leave_to_others(&mut self) {
        self.alone = true;
        self.offered = false;
    }

    /// Goes on without ranges: with the answer under way, else with the whole once more.
    fn without_ranges(&mut self, why: &str) -> Result<(), OpenError> {
        if self.streams() {
            return self.stream_alone(why);
        }
        self.ranges = false;
        self.offered = false;
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

    /// Decides what it means that the origin failed for good. Where others bring all of the body, it
    /// was one connection too many, whatever it said. Where one answer did until it made way for
    /// ranges, it is asked for again, and so is the whole of what no range is given of. Where only what
    /// is read is fetched, those who wait now are refused, and what is there goes on being served: it
    /// must not go because somebody wanted more while the origin was away.
    ///
    /// # Errors
    /// The failure, where nobody else brings what was to come.
    fn given_up(&mut self, kind: Kind, failure: &Failure) -> Result<(), OpenError> {
        let filling = self.shared.plan().count().0;
        if kind != Kind::Stream && filling > 0 && self.all() {
            tracing::info!(name = %self.shared.entry.name(), why = %failure, "left to the other connections");
            match kind {
                Kind::Piece => self.leave_to_others(),
                _ => self.width.refused(filling, Instant::now()),
            }
            return Ok(());
        }
        // It may still give all of what it gives no range of.
        let outage = self.served && away(failure);
        let vouched = self.resumed && failure.kind == FailureKind::Status;
        let whole = self.displaced || vouched;
        if kind != Kind::Stream && (whole && !outage || decided(failure)) {
            return self.without_ranges(&failure.to_string());
        }
        let error = self.refusal(failure);
        if !away(failure) || !self.ranges || self.all() || self.shared.length.is_none() {
            return Err(error);
        }
        tracing::warn!(name = %self.shared.entry.name(), why = error.why.as_str(), %error, "a part could not be fetched");
        self.shared.blob.refuse(&error.broken());
        self.trouble = Trouble::default();
        self.refused_some = true;
        Ok(())
    }

    fn refusal(&self, failure: &Failure) -> OpenError {
        let mut error = OpenError::from(failure);
        error.message = format!("{}: {}", self.shared.entry.name(), error.message);
        error
    }
}

/// Says whether the origin refused, and would again.
fn decided(failure: &Failure) -> bool {
    matches!(failure.kind, FailureKind::Gone | FailureKind::Denied | FailureKind::Redirect)
}

/// Says whether the origin could not be had at all, which may pass.
fn away(failure: &Failure) -> bool {
    matches!(failure.kind, FailureKind::Unreachable | FailureKind::Silent | FailureKind::Status)
}
