//! A set of byte ranges.

use std::ops::Range;

/// Which bytes of a blob are there: ranges in order, none empty, no two of which touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RangeSet {
    ranges: Vec<Range<u64>>,
    total: u64,
}

impl RangeSet {
    /// Returns the set of every byte below `length`.
    #[cfg(test)]
    pub(super) fn whole(length: u64) -> RangeSet {
        let mut set = RangeSet::default();
        set.insert(0..length);
        set
    }

    /// Adds a range, merging it with those it overlaps or touches.
    pub(super) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        // `first..last` are the ranges that overlap or touch the new one.
        let first = self.ranges.partition_point(|r| r.end < range.start);
        let last = first + self.ranges[first..].partition_point(|r| r.start <= range.end);
        let merged = match self.ranges.get(first..last) {
            Some([only]) => only.start.min(range.start)..only.end.max(range.end),
            Some([a, .., b]) => a.start.min(range.start)..b.end.max(range.end),
            _ => range,
        };
        let replaced: u64 = self.ranges[first..last].iter().map(|r| r.end - r.start).sum();
        self.total += (merged.end - merged.start) - replaced;
        match self.ranges.get_mut(first..last) {
            // The common case, a file that fills in order, moves nothing.
            Some([only]) => *only = merged,
            _ => drop(self.ranges.splice(first..last, [merged])),
        }
    }

    /// Takes a range out.
    pub(super) fn remove(&mut self, range: &Range<u64>) {
        if range.is_empty() {
            return;
        }
        // `first..last` are the ranges that lose bytes.
        let first = self.ranges.partition_point(|r| r.end <= range.start);
        let last = first + self.ranges[first..].partition_point(|r| r.start < range.end);
        let before: u64 = self.ranges[first..last].iter().map(|r| r.end - r.start).sum();
        let mut left = Vec::new();
        if let [a, ..] = &self.ranges[first..last] {
            left.push(a.start..range.start.max(a.start));
        }
        if let [.., b] = &self.ranges[first..last] {
            left.push(range.end.min(b.end)..b.end);
        }
        left.retain(|r| !r.is_empty());
        self.total -= before - left.iter().map(|r| r.end - r.start).sum::<u64>();
        self.ranges.splice(first..last, left);
    }

    /// Returns the ranges, in order.
    pub(super) fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// Returns the place after the last byte, 0 for the empty set.
    pub(super) fn end(&self) -> u64 {
        self.ranges.last().map_or(0, |r| r.end)
    }

    /// Returns the gaps within `range`, in order.
    pub(super) fn missing(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let next = self.ranges.partition_point(|r| r.end <= range.start);
        let mut gaps = Vec::new();
        let mut reached = range.start;
        for present in self.ranges[next..].iter().take_while(|r| r.start < range.end) {
            if reached < present.start {
                gaps.push(reached..present.start);
            }
            reached = present.end;
        }
        if reached < range.end {
            gaps.push(reached..range.end);
        }
        gaps
    }

    /// Returns the first byte of `range` that is not in the set.
    pub(super) fn first_missing(&self, range: &Range<u64>) -> Option<u64> {
        let next = self.ranges.partition_point(|r| r.end <= range.start);
        let reached = match self.ranges.get(next) {
            Some(r) if r.start <= range.start => r.end,
            _ => range.start,
        };
        (reached < range.end).then_some(reached)
    }

    /// Returns how many bytes are in the set.
    pub(super) fn total(&self) -> u64 {
        self.total
    }
}

impl FromIterator<Range<u64>> for RangeSet {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> RangeSet {
        let mut set = RangeSet::default();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPAN: u64 = 24;

    fn check(set: &RangeSet, model: &[bool]) {
        let end = model.iter().rposition(|present| *present).map_or(0, |last| last as u64 + 1);
        assert_eq!(set.end(), end);
        assert_eq!(set.total(), model.iter().filter(|present| **present).count() as u64);
        assert!(set.ranges.iter().all(|r| r.start < r.end));
        assert!(set.ranges.windows(2).all(|w| w[0].end < w[1].start));
        for start in 0..SPAN {
            for end in start..=SPAN {
                let expected = (start..end).find(|i| !model[*i as usize]);
                assert_eq!(set.first_missing(&(start..end)), expected, "{start}..{end}");
                let gaps = set.missing(&(start..end));
                assert!(gaps.iter().all(|gap| gap.start < gap.end));
                assert!(gaps.windows(2).all(|w| w[0].end < w[1].start));
                let missing = (start..end).filter(|i| !model[*i as usize]);
                assert!(gaps.into_iter().flatten().eq(missing), "gaps of {start}..{end}");
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_bitmap(
            changes in prop::collection::vec((prop::bool::weighted(0.7), 0..SPAN, 0..=SPAN), 0..24),
        ) {
            let mut set = RangeSet::default();
            let mut model = vec![false; SPAN as usize];
            for (add, start, end) in changes {
                match add {
                    true => set.insert(start..end),
                    false => set.remove(&(start..end)),
                }
                for i in start..end {
                    model[i as usize] = add;
                }
                check(&set, &model);
            }
        }

        #[test]
        fn order_does_not_matter(inserts in prop::collection::vec((0..SPAN, 0..=SPAN), 0..16)) {
            let mut forward = RangeSet::default();
            let mut backward = RangeSet::default();
            inserts.iter().for_each(|(a, b)| forward.insert(*a..*b));
            inserts.iter().rev().for_each(|(a, b)| backward.insert(*a..*b));
            prop_assert_eq!(forward, backward);
        }
    }

    #[test]
    fn a_file_that_fills_in_order_is_one_range() {
        let mut set = RangeSet::default();
        for i in 0..1000 {
            set.insert(i * 10..(i + 1) * 10);
        }
        assert_eq!(set, RangeSet::whole(10_000));
        assert_eq!(set.ranges.len(), 1);
    }

    #[test]
    fn an_empty_range_misses_nothing_even_past_the_end() {
        assert_eq!(RangeSet::default().first_missing(&(7..7)), None);
        assert_eq!(RangeSet::whole(3).first_missing(&(7..7)), None);
        assert_eq!(
            RangeSet::whole(3).first_missing(&(0..u64::MAX)),
            Some(3),
            "ranges may go up to the largest number"
        );
    }
}
