//! Unlinks victims, one after another, with no lock held.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Cache;
use super::ledger::Victim;

/// Runs until the cache is dropped.
pub(super) async fn reap(
    cache: std::sync::Weak<Cache>,
    mut victims: mpsc::UnboundedReceiver<Victim>,
) {
    while let Some(victim) = victims.recv().await {
        let Some(cache) = cache.upgrade() else { return };
        bury(&cache, victim).await;
    }
}

async fn bury(cache: &Arc<Cache>, victim: Victim) {
    let blob = victim.blob;
    let entry = cache.forget_blob(blob);
    if let Some(entry) = &entry {
        entry.lost(blob, victim.evicted);
    }
    let store = cache.store.clone();
    match tokio::task::spawn_blocking(move || store.remove(blob)).await {
        Ok(Ok(())) => {
            let evicted = victim.evicted;
            let bytes = victim.gone();
            if evicted {
                cache.counters.evictions.inc();
                cache.counters.evicted_bytes.add(bytes);
                let name = entry.as_ref().map(|entry| entry.name().as_str());
                tracing::info!(name, %blob, bytes, "evicted");
            }
        }
        Ok(Err(error)) => {
            // Its bytes stay on the books, as they stay on the disk; but nobody waits for them.
            victim.stuck();
            tracing::error!(%blob, %error, "cannot unlink an evicted blob");
        }
        Err(stopping) => tracing::debug!(%blob, %stopping, "left to the next start"),
    }
}
