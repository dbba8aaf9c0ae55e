//! How long a body that fails again and again is asked for anew.

use std::time::{Duration, Instant};

/// The time over which bodies must bring [`FLOOR`], and the least they must, in bytes per second:
/// a body that drips is not made good by asking for it often.
const WINDOW: Duration = Duration::from_secs(30);
const FLOOR: u64 = 16 << 10;

/// How many bodies in a row may bring nothing.
const EMPTY: u32 = 3;

/// The waits before a body is asked for again.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// What went wrong so far.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// When the first failure of this series was, and how many bytes came since.
    since: Option<(Instant, u64)>,
    empty: u32,
    failures: u32,
}

impl Trouble {
    /// Notes a body that came as asked for, with so many bytes.
    pub(super) fn came(&mut self, bytes: u64) {
        self.empty = 0;
        self.failures = 0;
        if let Some((_, gained)) = &mut self.since {
            *gained += bytes;
        }
    }

    /// Notes a body that failed after so many bytes, and returns how long to wait before the rest
    /// is asked for, or `None` to give up.
    pub(super) fn failed(&mut self, bytes: u64, now: Instant) -> Option<Duration> {
        self.empty = if bytes == 0 { self.empty + 1 } else { 0 };
        self.failures = if bytes == 0 { self.failures + 1 } else { 1 };
        let (since, gained) = self.since.get_or_insert((now, 0));
        *gained += bytes;
        let passed = now.duration_since(*since);
        if passed >= WINDOW {
            if (*gained as f64) < FLOOR as f64 * passed.as_secs_f64() {
                return None;
            }
            self.since = Some((now, 0));
        }
        if self.empty >= EMPTY {
            return None;
        }
        Some((SHORTEST * 2u32.saturating_pow(self.failures.min(8) - 1)).min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn bodies_that_bring_nothing_are_given_up() {
        let mut trouble = Trouble::default();
        let now = Instant::now();
        assert_eq!(trouble.failed(0, now), Some(Duration::from_millis(50)));
        assert_eq!(trouble.failed(0, now), Some(Duration::from_millis(100)));
        assert_eq!(trouble.failed(1, now), Some(Duration::from_millis(50)));
        assert!(trouble.failed(0, now).is_some());
        trouble.came(5);
        assert!(trouble.failed(0, now).is_some());
        assert!(trouble.failed(0, now).is_some());
        assert_eq!(trouble.failed(0, now), None);
    }

    #[test]
    fn a_body_cut_often_goes_on_as_long_as_bytes_come() {
        let (mut fast, mut slow) = (Trouble::default(), Trouble::default());
        let start = Instant::now();
        for second in 0..600 {
            assert!(fast.failed(32 << 10, start + second * SECOND).is_some(), "{second}");
        }
        let last = (0..600).take_while(|s| slow.failed(1 << 10, start + *s * SECOND).is_some());
        assert_eq!(last.count(), 30);
    }
}
