//! Which redirects lead to another path each time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use url::Url;

/// Redirects that lead elsewhere twice within this time lead to a path that is signed, or to some
/// mirror: what a name stands for does not change so often.
const OFTEN: Duration = Duration::from_secs(10 * 60);

/// For how long that is believed once it was seen.
const BELIEVED: Duration = Duration::from_secs(60 * 60);

/// With so many URLs, those that were not asked for as long are forgotten before another is kept.
const SWEEP_AT: usize = 1024;

/// Where redirects led last, by the URL that the catalog configures.
#[derive(Debug, Default)]
pub(super) struct Trails {
    /// False while there are none: then nothing is locked.
    any: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    trails: HashMap<Url, Trail>,
    /// With how many to look whose time is over.
    sweep_at: usize,
}

#[derive(Debug)]
struct Trail {
    resource: Option<String>,
    seen_at: Instant,
    moved_at: Option<Instant>,
    wandered_at: Option<Instant>,
}

impl Trails {
    /// Notes where an answer to a question for a URL came from that was sent at `began`; `again` says
    /// that it was asked just before and led elsewhere. Returns whether that says nothing.
    pub(super) fn led(
        &self,
        url: &Url,
        resource: Option<&str>,
        (began, again): (Instant, bool),
        now: Instant,
    ) -> bool {
        if resource.is_none() && !self.any.load(Ordering::Acquire) {
            return false;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(trail) = known.trails.get_mut(url) else {
            if let Some(resource) = resource {
                let resource = Some(resource.to_owned());
                known
                    .keep(url, Trail { resource, seen_at: now, moved_at: None, wandered_at: None });
                self.any.store(true, Ordering::Release);
            }
            return false;
        };
        trail.seen_at = now;
        let within =
            |at: Option<Instant>, limit| at.is_some_and(|at| now.duration_since(at) < limit);
        // One that was sent before the last move says only where it led before that.
        let late = trail.moved_at.is_some_and(|moved| began < moved);
        if trail.resource.as_deref() != resource && !late {
            if again || within(trail.moved_at, OFTEN) {
                trail.wandered_at = Some(now);
            }
            trail.moved_at = Some(now);
            trail.resource = resource.map(str::to_owned);
        }
        within(trail.wandered_at, BELIEVED)
    }
}

impl Known {
    fn keep(&mut self, url: &Url, trail: Trail) {
        if self.trails.len() >= self.sweep_at.max(SWEEP_AT) {
            let now = trail.seen_at;
            self.trails.retain(|_, trail| now.duration_since(trail.seen_at) < BELIEVED);
            self.sweep_at = 2 * self.trails.len();
        }
        self.trails.insert(url.clone(), trail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_elsewhere_often_says_nothing_for_a_while() {
        let (trails, start) = (Trails::default(), Instant::now());
        let url = |text: &str| Url::parse(text).expect("a URL");
        let (x, y) = (url("http://a/x"), url("http://a/y"));
        let led = |url: &Url, resource, now| trails.led(url, resource, (now, false), now);
        assert!(!led(&x, None, start) && !trails.any.load(Ordering::Relaxed));
        assert!(!led(&x, Some("1"), start) && !led(&x, Some("1"), start));
        assert!(!led(&x, Some("2"), start), "it has moved");
        assert!(!led(&x, Some("3"), start + OFTEN), "and once more, much later");
        let again = start + OFTEN + Duration::from_secs(1);
        assert!(led(&x, None, again), "it moves all the time");
        assert!(led(&x, None, again + BELIEVED - OFTEN));
        assert!(!led(&y, Some("1"), again));
        assert!(!led(&x, None, again + BELIEVED));
    }

    #[test]
    fn what_leads_elsewhere_at_once_says_nothing_and_what_comes_late_is_not_counted() {
        let (trails, start) = (Trails::default(), Instant::now());
        let second = Duration::from_secs(1);
        let url = Url::parse("http://a/x").expect("a URL");
        // The daemon has just begun: nothing is known but what this question has met.
        assert!(!trails.led(&url, Some("1"), (start, false), start));
        assert!(trails.led(&url, Some("2"), (start, true), start));

        let (trails, moved) = (Trails::default(), start + second);
        assert!(!trails.led(&url, Some("1"), (start, false), start));
        assert!(!trails.led(&url, Some("2"), (moved, false), moved));
        let late = moved + second;
        assert!(!trails.led(&url, Some("1"), (start, false), late), "it was sent before");
        assert!(!trails.led(&url, Some("2"), (late, false), late));
    }

    #[test]
    fn what_is_not_asked_for_is_forgotten() {
        let (trails, start) = (Trails::default(), Instant::now());
        let led = |text: String, now| {
            trails.led(&Url::parse(&text).expect("a URL"), Some("1"), (now, false), now)
        };
        for n in 0..SWEEP_AT {
            led(format!("http://a/{n}"), start);
        }
        led("http://b/".to_owned(), start + BELIEVED);
        assert_eq!(trails.known.lock().expect("not poisoned").trails.len(), 1);
    }
}
