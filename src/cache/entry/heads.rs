//! What is known of a body that was not fetched.

use std::time::{Duration, Instant};

use super::State;
use crate::cache::freshness::JUST_LANDED;
use crate::cache::version::Peek;

impl State {
    /// Returns what the last head said, and when, if it is of the source in force.
    pub(in crate::cache) fn peeked(&self) -> Option<&(Instant, Peek)> {
        self.peeked.as_ref().filter(|(_, peek)| peek.source == self.identity)
    }

    /// Returns what a stat is told of it without a question: for as long as an answer holds, or its
    /// body comes.
    pub(in crate::cache) fn tellable(&self, now: Instant, window: Duration) -> Option<&Peek> {
        let (at, peek) = self.peeked()?;
        let holds = peek.coming || now.duration_since(*at) < window.max(JUST_LANDED);
        holds.then_some(peek)
    }
}
