//! A tree as the kernel knows it: one version of a name shown as a directory.
//!
//! One nodeid for each node, for all states of the version. A name that was never fetched has a
//! crown too; it binds to the version that the first step into it obtains, and stays with it.
//!
//! What the kernel refers to is counted for each node, so that the blob is kept as long as anything
//! is, and open files are counted for all of them together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::nodeid;
use crate::cache::{Entry, KernelRef, Pin, Version};
use crate::tree::{Kind, NodeNo, Tree};
use crate::types::{BlobId, Ino, Name};

/// How many of the last misses are kept while the kernel's entry for the name leads to the tree.
const RECENT: usize = 64;

/// A tree as the kernel knows it.
pub struct Crown {
    number: u64,
    name: Name,
    entry: Arc<Entry>,
    /// What was first told of the root's time. It stays, whatever the root is bound to: a program
    /// that looks at a directory before and after it has read it must see no change.
    time: OnceLock<SystemTime>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    version: Option<Arc<Version>>,
    tree: Option<Arc<Tree>>,
    /// While the kernel refers to any node the blob is not evicted.
    reference: Option<KernelRef>,
    /// References of the kernel, by node.
    lookups: Vec<u32>,
    /// How many nodes have any.
    counted: usize,
    /// Open files, of all nodes; while there are any, one pin.
    handles: usize,
    pin: Option<Pin>,
    /// The kernel's entry for the name leads here, as far as is known.
    attached: bool,
    /// When a LOOKUP of the name last led here.
    shown: Option<Instant>,
    /// Something was asked of it since the last sweep.
    touched: bool,
    /// Something of what the archive holds was told. The kernel or whoever asked may still know it
    /// when nothing is counted any more, so from then on it stands for these bytes alone.
    told: bool,
    /// Names that the kernel was told are missing, since its entry for the name went; before, some of
    /// the last, which it may have noted after that.
    misses: Vec<(NodeNo, Box<[u8]>)>,
    /// Entries that were given while the index was not complete, by the directory and the name.
    early: HashMap<(NodeNo, Box<[u8]>), NodeNo>,
}

/// Whether a version that broke has the same bytes as another, so that nodes of one are nodes of the
/// other. Its strong tag tells; that both are to have one digest does not, as that of what broke was
/// never compared. Nothing tells of one that was found to be wrong, or that its origin has another
/// one instead of.
fn same_bytes(entry: &Entry, one: &Version, other: &Version) -> bool {
    if one.blob.id() == other.blob.id() {
        return true;
    }
    let doubted = one.blob.broken().is_some_and(|broken| broken.tainted || broken.superseded);
    let same_tag = entry.tags_tell()
        && one.validators.same_strong(&other.validators)
        && one.source == other.source
        && one.blob.length() == other.blob.length();
    !doubted && same_tag
}

impl Crown {
    pub(super) fn new(number: u64, name: Name, entry: Arc<Entry>) -> Crown {
        Crown { number, name, entry, time: OnceLock::new(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the name it is shown under.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Returns the nodeid of its root.
    pub fn root(&self) -> Ino {
        self.ino(NodeNo::ROOT)
    }

    /// Returns the nodeid of a node.
    pub(super) fn ino(&self, node: NodeNo) -> Ino {
        nodeid::member(self.number, node)
    }

    /// Returns the time of the root: `now` at the first call, and the same from then on.
    pub(super) fn time(&self, now: SystemTime) -> SystemTime {
        *self.time.get_or_init(|| now)
    }

    /// Returns the entry its versions come from.
    pub(super) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// Returns the version it is bound to.
    pub(super) fn version(&self) -> Option<Arc<Version>> {
        self.state().version.clone()
    }

    /// Returns its tree, once somebody has stepped into it.
    pub(super) fn tree(&self) -> Option<Arc<Tree>> {
        self.state().tree.clone()
    }

    /// Says whether it is bound to no version yet.
    pub(super) fn is_unbound(&self) -> bool {
        self.state().version.is_none()
    }

    /// Says whether it is bound to a blob.
    pub(super) fn stands_for(&self, blob: BlobId) -> bool {
        self.state().version.as_ref().is_some_and(|version| version.blob.id() == blob)
    }

    /// Binds it to a version, if it is bound to none or to a record of the same blob. One whose blob
    /// broke takes another, if that has the same bytes or nothing was told but the root.
    pub(super) fn bind(&self, version: Arc<Version>, reference: Option<KernelRef>) {
        let mut state = self.state();
        let same = state.version.as_ref().is_none_or(|v| v.blob.id() == version.blob.id());
        let mut surplus = (reference, None, None, None);
        if same {
            state.version = Some(version);
            if state.reference.is_none() {
                state.reference = surplus.0.take();
            }
        } else if state.takes(&self.entry, &version) {
            surplus.1 = state.version.replace(version);
            surplus.2 = state.tree.take();
            surplus.0 = std::mem::replace(&mut state.reference, surplus.0);
            surplus.3 = state.pin.take();
        }
        drop(state);
        // What is left over falls with no lock held.
        drop(surplus);
    }

    /// Says whether it is bound to a version that will get no more bytes.
    pub(super) fn is_broken(&self) -> bool {
        self.state().version.as_ref().is_some_and(|version| version.blob.broken().is_some())
    }

    /// Says whether its bytes are known to be wrong.
    pub fn is_tainted(&self) -> bool {
        let state = self.state();
        let broken = state.version.as_ref().and_then(|version| version.blob.broken());
        broken.is_some_and(|broken| broken.tainted)
    }

    /// Notes the tree of its version.
    pub(super) fn grown(&self, version: &Version, tree: &Arc<Tree>) {
        let mut state = self.state();
        let same = state.version.as_ref().is_some_and(|v| v.blob.id() == version.blob.id());
        let before = if same { state.tree.replace(tree.clone()) } else { None };
        drop(state);
        drop(before);
    }

    /// Counts a reference of the kernel to the root, by a LOOKUP of the name. `displaced` says that
    /// another root stood there: the kernel then forgets this answer and asks once more.
    pub(super) fn shown(&self, displaced: bool) {
        let mut state = self.state();
        state.count(NodeNo::ROOT);
        state.attached = !displaced;
        state.shown = Some(Instant::now());
    }

    /// Counts a reference of the kernel to a node found in a directory of the tree of `blob`, and
    /// says whether the crown stands for that: else the node is of other bytes. `complete` says
    /// whether the index can tell its name later.
    pub(super) fn found(
        &self,
        blob: BlobId,
        (dir, name): (NodeNo, &[u8]),
        node: NodeNo,
        complete: bool,
    ) -> bool {
        let mut state = self.state();
        if !state.stands_for(blob) {
            return false;
        }
        state.count(node);
        (state.touched, state.told) = (true, true);
        if !complete {
            state.early.insert((dir, name.into()), node);
        } else if !state.early.is_empty() {
            state.early.clear();
        }
        true
    }

    /// Notes that the kernel is told that a name is missing in the tree of `blob`, and says whether
    /// the crown stands for that. What the kernel remembers of it keeps the directory, and goes with
    /// the entry of the tree's name; without one, by its own name only.
    pub(super) fn missed(&self, blob: BlobId, dir: NodeNo, name: &[u8]) -> bool {
        let mut state = self.state();
        if !state.stands_for(blob) {
            return false;
        }
        (state.touched, state.told) = (true, true);
        if state.attached && state.misses.len() >= RECENT {
            state.misses.clear();
        }
        state.misses.push((dir, name.into()));
        true
    }

    /// Notes that a directory of the tree of `blob` is listed, and says whether the crown stands for
    /// that. The kernel keeps what it hears.
    pub(super) fn listed(&self, blob: BlobId) -> bool {
        let mut state = self.state();
        let stands = state.stands_for(blob);
        state.told |= stands;
        stands
    }

    /// Takes references of the kernel back; says whether none is left to any node.
    pub(super) fn forgotten(&self, node: NodeNo, count: u64) -> bool {
        let mut state = self.state();
        let Some(left) = state.lookups.get_mut(node.0 as usize).filter(|left| **left > 0) else {
            return state.counted == 0;
        };
        *left = left.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        if *left == 0 {
            state.counted -= 1;
        }
        state.counted == 0
    }

    /// Says whether the kernel refers to nothing of it.
    pub fn is_forgotten(&self) -> bool {
        self.state().counted == 0
    }

    /// Says whether a LOOKUP of the name that comes now is one that the kernel makes to see whether
    /// what it has still holds.
    pub(super) fn is_attached(&self) -> bool {
        let state = self.state();
        state.attached && state.references(NodeNo::ROOT) > 0
    }

    /// Notes that the kernel's entry for the name does not lead here; says whether it did.
    pub(super) fn detach(&self) -> bool {
        std::mem::take(&mut self.state().attached)
    }

    /// Returns how long ago a LOOKUP of the name last led here.
    pub(super) fn unseen_for(&self) -> Duration {
        self.state().shown.map_or(Duration::ZERO, |shown| shown.elapsed())
    }

    /// Says whether no file of it is open, and nothing was asked of it since the last call.
    pub fn is_quiet(&self) -> bool {
        let mut state = self.state();
        !std::mem::take(&mut state.touched) && state.handles == 0
    }

    /// Files an open file. `pin` is called where there is none yet; `None` if the blob is gone.
    pub(super) fn opened(&self, pin: impl FnOnce(BlobId) -> Option<Pin>) -> Option<()> {
        let mut state = self.state();
        let needed = match (&state.pin, &state.version) {
            (Some(_), _) => None,
            (None, Some(version)) => Some(version.blob.id()),
            (None, None) => return None,
        };
        state.handles += 1;
        state.touched = true;
        drop(state);
        let Some(blob) = needed else { return Some(()) };
        let mut surplus = pin(blob);
        let mut state = self.state();
        if surplus.is_none() {
            state.handles -= 1;
            return None;
        }
        // It may have been closed, bound anew or pinned by another meanwhile.
        if state.pin.is_none() && state.handles > 0 && state.stands_for(blob) {
            state.pin = surplus.take();
        }
        drop(state);
        drop(surplus);
        Some(())
    }

    /// Takes an open file off.
    pub(super) fn released(&self) {
        let mut state = self.state();
        state.handles = state.handles.saturating_sub(1);
        let pin = if state.handles == 0 { state.pin.take() } else { None };
        drop(state);
        drop(pin);
    }

    /// Returns how many files of it are open.
    pub(super) fn handles(&self) -> usize {
        self.state().handles
    }

    /// Takes out the names that the kernel may remember to be missing, each with its directory. None
    /// while the index grows: a LOOKUP in it may then wait, and would hold a notification up.
    pub fn misses(&self) -> Vec<(Ino, Vec<u8>)> {
        let mut state = self.state();
        if state.is_growing() {
            return Vec::new();
        }
        let misses = std::mem::take(&mut state.misses).into_iter();
        misses.map(|(dir, name)| (self.ino(dir), name.into_vec())).collect()
    }

    /// Returns the entries that the kernel has of some directories, each with its directory, and
    /// which of them are directories. None while the index grows.
    pub fn entries(&self, dirs: &[NodeNo]) -> (Vec<(Ino, Vec<u8>)>, Vec<NodeNo>) {
        let (mut entries, mut below) = (Vec::new(), Vec::new());
        let state = self.state();
        let Some(tree) = state.tree.as_ref().filter(|_| !state.is_growing()) else {
            return (entries, below);
        };
        let mut enter = |dir: NodeNo, node: NodeNo, name: &[u8]| {
            if state.references(node) > 0 {
                entries.push((self.ino(dir), name.to_vec()));
                if tree.attr(node).is_some_and(|attr| attr.kind == Kind::Directory) {
                    below.push(node);
                }
            }
        };
        if let Some(index) = tree.index() {
            for dir in dirs {
                index.children(*dir, 0).for_each(|(node, name)| enter(*dir, node, name));
            }
        } else {
            let early = state.early.iter().filter(|((dir, _), _)| dirs.contains(dir));
            early.for_each(|((dir, name), node)| enter(*dir, *node, name));
        }
        (entries, below)
    }

    /// Returns how many nodes the kernel refers to.
    pub fn size(&self) -> usize {
        self.state().counted
    }

    /// Returns the nodeids that the kernel refers to.
    pub fn counted(&self) -> Vec<Ino> {
        let state = self.state();
        let nodes = (0..).zip(&state.lookups).filter(|(_, lookups)| **lookups > 0);
        nodes.map(|(node, _)| self.ino(NodeNo(node))).collect()
    }
}

impl State {
    fn stands_for(&self, blob: BlobId) -> bool {
        self.version.as_ref().is_some_and(|version| version.blob.id() == blob)
    }

    fn is_growing(&self) -> bool {
        self.tree.as_ref().is_none_or(|tree| tree.is_growing())
    }

    fn references(&self, node: NodeNo) -> u32 {
        self.lookups.get(node.0 as usize).copied().unwrap_or(0)
    }

    fn count(&mut self, node: NodeNo) {
        let at = node.0 as usize;
        if self.lookups.len() <= at {
            self.lookups.resize(at + 1, 0);
        }
        if self.lookups[at] == 0 {
            self.counted += 1;
        }
        self.lookups[at] = self.lookups[at].saturating_add(1);
    }

    /// Says whether a broken version may make room for another.
    fn takes(&self, entry: &Entry, version: &Version) -> bool {
        self.version.as_ref().is_none_or(|bound| {
            bound.blob.broken().is_some() && (!self.told || same_bytes(entry, bound, version))
        })
    }
}
