//! What an entry knows of its version at a moment.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use super::{Entry, State};
use crate::cache::OpenError;
use crate::cache::freshness::Facts;
use crate::cache::version::{Leftover, Version};
use crate::digest::Digest;
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
    pub(in crate::cache) fn facts(
        &self,
        version: &Version,
        now: Instant,
        window: Duration,
    ) -> Facts {
        Facts {
            same_source: version.source == self.identity,
            digest_unchecked: self.source.digest.as_ref().is_some_and(|declared| {
                // A digest that the origin gave was compared too; that it is the declared one now
                // is to be written down with the version, or it would count as another source's.
                let known =
                    version.digest.as_ref() == Some(declared) && version.source == self.identity;
                !(known || self.is_unlike(version, declared))
            }),
            untrusted: version.untrusted,
            policy: self.source.revalidate,
            answered: self.validated.map(|at| now.duration_since(at)),
            validated: self.since_validated(now),
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
            Revalidate::Http if self.chosen_by_catalog(version) => Some(false),
            Revalidate::Http => version.lifetime.usable_on_error(self.clock()),
            _ => None,
        };
        said.unwrap_or_else(|| {
            // What this process has seen for itself does not hang on a clock that may be set.
            let age = self.validated.map(|at| at.elapsed()).or_else(|| self.since_by_wall());
            age.is_some_and(|age| age < self.source.stale_if_error)
        })
    }

    /// Says whether a version is known not to have a digest; its source is another then.
    fn is_unlike(&self, version: &Version, declared: &Digest) -> bool {
        let unlike = self.unlike.as_ref();
        unlike.is_some_and(|(blob, digest)| *blob == version.blob.id() && digest == declared)
    }

    /// Returns the time since the origin last vouched for the version. Of two clocks the one that
    /// says more is believed: the wall clock may have been set, and the other stands still while the
    /// machine is suspended.
    fn since_validated(&self, now: Instant) -> Option<Duration> {
        let by_wall = self.since_by_wall();
        self.validated.map_or(by_wall, |at| {
            let here = now.duration_since(at);
            Some(by_wall.map_or(here, |by_wall| by_wall.max(here)))
        })
    }

    fn since_by_wall(&self) -> Option<Duration> {
        SystemTime::now().duration_since(self.validated_at).ok()
    }

    /// Says whether the answer was chosen by a field that the catalog sets. It may have had another
    /// value then: the catalog, or the file that it names, may have changed (RFC 9111, section 4.1).
    fn chosen_by_catalog(&self, version: &Version) -> bool {
        self.source.headers.iter().any(|header| version.lifetime.varies_by(&header.name))
    }

    /// Returns what the origin allows by its own header.
    fn allowed(&self, version: &Version) -> Use {
        if self.chosen_by_catalog(version) {
            return Use::Stale;
        }
        version.lifetime.verdict(self.clock())
    }

    fn clock(&self) -> Clock {
        Clock { now: SystemTime::now(), elapsed: self.validated.map(|at| at.elapsed()) }
    }
}
