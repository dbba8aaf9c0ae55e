//! From what the catalogs say, and from what recovery found, to the names that are shown.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use super::entry::{Entry, Forms, Slot};
use super::names::{Names, Shown};
use super::seats::{Bound, Seat, seat};
use super::version::{Unfinished, keeps};
use super::{Cache, Version};
use crate::source::Form;
use crate::store::{self, Recovered, Trust};
use crate::types::Name;

/// What the mount is to show.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The downloads.
    pub downloads: HashMap<Name, Bound>,
    /// Other names of downloads, each with the name it stands for.
    pub aliases: HashMap<Name, Name>,
    /// Whether that is all: while it is false, a catalog was never read, and blobs found at start
    /// whose name is missing may be its.
    pub may_prune: bool,
}

impl Cache {
    /// Replaces the table of names. Entries of names that stay are kept, those of names that go
    /// are pruned: nothing opens them anew, and their blobs go when nobody holds them.
    /// Returns the names whose entry in the kernel must go: those that vanished, changed kind or
    /// download, and directories whose source changed.
    pub fn bind(&self, table: Table) -> Vec<Name> {
        let old = self.names();
        let aliases = table.aliases.into_iter();
        let mut by_name: HashMap<_, _> =
            aliases.map(|(alias, target)| (alias, Shown::Alias(target))).collect();
        let (mut kept, mut changed) = (HashSet::new(), HashSet::new());
        for Seat { forms, bound, entry } in seat(table.downloads, &old) {
            let Bound { source, declared_at } = bound;
            let Forms { file, tree } = &forms;
            let Some(name) = file.as_ref().or(tree.as_ref()) else { continue };
            let entry =
                entry.unwrap_or_else(|| Entry::new(name.clone(), source.clone(), declared_at));
            by_name.extend(file.iter().map(|n| (n.clone(), Shown::Download(entry.clone()))));
            by_name.extend(tree.iter().map(|n| (n.clone(), Shown::Tree(entry.clone()))));
            kept.insert(Arc::as_ptr(&entry));
            let (was, is) = (entry.source(), &source);
            if was.identity() != is.identity() || was.revalidate != is.revalidate {
                changed.insert(Arc::as_ptr(&entry));
            }
            entry.rebind(source, declared_at, forms);
        }
        let new = Arc::new(Names::new(by_name));
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = new.clone();
        for entry in old.entries() {
            if !kept.contains(&Arc::as_ptr(&entry)) {
                self.prune(&entry);
            }
        }
        let is_changed_tree = |form: Form, entry: &Arc<Entry>| {
            form == Form::Directory && changed.contains(&Arc::as_ptr(entry))
        };
        let moved = |name: &Name, was: &Shown| match (was, new.get(name.as_str())) {
            (Shown::Alias(was), Some(Shown::Alias(is))) => was != is,
            (was, Some(is)) => match (was.download(), is.download()) {
                // Where a directory's policy is never to ask, its entry is kept for long.
                (Some((was, before)), Some((is, entry))) => {
                    was != is || !Arc::ptr_eq(before, entry) || is_changed_tree(is, entry)
                }
                _ => true,
            },
            (_, None) => true,
        };
        let old = old.after(0).filter(|(_, name, shown)| moved(name, shown));
        old.map(|(_, name, _)| name.clone()).collect()
    }

    fn prune(&self, entry: &Arc<Entry>) {
        let mut state = entry.state();
        state.withdrawn = true;
        let version = state.version().cloned();
        state.drop_version();
        let parked = state.parked.take();
        let fallback = state.take_fallback();
        let unfinished = state.unfinished.take();
        drop(state);
        drop(parked);
        if let Some(unfinished) = unfinished {
            self.ledger.orphan(unfinished.id);
        }
        self.orphan(version.as_deref());
        self.orphan(fallback.as_deref());
    }

    /// Evicts what passes limits that are lower than at the last start.
    pub(super) async fn trim(self: Arc<Self>) {
        if let Err(error) = self.reserve_exactly("at the start", 0).await {
            tracing::warn!(%error, "the store holds more than its limits");
        }
    }

    /// Enters the parts that downloads of an earlier daemon left, each as what its name can go on
    /// with.
    fn adopt_unfinished(&self, names: &Names, parts: Vec<store::Unfinished>, may_prune: bool) {
        for store::Unfinished { id, record, present, usage, tree } in parts {
            self.ledger.recovered(id, usage - tree, tree);
            self.ledger.unfinished(id);
            let Some(entry) = names.claims(&record.name, &record.source) else {
                if may_prune {
                    self.ledger.orphan(id);
                }
                continue;
            };
            self.index(id, &entry);
            let unfinished = Unfinished { id, record, present: present.into() };
            let before = entry.state().unfinished.replace(unfinished);
            if let Some(before) = before {
                self.ledger.orphan(before.id);
            }
        }
    }

    pub(super) fn adopt(self: &Arc<Self>, recovered: Recovered, may_prune: bool) {
        let names = self.names();
        self.adopt_unfinished(&names, recovered.unfinished, may_prune);
        let mut blobs = recovered.blobs;
        // Oldest use first: that is the order of eviction from here on.
        blobs.sort_by_key(|found| found.used_at);
        for found in &blobs {
            self.ledger.recovered(found.blob.id(), found.usage - found.tree, found.tree);
        }
        // Of two versions of a name the one confirmed last is current.
        blobs.sort_by_key(|found| found.record.validated_at);
        for found in blobs {
            let id = found.blob.id();
            let Some(entry) = names.claims(&found.record.name, &found.record.source) else {
                // While some catalog was never read it stays, idle, and may be adopted at a later
                // start; the quota may take it like any other.
                if may_prune {
                    self.ledger.orphan(id);
                }
                continue;
            };
            let record = found.record;
            if !names.shows(&record.name, &entry) && entry.version().is_some() {
                // Another name's copy of the same; its own is there.
                self.ledger.orphan(id);
                continue;
            }
            let lifetime = record.lifetime.unwrap_or_default();
            let policy = entry.source().revalidate;
            if !keeps(&record.validators, record.digest.as_ref(), &lifetime, policy) {
                self.ledger.orphan(id);
                continue;
            }
            let version = Arc::new(Version {
                blob: found.blob,
                source: record.source,
                keep: true,
                lifetime,
                validators: record.validators,
                digest: record.digest,
                fetched_at: record.fetched_at,
                shown_at: record.shown_at,
                untrusted: found.trust == Trust::Unverified,
            });
            let mut state = entry.state();
            state.validated_at = record.validated_at;
            state.recorded_at = record.validated_at;
            let before = std::mem::replace(&mut state.slot, Slot::Ready(version));
            drop(state);
            self.index(id, &entry);
            if let Slot::Ready(older) = before {
                self.ledger.orphan(older.blob.id());
            }
        }
    }
}
