//! The body of an answer, counted and timed.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Response;

use super::fault::Fault;
use super::settings::OriginSettings;
use super::stats::{OriginStats, count};
use super::{Body, Failure, FailureKind};
use crate::types::Pending;

/// A body that is being received.
pub(super) struct HttpBody {
    response: Response,
    /// `GET <url>`, without secrets.
    what: String,
    expected: Option<u64>,
    received: u64,
    pace: Pace,
    idle_timeout: Duration,
    stats: Arc<OriginStats>,
    /// The end, or the failure, that every further call answers.
    over: Option<Result<(), Failure>>,
}

impl HttpBody {
    /// Returns the body of an answer whose head is read; `expected` is its Content-Length.
    pub(super) fn new(
        response: Response,
        what: String,
        expected: Option<u64>,
        settings: &OriginSettings,
        stats: Arc<OriginStats>,
    ) -> HttpBody {
        HttpBody {
            response,
            what,
            expected,
            received: 0,
            pace: Pace::new(settings.floor, settings.floor_window),
            idle_timeout: settings.idle_timeout,
            stats,
            over: None,
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        match &self.over {
            None => {}
            Some(Ok(())) => return Ok(None),
            Some(Err(failure)) => return Err(failure.clone()),
        }
        let result = self.receive().await;
        match &result {
            Ok(Some(_)) => {}
            Ok(None) => self.over = Some(Ok(())),
            Err(failure) => {
                count(self.stats.failed(failure.kind));
                self.over = Some(Err(failure.clone()));
            }
        }
        result
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, Failure> {
        let begun = Instant::now();
        let Ok(read) = tokio::time::timeout(self.idle_timeout, self.response.chunk()).await else {
            let seconds = self.idle_timeout.as_secs_f64();
            return Err(self.failure(
                FailureKind::Silent,
                &format!("no byte for {seconds:.1} s, after {}", self.progress()),
            ));
        };
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(error) => {
                let why = format!("cut after {} ({})", self.progress(), Fault::body_text(&error));
                return Err(self.failure(FailureKind::BadAnswer, &why));
            }
        };
        let Some(bytes) = bytes else {
            return match self.expected {
                Some(expected) if self.received != expected => {
                    let why = format!("ended after {}", self.progress());
                    Err(self.failure(FailureKind::BadAnswer, &why))
                }
                _ => Ok(None),
            };
        };
        self.received += bytes.len() as u64;
        self.stats.bytes.fetch_add(bytes.len() as u64, Relaxed);
        if self.expected.is_some_and(|expected| self.received > expected) {
            let why = format!("longer than announced: {}", self.progress());
            return Err(self.failure(FailureKind::BadAnswer, &why));
        }
        let complete = self.expected == Some(self.received);
        if let Some(rate) = self.pace.slow(bytes.len() as u64, begun.elapsed())
            && !complete
        {
            let why = format!(
                "too slow: {rate} bytes per second over {:.0} s, at least {} are expected; {} came",
                self.pace.window.as_secs_f64(),
                self.pace.floor,
                self.progress()
            );
            return Err(self.failure(FailureKind::BadAnswer, &why));
        }
        Ok(Some(bytes))
    }

    fn progress(&self) -> String {
        match self.expected {
            Some(expected) => format!("{} of {expected} bytes", self.received),
            None => format!("{} bytes", self.received),
        }
    }

    fn failure(&self, kind: FailureKind, why: &str) -> Failure {
        let passing = kind == FailureKind::Silent;
        Failure { kind, message: format!("{}: body {why}", self.what), retry_after: None, passing }
    }
}

impl Body for HttpBody {
    fn chunk(&mut self) -> Pending<'_, Result<Option<Bytes>, Failure>> {
        Box::pin(self.next())
    }
}

/// Measures whether a body keeps above the floor. Counts only the time that was spent waiting for
/// the origin, so that a slow reader of ours is not held against it.
struct Pace {
    floor: u64,
    window: Duration,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    fn new(floor: u64, window: Duration) -> Pace {
        Pace { floor, window, waited: Duration::ZERO, bytes: 0 }
    }

    /// Takes in bytes and the time it took to wait for them. Returns the rate in bytes per second
    /// when a window has ended below the floor.
    fn slow(&mut self, bytes: u64, waited: Duration) -> Option<u64> {
        self.bytes += bytes;
        self.waited += waited;
        if self.waited < self.window {
            return None;
        }
        let rate = (self.bytes as f64 / self.waited.as_secs_f64()) as u64;
        self.bytes = 0;
        self.waited = Duration::ZERO;
        (rate < self.floor).then_some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_judged_at_the_end_of_each_window_of_waiting() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(100, 3 * second);
        assert_eq!(pace.slow(0, second), None);
        assert_eq!(pace.slow(0, second), None);
        assert_eq!(pace.slow(300, second), None, "100 per second over the window");
        assert_eq!(pace.slow(1000, second), None);
        assert_eq!(pace.slow(0, 2 * second), None, "1000 in this window");
        assert_eq!(pace.slow(200, 2 * second), None);
        assert_eq!(pace.slow(97, second), Some(99));
        for _ in 0..100 {
            assert_eq!(pace.slow(1, Duration::ZERO), None, "nobody waited");
        }
    }
}
