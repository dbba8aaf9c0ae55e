//! Counters of the HTTP side.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use super::FailureKind;

/// Counters since the start; every one only grows.
#[derive(Debug, Default)]
pub struct OriginStats {
    pub(super) requests: AtomicU64,
    pub(super) not_modified: AtomicU64,
    pub(super) found: AtomicU64,
    pub(super) ranges: AtomicU64,
    pub(super) partial: AtomicU64,
    pub(super) lied: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) redirects: AtomicU64,
    failures: [AtomicU64; FailureKind::ALL.len()],
}

/// The counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OriginStatsSnapshot {
    /// GETs sent, those after a redirect and retries included.
    pub requests: u64,
    /// Usable 304 answers.
    pub not_modified: u64,
    /// Usable 200 answers.
    pub found: u64,
    /// Those of the GETs that asked for a range.
    pub ranges: u64,
    /// Usable 206 answers.
    pub partial: u64,
    /// Times that other bytes came under the same strong tag.
    pub lied: u64,
    /// Bytes of bodies received.
    pub bytes: u64,
    /// Attempts beyond the first of a question.
    pub retries: u64,
    /// Redirects followed.
    pub redirects: u64,
    /// Questions and bodies that failed, by [`FailureKind::as_str`].
    pub failures: BTreeMap<&'static str, u64>,
}

impl OriginStats {
    /// Returns the counters of this moment, each by itself.
    pub fn snapshot(&self) -> OriginStatsSnapshot {
        OriginStatsSnapshot {
            requests: self.requests.load(Relaxed),
            not_modified: self.not_modified.load(Relaxed),
            found: self.found.load(Relaxed),
            ranges: self.ranges.load(Relaxed),
            partial: self.partial.load(Relaxed),
            lied: self.lied.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            retries: self.retries.load(Relaxed),
            redirects: self.redirects.load(Relaxed),
            failures: FailureKind::ALL
                .iter()
                .map(|kind| (kind.as_str(), self.failed(*kind).load(Relaxed)))
                .collect(),
        }
    }

    /// Returns the counter of one class of failure.
    pub(super) fn failed(&self, kind: FailureKind) -> &AtomicU64 {
        // The classes carry no data, so the discriminant is the index into `FailureKind::ALL`.
        &self.failures[kind as usize]
    }
}

/// Adds one to a counter.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_counter() {
        let stats = OriginStats::default();
        for (index, kind) in FailureKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            count(stats.failed(kind));
        }
        let failures = stats.snapshot().failures;
        assert_eq!(failures.len(), FailureKind::ALL.len());
        assert!(failures.values().all(|n| *n == 1));
    }
}
