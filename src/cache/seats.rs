//! Which download a name is a form of.
//!
//! A file and a directory that mean the same source, fetched in the same way, are two forms of one
//! download, and share its archive. A download has one name of each form at most: a version has one
//! inode in each. What was one download before stays one as long as it can.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use super::entry::{Entry, Forms};
use super::names::{Names, Shown};
use crate::source::{Form, Source};
use crate::types::Name;

/// One name of a table to come.
#[derive(Clone, Debug)]
pub struct Bound {
    /// What it is bound to.
    pub source: Arc<Source>,
    /// When the catalog that declares it was written.
    pub declared_at: SystemTime,
}

/// A download to be, under its names.
pub(super) struct Seat {
    pub(super) forms: Forms,
    /// What the names mean; of two, what the file's does.
    pub(super) bound: Bound,
    /// The record of it that is there already.
    pub(super) entry: Option<Arc<Entry>>,
}

/// Seats the names of a table, given what they showed before.
pub(super) fn seat(downloads: HashMap<Name, Bound>, before: &Names) -> Vec<Seat> {
    // In the order of the names, so that the same table always gives the same.
    let downloads: BTreeMap<_, _> = downloads.into_iter().collect();
    let (trees, files): (BTreeMap<_, _>, BTreeMap<_, _>) =
        downloads.into_iter().partition(|(_, bound)| bound.source.form == Form::Directory);
    let pairs = pair(&files, &trees, before);
    let mut seats: Vec<_> = Vec::new();
    let mut alone = trees;
    for (name, bound) in files {
        let tree = pairs.get(&name).cloned();
        if let Some(tree) = &tree {
            alone.remove(tree);
        }
        seats.push(Seat { forms: Forms { file: Some(name), tree }, bound, entry: None });
    }
    for (name, bound) in alone {
        seats.push(Seat { forms: Forms { file: None, tree: Some(name) }, bound, entry: None });
    }
    give_entries(&mut seats, before);
    seats
}

/// Returns the directory that shares a download with each file, where there is one: the one it
/// shared before, else the first that has none.
fn pair(
    files: &BTreeMap<Name, Bound>,
    trees: &BTreeMap<Name, Bound>,
    before: &Names,
) -> HashMap<Name, Name> {
    let mut pairs = HashMap::new();
    let mut seated = HashSet::new();
    for (tree, bound) in trees {
        let Some(forms) = entry_of(before, tree).map(|entry| entry.forms()) else { continue };
        if let (Some(file), true) = (forms.file, forms.tree.as_ref() == Some(tree))
            && files.get(&file).is_some_and(|file| file.source.shares(&bound.source))
        {
            seated.insert(tree);
            pairs.insert(file, tree.clone());
        }
    }
    for (tree, bound) in trees.iter().filter(|(tree, _)| !seated.contains(tree)) {
        let free = files
            .iter()
            .find(|(name, file)| !pairs.contains_key(*name) && file.source.shares(&bound.source));
        if let Some((file, _)) = free {
            pairs.insert(file.clone(), tree.clone());
        }
    }
    pairs
}

/// Gives each record to one of those that have a name of it: to one that still means what it was
/// fetched from, if any does.
fn give_entries(seats: &mut [Seat], before: &Names) {
    let mut given: HashSet<*const Entry> = HashSet::new();
    for same_source in [true, false] {
        for seat in seats.iter_mut().filter(|seat| seat.entry.is_none()) {
            let identity = seat.bound.source.identity();
            let names = seat.forms.file.iter().chain(&seat.forms.tree);
            let known = names.filter_map(|name| entry_of(before, name));
            let mut fit: Vec<_> = known
                .filter(|entry| !given.contains(&Arc::as_ptr(entry)))
                .filter(|entry| !same_source || entry.source().identity() == identity)
                .collect();
            // Of two, the first that has something.
            fit.sort_by_key(|entry| entry.version().is_none());
            if let Some(entry) = fit.into_iter().next() {
                given.insert(Arc::as_ptr(&entry));
                seat.entry = Some(entry);
            }
        }
    }
}

fn entry_of(names: &Names, name: &Name) -> Option<Arc<Entry>> {
    names.get(name.as_str()).and_then(Shown::download).map(|(_, entry)| entry.clone())
}
