//! A download that can be gone on with, while its origin is asked whether it still should be.

use std::sync::Arc;
use std::time::SystemTime;

use super::Cache;
use super::download::Content;
use super::entry::{Entry, Want};
use super::errand::FIRST;
use super::fill::First;
use super::ledger::Pin;
use super::lie;
use super::version::Unfinished;
use crate::origin::{Body, Framing, Head, Unchanged};
use crate::source::Source;
use crate::types::BlobId;

/// An unfinished download, pinned.
pub(super) struct Kept {
    pub(super) unfinished: Unfinished,
    _pin: Pin,
}

impl Kept {
    /// Takes what can be gone on with out of an entry, for a caller who wants to read it.
    pub(super) fn take(cache: &Cache, entry: &Entry, want: Want) -> Option<Kept> {
        if want != Want::Version {
            return None;
        }
        let unfinished = entry.state().take_unfinished()?;
        if cache.ledger.is_doomed(unfinished.id) {
            // An operator is told that it goes.
            cache.ledger.orphan(unfinished.id);
            return None;
        }
        let pin = cache.ledger.pin(unfinished.id)?;
        Some(Kept { unfinished, _pin: pin })
    }

    /// Returns its number.
    pub(super) fn id(&self) -> BlobId {
        self.unfinished.id
    }

    /// Returns the head of the version it is a part of, which the origin has just vouched for.
    pub(super) fn head(&self, unchanged: Unchanged) -> Head {
        let record = &self.unfinished.record;
        let stored = record.lifetime.clone().unwrap_or_default();
        Head {
            validators: unchanged.validators,
            length: Some(record.length),
            part: None,
            ranges: true,
            // What is missing is asked for by range; an origin that does not serve them says so then.
            offered: true,
            digest: record.digest.clone(),
            lifetime: stored.updated(&unchanged.lifetime),
            framing: Framing::Length,
            at: SystemTime::now(),
        }
    }

    /// Chooses between going on and a body that came: the part must be of the very same version.
    pub(super) fn or_body(
        self,
        cache: &Cache,
        entry: &Entry,
        source: &Source,
        head: &Head,
        body: Box<dyn Body>,
    ) -> Content {
        let record = &self.unfinished.record;
        let same_tag = head.validators.same_strong(&record.validators);
        if same_tag && head.length == Some(record.length) && head.ranges {
            // Its first bytes are there already, and tell whether it is.
            let part = head.part.clone().unwrap_or(0..FIRST.min(record.length));
            let first = First { body, part: Some(part) };
            return Content::Unfinished(Box::new(self), Some(first));
        }
        if same_tag && head.length.is_some_and(|length| length != record.length) {
            lie::note(cache, entry, source);
        }
        self.let_go(cache);
        Content::Body(body)
    }

    /// Lets it go.
    pub(super) fn let_go(self, cache: &Cache) {
        cache.ledger.orphan(self.unfinished.id);
    }
}

/// Puts back what could not be decided about, unless there is a later one by now.
pub(super) fn put_back(cache: &Cache, entry: &Arc<Entry>, kept: Option<Kept>) {
    let Some(Kept { unfinished, _pin }) = kept else { return };
    let left = {
        let mut state = entry.state();
        match state.unfinished {
            None if !state.withdrawn => {
                state.unfinished = Some(unfinished);
                None
            }
            _ => Some(unfinished),
        }
    };
    if let Some(left) = left {
        cache.ledger.orphan(left.id);
    }
}
