//! The trees that archives are shown as: one for each blob, for as long as anybody uses it.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Cache;
use super::entry::Entry;
use super::ledger::{Pin, Reservation};
use super::plot::Plot;
use super::version::Version;
use crate::store::Canopy;
use crate::tree::{Parts, Tree};
use crate::types::BlobId;

/// Every tree that somebody uses.
#[derive(Default)]
pub(super) struct Grove {
    /// Locked alone, or after `counting`.
    trees: Mutex<HashMap<BlobId, Weak<Tree>>>,
    /// Held by threads that may block, while they look at the disk and write down what it says.
    counting: Mutex<()>,
}

impl Grove {
    /// Says whether somebody uses the tree of a blob.
    pub(super) fn knows(&self, blob: BlobId) -> bool {
        self.lock().get(&blob).is_some_and(|tree| tree.strong_count() > 0)
    }

    /// Returns the tree of a blob that somebody uses.
    pub(super) fn get(&self, blob: BlobId) -> Option<Arc<Tree>> {
        self.lock().get(&blob).and_then(Weak::upgrade)
    }

    /// Returns the tree that stands there now, or the one that `grow` makes: if there is none, or
    /// only the one that is not wanted any more.
    fn get_or_grow(
        &self,
        blob: BlobId,
        unwanted: Option<&Arc<Tree>>,
        grow: impl FnOnce() -> Arc<Tree>,
    ) -> Arc<Tree> {
        let mut trees = self.lock();
        let found = trees.get(&blob).and_then(Weak::upgrade);
        if let Some(tree) = found.filter(|tree| !unwanted.is_some_and(|it| Arc::ptr_eq(it, tree))) {
            return tree;
        }
        trees.retain(|_, tree| tree.strong_count() > 0);
        // Under the lock, or two would grow at one place. It only makes the object and its task.
        let tree = grow();
        trees.insert(blob, Arc::downgrade(&tree));
        tree
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BlobId, Weak<Tree>>> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// Returns the tree that the archive of a version is shown as, beginning it where there is none,
    /// or where there is one that failed for a reason that may have passed; never waits. The version
    /// is pinned by the caller. Call within the runtime.
    pub fn tree(self: &Arc<Self>, entry: &Arc<Entry>, version: &Arc<Version>) -> Arc<Tree> {
        let blob = version.blob.id();
        let found = self.grove.get(blob);
        let failed = found.as_ref().is_some_and(|tree| tree.failed().is_some());
        if let (Some(tree), true) = (&found, !failed || entry.refused_tree(blob).is_some()) {
            return tree.clone();
        }
        self.grove.get_or_grow(blob, found.as_ref(), || {
            Tree::grow(Parts {
                blob: version.blob.clone(),
                canopy: self.store.canopy(blob),
                room: Arc::new(Plot::new(self, entry, &version.blob)),
                limits: self.timing.archives,
                stall: self.timing.stall,
            })
        })
    }

    /// Settles what an archive takes whose download was gone on with: the files went along, to the
    /// tree of the new number, and those that it did not take over are open in the trees of the
    /// former ones, where somebody is in them. Call within the runtime.
    pub(super) fn settle_shared(
        self: &Arc<Self>,
        booked: Option<Reservation>,
        pin: Option<Pin>,
        blob: BlobId,
        before: Vec<BlobId>,
    ) {
        let cache = self.clone();
        tokio::task::spawn_blocking(move || {
            // Or an older count could be written after a newer one.
            let _counting = cache.grove.counting.lock().unwrap_or_else(PoisonError::into_inner);
            let trees = before.into_iter().chain([blob]).filter_map(|blob| cache.grove.get(blob));
            let on_disk = on_disk(&cache.store.canopy(blob), trees).unwrap_or_else(|error| {
                tracing::debug!(%blob, %error, "cannot tell what its trees take");
                cache.ledger.tree(blob)
            });
            cache.ledger.settle_tree(booked, blob, on_disk);
            drop(pin);
        });
    }

    /// Returns the tree of a blob, if somebody uses it.
    pub fn known_tree(&self, blob: BlobId) -> Option<Arc<Tree>> {
        self.grove.get(blob)
    }
}

/// Returns the allocated bytes of the files of an archive's trees, which may share some.
fn on_disk(named: &Canopy, trees: impl Iterator<Item = Arc<Tree>>) -> io::Result<u64> {
    let mut unlinked = HashMap::new();
    for tree in trees {
        unlinked.extend(tree.unlinked()?);
    }
    Ok(named.usage()? + unlinked.values().sum::<u64>())
}
