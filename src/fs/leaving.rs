//! Trees that the kernel should forget, and what holds them in its memory.
//!
//! An invalidated name is forgotten at once where nobody is in its tree. Who was in it leaves the
//! nodes it walked behind: each first-level entry keeps the root, and has to be taken back by its
//! name. Whether somebody is in it cannot be seen, but what is asked of it can: a tree of which
//! something was asked since the last sweep is left alone until the next.

use std::sync::Arc;

use super::{Crown, Fs};
use crate::cache::Shows;
use crate::cache::freshness::JUST_LANDED;
use crate::types::BlobId;

impl Fs {
    /// Has `bell` rung when there is something to sweep after a time in which there was nothing.
    pub fn on_crowns(&self, bell: impl Fn() + Send + Sync + 'static) {
        // A second mount of one filesystem does not exist.
        let _ = self.bell.set(Box::new(bell));
    }

    /// Says whether the kernel refers to any tree.
    pub fn has_crowns(&self) -> bool {
        !self.table().crowns.is_empty()
    }

    /// Returns the trees that a blob is shown as.
    pub fn crowns_of(&self, blob: BlobId) -> Vec<Arc<Crown>> {
        let mut crowns = self.table().crowns.all();
        crowns.retain(|crown| crown.stands_for(blob));
        crowns
    }

    /// Returns the trees that may be forgotten.
    pub fn leaving(&self) -> Vec<Arc<Crown>> {
        let mut crowns = self.table().crowns.all();
        crowns.retain(|crown| self.is_over(crown));
        crowns
    }

    /// Says whether a name leads elsewhere by now, or will with its next LOOKUP.
    fn is_over(&self, crown: &Crown) -> bool {
        if !crown.is_attached() {
            return true;
        }
        let Some(version) = crown.version() else { return false };
        let window = self.cache.timing().window.max(JUST_LANDED);
        let shown = match self.cache.shows(crown.entry()) {
            Shows::Version(shown) => shown.blob.id() == version.blob.id(),
            Shows::Nothing(_) => false,
        };
        // What may not be kept goes once nobody is served it any more.
        crown.unseen_for() > window && !(shown && version.keep)
    }

    /// Notes that the kernel drops its entry for a name, if that leads to this tree; says whether it
    /// does.
    pub fn leaves(&self, crown: &Crown) -> bool {
        let here = {
            let table = self.table();
            table.crowns.at(crown.name()).is_some_and(|shown| shown.root() == crown.root())
        };
        here && crown.detach()
    }

    /// Has the sweep look.
    pub(super) fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            bell();
        }
    }
}
