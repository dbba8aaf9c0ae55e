//! What came of a stream so far. Its contents come one after another, so that two numbers tell which
//! of them, and which bytes of the next, are unpacked.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::tree::index::{Builder, ContentNo};

/// An index that grows, and how far its contents are unpacked.
#[derive(Default)]
pub(super) struct Growth {
    /// Locked alone, and for as long as a look-up or the adding of a member takes.
    builder: RwLock<Option<Builder>>,
    /// Every content below this number is unpacked.
    passed: AtomicU32,
    /// How many bytes are unpacked of the content of that number.
    partial: AtomicU64,
}

impl Growth {
    /// Begins.
    pub(super) fn begin(&self, builder: Builder) {
        *self.write() = Some(builder);
    }

    /// Ends: a complete index is there.
    pub(super) fn end(&self) {
        // Dropped after the lock was given back.
        let _builder = self.write().take();
    }

    /// Asks the index so far; `None` where there is none.
    pub(super) fn with<T>(&self, ask: impl FnOnce(&Builder) -> T) -> Option<T> {
        self.read().as_ref().map(ask)
    }

    /// Changes the index so far; `None` where there is none.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Builder) -> T) -> Option<T> {
        self.write().as_mut().map(change)
    }

    /// Notes that so many bytes of a content were written; those before it are complete.
    pub(super) fn wrote(&self, bytes: u64) {
        self.partial.store(bytes, Ordering::Release);
    }

    /// Notes that a content is complete.
    pub(super) fn pass(&self, no: ContentNo) {
        // In this order: who still sees the number of this one then reads a count of bytes that is
        // too small, or that of a later one, when this one is complete.
        self.partial.store(0, Ordering::Release);
        self.passed.store(no.0 + 1, Ordering::Release);
    }

    /// Says whether a content is complete.
    pub(super) fn passed(&self, no: ContentNo) -> bool {
        self.passed.load(Ordering::Acquire) > no.0
    }

    /// Says whether a range of a content of `size` bytes is unpacked; the last byte of it counts as
    /// unpacked once all of it has passed.
    pub(super) fn holds(&self, no: ContentNo, size: u64, range: &Range<u64>) -> bool {
        let passed = self.passed.load(Ordering::Acquire);
        passed > no.0
            || passed == no.0
                && range.end < size
                && range.end <= self.partial.load(Ordering::Acquire)
            || range.is_empty()
    }

    fn read(&self) -> RwLockReadGuard<'_, Option<Builder>> {
        self.builder.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Option<Builder>> {
        self.builder.write().unwrap_or_else(PoisonError::into_inner)
    }
}
