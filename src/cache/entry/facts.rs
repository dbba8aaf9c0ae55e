//! What an entry knows of its version at a moment.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use super::{Entry, State};
use crate::cache::OpenError;
use crate::cache::freshness::Facts;
use crate::cache::version::{Leftover, Version};
use crate::lifetime::{Clock, Use};
use crate::source::Revalidate;

impl Entry {
    /// Says whether two versions of one strong tag may be taken for one.
    pub fn tags_tell(&self) -> bool {
        !self.tags_lie.load(Ordering::Relaxed)
    }

    /// Notes that they may not.
    pub(in crate::cache) fn distrust_tags(&self) {
        self.tags_lie.store(true, Ordering::Relaxed);
    }

    /// Returns what there is to go on with of a download that was not finished, while nobody does.
    pub fn leftover(&self) -> Option<Leftover> {
        let state = self.state();
        let part = state.unfinished.as_ref()?;
        (part.record.source == state.identity).then(|| Leftover {
            id: part.id,
            length: part.record.length,
            etag: part.record.validators.etag.clone(),
            present: part.present.clone(),
        })
    }
}

impl State {
    /// Returns what the verdict on a version rests on.
    pub(super) fn facts(&self, version: &Version, now: Instant, window: Duration) -> Facts {
        Facts {
            same_source: version.source == self.identity,
            digest_unchecked: self
                .source
                .digest
                .as_ref()
                .is_some_and(|declared| version.digest.as_ref() != Some(declared)),
            untrusted: version.untrusted,
            policy: self.source.revalidate,
            answered: self.validated.map(|at| now.duration_since(at)),
            validated: match self.validated {
                Some(at) => Some(now.duration_since(at)),
                None => SystemTime::now().duration_since(self.validated_at).ok(),
            },
            http: self.allowed(version),
            landed: self.landed.map(|at| now.duration_since(at)),
            window,
        }
    }

    /// Says whether the version at hand may be served although its origin fails in this way. An
    /// origin that is followed may decide it; else the catalog does.
    pub(in crate::cache) fn may_be_stale(&self, error: &OpenError) -> bool {
        let Some(version) = self.version().filter(|version| version.keep && error.excusable())
        else {
            return false;
        };
        let said = match self.source.revalidate {
            Revalidate::Http => version.lifetime.usable_on_error(self.clock()),
            _ => None,
        };
        said.unwrap_or_else(|| {
            SystemTime::now()
                .duration_since(self.validated_at)
                .is_ok_and(|age| age < self.source.stale_if_error)
        })
    }

    /// Returns what the origin allows by its own header.
    fn allowed(&self, version: &Version) -> Use {
        // Such a field may have had another value when the answer was chosen by it (RFC 9111,
        // section 4.1): the catalog, or the file that it names, may have changed.
        if self.source.headers.iter().any(|header| version.lifetime.varies_by(&header.name)) {
            return Use::Stale;
        }
        version.lifetime.verdict(self.clock())
    }

    fn clock(&self) -> Clock {
        Clock { now: SystemTime::now(), elapsed: self.validated.map(|at| at.elapsed()) }
    }
}
