//! Turns at changing one blob's files.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::types::BlobId;

/// Lets one thread at a time change the files of a blob. Not a lock around system calls: who has a
/// turn at one blob keeps nobody from another, and only functions that block on the disk anyhow
/// take turns.
#[derive(Default)]
pub(super) struct Turns {
    taken: Mutex<HashSet<BlobId>>,
    given_back: Condvar,
}

/// A turn; dropping it gives it back.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    id: BlobId,
}

impl Turns {
    /// Waits until nobody has the turn of `id`, and takes it.
    pub(super) fn take(&self, id: BlobId) -> Turn<'_> {
        let mut taken = self.lock();
        while !taken.insert(id) {
            taken = self.given_back.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        Turn { turns: self, id }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<BlobId>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.lock().remove(&self.id);
        self.turns.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn one_at_a_time_for_each_blob() {
        let turns = Turns::default();
        let inside = AtomicUsize::new(0);
        let other = turns.take(BlobId(2));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let _turn = turns.take(BlobId(1));
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        drop(other);
        assert!(turns.lock().is_empty());
    }
}
