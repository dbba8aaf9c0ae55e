//! Which bytes a part has taken on.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::ranges::RangeSet;

/// The bytes that are in the file or being written to it: no byte is written twice, so what was
/// followed from memory stays what the file holds.
pub(super) struct Intake(Mutex<Taken>);

struct Taken {
    bytes: RangeSet,
    ended: bool,
}

impl Intake {
    /// Makes the intake of a part that holds some bytes already.
    pub(super) fn new(bytes: RangeSet) -> Intake {
        Intake(Mutex::new(Taken { bytes, ended: false }))
    }

    /// Takes on what of `range` nobody did before, and returns it; `None` after the end.
    pub(super) fn claim(&self, range: Range<u64>) -> Option<Vec<Range<u64>>> {
        let mut taken = self.lock();
        if taken.ended {
            return None;
        }
        let new = taken.bytes.missing(&range);
        taken.bytes.insert(range);
        Some(new)
    }

    /// Gives back what could not be written.
    pub(super) fn give_back(&self, ranges: &[Range<u64>]) {
        let mut taken = self.lock();
        ranges.iter().for_each(|range| taken.bytes.remove(range));
    }

    /// Takes on nothing more. Returns where the last byte ends, the first time.
    pub(super) fn end(&self) -> Option<u64> {
        let mut taken = self.lock();
        let first = !taken.ended;
        taken.ended = true;
        first.then(|| taken.bytes.end())
    }

    /// Says whether the end was reached.
    pub(super) fn ended(&self) -> bool {
        self.lock().ended
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
