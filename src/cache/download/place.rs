//! The place on disk of a version that is to come: a new one, or the part of it that is there.

use std::sync::Arc;

use crate::cache::Cache;
use crate::cache::entry::Entry;
use crate::cache::error::OpenError;
use crate::cache::ledger::{Pin, Reservation};
use crate::digest::Digest;
use crate::metrics::Refusal;
use crate::store::{Allocation, Staging};
use crate::types::BlobId;

/// Where the bytes of a version are to lie.
pub(super) struct Place {
    pub(super) id: BlobId,
    /// The part to go on with.
    pub(super) from: Option<BlobId>,
    pub(super) allocation: Allocation,
    pub(super) length: Option<u64>,
}

impl Place {
    /// Takes the place on the disk, and pins it.
    ///
    /// # Errors
    /// What the disk said, or that the part to go on with has been evicted.
    pub(super) async fn take(
        self,
        cache: &Arc<Cache>,
        entry: &Entry,
        mut reservation: Reservation,
        expected: Option<&Digest>,
    ) -> Result<(Arc<Staging>, Reservation, Pin), OpenError> {
        let Place { id, from, allocation, length } = self;
        let name = entry.name();
        let pin = match from {
            None => cache.ledger.open(id),
            Some(old) => {
                let resumed = cache.ledger.resume(old, id, &mut reservation);
                cache.forget_blob(old);
                resumed.ok_or_else(|| {
                    let text = format!("{name}: what was there of it has just been evicted");
                    OpenError::new(Refusal::Store, text)
                })?
            }
        };
        let (store, algorithm) = (cache.store.clone(), expected.map(|digest| digest.algorithm));
        let staged = tokio::task::spawn_blocking(move || {
            let (staging, tree) = match from {
                None => (store.stage(id, length, allocation)?, 0),
                Some(old) => {
                    let (staging, _) = store.resume(id, old, allocation)?;
                    (staging, store.canopy(id).usage()?)
                }
            };
            if let Some(algorithm) = algorithm {
                staging.hash(algorithm);
            }
            std::io::Result::Ok((staging, tree))
        });
        let staged = match staged.await {
            Ok(staged) => staged.map_err(|error| {
                OpenError::disk(&format!("{name}: cannot stage the download"), &error)
            }),
            Err(_) => Err(OpenError::new(Refusal::Store, "the daemon is stopping")),
        };
        match staged {
            Ok((staging, tree)) => {
                if from.is_some() {
                    // Its tree came along, unless the disk refused.
                    cache.ledger.settle_tree(None, id, tree);
                    cache.counters.resumed.inc();
                    let present = staging.written();
                    tracing::info!(%name, present, length, "going on with a download");
                }
                Ok((Arc::new(staging), reservation, pin))
            }
            Err(error) => {
                // Nothing points at it, so it goes with the pin.
                cache.ledger.orphan(id);
                Err(error)
            }
        }
    }
}
