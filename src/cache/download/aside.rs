//! What is left of a download that did not reach its end, where it can be gone on with.
//!
//! A download that can be resumed is one of a known length whose bytes a strong tag holds together.
//! Its blob ends as that of any failed download: who reads it keeps what is there. Its bytes stay
//! in the store under the old number until the next download of the same version takes them over,
//! or until room is needed: they are the first to go.

use std::sync::Arc;

use crate::cache::Cache;
use crate::cache::entry::{Entry, UNWANTED};
use crate::cache::error::OpenError;
use crate::cache::ledger::Reservation;
use crate::cache::version::{Unfinished, Version};
use crate::metrics::Refusal;
use crate::store::{Record, Staging};

/// Fewer bytes are sooner fetched again than kept.
const LEAST: u64 = 1 << 20;

/// A part with what is known of it.
pub(super) struct Part {
    pub(super) staging: Arc<Staging>,
    pub(super) record: Record,
    pub(super) reservation: Option<Reservation>,
    pub(super) version: Arc<Version>,
}

/// Returns the end of a download that nobody wants to go on now.
pub(super) fn unwanted(entry: &Entry) -> OpenError {
    let text = format!("{}: put aside", entry.name());
    OpenError { errno: UNWANTED, ..OpenError::new(Refusal::Interrupted, text) }
}

/// Says whether what is there of a version may be of use to a later download.
pub(super) fn worth_keeping(cache: &Cache, version: &Version, error: &OpenError) -> bool {
    let cause = match error.why {
        Refusal::Digest | Refusal::Changed | Refusal::Store | Refusal::Gone => false,
        Refusal::Interrupted => cache.ledger.wanted(version.blob.id()),
        _ => true,
    };
    // What claims to be the same version may have shown that it is not, whatever came of this one.
    cause && version.blob.broken().is_none() && version.blob.filled() >= LEAST
}

/// Puts a part aside. Waits for the disk.
pub(super) async fn put(cache: &Arc<Cache>, entry: &Arc<Entry>, part: Part, error: &OpenError) {
    let Part { staging, record, reservation, version } = part;
    let id = version.blob.id();
    // Its readers first: suspending waits for the disk.
    version.blob.fail(error.broken());
    let told = record.clone();
    let suspended = tokio::task::spawn_blocking(move || staging.suspend(&told)).await;
    let usage = match suspended {
        Ok(Ok(usage)) => usage,
        Ok(Err(error)) => {
            tracing::warn!(name = %entry.name(), %error, "an unfinished download cannot be kept");
            settle(cache, reservation, &version, version.blob.filled());
            return;
        }
        Err(_stopping) => return,
    };
    settle(cache, reservation, &version, usage);
    cache.ledger.unfinished(id);
    let before = {
        let mut state = entry.state();
        let current = !state.withdrawn && state.identity == version.source;
        let present = version.blob.present_ranges();
        let present = present.into_iter().map(|range| (range.start, range.end)).collect();
        let unfinished = Unfinished { id, record, present };
        if current { state.unfinished.replace(unfinished) } else { Some(unfinished) }
    };
    if let Some(before) = before {
        cache.ledger.orphan(before.id);
    }
}

fn settle(cache: &Cache, reservation: Option<Reservation>, version: &Version, on_disk: u64) {
    if let Some(reservation) = reservation {
        cache.ledger.settle(reservation, version.blob.id(), on_disk);
    }
    cache.ledger.committed(version.blob.id());
}

/// Lets the bytes of a failed download go, unless they were put aside.
pub(super) fn let_go(cache: &Cache, entry: &Entry, version: &Version) {
    let id = version.blob.id();
    if entry.state().unfinished.as_ref().is_none_or(|unfinished| unfinished.id != id) {
        cache.ledger.orphan(id);
    }
}
