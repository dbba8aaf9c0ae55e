//! The account of bytes: who may stay, who must go, and what fits.
//!
//! Pure accounting: no files, no names, no waiting. A call that needs room returns the victims;
//! the caller unlinks them with no lock held, and their bytes stay on the books until the file is
//! gone ([`Victim::gone`]). Pins, kernel references and reservations are values whose drop gives
//! back what they stand for.
//!
//! Lock order: an entry's slot, then the ledger; nothing is locked while the ledger is.

mod books;
mod holds;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};

use super::order::{Lru, Order};
use crate::types::{BlobId, Bytes};
use books::{Account, Books, Place};
pub use holds::{KernelRef, Pin};
pub(super) use holds::{Reservation, Victim};

#[cfg(test)]
mod tests;

/// The limits that the account is held against, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Where eviction starts.
    pub quota: u64,
    /// What is never passed.
    pub hard: u64,
    /// What the filesystem below keeps free.
    pub min_free: u64,
}

/// The ledger; clones share one account.
#[derive(Clone)]
pub struct Ledger(Arc<Shared>);

struct Shared {
    books: Mutex<Books>,
    changed: Notify,
    pressed: Notify,
    victims: mpsc::UnboundedSender<Victim>,
}

/// What [`Ledger::reserve`] decided, and who must go for it.
#[must_use = "victims must be unlinked and leaving blobs invalidated, whatever the answer"]
pub struct Room {
    /// Granted, or not yet, or never.
    pub answer: Answer,
    /// To unlink now.
    pub victims: Vec<Victim>,
    /// To invalidate in the kernel now; call [`Ledger::stayed`] for each that is not forgotten.
    pub leaving: Vec<BlobId>,
}

/// Whether there is room.
pub enum Answer {
    /// The bytes are promised.
    Granted(Reservation),
    /// Wait for [`Ledger::changed`] and ask again: enough is going.
    Wait,
    /// Nothing more can be evicted.
    Refused(Short),
}

/// Why there is no room.
#[derive(Clone, Copy, Debug)]
pub struct Short {
    /// What was asked for.
    pub wanted: u64,
    /// What is held by open handles, and by how many.
    pub pinned: u64,
    /// How many open handles, mappings and downloads hold it.
    pub pins: u64,
    /// What the kernel holds without a handle that we know of (bind mounts, working directories, and
    /// open files where opens are not told).
    pub held: u64,
    /// What is promised to running downloads.
    pub reserved: u64,
    /// The hard limit.
    pub hard: u64,
    /// Set when the filesystem below, not the hard limit, is what is short.
    pub disk: bool,
}

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (wanted, pinned) = (Bytes(self.wanted), Bytes(self.pinned));
        if self.disk {
            write!(
                f,
                "{wanted} would take the filesystem of the store below its free minimum (min_free)"
            )?;
        } else {
            write!(f, "{wanted} would pass the hard limit of {}", Bytes(self.hard))?;
        }
        write!(
            f,
            "; {pinned} are pinned by {} open handles and downloads, {} held by the kernel (bind mounts, working directories, files open in trees), {} reserved",
            self.pins,
            Bytes(self.held),
            Bytes(self.reserved)
        )
    }
}

/// What evicting one blob by hand came to.
pub enum Evicted {
    /// Unlink it.
    Now(Victim),
    /// Invalidate its entry; it goes when the kernel forgets it.
    Leaving,
    /// Somebody has it open: how many.
    Pinned(u32),
    /// It is not there.
    Absent,
}

/// The account at a moment, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// In the store: committed blobs, trees, and what is unlinked but still open.
    pub stored: u64,
    /// Of these, in trees.
    pub trees: u64,
    /// Of these, held by open handles or downloads.
    pub pinned: u64,
    /// Of these, held by the kernel alone, which did not forget it when asked.
    pub held: u64,
    /// Of these, what nobody has open: it goes unless the kernel turns out to hold it.
    pub idle: u64,
    /// Of these, being unlinked.
    pub condemned: u64,
    /// Promised to downloads.
    pub reserved: u64,
    /// How many pins.
    pub pins: u64,
    /// How many blobs.
    pub blobs: u64,
}

impl Ledger {
    /// Opens the books. Blobs that nobody wants any more are sent to `victims`.
    pub fn new(limits: Limits, victims: mpsc::UnboundedSender<Victim>) -> Ledger {
        Ledger::with_order(limits, victims, Box::new(Lru::default()))
    }

    /// Opens the books with another order of eviction than least recently used first.
    pub fn with_order(
        limits: Limits,
        victims: mpsc::UnboundedSender<Victim>,
        idle: Box<dyn Order>,
    ) -> Ledger {
        Ledger(Arc::new(Shared {
            books: Mutex::new(Books::new(limits, idle)),
            changed: Notify::new(),
            pressed: Notify::new(),
            victims,
        }))
    }

    /// Returns the limits in force.
    pub fn limits(&self) -> Limits {
        self.0.books().limits
    }

    /// Enters a blob found at start, with what its tree takes; it is idle. Call in order of use,
    /// oldest first.
    pub fn recovered(&self, blob: BlobId, bytes: u64, tree: u64) {
        let mut books = self.0.books();
        let account = Account { bytes, tree, place: Place::Idle, ..Account::new() };
        books.stored += account.all();
        books.idle.used(blob);
        books.accounts.insert(blob, account);
    }

    /// Says that a blob has gaps and that nobody fills them now: when it is idle, it is the next to
    /// go.
    pub fn unfinished(&self, blob: BlobId) {
        let mut books = self.0.books();
        let Some(account) = books.accounts.get_mut(&blob) else { return };
        account.unfinished = true;
        if account.place == Place::Idle {
            books.place(blob, Place::Idle);
        }
    }

    /// Goes on with an unfinished blob under a new number: its bytes become part of the download's
    /// reservation, its tree stays with it. The new blob is pinned, and held by whoever has the old
    /// one open or by the kernel's references to that: they are the same files. The old one is off
    /// the books. `None` if that is gone or going.
    pub fn resume(&self, old: BlobId, new: BlobId, reservation: &mut Reservation) -> Option<Pin> {
        let mut books = self.0.books();
        if books.accounts.get(&old)?.place.is_gone() {
            return None;
        }
        books.place(old, Place::Pinned);
        let Account { bytes, tree, pins, refs, .. } = books.accounts.remove(&old)?;
        // The tree stays in the store, under the new number.
        books.stored -= bytes;
        books.reserved += bytes;
        books.allocated += bytes;
        reservation.bytes += bytes;
        reservation.allocated += bytes;
        books.accounts.insert(new, Account { tree, pins: pins + 1, refs, ..Account::new() });
        books.inherit(old, new);
        drop(books);
        Some(Pin { ledger: self.0.clone(), blob: new })
    }

    /// Asks for room for a download. `ceiling` is how many bytes the filesystem below lets the store
    /// hold.
    pub fn reserve(&self, bytes: u64, ceiling: u64) -> Room {
        let room = self.0.books().reserve(&self.0, bytes, ceiling);
        if !matches!(room.answer, Answer::Refused(_)) {
            // Some may have to give way; each looks for itself.
            self.0.pressed.notify_waiters();
        }
        room
    }

    /// Returns the bytes that are on the disk now, as far as is known.
    pub fn on_disk(&self) -> u64 {
        self.0.books().on_disk()
    }

    /// Waits until something was unlinked, forgotten or given back since the call.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.0.changed.notified()
    }

    /// Enters a new blob whose bytes are still a reservation; it is pinned.
    pub fn open(&self, blob: BlobId) -> Pin {
        self.0.books().accounts.insert(blob, Account { pins: 1, ..Account::new() });
        Pin { ledger: self.0.clone(), blob }
    }

    /// Says that the download of a blob has every byte and commits: what its own pin holds will
    /// soon be idle, and is worth waiting for.
    pub fn committing(&self, blob: BlobId) {
        if let Some(account) = self.0.books().accounts.get_mut(&blob) {
            account.committing = true;
        }
    }

    /// Replaces a reservation by the bytes a blob really takes.
    pub fn settle(&self, mut reservation: Reservation, blob: BlobId, bytes: u64) {
        let mut books = self.0.books();
        books.weigh(blob, |account| account.bytes = bytes);
        // In the same moment, or the bytes would count twice.
        books.reserved -= std::mem::take(&mut reservation.bytes);
        books.allocated -= std::mem::take(&mut reservation.allocated);
        self.0.finish(books, None);
    }

    /// Says what the tree of a blob takes on the disk, of which `reservation` covers what is new: it
    /// ends here.
    pub fn settle_tree(&self, reservation: Option<Reservation>, blob: BlobId, bytes: u64) {
        let mut books = self.0.books();
        books.weigh(blob, |account| account.tree = bytes);
        if let Some(mut reservation) = reservation {
            books.reserved -= std::mem::take(&mut reservation.bytes);
            books.allocated -= std::mem::take(&mut reservation.allocated);
            self.0.finish(books, None);
        }
    }

    /// Pins a blob, also one that is leaving or was gone on with under another number; `None` if it
    /// is gone or going.
    pub fn pin(&self, blob: BlobId) -> Option<Pin> {
        let mut books = self.0.books();
        let blob = books.heir(blob);
        let account = books.accounts.get_mut(&blob)?;
        if account.place.is_gone() {
            return None;
        }
        account.pins += 1;
        books.place(blob, Place::Pinned);
        drop(books);
        Some(Pin { ledger: self.0.clone(), blob })
    }

    /// Notes that the kernel got a nodeid of this blob; `None` if it is gone or going.
    pub fn refer(&self, blob: BlobId) -> Option<KernelRef> {
        let mut books = self.0.books();
        let blob = books.heir(blob);
        let account = books.accounts.get_mut(&blob).filter(|a| !a.place.is_gone())?;
        account.refs += 1;
        if matches!(account.place, Place::Leaving | Place::Held) {
            // Somebody looked the name up again and is about to use it. What held it may be gone
            // by the time the kernel forgets this reference.
            books.place(blob, Place::Idle);
        }
        drop(books);
        Some(KernelRef { ledger: self.0.clone(), blob })
    }

    /// Notes that a blob that nobody has open was used all the same.
    pub fn used(&self, blob: BlobId) {
        let mut books = self.0.books();
        if books.accounts.get(&blob).is_some_and(|account| account.place == Place::Idle) {
            books.place(blob, Place::Idle);
        }
    }

    /// Says that no entry points at a blob any more; it goes when nobody holds it.
    pub fn orphan(&self, blob: BlobId) {
        let mut books = self.0.books();
        if let Some(account) = books.accounts.get_mut(&blob) {
            account.orphan = true;
        }
        let victim = books.let_go(&self.0, blob);
        self.0.finish(books, victim);
    }

    /// Says whether the download of a blob has nothing to do, so that it would give way.
    pub fn spare(&self, blob: BlobId, spare: bool) {
        let mut books = self.0.books();
        if let Some(account) = books.accounts.get_mut(&blob) {
            (account.spare, account.pressed) = (spare, false);
            // One that commits has given way, the others go on.
            account.doomed &= account.committing;
        }
        self.0.finish(books, None);
    }

    /// Has the download of one blob give way at an operator's wish, if it has nothing to do and nobody
    /// reads the blob. If nothing is kept of it then, the reaper takes it for evicted.
    pub fn press(&self, blob: BlobId) -> bool {
        let pressed = {
            let mut books = self.0.books();
            let account = books.accounts.get_mut(&blob).filter(|a| a.spare && a.pins <= 1);
            account.map(|account| (account.pressed, account.doomed) = (true, true)).is_some()
        };
        self.0.pressed.notify_waiters();
        pressed
    }

    /// Takes back that an operator wants a blob gone.
    pub fn reprieve(&self, blob: BlobId) {
        if let Some(account) = self.0.books().accounts.get_mut(&blob) {
            account.doomed = false;
        }
    }

    /// Says whether an operator wants a blob gone.
    pub fn is_doomed(&self, blob: BlobId) -> bool {
        self.0.books().accounts.get(&blob).is_some_and(|account| account.doomed)
    }

    /// Says whether the download of a blob is to give way.
    pub fn is_pressed(&self, blob: BlobId) -> bool {
        self.0.books().accounts.get(&blob).is_some_and(|account| account.pressed)
    }

    /// Waits until some download is to give way. Counts from the call.
    pub fn pressed(&self) -> tokio::sync::futures::Notified<'_> {
        self.0.pressed.notified()
    }

    /// Says that the download of a blob is done with it.
    pub fn committed(&self, blob: BlobId) {
        if let Some(account) = self.0.books().accounts.get_mut(&blob) {
            account.committing = false;
        }
    }

    /// Gives up waiting for the kernel to forget a blob: somebody holds it.
    pub fn stayed(&self, blob: BlobId) {
        let mut books = self.0.books();
        if books.accounts.get(&blob).is_some_and(|a| a.place == Place::Leaving) {
            books.place(blob, Place::Held);
        }
        // Also where it was taken up again meanwhile: who waits for it must look elsewhere.
        self.0.finish(books, None);
    }

    /// Evicts one blob at an operator's wish.
    pub fn evict(&self, blob: BlobId) -> Evicted {
        let mut books = self.0.books();
        let Some(account) = books.accounts.get(&blob) else {
            return Evicted::Absent;
        };
        match account.place {
            Place::Condemned | Place::Stuck => Evicted::Absent,
            Place::Pinned => Evicted::Pinned(account.pins),
            Place::Idle | Place::Held | Place::Leaving if account.refs == 0 => {
                books.place(blob, Place::Condemned);
                Evicted::Now(self.0.victim(blob, true))
            }
            Place::Idle | Place::Held | Place::Leaving => {
                books.place(blob, Place::Leaving);
                Evicted::Leaving
            }
        }
    }

    /// Returns the bytes a blob takes, without its tree.
    pub fn bytes(&self, blob: BlobId) -> u64 {
        self.0.books().accounts.get(&blob).map_or(0, |account| account.bytes)
    }

    /// Returns the bytes that the tree of a blob takes.
    pub fn tree(&self, blob: BlobId) -> u64 {
        self.0.books().accounts.get(&blob).map_or(0, |account| account.tree)
    }

    /// Returns the number that a blob goes by now, and those it went by before its download was
    /// gone on with.
    pub fn numbers(&self, blob: BlobId) -> (BlobId, Vec<BlobId>) {
        let books = self.0.books();
        let now = books.heir(blob);
        let before = books.heirs.iter().filter(|(_, heir)| **heir == now);
        (now, before.map(|(number, _)| *number).collect())
    }

    /// Says whether a blob is in the store and not on its way out.
    pub fn contains(&self, blob: BlobId) -> bool {
        self.0.books().accounts.get(&blob).is_some_and(|a| !a.place.is_gone())
    }

    /// Says whether anybody but its own download wants a blob.
    pub fn wanted(&self, blob: BlobId) -> bool {
        let books = self.0.books();
        books.accounts.get(&blob).is_some_and(|a| !a.orphan || a.pins > 1 || a.refs > 0)
    }

    /// Says whether the kernel is about to forget a blob that is to go.
    pub fn is_leaving(&self, blob: BlobId) -> bool {
        self.0.books().accounts.get(&blob).is_some_and(|a| a.place == Place::Leaving)
    }

    /// Says whether the download of a blob is about to let it go.
    pub fn is_ending(&self, blob: BlobId) -> bool {
        self.0
            .books()
            .accounts
            .get(&blob)
            .is_some_and(|a| a.pins > 0 && (a.pressed || a.committing))
    }

    /// Says whether nobody but its own download has a blob, the kernel neither.
    pub fn alone(&self, blob: BlobId) -> bool {
        self.0.books().accounts.get(&blob).is_none_or(|a| a.pins <= 1 && a.refs == 0)
    }

    /// Returns how many pins a blob has.
    pub fn pins(&self, blob: BlobId) -> u32 {
        self.0.books().accounts.get(&blob).map_or(0, |a| a.pins)
    }

    /// Returns the account at this moment.
    pub fn balance(&self) -> Balance {
        self.0.books().balance()
    }
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        // The books are consistent between statements, so a panic elsewhere does not spoil them.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn victim(self: &Arc<Self>, blob: BlobId, evicted: bool) -> Victim {
        Victim { ledger: Arc::downgrade(self), blob, evicted }
    }

    /// Lets the lock go, then tells those who wait and the reaper.
    fn finish(&self, books: MutexGuard<'_, Books>, victim: Option<Victim>) {
        drop(books);
        if let Some(victim) = victim {
            // Fails only when the reaper is gone: the daemon is stopping, and recovery will see
            // the file again.
            let _ = self.victims.send(victim);
        }
        self.changed.notify_waiters();
    }
}
