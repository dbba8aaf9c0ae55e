//! When an origin counts as away: a pure state machine over the connections that failed.

use std::time::{Duration, Instant};

/// The times and counts of a [`Breaker`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// How many connections must fail in a row for the circuit to open; at least 1.
    pub(super) after: u32,
    /// How often one request is let through an open circuit.
    pub(super) probe_every: Duration,
    /// How long new questions without a copy fail at once after one was given up, circuit closed.
    pub(super) dead_for: Duration,
}

/// What is known of one origin that could not be connected to.
///
/// Closed, every request passes, but for new questions without a copy shortly after another one was
/// given up. After `after` failures in a row the circuit is open: nothing passes but one probe each
/// `probe_every`. An origin that answers has no breaker any more.
#[derive(Clone, Debug)]
pub(super) struct Breaker {
    failures: u32,
    why: String,
    failed_at: Instant,
    dead_until: Option<Instant>,
    /// When the next probe passes; `Some` while the circuit is open.
    probe_at: Option<Instant>,
    /// Whether a probe is under way whose end is not known yet.
    probing: bool,
}

/// Who wants to send a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// A question without a copy, before its first attempt has failed.
    NewCold,
    /// Every other.
    Other,
}

/// Why a request is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// What the last connection failed with.
    pub(super) why: String,
    /// How long ago that was.
    pub(super) age: Duration,
    /// When the next request passes, counted from now.
    pub(super) left: Duration,
    /// Whether a probe is under way, so that a question that can wait may learn of its end sooner.
    pub(super) probing: bool,
}

impl Breaker {
    /// Returns what is known after the first connection that failed.
    pub(super) fn new(why: &str, rules: &Rules, now: Instant) -> Breaker {
        let mut breaker = Breaker {
            failures: 0,
            why: String::new(),
            failed_at: now,
            dead_until: None,
            probe_at: None,
            probing: false,
        };
        breaker.failed(why, rules, now);
        breaker
    }

    /// Notes one more connection that failed. Returns whether this opened the circuit.
    pub(super) fn failed(&mut self, why: &str, rules: &Rules, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        why.clone_into(&mut self.why);
        self.failed_at = now;
        self.probing = false;
        let opens = self.probe_at.is_none() && self.failures >= rules.after;
        if opens {
            self.probe_at = Some(now + rules.probe_every);
        }
        opens
    }

    /// Notes that a question was given up because no connection came about.
    pub(super) fn gave_up(&mut self, rules: &Rules, now: Instant) {
        self.dead_until = Some(now + rules.dead_for);
    }

    /// Lets a request pass, or says why not. What passes an open circuit is its probe.
    ///
    /// # Errors
    /// The circuit is open and no probe is due, or the asker shall not wait for a dead origin.
    pub(super) fn admit(
        &mut self,
        asker: Asker,
        rules: &Rules,
        now: Instant,
    ) -> Result<(), Verdict> {
        if let Some(probe_at) = self.probe_at {
            if now < probe_at {
                return Err(self.verdict(probe_at, now));
            }
            // A probe whose end never becomes known holds the next one up no longer than this.
            self.probe_at = Some(now + rules.probe_every);
            self.probing = true;
            return Ok(());
        }
        match self.dead_until {
            Some(until) if asker == Asker::NewCold && now < until => Err(self.verdict(until, now)),
            _ => Ok(()),
        }
    }

    /// Says whether the circuit is open.
    pub(super) fn is_open(&self) -> bool {
        self.probe_at.is_some()
    }

    /// Returns what the last connection failed with.
    pub(super) fn why(&self) -> &str {
        &self.why
    }

    /// Returns how long ago the last connection failed.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.failed_at)
    }

    fn verdict(&self, until: Instant, now: Instant) -> Verdict {
        Verdict {
            why: self.why.clone(),
            age: self.age(now),
            left: until.saturating_duration_since(now),
            probing: self.probing,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules =
        Rules { after: 5, probe_every: Duration::from_secs(5), dead_for: Duration::from_secs(2) };

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn the_fifth_failure_opens_and_one_probe_passes_every_five_seconds() {
        let start = Instant::now();
        let mut breaker = Breaker::new("refused", &RULES, start);
        for n in 2..5 {
            assert!(!breaker.failed("refused", &RULES, start), "{n}");
            assert_eq!(breaker.admit(Asker::Other, &RULES, start), Ok(()));
        }
        assert!(breaker.failed("refused", &RULES, start) && breaker.is_open());
        let verdict = breaker.admit(Asker::Other, &RULES, at(start, 4_000)).expect_err("open");
        assert_eq!(verdict.left, Duration::from_secs(1));
        assert_eq!((verdict.age, &*verdict.why), (Duration::from_secs(4), "refused"));
        assert!(!verdict.probing);

        assert_eq!(breaker.admit(Asker::NewCold, &RULES, at(start, 5_000)), Ok(()));
        let verdict = breaker.admit(Asker::Other, &RULES, at(start, 5_001)).expect_err("one only");
        assert!(verdict.probing);
        assert!(!breaker.failed("unroutable", &RULES, at(start, 6_000)), "open already");
        let verdict = breaker.admit(Asker::Other, &RULES, at(start, 9_999)).expect_err("open");
        assert_eq!((verdict.probing, &*verdict.why), (false, "unroutable"));
        assert_eq!(breaker.admit(Asker::Other, &RULES, at(start, 10_000)), Ok(()));
    }

    #[test]
    fn only_new_cold_questions_are_spared_a_dead_origin() {
        let start = Instant::now();
        let mut breaker = Breaker::new("refused", &RULES, start);
        assert_eq!(breaker.admit(Asker::NewCold, &RULES, start), Ok(()));
        breaker.gave_up(&RULES, start);
        assert_eq!(breaker.admit(Asker::Other, &RULES, start), Ok(()));
        let verdict = breaker.admit(Asker::NewCold, &RULES, at(start, 500)).expect_err("dead");
        assert_eq!(verdict.left, Duration::from_millis(1_500));
        assert_eq!(breaker.admit(Asker::NewCold, &RULES, at(start, 2_000)), Ok(()));
    }

    proptest! {
        /// Whatever asks and fails in whatever order: once open, no two requests pass within
        /// `probe_every`, and one that asks later than that passes.
        #[test]
        fn an_open_circuit_lets_one_request_through_in_each_interval(
            steps in prop::collection::vec((0u64..3_000, any::<bool>(), any::<bool>()), 1..80),
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut breaker = Breaker::new("refused", &RULES, now);
            let mut failures = 1;
            let mut barrier = None;
            for (pause, asks, cold) in steps {
                now += Duration::from_millis(pause);
                if !asks {
                    failures += 1;
                    let opened = breaker.failed("refused", &RULES, now);
                    prop_assert_eq!(opened, failures == RULES.after);
                    if opened {
                        barrier = Some(now + RULES.probe_every);
                    }
                    continue;
                }
                let asker = if cold { Asker::NewCold } else { Asker::Other };
                let passed = breaker.admit(asker, &RULES, now);
                match barrier {
                    Some(until) if now < until => {
                        prop_assert_eq!(passed.expect_err("open").left, until - now);
                    }
                    Some(_) => {
                        prop_assert_eq!(passed, Ok(()));
                        barrier = Some(now + RULES.probe_every);
                    }
                    None => prop_assert_eq!(passed, Ok(())),
                }
            }
        }
    }
}
