//! The names that a download is shown under, and what is special to a directory.

use std::time::SystemTime;

use super::{Entry, State};
use crate::cache::OpenError;
use crate::metrics::Refusal;
use crate::tree::{TreeError, Why};
use crate::types::{BlobId, Name};

/// The names that a download is shown under: one of each form at most, since a version has one
/// inode in each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cache) struct Forms {
    pub(in crate::cache) file: Option<Name>,
    pub(in crate::cache) tree: Option<Name>,
}

/// Why the tree of a version cannot be shown.
pub(super) struct TreeFailure {
    blob: BlobId,
    at: SystemTime,
    error: TreeError,
    /// What failed may have been mended since, so it is tried again.
    outdated: bool,
}

impl State {
    /// Has a tree tried again that could not be shown, and still tells why until it can.
    pub(super) fn retry_tree(&mut self) {
        if let Some(failure) = &mut self.tree_failure {
            failure.outdated = true;
        }
    }
}

impl Entry {
    /// Returns the names it is shown under now.
    pub(in crate::cache) fn forms(&self) -> Forms {
        self.state().forms.clone()
    }

    /// Says whether it is shown as a directory.
    pub fn is_tree(&self) -> bool {
        self.state().forms.tree.is_some()
    }

    /// Says whether the origin said last that there is no such thing, and nothing is at hand.
    pub fn is_gone(&self) -> bool {
        let state = self.state();
        let gone = |error: &OpenError| error.why == Refusal::Gone;
        state.version().is_none() && state.last_error.as_ref().is_some_and(|(_, e)| gone(e))
    }

    /// Returns why the directory cannot be shown, and since when: its archive is damaged, say; else
    /// the last failure, if nothing succeeded since.
    pub fn tree_error(&self) -> Option<(SystemTime, OpenError)> {
        let state = self.state();
        let current = state.version().map(|version| version.blob.id());
        let failure = state.tree_failure.as_ref().filter(|failure| Some(failure.blob) == current);
        match failure {
            Some(failure) => Some((failure.at, OpenError::from(failure.error.clone()))),
            None => state.last_error.clone(),
        }
    }

    /// Notes why the tree of a blob cannot be shown.
    pub(in crate::cache) fn tree_failed(&self, blob: BlobId, error: &TreeError) {
        let (at, error) = (SystemTime::now(), error.clone());
        let failure = TreeFailure { blob, at, error, outdated: false };
        self.state().tree_failure = Some(failure);
    }

    /// Notes that the tree of a blob can be shown.
    pub(in crate::cache) fn tree_shown(&self, blob: BlobId) {
        self.state().tree_failure.take_if(|failure| failure.blob == blob);
    }

    /// Returns why the tree of a blob is refused for good: trying again would end the same way.
    pub(in crate::cache) fn refused_tree(&self, blob: BlobId) -> Option<TreeError> {
        let state = self.state();
        let failure = state.tree_failure.as_ref().filter(|failure| failure.blob == blob)?;
        let lasts = !failure.outdated
            && matches!(failure.error.why, Why::Damaged | Why::Limit | Why::TooLarge);
        lasts.then(|| failure.error.clone())
    }
}
