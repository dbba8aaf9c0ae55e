//! How what is missing of a blob is asked for.
//!
//! A pure state machine. It begins with what the origin says of itself, and follows what comes of it:
//!
//! ```text
//! Ahead ⇄ Whole     InOrder → Ahead, OneByOne, Whole     Ahead → OneByOne → Whole
//! ```

use crate::origin::Patience;

/// How bytes are asked for that nobody brings yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By ranges, also ahead of what comes, over several connections: the origin serves them.
    Ahead,
    /// The rest of an answer that was cut, by a range. The origin does not say that it serves them.
    InOrder,
    /// The same, for good: asking for ranges ahead went wrong.
    OneByOne,
    /// By one GET of the whole, which may be `asked` for once.
    Whole { asked: bool, was_ahead: bool, patience: Patience },
}

/// How what is missing is asked for, and what the origin gave so far.
#[derive(Debug)]
pub(super) struct Asking {
    way: Way,
    /// A range that was asked for has come.
    gave_range: bool,
    /// An answer that would have brought the whole came until it made way for ranges.
    gave_whole: bool,
}

impl Asking {
    /// Begins: `ranges` says whether one can be asked for at all, `offered` whether the origin is
    /// known to serve them.
    pub(super) fn new(ranges: bool, offered: bool) -> Asking {
        let way = match (ranges, offered) {
            (true, true) => Way::Ahead,
            (true, false) => Way::InOrder,
            (false, _) => Way::Whole { asked: false, was_ahead: false, patience: Patience::Cold },
        };
        Asking { way, gave_range: false, gave_whole: false }
    }

    /// Says whether ranges are asked for: at least for the rest of what was cut.
    pub(super) fn by_ranges(&self) -> bool {
        !matches!(self.way, Way::Whole { .. })
    }

    /// Says whether they are asked for beside an answer that would bring the same.
    pub(super) fn ahead(&self) -> bool {
        self.way == Way::Ahead
    }

    /// Says whether ranges are asked for ahead, or were until they failed and the whole was asked for
    /// instead; not where they make no sense.
    pub(super) fn was_ahead(&self) -> bool {
        matches!(self.way, Way::Ahead | Way::Whole { was_ahead: true, .. })
    }

    /// Says whether a range that was asked for has come.
    pub(super) fn gave_range(&self) -> bool {
        self.gave_range
    }

    /// Says whether one answer brought bytes, and no range has.
    pub(super) fn gave_whole_alone(&self) -> bool {
        self.gave_whole && !self.gave_range
    }

    /// Says whether one answer brought bytes until it made way for ranges.
    pub(super) fn gave_whole(&self) -> bool {
        self.gave_whole
    }

    /// Notes that a range came that was asked for.
    pub(super) fn range_came(&mut self) {
        self.gave_range = true;
        if self.way == Way::InOrder {
            self.way = Way::Ahead;
        }
    }

    /// Notes that an answer which would have brought the whole has ended, with gaps left where ranges
    /// are asked for: it made way for them.
    pub(super) fn stream_ended(&mut self) {
        self.gave_whole |= self.by_ranges();
    }

    /// Leaves what comes to the answers under way: asking for ranges ahead of them went wrong.
    pub(super) fn one_by_one(&mut self) {
        if self.by_ranges() {
            self.way = Way::OneByOne;
        }
    }

    /// Gives up ranges for the whole, which is then tried for so long.
    pub(super) fn whole(&mut self, patience: Patience) {
        if self.by_ranges() {
            let was_ahead = self.ahead() && matches!(patience, Patience::Instead { .. });
            self.way = Way::Whole { asked: false, was_ahead, patience };
        }
    }

    /// Notes that the whole is asked for, and returns how long it is tried. Nothing where it was asked
    /// for already, or is not to be.
    pub(super) fn ask_whole(&mut self) -> Option<Patience> {
        match &mut self.way {
            Way::Whole { asked, patience, .. } => {
                (!std::mem::replace(asked, true)).then_some(*patience)
            }
            Way::Ahead | Way::InOrder | Way::OneByOne => None,
        }
    }

    /// Goes back to ranges, after the whole was as much in vain.
    pub(super) fn ranges_again(&mut self) {
        if self.was_ahead() {
            self.way = Way::Ahead;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_that_serves_ranges_is_asked_ahead() {
        let asking = Asking::new(true, true);
        assert!(asking.by_ranges() && asking.ahead());
        let mut unsaid = Asking::new(true, false);
        assert!(unsaid.by_ranges() && !unsaid.ahead());
        unsaid.range_came();
        assert!(unsaid.ahead() && unsaid.gave_range());
    }

    #[test]
    fn what_went_wrong_ahead_is_not_tried_again() {
        for offered in [true, false] {
            let mut asking = Asking::new(true, offered);
            asking.one_by_one();
            asking.range_came();
            assert!(asking.by_ranges() && !asking.ahead(), "{offered}");
            asking.ranges_again();
            assert!(!asking.ahead(), "{offered}");
        }
    }

    #[test]
    fn the_whole_is_asked_for_once() {
        for (ranges, offered) in [(true, true), (true, false), (false, false)] {
            let mut asking = Asking::new(ranges, offered);
            asking.whole(Patience::Cold);
            assert!(!asking.by_ranges() && !asking.ahead());
            assert!(asking.ask_whole().is_some() && asking.ask_whole().is_none());
            asking.range_came();
            asking.one_by_one();
            asking.whole(Patience::Cold);
            assert!(!asking.by_ranges() && asking.ask_whole().is_none());
        }
    }

    #[test]
    fn ranges_are_gone_back_to_where_the_whole_was_in_vain() {
        let mut asking = Asking::new(true, true);
        let instead = Patience::Instead { spent: std::time::Duration::ZERO };
        for _ in 0..3 {
            asking.whole(instead);
            assert!(asking.was_ahead() && asking.ask_whole().is_some());
            asking.ranges_again();
            assert!(asking.ahead());
        }
        let mut nonsense = Asking::new(true, true);
        nonsense.whole(Patience::Cold);
        let mut in_order = Asking::new(true, false);
        in_order.whole(instead);
        for mut asking in [nonsense, in_order] {
            asking.ranges_again();
            assert!(!asking.by_ranges());
        }
    }

    #[test]
    fn what_came_is_remembered() {
        let mut asking = Asking::new(true, true);
        asking.stream_ended();
        assert!(asking.gave_whole_alone());
        asking.range_came();
        assert!(asking.gave_whole() && !asking.gave_whole_alone());
        let mut without = Asking::new(false, false);
        without.stream_ended();
        assert!(!without.gave_whole());
    }
}
