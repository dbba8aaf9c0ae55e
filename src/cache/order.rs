//! In which order idle blobs are evicted.

use lru::LruCache;

use crate::types::BlobId;

/// The order of eviction among idle blobs; a trait so that another can be measured against LRU.
pub trait Order: Send {
    /// Notes that a blob was used now; enters it if it is new.
    fn used(&mut self, blob: BlobId);
    /// Enters a blob as the next to go, or makes it that.
    fn spare(&mut self, blob: BlobId);
    /// Takes a blob out.
    fn remove(&mut self, blob: BlobId);
    /// Returns the next victim and leaves it in.
    fn oldest(&self) -> Option<BlobId>;
}

/// Least recently used first.
pub(super) struct Lru(LruCache<BlobId, ()>);

impl Default for Lru {
    fn default() -> Lru {
        Lru(LruCache::unbounded())
    }
}

impl Order for Lru {
    fn used(&mut self, blob: BlobId) {
        self.0.put(blob, ());
    }

    fn spare(&mut self, blob: BlobId) {
        self.0.put(blob, ());
        self.0.demote(&blob);
    }

    fn remove(&mut self, blob: BlobId) {
        self.0.pop(&blob);
    }

    fn oldest(&self) -> Option<BlobId> {
        self.0.peek_lru().map(|(blob, ())| *blob)
    }
}
