//! Origins that give other bytes under a strong tag that they gave before, which a strong tag rules
//! out (RFC 9110, section 8.8.1). Such an origin is not asked for ranges: nothing would tell whether
//! they fit together.

use std::io;

use super::Cache;
use super::version::Version;
use crate::origin::Head;
use crate::source::Source;
use crate::types::BlobId;

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
    pub(super) async fn compare(self, cache: &Cache, source: &Source, came: BlobId) {
        let (store, Again(before)) = (cache.store.clone(), self);
        let alike = tokio::task::spawn_blocking(move || store.alike(before, came)).await;
        match alike {
            Ok(Ok(false)) => cache.origin.lied(source),
            Ok(Err(e)) if e.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(blob = %before, with = %came, "cannot compare what came twice: {e}");
            }
            // Alike, evicted, or the daemon is stopping.
            _ => {}
        }
    }
}

/// Notes an origin that gives another length under the same strong tag.
pub(super) fn note_length(cache: &Cache, source: &Source, have: Option<&Version>, head: &Head) {
    let same = have.filter(|version| same_tag(version, source, head));
    if let (Some(version), Some(length)) = (same, head.length)
        && version.blob.length().is_some_and(|before| before != length)
    {
        cache.origin.lied(source);
    }
}

/// Says whether an answer is, by its strong tag, about a version of the same source.
fn same_tag(version: &Version, source: &Source, head: &Head) -> bool {
    version.source == source.identity()
        && head.validators.strong().is_some()
        && version.validators.strong() == head.validators.strong()
}
