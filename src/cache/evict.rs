//! Eviction by hand.

use std::sync::Arc;
use std::time::Duration;

use super::Cache;
use super::entry::Entry;
use super::ledger::Evicted;
use crate::types::BlobId;

/// How long eviction by hand waits for who is about to let go: a handle is released behind the back
/// of close(2), and what has just landed is kept for a second for those who waited for it.
const LETS_GO_WITHIN: Duration = Duration::from_millis(1200);

/// What eviction by hand came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvictOutcome {
    /// Gone, or going as this is read; the bytes of disk it took.
    Evicted(u64),
    /// The name holds nothing.
    Nothing,
    /// Open handles hold it.
    Pinned(u32),
    /// Its own download is not done with it.
    Arriving,
    /// The kernel holds it: a bind mount, a working directory, O_PATH.
    Held,
}

impl Cache {
    /// Evicts what a name holds. Who is about to let it go is waited for, a moment.
    pub async fn evict(self: &Arc<Self>, entry: &Arc<Entry>) -> EvictOutcome {
        let Some(version) = entry.version() else {
            return self.evict_part(entry).await;
        };
        let blob = version.blob.id();
        let until = tokio::time::Instant::now() + LETS_GO_WITHIN;
        // What a download that gave way had written. It is on the books only once that has ended,
        // and what cannot be gone on with goes in the same moment.
        let mut gave_way = None;
        loop {
            let tree = self.ledger.tree(blob);
            let mut stays = false;
            if self.ledger.press(blob) {
                // It holds the blob for what may be read yet, and answers within the time that the
                // kernel has to forget it.
                while self.ledger.is_ending(blob) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                match version.blob.broken() {
                    Some(_) => gave_way = Some(version.blob.filled() + tree),
                    None => stays = !version.complete() && !self.ledger.alone(blob),
                }
            }
            let bytes = match self.ledger.bytes(blob) {
                0 => gave_way.unwrap_or(tree),
                bytes => bytes + tree,
            };
            let pins = match self.ledger.evict(blob) {
                Evicted::Now(victim) => {
                    self.reap(victim);
                    return EvictOutcome::Evicted(bytes);
                }
                Evicted::Absent => {
                    return gave_way.map_or(EvictOutcome::Nothing, EvictOutcome::Evicted);
                }
                Evicted::Pinned(pins) => pins,
                Evicted::Leaving => return self.evict_leaving(blob, bytes).await,
            };
            // Nobody but its download has it, and the kernel was asked to forget it and did not.
            let held = stays && pins <= 1;
            if held || tokio::time::Instant::now() >= until {
                self.ledger.reprieve(blob);
                let ended = version.complete() || version.blob.broken().is_some();
                return match ended || pins > 1 {
                    true => EvictOutcome::Pinned(pins),
                    false if held => EvictOutcome::Held,
                    false => EvictOutcome::Arriving,
                };
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Evicts what was put aside of a name that shows no copy.
    async fn evict_part(self: &Arc<Self>, entry: &Entry) -> EvictOutcome {
        let part = entry.state().unfinished.as_ref().map(|part| part.id);
        let Some(blob) = part else {
            return EvictOutcome::Nothing;
        };
        let bytes = self.ledger.bytes(blob) + self.ledger.tree(blob);
        match self.ledger.evict(blob) {
            Evicted::Now(victim) => {
                self.reap(victim);
                EvictOutcome::Evicted(bytes)
            }
            // A flight has it, and is about to go on with it.
            Evicted::Pinned(_) => EvictOutcome::Arriving,
            Evicted::Absent => EvictOutcome::Nothing,
            Evicted::Leaving => self.evict_leaving(blob, bytes).await,
        }
    }

    /// Has the kernel forget a blob that is to go, and waits until it has, or had its time.
    async fn evict_leaving(self: &Arc<Self>, blob: BlobId, bytes: u64) -> EvictOutcome {
        self.see_off(vec![blob]);
        while self.ledger.is_leaving(blob) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        match self.ledger.contains(blob) {
            true => EvictOutcome::Held,
            false => EvictOutcome::Evicted(bytes),
        }
    }
}
