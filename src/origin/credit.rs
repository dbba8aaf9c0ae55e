//! Which origins are believed about ranges.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use url::{Origin as UrlOrigin, Url};

/// How long an origin that sent the whole, or nonsense, for a range is not asked for ranges.
const PAUSE: Duration = Duration::from_secs(5 * 60);

/// How often at most one origin's lies are told.
const TELL: Duration = Duration::from_secs(60);

/// Remembers, by scheme, host and port of the configured URL, whose ranges cannot be used. An
/// origin that lied loses its credit as long as the process lives: there is no way to win it back.
#[derive(Debug, Default)]
pub(super) struct Credit {
    origins: Mutex<HashMap<UrlOrigin, Standing>>,
}

/// What is held against one origin.
#[derive(Clone, Copy, Debug)]
enum Standing {
    /// It serves no ranges, as was last seen at this time.
    ServesNone(Instant),
    /// It gave other bytes under the same strong tag; last told at this time.
    Lied(Instant),
}

impl Credit {
    /// Says whether ranges of this URL may be asked for and believed.
    pub(super) fn holds(&self, url: &Url, now: Instant) -> bool {
        let origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        match origins.get(&url.origin()) {
            None => true,
            Some(Standing::ServesNone(at)) => now.duration_since(*at) >= PAUSE,
            Some(Standing::Lied(_)) => false,
        }
    }

    /// Notes that no range is served for this URL.
    pub(super) fn serves_none(&self, url: &Url, now: Instant) {
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        let one = origins.entry(url.origin()).or_insert(Standing::ServesNone(now));
        if let Standing::ServesNone(at) = one {
            *at = now;
        }
    }

    /// Notes a lie. Returns whether it is to be told: not again within a minute.
    pub(super) fn lied(&self, url: &Url, now: Instant) -> bool {
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        match origins.get(&url.origin()) {
            Some(Standing::Lied(told)) if now.duration_since(*told) < TELL => false,
            _ => {
                origins.insert(url.origin(), Standing::Lied(now));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    #[test]
    fn an_origin_without_ranges_is_asked_again_after_a_pause() {
        let (credit, start) = (Credit::default(), Instant::now());
        assert!(credit.holds(&url("http://a/x"), start));
        credit.serves_none(&url("http://a/x"), start);
        let almost = start + PAUSE - Duration::from_secs(1);
        assert!(!credit.holds(&url("http://a:80/y?q"), almost));
        for other in ["https://a/x", "http://a:81/x", "http://b/x"] {
            assert!(credit.holds(&url(other), almost), "{other}");
        }
        assert!(credit.holds(&url("http://a/x"), start + PAUSE));
    }

    #[test]
    fn a_liar_is_not_believed_again_and_told_of_once_a_minute() {
        let (credit, start) = (Credit::default(), Instant::now());
        let liar = url("http://a/x");
        assert!(credit.lied(&liar, start));
        assert!(!credit.lied(&liar, start + TELL - Duration::from_secs(1)));
        assert!(credit.lied(&liar, start + TELL));
        credit.serves_none(&liar, start + TELL);
        assert!(!credit.holds(&liar, start + 1000 * PAUSE));
    }
}
