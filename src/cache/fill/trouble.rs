//! How long a body that fails again and again is asked for anew.

use std::time::{Duration, Instant};

/// The time over which bodies must bring [`FLOOR`], and the least they must, in bytes per second:
/// a body that drips is not made good by asking for it often.
const WINDOW: Duration = Duration::from_secs(30);
const FLOOR: u64 = 16 << 10;

/// How many bodies in a row may bring nothing.
const EMPTY: u32 = 3;

/// How many of them may fall silent: each takes its time, and who reads waits no longer than three.
const SILENT: u32 = 2;

/// A body that fell silent brought nothing to speak of if it brought fewer bytes than this: what
/// [`FLOOR`] asks for in the time it was waited for.
const LITTLE: u64 = 10 * FLOOR;

/// The waits before a body is asked for again.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// After so long without a failure the next is the first of a series of its own.
const FORGIVEN: Duration = Duration::from_secs(60);

/// A body that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    /// What it brought.
    pub(super) bytes: u64,
    /// It fell silent.
    pub(super) silent: bool,
    /// When it was asked for.
    pub(super) asked: Instant,
    /// What came of all so far.
    pub(super) brought: u64,
}

/// What went wrong so far.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// When the first failure of this series was, and how many bytes had come by then, of all
    /// connections.
    since: Option<(Instant, u64)>,
    /// When the last that counted was, and until when nothing is asked for because of it.
    last: Option<(Instant, Instant)>,
    empty: u32,
    silent: u32,
    failures: u32,
}

impl Failed {
    /// Says whether it brought nothing to speak of.
    pub(super) fn in_vain(&self) -> bool {
        self.bytes == 0 || self.silent && self.bytes < LITTLE
    }
}

impl Trouble {
    /// Notes a body that came as asked for.
    pub(super) fn came(&mut self) {
        *self = Trouble { last: self.last, ..Trouble::default() };
    }

    /// Notes a body that failed. Returns how long to wait before the rest is asked for, or `None` to
    /// give up.
    pub(super) fn failed(&mut self, body: Failed, now: Instant) -> Option<Duration> {
        let Failed { bytes, silent, asked, brought } = body;
        let in_vain = body.in_vain();
        match self.last {
            // Asked for before the last one failed: no second failure, but another side of the first.
            Some((at, until)) if asked <= at && in_vain => {
                return Some(until.saturating_duration_since(now));
            }
            Some((at, _)) if now - at >= FORGIVEN => self.came(),
            _ => {}
        }
        if !in_vain {
            (self.empty, self.silent, self.failures) = (0, 0, 0);
        }
        self.empty += u32::from(in_vain);
        self.silent += u32::from(in_vain && silent);
        self.failures += 1;
        let (since, before) = *self.since.get_or_insert((now, brought.saturating_sub(bytes)));
        let (passed, gained) = (now - since, brought.saturating_sub(before));
        if passed >= WINDOW {
            if (gained as f64) < FLOOR as f64 * passed.as_secs_f64() {
                return None;
            }
            self.since = Some((now, brought));
        }
        if self.empty >= EMPTY || self.silent >= SILENT {
            return None;
        }
        let pause = SHORTEST * 2u32.saturating_pow(self.failures.min(8) - 1);
        let pause = pause.min(LONGEST);
        self.last = Some((now, now + pause));
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A body asked for when it failed.
    fn body(bytes: u64, brought: u64, asked: Instant) -> Failed {
        Failed { bytes, silent: false, asked, brought }
    }

    #[test]
    fn bodies_that_bring_nothing_are_given_up() {
        let mut trouble = Trouble::default();
        let mut now = Instant::now();
        let mut failed = |trouble: &mut Trouble, bytes| {
            now += SECOND;
            trouble.failed(body(bytes, 0, now), now)
        };
        assert_eq!(failed(&mut trouble, 0), Some(Duration::from_millis(50)));
        assert_eq!(failed(&mut trouble, 0), Some(Duration::from_millis(100)));
        assert_eq!(failed(&mut trouble, 1), Some(Duration::from_millis(50)));
        assert!(failed(&mut trouble, 0).is_some());
        trouble.came();
        assert!(failed(&mut trouble, 0).is_some());
        assert!(failed(&mut trouble, 0).is_some());
        assert_eq!(failed(&mut trouble, 0), None);
    }

    #[test]
    fn bodies_that_fall_silent_early_are_given_up_sooner() {
        let (start, wait) = (Instant::now(), 10 * SECOND);
        let silent = |bytes, asked| Failed { silent: true, ..body(bytes, 0, asked) };
        for little in [0, 50_000, LITTLE - 1] {
            let mut trouble = Trouble::default();
            let again = start + Duration::from_millis(50);
            assert!(trouble.failed(silent(little, start - wait), start).is_some());
            // Asked for beside it.
            let beside = start + Duration::from_secs(5);
            assert!(trouble.failed(silent(little, start), beside).is_some());
            assert!(trouble.failed(silent(little, again), start + wait).is_none(), "{little}");
        }
        let mut trouble = Trouble::default();
        for n in 0..4u32 {
            let bytes = if n % 2 == 0 { 0 } else { LITTLE };
            let now = start + n * SECOND;
            assert!(trouble.failed(silent(bytes, now), now).is_some(), "{n}");
        }
    }

    #[test]
    fn several_that_fail_at_once_are_one_failure() {
        let (mut trouble, now) = (Trouble::default(), Instant::now());
        for _ in 0..10 {
            assert_eq!(trouble.failed(body(0, 0, now), now), Some(Duration::from_millis(50)));
        }
        let later = now + SECOND;
        assert_eq!(trouble.failed(body(0, 0, now), later), Some(Duration::ZERO));
        assert_eq!(trouble.failed(body(0, 0, later), later), Some(Duration::from_millis(100)));
    }

    #[test]
    fn a_body_cut_often_goes_on_as_long_as_bytes_come() {
        let (mut fast, mut slow) = (Trouble::default(), Trouble::default());
        let start = Instant::now();
        for second in 0..600u32 {
            let brought = u64::from(second + 1) * (32 << 10);
            let now = start + second * SECOND;
            assert!(fast.failed(body(32 << 10, brought, now), now).is_some(), "{second}");
        }
        let fails = |s: &u32| {
            let now = start + *s * SECOND;
            slow.failed(body(1 << 10, u64::from(s + 1) << 10, now), now).is_some()
        };
        assert_eq!((0..600).take_while(fails).count(), 30);
    }

    #[test]
    fn a_failure_long_ago_is_no_part_of_a_series() {
        let (mut trouble, start) = (Trouble::default(), Instant::now());
        for hour in 0..10 {
            let now = start + 3600 * hour * SECOND;
            let body = body(100, u64::from(hour + 1) * 100, now);
            assert!(trouble.failed(body, now).is_some(), "{hour}");
        }
    }
}
