//! One inode the kernel knows of.

use std::fs::File;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::OnceCell;

use super::{How, Seated, Whole};
use crate::cache::{Entry, KernelRef, Pin, Version, number};
use crate::types::{BlobId, Ino, Name};

/// One inode.
pub(super) enum Inode {
    /// A download.
    File(Node),
    /// A relative symlink.
    Alias {
        /// Its own name.
        name: Name,
        /// The public number.
        number: u64,
        /// Where it points.
        target: Name,
        /// References of the kernel.
        lookups: AtomicU64,
    },
}

/// The inode of a download: one version in one state, or a version to come.
pub struct Node {
    ino: Ino,
    number: u64,
    entry: Arc<Entry>,
    /// References of the kernel; changed under the lock of the table.
    lookups: AtomicU64,
    /// Whether the kernel was told how long the file is, and of which blob.
    sized: Mutex<(BlobId, Arc<OnceCell<()>>)>,
    /// What the kernel side keeps with this inode.
    seat: Arc<OnceLock<Option<Seated>>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    version: Option<Arc<Version>>,
    /// While the kernel refers to this inode its blob is not evicted.
    reference: Option<KernelRef>,
    /// Kept from the first open to FORGET. Closed before the pins and the reference fall.
    file: Option<Arc<File>>,
    handles: Vec<Pin>,
    /// All bytes are there and no handle was open when that was noticed: from here on the kernel
    /// serves it whole. Never taken back, for two ways on one inode are an error.
    whole: bool,
}

impl State {
    fn takes(&self, version: &Version) -> bool {
        match &self.version {
            None => true,
            Some(bound) if bound.blob.id() == version.blob.id() => true,
            Some(bound) => bound.blob.broken().is_some() && self.handles.is_empty(),
        }
    }
}

impl Inode {
    pub(super) fn alias(name: Name, target: Name) -> Inode {
        let number = number(name.as_str());
        Inode::Alias { name, number, target, lookups: AtomicU64::new(0) }
    }

    fn lookups(&self) -> &AtomicU64 {
        match self {
            Inode::File(node) => &node.lookups,
            Inode::Alias { lookups, .. } => lookups,
        }
    }

    /// Counts a reference. Call under the lock of the table.
    pub(super) fn looked_up(&self) {
        self.lookups().fetch_add(1, Ordering::Relaxed);
    }

    /// Takes references back; says whether none is left. Call under the lock of the table.
    pub(super) fn forgotten(&self, count: u64) -> bool {
        let before = self.lookups().load(Ordering::Relaxed);
        let left = before.saturating_sub(count);
        self.lookups().store(left, Ordering::Relaxed);
        left == 0
    }
}

impl Node {
    pub(super) fn new(ino: Ino, name: &Name, entry: Arc<Entry>) -> Node {
        let number = number(name.as_str());
        Node {
            ino,
            number,
            entry,
            lookups: AtomicU64::new(0),
            sized: Mutex::new((BlobId(ino.0 / 2), Arc::default())),
            seat: Arc::default(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the entry of its name.
    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// Returns its nodeid.
    pub fn ino(&self) -> Ino {
        self.ino
    }

    /// Returns the public number of its name.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the blob its nodeid was made of.
    pub(super) fn blob(&self) -> BlobId {
        BlobId(self.ino.0 / 2)
    }

    /// Returns the version it is bound to.
    pub fn version(&self) -> Option<Arc<Version>> {
        self.state().version.clone()
    }

    /// Returns how many handles are open.
    pub fn handles(&self) -> usize {
        self.state().handles.len()
    }

    /// Returns the file its handles read, if it is open already and of this blob.
    pub(super) fn opened_file(&self, blob: BlobId) -> Option<Arc<File>> {
        let state = self.state();
        state.file.clone().filter(|_| state.version.as_ref().is_some_and(|v| v.blob.id() == blob))
    }

    /// Returns what a read needs.
    pub(super) fn reading(&self) -> Option<(Arc<Version>, Arc<File>)> {
        let state = self.state();
        Some((state.version.clone()?, state.file.clone()?))
    }

    /// Binds the inode to its version, if it is not bound yet.
    pub(super) fn bind(&self, version: Arc<Version>, reference: Option<KernelRef>) {
        let mut state = self.state();
        // Of the same blob, the newer record: validators and digest may have been learnt since.
        let same = match &state.version {
            Some(bound) => bound.blob.id() == version.blob.id(),
            None => true,
        };
        let mut surplus = reference;
        if same {
            state.version = Some(version);
            if state.reference.is_none() {
                state.reference = surplus.take();
            }
        }
        drop(state);
        // What is left over falls with no lock held.
        drop(surplus);
    }

    /// Says whether the inode stands for a version, or may come to: nothing is bound to it yet, or
    /// what was bound failed and nobody has it open.
    pub(super) fn takes(&self, version: &Version) -> bool {
        self.state().takes(version)
    }

    /// Says whether something else than this version may have been shown of the inode.
    pub(super) fn was_another(&self, version: &Version) -> bool {
        let id = version.blob.id();
        match &self.state().version {
            Some(bound) => bound.blob.id() != id,
            None => self.blob() != id,
        }
    }

    /// Says whether the inode keeps this blob for the kernel already.
    pub(super) fn refers_to(&self, blob: BlobId) -> bool {
        let state = self.state();
        let bound = state.version.as_ref().filter(|version| version.blob.id() == blob);
        state.reference.is_some() && bound.is_some()
    }

    /// Files one more handle, and says how the kernel is to serve it; `None` if the inode stands for
    /// another version by now.
    pub(super) fn admit(
        &self,
        version: Arc<Version>,
        file: Arc<File>,
        pin: Pin,
        reference: Option<KernelRef>,
    ) -> Option<How> {
        let complete = version.complete();
        let mut state = self.state();
        if !state.takes(&version) {
            drop(state);
            return None;
        }
        let other = state.version.as_ref().is_some_and(|v| v.blob.id() != version.blob.id());
        let before = other.then(|| (state.file.take(), state.reference.take()));
        state.version = Some(version);
        let file = state.file.get_or_insert(file).clone();
        let mut surplus = reference;
        if state.reference.is_none() {
            state.reference = surplus.take();
        }
        state.whole |= complete && (self.ino.0 % 2 == 1 || state.handles.is_empty());
        let whole = state.whole;
        state.handles.push(pin);
        drop(state);
        drop((before, surplus));
        let seat = self.seat.clone();
        Some(if whole { How::Whole(Whole { file, seat }) } else { How::Direct })
    }

    /// Has the kernel told how long the file is, once for a blob; whoever opens it meanwhile waits for
    /// that.
    pub(super) async fn sized<F: Future<Output = ()>>(
        &self,
        blob: BlobId,
        tell: impl FnOnce() -> F,
    ) {
        self.sized_cell(blob).get_or_init(tell).await;
    }

    /// Notes that the kernel is told how long the file is.
    pub(super) fn is_sized(&self, blob: BlobId) {
        // Being told twice does no harm before the first open.
        let _ = self.sized_cell(blob).set(());
    }

    fn sized_cell(&self, blob: BlobId) -> Arc<OnceCell<()>> {
        let mut sized = self.sized.lock().unwrap_or_else(PoisonError::into_inner);
        if sized.0 != blob {
            *sized = (blob, Arc::default());
        }
        sized.1.clone()
    }

    /// Takes one handle off; says whether it was the last. The pin falls with the caller.
    pub(super) fn release(&self) -> (Option<Pin>, bool) {
        let mut state = self.state();
        let pin = state.handles.pop();
        (pin, state.handles.is_empty())
    }
}
