//! One immutable body of a source, as obtained once.

use std::sync::Arc;
use std::time::SystemTime;

use super::Size;
use crate::digest::Digest;
use crate::source::Source;
use crate::store::{Blob, Record};
use crate::types::Name;
use crate::validators::Validators;

/// One immutable body of a source. A 304 makes a new record of the same blob.
pub struct Version {
    /// The bytes.
    pub blob: Arc<Blob>,
    /// What [`crate::source::Source::identity`] said when it was fetched.
    pub source: String,
    /// ETag and Last-Modified.
    pub validators: Validators,
    /// A digest that the bytes match, or must turn out to match before they are committed.
    pub digest: Option<Digest>,
    /// When it was fetched.
    pub fetched_at: SystemTime,
    /// mtime and ctime as shown; the same over all states of the version.
    pub shown_at: SystemTime,
    /// Whether it may stay once nobody holds it: it has a validator or a digest.
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

    /// Returns the same bytes under the validators a 304 brought.
    pub(super) fn with_validators(&self, validators: Validators) -> Version {
        Version { validators, ..self.again() }
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
        }
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
}

impl Peek {
    /// Returns what a stat shows.
    pub(super) fn size(&self) -> Size {
        Size { length: self.length, shown_at: self.shown_at }
    }
}
