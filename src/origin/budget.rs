//! How many retries an origin is burdened with.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use url::{Origin as UrlOrigin, Url};

/// How many seconds the window has.
const WINDOW: usize = 10;

/// The longest that a Retry-After of one question holds back the retries of others: it may have
/// been meant for one resource alone.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How many origins are remembered before those without recent traffic are dropped.
const MANY: usize = 64;

/// What retries an origin may be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// The share of its requests, in percent.
    pub(super) percent: u32,
    /// How many in each window in any case.
    pub(super) floor: u32,
}

/// The requests and retries of about the last 10 s, by origin (scheme, host, port).
#[derive(Debug)]
pub(super) struct Budgets {
    allowance: Allowance,
    seen: Mutex<HashMap<UrlOrigin, Budget>>,
}

impl Budgets {
    /// Starts with no traffic.
    pub(super) fn new(allowance: Allowance) -> Budgets {
        Budgets { allowance, seen: Mutex::default() }
    }

    /// Notes that a request is sent.
    pub(super) fn request(&self, url: &Url, now: Instant) {
        let mut seen = self.lock();
        if seen.len() >= MANY {
            seen.retain(|_, budget| !budget.is_idle(now));
        }
        seen.entry(url.origin()).or_insert_with(|| Budget::new(now)).request(now);
    }

    /// Notes that an origin asked for a pause, and returns for how long it wants no retry: this
    /// pause or one asked for before.
    pub(super) fn pause(
        &self,
        url: &Url,
        asked: Option<Duration>,
        now: Instant,
    ) -> Option<Duration> {
        let mut seen = self.lock();
        let budget = seen.get_mut(&url.origin())?;
        if let Some(asked) = asked {
            budget.pause(asked, now);
        }
        budget.paused(now)
    }

    /// Takes one retry from the budget; false, if there is none left.
    pub(super) fn spend(&self, url: &Url, now: Instant) -> bool {
        let mut seen = self.lock();
        let budget = seen.entry(url.origin()).or_insert_with(|| Budget::new(now));
        budget.spend(self.allowance, now)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UrlOrigin, Budget>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The traffic of one origin: a ring of seconds, counted from its first request.
#[derive(Clone, Debug)]
struct Budget {
    begun: Instant,
    seconds: [Second; WINDOW],
    paused_until: Option<Instant>,
}

/// What was sent in one second.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    number: u64,
    requests: u32,
    retries: u32,
}

impl Budget {
    fn new(now: Instant) -> Budget {
        Budget { begun: now, seconds: [Second::default(); WINDOW], paused_until: None }
    }

    fn request(&mut self, now: Instant) {
        let second = self.second(now);
        second.requests = second.requests.saturating_add(1);
    }

    fn spend(&mut self, allowance: Allowance, now: Instant) -> bool {
        let (requests, retries) = self.sums(now);
        let share = requests * u64::from(allowance.percent) / 100;
        let granted = retries < share.max(u64::from(allowance.floor));
        if granted {
            self.second(now).retries += 1;
        }
        granted
    }

    fn pause(&mut self, asked: Duration, now: Instant) {
        let until = now + asked.min(LONGEST_PAUSE);
        self.paused_until = self.paused_until.max(Some(until));
    }

    fn paused(&self, now: Instant) -> Option<Duration> {
        let left = self.paused_until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.sums(now) == (0, 0) && self.paused(now).is_none()
    }

    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.begun).as_secs()
    }

    /// Returns the second that `now` lies in, emptied of what stood in its place a window ago.
    fn second(&mut self, now: Instant) -> &mut Second {
        let number = self.number(now);
        let second = &mut self.seconds[(number % WINDOW as u64) as usize];
        if second.number != number {
            *second = Second { number, ..Second::default() };
        }
        second
    }

    /// Returns the requests and retries of the window that ends now.
    fn sums(&self, now: Instant) -> (u64, u64) {
        let number = self.number(now);
        let recent = |second: &&Second| second.number + WINDOW as u64 > number;
        self.seconds.iter().filter(recent).fold((0, 0), |(requests, retries), second| {
            (requests + u64::from(second.requests), retries + u64::from(second.retries))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALLOWANCE: Allowance = Allowance { percent: 20, floor: 3 };

    #[test]
    fn the_floor_is_there_without_traffic_and_comes_back() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        budget.request(start);
        assert!((0..3).all(|_| budget.spend(ALLOWANCE, start)));
        assert!(!budget.spend(ALLOWANCE, start + Duration::from_secs(9)));
        assert!(budget.spend(ALLOWANCE, start + Duration::from_secs(10)));
    }

    #[test]
    fn one_in_five_may_be_a_retry() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        (0..100).for_each(|_| budget.request(start));
        let granted = (0..100).filter(|_| budget.spend(ALLOWANCE, start)).count();
        assert_eq!(granted, 20);
    }

    #[test]
    fn a_pause_is_for_everybody_and_not_for_ever() {
        let budgets = Budgets::new(ALLOWANCE);
        let start = Instant::now();
        let url = |text| Url::parse(text).expect("a URL");
        let ask = |text, asked, now| budgets.pause(&url(text), asked, now);
        let seconds = |n| Some(Duration::from_secs(n));
        budgets.request(&url("http://a/x"), start);
        assert_eq!(ask("http://a/x", None, start), None);
        assert_eq!(ask("http://a/x", seconds(30), start), seconds(30));
        assert_eq!(ask("http://a/y", seconds(5), start), seconds(30));
        assert_eq!(ask("http://b/y", None, start), None);
        let later = start + Duration::from_secs(30);
        assert_eq!(ask("http://a/y", None, later), None);
        assert_eq!(ask("http://a/y", seconds(u64::MAX), later), Some(LONGEST_PAUSE));
    }

    #[test]
    fn origins_without_traffic_are_dropped() {
        let budgets = Budgets::new(ALLOWANCE);
        let start = Instant::now();
        let ask = |n: usize, now| {
            let url = Url::parse(&format!("http://h{n}/")).expect("a URL");
            budgets.request(&url, now);
        };
        (0..MANY).for_each(|n| ask(n, start));
        ask(MANY, start + Duration::from_secs(20));
        assert_eq!(budgets.lock().len(), 1);
    }

    proptest! {
        /// At every moment the retries granted in the window before it are within the allowance
        /// for the most requests that a window held until then.
        #[test]
        fn retries_never_pass_their_share(
            steps in prop::collection::vec((0u64..1_500, 0u32..20, 0u32..20), 1..60),
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut budget = Budget::new(start);
            let (mut sent, mut granted) = (Vec::new(), Vec::new());
            for (pause, requests, retries) in steps {
                now += Duration::from_millis(pause);
                let second = (now - start).as_secs();
                for _ in 0..requests {
                    budget.request(now);
                    sent.push(second);
                }
                let recent = |all: &[u64]| all.iter().filter(|at| **at + 10 > second).count();
                for _ in 0..retries {
                    let allowed = recent(&granted) < (recent(&sent) / 5).max(3);
                    prop_assert_eq!(budget.spend(ALLOWANCE, now), allowed);
                    if allowed {
                        granted.push(second);
                    }
                }
            }
        }
    }
}
