//! What the kernel is told, by the forms that a download is shown in. The only place that knows
//! them.
//!
//! A file's entry is kept by the kernel for long, so it must hear of every move, and whoever is to
//! look the name up again waits until it has. A directory's entry is kept for a moment only: a move
//! needs no word, and one must not be waited for, since a LOOKUP of the name may wait for the very
//! flight that would wait here. What was walked in a tree must be dropped before its blob can go.

use std::sync::Arc;
use std::time::Duration;

use super::Cache;
use super::entry::Entry;
use crate::types::{BlobId, Ino, Pending};

/// How long the kernel may take to hear something that a request of its own may stand in the way
/// of.
const HEARS_WITHIN: Duration = Duration::from_secs(1);

impl Cache {
    /// Has the kernel drop what it remembers of a name, and waits until it has.
    pub async fn tell_moved(&self, entry: &Entry) {
        let forms = entry.forms();
        let Some(name) = &forms.file else { return };
        let told = self.kernel().moved(name);
        match forms.tree {
            // A LOOKUP of the directory may be waiting for this, with the lock that it takes.
            Some(_) => within(told).await,
            None => told.await,
        }
    }

    /// Has the kernel drop what it remembers of a name; nobody waits.
    pub fn tell_leaving(&self, entry: &Entry) {
        let forms = entry.forms();
        if let Some(name) = &forms.file {
            self.kernel().leaving(name);
        }
        if let (Some(_), Some(version)) = (forms.tree, entry.version()) {
            drop(self.kernel().clear(version.blob.id()));
        }
    }

    /// Has the kernel drop what was walked of the tree of a blob, if anything was; nobody waits.
    pub(super) fn tell_walked(&self, blob: BlobId) {
        if self.grove.knows(blob) {
            drop(self.kernel().clear(blob));
        }
    }

    /// Has the kernel drop what it keeps of a file that nobody has open, and waits until it has.
    pub async fn tell_stale(&self, ino: Ino) {
        self.kernel().stale(ino).await;
    }

    /// Tells the kernel the length of a file, and waits until it knows.
    pub async fn tell_size(&self, ino: Ino, length: u64) {
        self.kernel().sized(ino, length).await;
    }

    /// Has the kernel drop everything it keeps of a blob that is to go. The future ends once it has.
    pub(super) fn bid_farewell(&self, entry: &Arc<Entry>, blob: BlobId) -> Pending<'static, ()> {
        let forms = entry.forms();
        let file = forms.file.as_ref().map(|name| self.kernel().moved(name));
        let walked = forms.tree.is_some() || self.grove.knows(blob);
        let tree = walked.then(|| self.kernel().clear(blob));
        Box::pin(async move {
            if let Some(told) = file {
                told.await;
            }
            if let Some(told) = tree {
                within(told).await;
            }
        })
    }
}

async fn within(told: Pending<'static, ()>) {
    if tokio::time::timeout(HEARS_WITHIN, told).await.is_err() {
        tracing::debug!("the kernel is slow to drop what it keeps of a tree");
    }
}
