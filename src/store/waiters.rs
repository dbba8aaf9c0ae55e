//! Who waits for which bytes of a blob.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use tokio::sync::oneshot;

use super::Broken;

/// Ends a wait, in vain where there is a reason. Collected under the blob's lock and used after it
/// is given back, because waking runs the code of the one who waits.
pub(super) type Wake = oneshot::Sender<Option<Broken>>;

/// The waiters of one blob, in the order of the first byte that each still lacks: filling a range
/// looks only at those who lack a byte of it.
#[derive(Default)]
pub(super) struct Waiters {
    next: u64,
    waiting: HashMap<u64, Waiter>,
    /// (first missing byte, number) of each waiter in `waiting`.
    order: BTreeSet<(u64, u64)>,
}

struct Waiter {
    range: Range<u64>,
    missing: u64,
    wake: Wake,
}

impl Waiters {
    /// Adds one who waits for `range` and lacks its byte `missing`. Returns a number for
    /// [`remove`](Waiters::remove) and what is completed when the range is there.
    pub(super) fn add(
        &mut self,
        range: Range<u64>,
        missing: u64,
    ) -> (u64, oneshot::Receiver<Option<Broken>>) {
        let (wake, woken) = oneshot::channel();
        let number = self.next;
        self.next += 1;
        self.order.insert((missing, number));
        self.waiting.insert(number, Waiter { range, missing, wake });
        (number, woken)
    }

    /// Forgets a waiter; one that was woken is gone already.
    pub(super) fn remove(&mut self, number: u64) -> Option<Wake> {
        let waiter = self.waiting.remove(&number)?;
        self.order.remove(&(waiter.missing, number));
        Some(waiter.wake)
    }

    /// Takes out those who lacked a byte of `filled` and lack none now; `lacking` returns the
    /// first byte of a range that is missing after `filled` was added.
    pub(super) fn filled(
        &mut self,
        filled: Range<u64>,
        lacking: impl Fn(&Range<u64>) -> Option<u64>,
    ) -> Vec<Wake> {
        let mut woken = Vec::new();
        let window = (filled.start, 0)..(filled.end, 0);
        while let Some(&(missing, number)) = self.order.range(window.clone()).next() {
            let Some(waiter) = self.waiting.get_mut(&number) else {
                self.order.remove(&(missing, number));
                continue;
            };
            match lacking(&waiter.range) {
                // Outside of `filled` by now, so that this ends.
                Some(next) if !filled.contains(&next) => {
                    self.order.remove(&(missing, number));
                    self.order.insert((next, number));
                    waiter.missing = next;
                }
                _ => woken.extend(self.remove(number)),
            }
        }
        woken
    }

    /// Takes out those whose first missing byte lies at or past the end of the blob.
    pub(super) fn past(&mut self, length: u64) -> Vec<Wake> {
        let numbers: Vec<u64> = self.order.range((length, 0)..).map(|(_, n)| *n).collect();
        numbers.into_iter().filter_map(|n| self.remove(n)).collect()
    }

    /// Takes out those whose first missing byte lies in `range`.
    pub(super) fn at(&mut self, range: &Range<u64>) -> Vec<Wake> {
        let window = (range.start, 0)..(range.end, 0);
        let numbers: Vec<u64> = self.order.range(window).map(|(_, n)| *n).collect();
        numbers.into_iter().filter_map(|n| self.remove(n)).collect()
    }

    /// Takes out everybody.
    pub(super) fn all(&mut self) -> Vec<Wake> {
        self.order.clear();
        self.waiting.drain().map(|(_, w)| w.wake).collect()
    }

    /// Returns what each waits for, in no order.
    pub(super) fn ranges(&self) -> impl Iterator<Item = &Range<u64>> {
        self.waiting.values().map(|waiter| &waiter.range)
    }

    /// Returns how many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.order.len(), self.waiting.len());
        self.waiting.len()
    }
}
