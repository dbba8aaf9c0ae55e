//! Values that stand for something on the books, and give it back when they are dropped.

use std::sync::{Arc, Weak};

use super::Shared;
use super::books::Place;
use crate::types::BlobId;

/// A promise that a blob is not evicted while it lives.
pub struct Pin {
    pub(super) ledger: Arc<Shared>,
    pub(super) blob: BlobId,
}

/// A reference the kernel holds, from the reply that handed out a nodeid until its FORGET.
pub struct KernelRef {
    pub(super) ledger: Arc<Shared>,
    pub(super) blob: BlobId,
}

/// A blob that must be unlinked. Its bytes stay on the books until [`gone`](Victim::gone).
#[must_use = "a victim stays on the books until it is unlinked and said to be gone"]
pub struct Victim {
    pub(super) ledger: Weak<Shared>,
    /// Which blob.
    pub blob: BlobId,
    /// Whether it went to make room, not because it was no longer wanted.
    pub evicted: bool,
}

/// Bytes promised to one download.
pub struct Reservation {
    pub(super) ledger: Arc<Shared>,
    pub(super) bytes: u64,
    pub(super) allocated: u64,
}

impl Pin {
    /// Returns the blob this pin is for.
    pub fn blob(&self) -> BlobId {
        self.blob
    }
}

impl Clone for Pin {
    fn clone(&self) -> Pin {
        let mut books = self.ledger.books();
        let blob = books.heir(self.blob);
        if let Some(account) = books.accounts.get_mut(&blob) {
            account.pins += 1;
        }
        drop(books);
        Pin { ledger: self.ledger.clone(), blob: self.blob }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut books = self.ledger.books();
        let blob = books.heir(self.blob);
        if let Some(account) = books.accounts.get_mut(&blob) {
            account.pins -= 1;
        }
        let victim = books.let_go(&self.ledger, blob);
        self.ledger.finish(books, victim);
    }
}

impl Drop for KernelRef {
    fn drop(&mut self) {
        let mut books = self.ledger.books();
        let blob = books.heir(self.blob);
        if let Some(account) = books.accounts.get_mut(&blob) {
            account.refs -= 1;
        }
        let victim = books.let_go(&self.ledger, blob);
        self.ledger.finish(books, victim);
    }
}

impl Victim {
    /// Takes the bytes off the books, and returns them: the file is unlinked and nobody has it open.
    pub fn gone(self) -> u64 {
        let Some(ledger) = self.ledger.upgrade() else { return 0 };
        let mut books = ledger.books();
        let account = books.accounts.remove(&self.blob);
        books.heirs.retain(|_, heir| *heir != self.blob);
        let bytes = account.map_or(0, |account| account.all());
        books.stored -= bytes;
        books.going -= bytes;
        ledger.finish(books, None);
        bytes
    }

    /// Says that the file cannot be unlinked: its bytes stay, and nobody need wait for them.
    pub fn stuck(self) {
        let Some(ledger) = self.ledger.upgrade() else { return };
        let mut books = ledger.books();
        books.place(self.blob, Place::Stuck);
        ledger.finish(books, None);
    }
}

impl Reservation {
    /// Returns the bytes promised.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Says how many of the promised bytes the filesystem has given already.
    pub fn allocated(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        if bytes == self.allocated {
            return;
        }
        let mut books = self.ledger.books();
        books.allocated = books.allocated + bytes - self.allocated;
        self.allocated = bytes;
    }

    /// Joins another promise to this one.
    pub fn absorb(&mut self, mut more: Reservation) {
        self.bytes += std::mem::take(&mut more.bytes);
        self.allocated += std::mem::take(&mut more.allocated);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut books = self.ledger.books();
        books.reserved -= self.bytes;
        books.allocated -= self.allocated;
        self.ledger.finish(books, None);
    }
}
