//! Names shown as directories: which root a LOOKUP gives.
//!
//! The root is one version. While the name may be used without asking, a LOOKUP is answered from
//! memory. Else, where the kernel has the root already, it asks whether that still holds and keeps
//! no lock: such a LOOKUP waits for the one revalidation that all share, and so never shows an older
//! version after a newer one. A cold LOOKUP keeps the root's lock: it is answered at once, and the
//! origin is asked behind it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::crown::Crown;
use super::{Fs, Looked, Refused};
use crate::cache::freshness::JUST_LANDED;
use crate::cache::{Entry, Shown, Shows};
use crate::metrics::Refusal;
use crate::source::Revalidate;
use crate::types::{BlobId, Name};

/// How long the kernel keeps the entry of a name whose origin is never asked: a use of its tree is
/// seen when it looks the name up again.
const SEEN_WITHIN: Duration = Duration::from_secs(60);

/// The trees that the kernel refers to.
#[derive(Default)]
pub(super) struct Crowns {
    by_number: HashMap<u64, Arc<Crown>>,
    /// What a LOOKUP of each name gave last.
    shown: HashMap<Name, Arc<Crown>>,
}

impl Crowns {
    /// Returns a tree by the number its nodeids are made of.
    pub(super) fn get(&self, number: u64) -> Option<&Arc<Crown>> {
        self.by_number.get(&number)
    }

    /// Says whether the kernel refers to none.
    pub(super) fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// Returns all trees.
    pub(super) fn all(&self) -> Vec<Arc<Crown>> {
        self.by_number.values().cloned().collect()
    }

    /// Returns what a LOOKUP of a name gave last.
    pub(super) fn at(&self, name: &Name) -> Option<&Arc<Crown>> {
        self.shown.get(name)
    }

    /// Returns the tree that stands for a blob under a name, and counts a reference of the kernel to
    /// its root. Where the blob is in doubt (`trusted` says not), one that is bound to none yet: what
    /// the first step into it finds out may be another. One directory at two places would be moved
    /// about by the kernel, so each name has a tree of its own; `spare` gives a number where the
    /// blob's is taken.
    fn show(
        &mut self,
        name: &Name,
        entry: &Arc<Entry>,
        (blob, trusted): (BlobId, bool),
        spare: impl FnOnce() -> BlobId,
    ) -> Arc<Crown> {
        let own = |crown: &&Arc<Crown>| crown.name() == name && Arc::ptr_eq(crown.entry(), entry);
        let fits = |crown: &&Arc<Crown>| {
            own(crown) && (crown.is_unbound() || trusted && crown.stands_for(blob))
        };
        let last = self.shown.get(name);
        let crown = last
            .filter(fits)
            .or_else(|| self.by_number.values().find(|crown| fits(crown) && !crown.is_unbound()))
            .cloned()
            .unwrap_or_else(|| {
                let taken = self.by_number.contains_key(&blob.0);
                let number = if taken { spare().0 } else { blob.0 };
                let crown = Arc::new(Crown::new(number, name.clone(), entry.clone()));
                self.by_number.insert(number, crown.clone());
                crown
            });
        let other = last.filter(|last| !Arc::ptr_eq(last, &crown));
        let displaced = other.is_some_and(|last| {
            let attached = last.is_attached();
            last.detach();
            attached
        });
        crown.shown(displaced);
        self.shown.insert(name.clone(), crown.clone());
        crown
    }

    /// Removes a tree that the kernel refers to no more.
    pub(super) fn fell(&mut self, number: u64) -> Option<Arc<Crown>> {
        self.by_number.get(&number).filter(|crown| crown.is_forgotten())?;
        let crown = self.by_number.remove(&number)?;
        if self.shown.get(crown.name()).is_some_and(|shown| Arc::ptr_eq(shown, &crown)) {
            self.shown.remove(crown.name());
        }
        Some(crown)
    }
}

impl Fs {
    /// Looks a name shown as a directory up; `None` where the LOOKUP must wait. Never waits.
    pub(super) fn directory(&self, name: &Name, entry: &Arc<Entry>) -> Option<Looked> {
        match self.cache.shows(entry) {
            Shows::Version(_) if self.cache.is_fresh(entry) => {}
            Shows::Version(version) if self.kernel_has(name, version.blob.id()) => return None,
            Shows::Version(_) => self.ask_behind(entry),
            // Only the origin can say whether it has it again.
            Shows::Nothing(_) if entry.is_gone() => return None,
            Shows::Nothing(_) => {}
        }
        Some(self.show(name, entry))
    }

    /// Looks the name up once its origin was asked; the version at hand stays where that failed.
    ///
    /// # Errors
    /// ENOENT where the origin has it no more, or no catalog binds it any more.
    pub(super) async fn revalidated(
        &self,
        name: &Name,
        entry: &Arc<Entry>,
    ) -> Result<Looked, Refused> {
        let before = self.table().crowns.at(name).map(|crown| crown.root());
        tokio::select! {
            opened = self.cache.open(entry) => match opened {
                Err(error) if error.why == Refusal::Gone => {
                    self.detach(name);
                    return Err(error.into());
                }
                // The pin falls: the reference to the root takes its place.
                Ok(_) | Err(_) => {}
            },
            // It was a cold LOOKUP after all.
            () = self.doorway.blocked() => {}
        }
        match self.cache.names().get(name.as_str()) {
            Some(Shown::Tree(entry)) => {
                let looked = self.show(name, entry);
                if !matches!(looked, Looked::Found { ino, .. } if Some(ino) == before) {
                    // The kernel forgets this answer and asks once more, cold.
                    self.detach(name);
                }
                Ok(looked)
            }
            _ => {
                self.detach(name);
                Err(Refused::Errno(libc::ENOENT))
            }
        }
    }

    fn kernel_has(&self, name: &Name, blob: BlobId) -> bool {
        let table = self.table();
        table.crowns.at(name).is_some_and(|crown| crown.stands_for(blob) && crown.is_attached())
    }

    fn ask_behind(&self, entry: &Arc<Entry>) {
        let (cache, entry) = (self.cache.clone(), entry.clone());
        tokio::spawn(async move {
            // What comes of it shows at the next LOOKUP; a failure is noted with the name.
            let _ = cache.open(&entry).await;
        });
    }

    fn show(&self, name: &Name, entry: &Arc<Entry>) -> Looked {
        loop {
            let (blob, version) = match self.cache.shows(entry) {
                Shows::Nothing(blob) => (blob, None),
                Shows::Version(version) => {
                    (version.blob.id(), Some(version).filter(|version| entry.trusts(version)))
                }
            };
            // Taken before any lock of ours; `None` when it was evicted since.
            let reference = match &version {
                Some(version) => match self.cache.ledger().refer(version.blob.id()) {
                    Some(reference) => Some(reference),
                    None => continue,
                },
                None => None,
            };
            let spare = || self.cache.allocate();
            let (crown, first) = {
                let mut table = self.table();
                let first = table.crowns.is_empty();
                (table.crowns.show(name, entry, (blob, version.is_some()), spare), first)
            };
            if first {
                self.ring();
            }
            let never = version.is_some() && entry.source().revalidate == Revalidate::Never;
            if let Some(version) = version {
                // Files of a tree may be opened without our knowing: this counts for them.
                self.cache.ledger().used(version.blob.id());
                crown.bind(version, reference);
            }
            let window = self.cache.timing().window.max(JUST_LANDED);
            return Looked::Found {
                ino: crown.root(),
                attr: self.root_attr_of(&crown).0,
                // The nodeid goes out as the number, so that the attributes must not be kept.
                attr_ttl: Duration::ZERO,
                entry_ttl: if never { window.max(SEEN_WITHIN) } else { window },
            };
        }
    }

    /// Notes that the kernel drops its entry for a name.
    pub fn detach(&self, name: &Name) {
        if let Some(crown) = self.table().crowns.at(name) {
            crown.detach();
        }
    }
}
