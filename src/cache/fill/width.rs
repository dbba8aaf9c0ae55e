//! How many connections fill one blob: more are tried while they help.
//!
//! A pure state machine over samples of what has come. Some origins limit each connection; for all
//! others a second connection only costs. So the rate of what there is is measured, the number
//! doubled, and the rate measured again once every new connection has brought bytes.

use std::time::{Duration, Instant};

/// A rate that one connection is not limited to by policy: more would only cost. Bytes per second.
const ENOUGH: f64 = 256.0 * 1024.0 * 1024.0;

/// How long a rate is measured.
const MEASURED: Duration = Duration::from_millis(40);

/// What is over sooner than this is not worth another connection.
const WORTH: Duration = Duration::from_millis(150);

/// How much of the gain that the added connections could bring they must bring.
const SHARE: f64 = 0.3;

/// How long added connections may take to bring their first byte.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a decision stands.
const STANDS: Duration = Duration::from_secs(10);

/// The connections there are, and those of them that have brought bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) filling: usize,
    pub(super) flowing: usize,
}

/// How many connections, and what is being found out about it.
#[derive(Debug)]
pub(super) struct Width {
    most: usize,
    now: usize,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The rate of what there is.
    Measuring { since: Option<(Instant, u64)> },
    /// The rate with more than before.
    Trying { before: f64, was: usize, began: Instant, since: Option<(Instant, u64)> },
    /// Decided for a while.
    Settled { until: Instant },
}

impl Width {
    /// Starts with one connection, for at most `most`.
    pub(super) fn new(most: usize) -> Width {
        Width { most: most.max(1), now: 1, phase: Phase::Measuring { since: None } }
    }

    /// Returns how many connections there should be.
    pub(super) fn connections(&self) -> usize {
        self.now
    }

    /// Says whether nothing is being found out now.
    pub(super) fn settled(&self) -> bool {
        matches!(self.phase, Phase::Settled { .. })
    }

    /// Takes in a sample: bytes that have come in all, bytes still missing, how many connections
    /// there are, and how many of them have brought any. There may be fewer than there should:
    /// others of the same origin may be in the way.
    pub(super) fn sample(&mut self, now: Instant, came: u64, missing: u64, seen: Seen) {
        let Seen { filling, flowing } = seen;
        match &mut self.phase {
            Phase::Measuring { since } => {
                let ready = flowing >= self.now.min(filling.max(1));
                let Some(rate) = measure(since, now, came, ready) else { return };
                let left = missing as f64 / rate.max(1.0);
                if self.now >= self.most || rate >= ENOUGH || left < WORTH.as_secs_f64() {
                    self.phase = Phase::Settled { until: now + STANDS };
                    return;
                }
                let was = self.now;
                self.now = (was * 2).min(self.most);
                self.phase = Phase::Trying { before: rate, was, began: now, since: None };
            }
            Phase::Trying { before, was, began, since } => {
                let (before, was, began) = (*before, *was, *began);
                match measure(since, now, came, flowing >= self.now) {
                    Some(rate) => {
                        let ideal = self.now as f64 / was as f64;
                        if rate >= before * (1.0 + SHARE * (ideal - 1.0)) {
                            self.phase = Phase::Measuring { since: Some((now, came)) };
                        } else {
                            self.give_up(was, now);
                        }
                    }
                    None if now.duration_since(began) > PATIENCE => self.give_up(was, now),
                    None => {}
                }
            }
            Phase::Settled { until } if now >= *until => {
                self.phase = Phase::Measuring { since: None };
            }
            Phase::Settled { .. } => {}
        }
    }

    /// Goes on with as many as there are for a while: one more was refused.
    pub(super) fn refused(&mut self, filling: usize, now: Instant) {
        self.give_up(filling.clamp(1, self.most), now);
    }

    fn give_up(&mut self, was: usize, now: Instant) {
        self.now = was;
        self.phase = Phase::Settled { until: now + STANDS };
    }
}

/// Returns the rate in bytes per second once it was measured for long enough, from the moment when
/// every connection had brought bytes.
fn measure(
    since: &mut Option<(Instant, u64)>,
    now: Instant,
    came: u64,
    ready: bool,
) -> Option<f64> {
    let (begun, before) = match since {
        Some(begun) => *begun,
        None => {
            *since = ready.then_some((now, came));
            return None;
        }
    };
    let time = now.duration_since(begun);
    (time >= MEASURED).then(|| came.saturating_sub(before) as f64 / time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MB: u64 = 1_000_000;
    const STEP: Duration = Duration::from_millis(10);

    /// Runs a download of `total` bytes from an origin whose rate depends on the number of
    /// connections, and returns how many there were at each step.
    fn run(most: usize, total: u64, rate: impl Fn(usize) -> u64) -> Vec<usize> {
        let mut width = Width::new(most);
        let (mut now, mut came, mut seen) = (Instant::now(), 0, Vec::new());
        while came < total && seen.len() < 10_000 {
            let all = width.connections();
            width.sample(now, came, total - came, Seen { filling: all, flowing: all });
            seen.push(width.connections());
            came += rate(width.connections()) / 100;
            now += STEP;
        }
        seen
    }

    #[test]
    fn an_origin_that_limits_each_connection_gets_as_many_as_allowed() {
        let seen = run(4, 64 * MB, |n| n as u64 * 50 * MB);
        assert_eq!(seen.last(), Some(&4));
        assert!(seen.len() < 60, "{} ms; four from the start take 320", seen.len() * 10);
        assert_eq!(run(6, 1000 * MB, |n| n as u64 * 20 * MB).last(), Some(&6));
    }

    #[test]
    fn a_line_that_is_full_keeps_one() {
        let seen = run(8, 1000 * MB, |_| 50 * MB);
        let tried = seen.iter().filter(|n| **n > 1).count();
        assert!(tried * 10 < seen.len(), "{tried} of {}", seen.len());
    }

    #[test]
    fn fast_or_short_ones_are_left_alone() {
        assert!(run(8, 1000 * MB, |n| n as u64 * 1000 * MB).iter().all(|n| *n == 1));
        assert!(run(8, 5 * MB, |n| n as u64 * 50 * MB).iter().all(|n| *n == 1));
        assert!(run(1, 1000 * MB, |n| n as u64 * 50 * MB).iter().all(|n| *n == 1));
    }

    #[test]
    fn a_limit_in_the_middle_is_found() {
        let seen = run(8, 2000 * MB, |n| n.min(2) as u64 * 50 * MB);
        let two = seen.iter().filter(|n| **n == 2).count();
        assert!(two * 10 > seen.len() * 8, "{two} of {}", seen.len());
    }

    #[test]
    fn connections_that_bring_nothing_are_given_up() {
        let mut width = Width::new(4);
        let mut now = Instant::now();
        for step in 0..400u64 {
            let seen = Seen { filling: width.connections(), flowing: 1 };
            width.sample(now, step * MB / 10, 1000 * MB, seen);
            now += STEP;
        }
        assert_eq!(width.connections(), 1);
    }

    /// Others of the same origin take the places of some that there were.
    #[test]
    fn fewer_than_there_should_be_are_judged_as_what_they_are() {
        let mut width = Width::new(4);
        let (mut now, mut came) = (Instant::now(), 0);
        let mut run = |width: &mut Width, most: usize| {
            for _ in 0..2 * STANDS.as_millis() / STEP.as_millis() {
                let all = width.connections().min(most);
                width.sample(now, came, 100_000 * MB, Seen { filling: all, flowing: all });
                came += all as u64 * MB / 2;
                now += STEP;
            }
        };
        run(&mut width, 4);
        assert_eq!(width.connections(), 4);
        run(&mut width, 3);
        assert!(width.settled(), "{width:?}");
    }

    proptest! {
        #[test]
        fn never_more_than_allowed_and_never_none(
            most in 1usize..9,
            samples in prop::collection::vec(
                (0u64..500, 0u64..50_000_000, any::<u64>(), 0usize..9, 0usize..9), 0..200),
        ) {
            let mut width = Width::new(most);
            let (mut now, mut came) = (Instant::now(), 0u64);
            for (ms, bytes, missing, filling, flowing) in samples {
                now += Duration::from_millis(ms);
                came += bytes;
                width.sample(now, came, missing, Seen { filling, flowing });
                prop_assert!((1..=most).contains(&width.connections()));
            }
        }
    }
}
