//! Origins that give other bytes under a strong tag that they gave before, which a strong tag rules
//! out (RFC 9110, section 8.8.1). Such an origin is not asked for ranges: nothing would tell whether
//! they fit together.
//!
//! What comes twice tells. Of a copy at hand that is whole the checksums are compared with those of
//! what came ([`Again`]); of one that is there in part, what comes is compared with it at once
//! ([`Beside`]), so that from the first difference on nothing is added to it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::Cache;
use super::entry::Entry;
use super::error::OpenError;
use super::version::Version;
use crate::metrics::Refusal;
use crate::origin::Head;
use crate::source::Source;
use crate::store::Blob;
use crate::types::{BlobId, Name};

/// A version at hand that an answer claims to bring once more.
pub(super) struct Again(BlobId);

impl Again {
    /// Returns the version, where it is whole and the head gives no other length.
    pub(super) fn of(version: &Version, source: &Source, head: &Head) -> Option<Again> {
        let fits = head.length.is_none() || head.length == version.blob.length();
        let again = same_tag(version, source, head) && version.complete() && fits;
        again.then(|| Again(version.blob.id()))
    }

    /// Compares it with what came, which is committed; notes an origin that lied. What was there
    /// before may have been evicted meanwhile, and then tells nothing.
    pub(super) async fn compare(self, cache: &Cache, entry: &Entry, source: &Source, came: BlobId) {
        let (store, Again(before)) = (cache.store.clone(), self);
        let alike = tokio::task::spawn_blocking(move || store.alike(before, came)).await;
        match alike {
            Ok(Ok(false)) => note(cache, entry, source),
            Ok(Err(e)) if e.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(blob = %before, with = %came, "cannot compare what came twice: {e}");
            }
            // Alike, evicted, or the daemon is stopping.
            _ => {}
        }
    }
}

/// A version of which a part is at hand, and which an answer claims to bring.
pub(super) struct Beside {
    /// Its readers keep it; what is compared with it does not.
    blob: Weak<Blob>,
    differs: AtomicBool,
}

impl Beside {
    /// Returns the version, where only a part of it is there and the head gives no other length.
    pub(super) fn of(version: &Version, source: &Source, head: &Head) -> Option<Beside> {
        let fits = head.length.is_some() && head.length == version.blob.length();
        let part = !version.complete() && version.blob.broken().is_none();
        let beside = fits && part && same_tag(version, source, head);
        let blob = Arc::downgrade(&version.blob);
        beside.then(|| Beside { blob, differs: AtomicBool::new(false) })
    }

    /// Compares bytes that came with those at hand, and says whether they are alike. Where they differ,
    /// the origin lied, and what is missing of the part stays so: what would come for it are bytes of
    /// another version. Blocks on the disk.
    pub(super) fn compare(
        &self,
        cache: &Cache,
        entry: &Entry,
        source: &Source,
        at: u64,
        chunks: &[Bytes],
    ) -> bool {
        let Some(blob) = self.blob.upgrade() else { return true };
        if self.differs.load(Ordering::Relaxed) {
            return true;
        }
        match blob.agrees(at, chunks) {
            Ok(true) => true,
            Ok(false) => {
                if self.differs.swap(true, Ordering::Relaxed) {
                    return false;
                }
                note(cache, entry, source);
                if !blob.committed() {
                    let text = "the origin gives other bytes now under the same strong tag";
                    blob.fail(OpenError::new(Refusal::Changed, text).broken());
                }
                false
            }
            // Nobody holds it any more.
            Err(e) if e.kind() == io::ErrorKind::NotFound => true,
            Err(e) => {
                tracing::warn!(blob = %blob.id(), "cannot compare what came twice: {e}");
                true
            }
        }
    }
}

/// Notes that the origin of a name gives other bytes under one strong tag.
pub(super) fn note(cache: &Cache, entry: &Entry, source: &Source) {
    entry.distrust_tags();
    cache.origin.lied(source);
}

/// Returns the end of a download whose bytes differ from what came of it before, which may have been
/// seen; else it is to be had anew, in one answer, as where its digest is wrong.
pub(super) fn other_bytes(name: &Name, seen: bool) -> OpenError {
    let text = format!(
        "{name}: the origin gives other bytes than before under the same strong tag; they are not mixed"
    );
    OpenError::new(if seen { Refusal::Changed } else { Refusal::Digest }, text)
}

/// Notes an origin that gives another length under the same strong tag.
pub(super) fn note_length(
    cache: &Cache,
    entry: &Entry,
    source: &Source,
    have: Option<&Version>,
    head: &Head,
) {
    let same = have.filter(|version| same_tag(version, source, head));
    if let (Some(version), Some(length)) = (same, head.length)
        && version.blob.length().is_some_and(|before| before != length)
    {
        note(cache, entry, source);
    }
}

/// Says whether an answer is, by its strong tag, about a version of the same source.
fn same_tag(version: &Version, source: &Source, head: &Head) -> bool {
    version.source == source.identity() && version.validators.same_strong(&head.validators)
}
