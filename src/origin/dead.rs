//! The memory of origins that could not be connected to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use url::{Origin as UrlOrigin, Url};

/// Remembers for a short time which origins (scheme, host, port) could not be connected to, so
/// that a listing of many cold names of a dead origin waits for one of them only.
#[derive(Debug, Default)]
pub(super) struct Dead {
    /// False while the map is empty: then nothing is locked or computed.
    any: AtomicBool,
    seen: Mutex<HashMap<UrlOrigin, Seen>>,
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    until: Instant,
    why: String,
}

/// What is remembered of a dead origin.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// What the last connection failed with.
    pub(super) why: String,
    /// How long ago that was.
    pub(super) age: Duration,
    /// For how long it is still believed.
    pub(super) left: Duration,
}

impl Dead {
    /// Notes that an origin could not be connected to.
    pub(super) fn note(&self, url: &Url, why: &str, keep: Duration, now: Instant) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, one| one.until > now);
        let one = Seen { at: now, until: now + keep, why: why.to_owned() };
        seen.insert(url.origin(), one);
        self.any.store(true, Relaxed);
    }

    /// Returns what is remembered of an origin, if that is still believed.
    pub(super) fn verdict(&self, url: &Url, now: Instant) -> Option<Verdict> {
        if !self.any.load(Relaxed) {
            return None;
        }
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let one = seen.get(&url.origin()).filter(|one| one.until > now)?;
        Some(Verdict {
            why: one.why.clone(),
            age: now.duration_since(one.at),
            left: one.until.duration_since(now),
        })
    }

    /// Forgets an origin that has answered.
    pub(super) fn clear(&self, url: &Url) {
        if !self.any.load(Relaxed) {
            return;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.remove(&url.origin());
        self.any.store(!seen.is_empty(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_origin_is_believed_for_its_time_and_until_it_answers() {
        let dead = Dead::default();
        let url = |text: &str| Url::parse(text).expect("a URL");
        let start = Instant::now();
        let keep = Duration::from_secs(2);
        assert_eq!(dead.verdict(&url("http://a/x"), start), None);
        dead.note(&url("http://a/x"), "connection refused", keep, start);
        let later = start + Duration::from_millis(500);
        let verdict = dead.verdict(&url("http://a:80/y?q"), later);
        let verdict = verdict.expect("remembered");
        assert_eq!(verdict.why, "connection refused");
        assert_eq!(verdict.left, Duration::from_millis(1500));
        assert_eq!(dead.verdict(&url("http://a:81/x"), later), None);
        assert_eq!(dead.verdict(&url("https://a/x"), later), None);
        assert_eq!(dead.verdict(&url("http://a/x"), start + keep), None);
        dead.clear(&url("http://a/"));
        assert_eq!(dead.verdict(&url("http://a/x"), later), None);
        assert!(!dead.any.load(Relaxed));
    }
}
