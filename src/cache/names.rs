//! The names that the mount shows, as one immutable table that is replaced as a whole.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::entry::Entry;
use crate::source::Form;
use crate::types::Name;

/// What stands under a name.
#[derive(Clone)]
pub enum Shown {
    /// A download.
    Download(Arc<Entry>),
    /// A relative symlink to the name of a download.
    Alias(Name),
    /// A download whose archive is shown as a directory.
    Tree(Arc<Entry>),
}

impl Shown {
    /// Returns the download, and in which form it is shown.
    pub fn download(&self) -> Option<(Form, &Arc<Entry>)> {
        match self {
            Shown::Download(entry) => Some((Form::File, entry)),
            Shown::Tree(entry) => Some((Form::Directory, entry)),
            Shown::Alias(_) => None,
        }
    }
}

/// The names that the mount shows.
#[derive(Default)]
pub struct Names {
    by_name: HashMap<Name, Shown>,
    /// Names by a number that does not depend on the others, so that reading a directory goes on
    /// where it was although names came and went in between.
    order: Vec<(u64, Name)>,
}

impl Names {
    pub(super) fn new(by_name: HashMap<Name, Shown>) -> Names {
        let mut order: Vec<_> = by_name.keys().map(|n| (number(n.as_str()), n.clone())).collect();
        order.sort();
        Names { by_name, order }
    }

    /// Returns what stands under a name.
    pub fn get(&self, name: &str) -> Option<&Shown> {
        self.by_name.get(name)
    }

    /// Returns the names whose number is greater than `after`, in order of their numbers.
    pub fn after(&self, after: u64) -> impl Iterator<Item = (u64, &Name, &Shown)> {
        let start = self.order.partition_point(|(number, _)| *number <= after);
        self.order[start..].iter().map(|(number, name)| (*number, name, &self.by_name[name]))
    }

    /// Returns every name of a download with what it shows, ordered by name.
    pub fn downloads(&self) -> Vec<(&Name, Form, &Arc<Entry>)> {
        let mut all: Vec<_> = self
            .by_name
            .iter()
            .filter_map(|(name, shown)| shown.download().map(|(form, entry)| (name, form, entry)))
            .collect();
        all.sort_by_key(|(name, ..)| *name);
        all
    }

    /// Returns every download once, also where it is shown in two forms, ordered by name.
    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        let mut seen = HashSet::new();
        let all = self.downloads().into_iter().map(|(.., entry)| entry);
        all.filter(|entry| seen.insert(Arc::as_ptr(entry))).cloned().collect()
    }

    /// Returns the download that something found at start belongs to: by its name where that means
    /// the source it came from, else any that means it, else by its name alone.
    pub(super) fn claims(&self, name: &Name, source: &str) -> Option<Arc<Entry>> {
        let by_name = self.get(name.as_str()).and_then(Shown::download).map(|(_, entry)| entry);
        if let Some(entry) = by_name.filter(|entry| entry.identity() == source) {
            return Some(entry.clone());
        }
        let heir = self.entries().into_iter().find(|entry| entry.identity() == source);
        heir.or_else(|| by_name.cloned())
    }

    /// Says whether a name shows this download.
    pub(super) fn shows(&self, name: &Name, entry: &Arc<Entry>) -> bool {
        let shown = self.get(name.as_str()).and_then(Shown::download);
        shown.is_some_and(|(_, shown)| Arc::ptr_eq(shown, entry))
    }

    /// Returns how many names there are, aliases included.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Says whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

/// The first number that a name may have; what lies below is left to the root and its parent.
const FIRST: u64 = 16;

/// Returns the public number (`st_ino`, and place in the directory) of a name: the same over
/// versions, states and restarts, below 2^63 because directory offsets are signed.
pub fn number(name: &str) -> u64 {
    use sha2::Digest as _;
    let hash = sha2::Sha256::digest(name.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    (u64::from_le_bytes(first) >> 1).max(FIRST)
}
