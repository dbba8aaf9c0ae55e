//! Which ranges can be had, and which are believed.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use url::{Origin as UrlOrigin, Url};

/// How long a URL of which the whole, or nonsense, came for a range is not asked for ranges.
const PAUSE: Duration = Duration::from_secs(5 * 60);

/// How long one is not that goes back and forth between versions.
const WAVERING: Duration = Duration::from_secs(3600);

/// How often at most one origin's lies are told.
const TELL: Duration = Duration::from_secs(60);

/// With so many URLs, those whose time is over are forgotten before another is remembered.
const SWEEP_AT: usize = 1024;

/// Remembers whose ranges cannot be used, by what the catalog configures.
#[derive(Debug, Default)]
pub(super) struct Credit {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The URLs of which no range is served, and until when that is believed. Others of the same
    /// origin may be served by other means.
    none: HashMap<Url, Instant>,
    /// With how many URLs to look whose time is over.
    sweep_at: usize,
    /// The origins, by scheme, host and port, that gave other bytes under the same strong tag, and
    /// when that was last told. They lose their credit as long as the process lives: there is no way
    /// to win it back.
    liars: HashMap<UrlOrigin, Instant>,
}

impl Credit {
    /// Says whether to ask for ranges of this URL.
    pub(super) fn serves(&self, url: &Url, now: Instant) -> bool {
        let known = self.known();
        let none = known.none.get(url).is_some_and(|until| now < *until);
        !none && !known.liars.contains_key(&url.origin())
    }

    /// Says whether ranges of this URL would be believed.
    pub(super) fn holds(&self, url: &Url) -> bool {
        !self.known().liars.contains_key(&url.origin())
    }

    /// Notes that no range is served of this URL.
    pub(super) fn serves_none(&self, url: &Url, now: Instant) {
        self.pause(url, now, PAUSE);
    }

    /// Notes that the versions offered under this URL go back and forth.
    pub(super) fn wavers(&self, url: &Url, now: Instant) {
        self.pause(url, now, WAVERING);
    }

    fn pause(&self, url: &Url, now: Instant, pause: Duration) {
        let mut known = self.known();
        let until = known.none.entry(url.clone()).or_insert(now);
        *until = (now + pause).max(*until);
        if known.none.len() >= known.sweep_at.max(SWEEP_AT) {
            known.none.retain(|_, until| now < *until);
            known.sweep_at = 2 * known.none.len();
        }
    }

    /// Notes a lie. Returns whether it is to be told: not again within a minute.
    pub(super) fn lied(&self, url: &Url, now: Instant) -> bool {
        let mut known = self.known();
        match known.liars.get(&url.origin()) {
            Some(told) if now.duration_since(*told) < TELL => false,
            _ => {
                known.liars.insert(url.origin(), now);
                true
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    #[test]
    fn a_url_without_ranges_is_asked_again_after_a_pause_and_others_meanwhile() {
        let (credit, start) = (Credit::default(), Instant::now());
        assert!(credit.serves(&url("http://a/x"), start));
        credit.serves_none(&url("http://a/x"), start);
        let almost = start + PAUSE - Duration::from_secs(1);
        assert!(!credit.serves(&url("http://a:80/x"), almost));
        assert!(credit.holds(&url("http://a/x")));
        for other in ["https://a/x", "http://a:81/x", "http://b/x", "http://a/y", "http://a/x?q"] {
            assert!(credit.serves(&url(other), almost), "{other}");
        }
        assert!(credit.serves(&url("http://a/x"), start + PAUSE));
    }

    #[test]
    fn a_url_that_goes_back_and_forth_is_not_asked_for_an_hour() {
        let (credit, start) = (Credit::default(), Instant::now());
        credit.wavers(&url("http://a/x"), start);
        credit.serves_none(&url("http://a/x"), start + PAUSE);
        assert!(!credit.serves(&url("http://a/x"), start + WAVERING - Duration::from_secs(1)));
        assert!(credit.serves(&url("http://a/x"), start + WAVERING));
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let (credit, start) = (Credit::default(), Instant::now());
        for n in 0..3 * SWEEP_AT {
            credit.serves_none(&url(&format!("http://a/{n}")), start);
        }
        assert_eq!(credit.known().none.len(), 3 * SWEEP_AT);
        for n in 0..2 * SWEEP_AT {
            credit.serves_none(&url(&format!("http://b/{n}")), start + PAUSE);
        }
        assert!(credit.known().none.len() <= 2 * SWEEP_AT);
        assert!(!credit.serves(&url("http://b/0"), start + PAUSE));
    }

    #[test]
    fn a_liar_is_not_believed_again_and_told_of_once_a_minute() {
        let (credit, start) = (Credit::default(), Instant::now());
        let liar = url("http://a/x");
        assert!(credit.lied(&liar, start));
        assert!(!credit.lied(&liar, start + TELL - Duration::from_secs(1)));
        assert!(credit.lied(&liar, start + TELL));
        assert!(!credit.holds(&url("http://a/y")));
        assert!(!credit.serves(&liar, start + 1000 * PAUSE));
    }
}
