//! What is remembered of a failure.

use std::time::{Duration, Instant, SystemTime};

use super::State;
use crate::cache::OpenError;

impl State {
    /// Notes a failure, which is answered again without asking for as long as `remembered`.
    pub(in crate::cache) fn failed(&mut self, error: &OpenError, remembered: Duration) {
        self.failure = Some((Instant::now() + remembered, error.clone()));
        self.last_error = Some((SystemTime::now(), error.clone()));
    }

    /// Forgets the version at hand, whose download failed; what it was to replace comes back. Of a
    /// source that the catalogs name no more the failure says nothing about the one they do.
    pub(in crate::cache) fn lost_to(&mut self, error: &OpenError, remembered: Duration) {
        let of_another = self.held().is_some_and(|version| version.source != self.identity);
        self.fall_back();
        if !of_another {
            self.failed(error, remembered);
        }
    }
}
