//! One immutable body of a source, as obtained once.

use std::sync::Arc;
use std::time::SystemTime;

use super::Size;
use crate::digest::Digest;
use crate::lifetime::Lifetime;
use crate::origin::Unchanged;
use crate::source::{Revalidate, Source};
use crate::store::{Blob, Record};
use crate::types::{BlobId, Name};
use crate::validators::Validators;

/// One immutable body of a source. A 304 makes a new record of the same blob.
pub struct Version {
    /// The bytes.
    pub blob: Arc<Blob>,
    /// What [`crate::source::Source::identity`] said when it was fetched.
    pub source: String,
    /// ETag and Last-Modified.
    pub validators: Validators,
    /// What its origin said of its use without asking.
    pub lifetime: Lifetime,
    /// A digest that the bytes match, or must turn out to match before they are committed.
    pub digest: Option<Digest>,
    /// When it was fetched.
    pub fetched_at: SystemTime,
    /// mtime and ctime as shown; the same over all states of the version.
    pub shown_at: SystemTime,
    /// Whether it may stay once nobody holds it, see `keeps`.
    pub keep: bool,
    /// Set for a recovered blob whose checksums must be compared first.
    pub untrusted: bool,
}

impl Version {
    /// Says whether the bytes are complete, checked and committed.
    pub fn complete(&self) -> bool {
        self.blob.committed()
    }

    /// Returns the state that `status` and the xattr show.
    pub fn state(&self) -> &'static str {
        if self.blob.broken().is_some() {
            "broken"
        } else if self.complete() {
            "ready"
        } else if self.digest.is_some() {
            "partial-unverified"
        } else if self.keep {
            "partial"
        } else {
            "transient"
        }
    }

    /// Returns the same bytes under what the origin says of them now. What was not to be kept
    /// has no place on disk that it could be kept in.
    pub(super) fn confirmed(&self, now: Unchanged, policy: Revalidate) -> Version {
        let Unchanged { validators, lifetime } = now;
        let keep = self.keep && keeps(&validators, self.digest.as_ref(), &lifetime, policy);
        Version { validators, lifetime, keep, ..self.again() }
    }

    /// Says whether the sidecar of an older record of the same bytes misleads.
    pub(super) fn differs(&self, older: &Version) -> bool {
        self.validators != older.validators || !self.lifetime.same_terms(&older.lifetime)
    }

    /// Returns the same bytes, found to be whole and what the source declares.
    pub(super) fn verified(&self, source: &Source) -> Version {
        match &source.digest {
            Some(digest) => Version {
                digest: Some(digest.clone()),
                source: source.identity(),
                untrusted: false,
                keep: true,
                ..self.again()
            },
            // Whole as committed; which source it came from has not changed by that.
            None => Version { untrusted: false, ..self.again() },
        }
    }

    /// Returns the same bytes as what they are once the source means others: no answer about the
    /// new source may be taken for one about them.
    pub(super) fn of_another_source(&self) -> Version {
        Version { source: String::new(), ..self.again() }
    }

    fn again(&self) -> Version {
        Version {
            blob: self.blob.clone(),
            source: self.source.clone(),
            validators: self.validators.clone(),
            lifetime: self.lifetime.clone(),
            digest: self.digest.clone(),
            ..*self
        }
    }

    /// Returns what is written beside the blob.
    pub(super) fn record(&self, name: &Name, validated_at: SystemTime) -> Record {
        Record {
            name: name.clone(),
            source: self.source.clone(),
            validators: self.validators.clone(),
            length: self.blob.length().unwrap_or(0),
            digest: self.digest.clone(),
            validated_at,
            fetched_at: self.fetched_at,
            shown_at: self.shown_at,
            lifetime: Some(self.lifetime.clone()).filter(|said| *said != Lifetime::default()),
        }
    }
}

/// A download that was not finished and can be gone on with: gaps are left, and nobody reads it.
pub(super) struct Unfinished {
    /// Its part in the store.
    pub(super) id: BlobId,
    /// What it is of.
    pub(super) record: Record,
    /// What is there of it: each range as its first byte and the one after its last, in order.
    pub(super) present: Arc<[(u64, u64)]>,
}

/// What is there of a name whose download was not finished, for an operator.
pub struct Leftover {
    /// Its number.
    pub id: BlobId,
    /// The length of the whole.
    pub length: u64,
    /// Its ETag.
    pub etag: Option<String>,
    /// Each range as its first byte and the one after its last, in order.
    pub present: Arc<[(u64, u64)]>,
}

/// Says whether a version may stay once nobody holds it: its origin, where that is followed, may
/// forbid it or allow its use for a time; else something must tell whether it is the current one.
pub(super) fn keeps(
    validators: &Validators,
    digest: Option<&Digest>,
    lifetime: &Lifetime,
    policy: Revalidate,
) -> bool {
    match policy {
        Revalidate::Http if lifetime.no_store() => false,
        Revalidate::Http if lifetime.lasts() => true,
        _ => !validators.is_empty() || digest.is_some(),
    }
}

/// What a head said of a body that was not fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peek {
    /// The announced length.
    pub length: u64,
    /// The time that will be shown.
    pub shown_at: SystemTime,
    /// The validators that came with it.
    pub validators: Validators,
    /// The identity of the source it came from.
    pub source: String,
    /// Whether the flight under way brings the body: this holds until that ends.
    pub coming: bool,
}

impl Peek {
    /// Returns what a stat shows.
    pub(super) fn size(&self) -> Size {
        Size { length: self.length, shown_at: self.shown_at }
    }
}
