//! What of a zip is unpacked before somebody asks for it: a pure rule.
//!
//! A walk through the tree opens members in the order of names; the archive has them in another, but
//! near each other. So what counts is that misses lie near each other, not that they follow one
//! another: the part of the archive around a miss is then unpacked, a larger one each time, and with
//! the larger ones the part behind. A few scripts of a large archive are read without any of that.

use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;

/// Misses that lie within this many bytes of each other are near, at least.
const NEAR: u64 = 4 << 20;

/// So many near misses are chance.
const CHANCE: u32 = 3;

/// The smallest and the largest part that is unpacked.
const SMALLEST: u64 = 256 << 10;
const LARGEST: u64 = 8 << 20;

/// Parts of at least this size are read on behind.
const BEHIND: u64 = 1 << 20;

/// After so long without a miss a walk is over.
const OVER: Duration = Duration::from_secs(5);

/// Where somebody walks.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// How many misses were near the one before.
    streak: u32,
    last: Option<(u64, Instant)>,
    /// The part that was unpacked last before anybody asked.
    next: Range<u64>,
}

impl Ahead {
    /// Takes note of a member at `place` that was wanted and not there. Returns the part around it
    /// and the part behind that, either of which may be empty.
    pub(super) fn missed(&mut self, place: u64, now: Instant) -> (Range<u64>, Range<u64>) {
        let reach = NEAR.max(2 * self.window());
        self.streak = match self.last {
            Some((last, when)) if now.duration_since(when) < OVER => {
                if last.abs_diff(place) <= reach { self.streak + 1 } else { self.streak / 2 }
            }
            _ => 0,
        };
        self.last = Some((place, now));
        let window = self.window();
        if window == 0 {
            return (0..0, 0..0);
        }
        let start = place - place % window;
        let around = start..start.saturating_add(window);
        if window < BEHIND {
            return (around, 0..0);
        }
        self.next = around.end..around.end.saturating_add(window);
        (around, self.next.clone())
    }

    /// Takes note of a member at `place` that was wanted, and is there or under way because it was
    /// unpacked ahead. Returns what to unpack now, which may be empty.
    pub(super) fn used(&mut self, place: u64) -> Range<u64> {
        if !self.next.contains(&place) {
            return 0..0;
        }
        self.streak = self.streak.saturating_add(1);
        let end = self.next.end;
        self.next = end..end.saturating_add(self.window());
        self.next.clone()
    }

    fn window(&self) -> u64 {
        match self.streak.checked_sub(CHANCE) {
            None => 0,
            Some(doublings) => (SMALLEST << doublings.min(16)).min(LARGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn misses(ahead: &mut Ahead, places: impl IntoIterator<Item = u64>) -> u64 {
        let now = Instant::now();
        let size = |range: Range<u64>| range.end - range.start;
        places
            .into_iter()
            .map(|place| {
                let (around, behind) = ahead.missed(place, now);
                assert!(around.is_empty() || around.contains(&place));
                assert!(behind.is_empty() || behind.start == around.end);
                size(around) + size(behind)
            })
            .sum()
    }

    #[test]
    fn a_few_scripts_are_read_alone() {
        let mut ahead = Ahead::default();
        assert_eq!(misses(&mut ahead, [0, 70_000, 140_000]), 0, "neighbours");
        let mut ahead = Ahead::default();
        assert_eq!(
            misses(&mut ahead, (0..100).map(|i| i * 50 * MIB % (997 * MIB))),
            0,
            "far apart"
        );
    }

    #[test]
    fn a_walk_reads_larger_parts_each_time_and_on_behind() {
        let mut ahead = Ahead::default();
        misses(&mut ahead, (0..8).map(|i| i * 500_000));
        let (around, behind) = ahead.missed(4_000_000, Instant::now());
        assert_eq!((around, behind.clone()), (0..8 * MIB, 8 * MIB..16 * MIB));
        assert!(ahead.used(3 * MIB).is_empty(), "asked for, not ahead");
        assert_eq!(ahead.used(9 * MIB), 16 * MIB..24 * MIB);
        assert!(ahead.used(10 * MIB).is_empty(), "once for each part");
        assert_eq!(ahead.used(16 * MIB), 24 * MIB..32 * MIB);
    }

    #[test]
    fn the_order_within_a_directory_does_not_matter() {
        let mut ahead = Ahead::default();
        // A hundred members of 20 kB, in any order.
        let places = (0..100).map(|i| i * 37 % 100 * 20_000);
        assert!(misses(&mut ahead, places) > 8 * MIB);
    }

    #[test]
    fn a_walk_that_is_over_is_forgotten() {
        let mut ahead = Ahead::default();
        misses(&mut ahead, (0..20).map(|i| i * 1000));
        let later = Instant::now() + OVER * 2;
        assert_eq!(ahead.missed(21_000, later), (0..0, 0..0));
    }
}
