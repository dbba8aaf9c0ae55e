//! Opening and closing: which version an inode stands for, and how the kernel is to serve it.

use std::fs::File;
use std::sync::Arc;

use super::node::{Inode, Node};
use super::nodeid::{Place, place};
use super::{Fs, How, Refused};
use crate::cache::{Entry, OpenError, Pin, Shows, Version};
use crate::metrics::Refusal;
use crate::types::Ino;

impl Fs {
    /// Opens a file. Waits where its origin must be asked, until the head is there.
    ///
    /// # Errors
    /// ESTALE when the name has moved to another inode, after the kernel was told: it looks the
    /// name up once more and opens that one. Else as [`Cache::open`](crate::cache::Cache::open).
    pub async fn open(&self, ino: Ino) -> Result<How, Refused> {
        self.cache.counters().opens.inc();
        let inode = match place(ino) {
            Place::Root => return Err(Refused::Errno(libc::EISDIR)),
            Place::Name => self.inode(ino)?,
            Place::Tree(number, node) => {
                return self.open_member(&self.crown(number)?, node).await;
            }
        };
        let Inode::File(node) = &*inode else {
            return Err(Refused::Errno(libc::ELOOP));
        };
        let bound = self.version_of(node);
        if let Some(version) = &bound
            && alive(Some(version))
            && !self.is_current(node, version)
            && let Some(pin) = self.cache.ledger().pin(version.blob.id())
        {
            // Somebody holds an old inode (a bind mount, /proc/self/fd): it stays as it is.
            let how = self.admit(node, version.clone(), pin).await?;
            return how.ok_or(Refused::Errno(libc::ESTALE));
        }
        let opened = match self.cache.open(node.entry()).await {
            // The name shows nothing any more, and the kernel was told: a path finds that out by
            // looking it up again, and who holds this version keeps it.
            Err(error) if error.why == Refusal::Gone && alive(bound.as_deref()) => {
                return Err(Refused::Errno(libc::ESTALE));
            }
            opened => opened?,
        };
        let waited = opened.waited;
        if let Some(how) = self.admit(node, opened.version, opened.pin).await? {
            return Ok(how);
        }
        if !waited {
            self.cache.tell_moved(node.entry()).await;
        }
        Err(Refused::Errno(libc::ESTALE))
    }

    fn is_current(&self, node: &Node, version: &Version) -> bool {
        match self.cache.shows(node.entry()) {
            Shows::Version(current) => current.blob.id() == version.blob.id(),
            Shows::Nothing(_) => false,
        }
    }

    /// Files a handle, or says that this inode stands for another version. Waits for the disk only
    /// where nobody has the blob's file open yet.
    async fn admit(
        &self,
        node: &Node,
        version: Arc<Version>,
        pin: Pin,
    ) -> Result<Option<How>, Refused> {
        if !node.takes(&version) {
            return Ok(None);
        }
        let held = node.opened_file(version.blob.id()).or_else(|| version.blob.held_file());
        let file = match held {
            Some(file) => file,
            None => open_blob(node.entry(), &version).await?,
        };
        let blob = version.blob.id();
        if node.was_another(&version) {
            // What was shown of it before was of a body that never came.
            self.cache.tell_stale(node.ino()).await;
        }
        if let Some(length) = version.blob.length() {
            // Where its LOOKUP could not say: a mapping needs it, and nothing asks on its behalf.
            node.sized(blob, || self.cache.tell_size(node.ino(), length)).await;
        }
        let reference = match node.refers_to(blob) {
            true => None,
            false => self.cache.ledger().refer(blob),
        };
        // Nothing may wait from here on: a caller who gives up would leave the handle behind.
        Ok(node.admit(version, file, pin, reference))
    }

    /// Closes one handle. A body that may not be kept goes with the last.
    pub fn release(&self, ino: Ino) {
        if let Place::Tree(number, _) = place(ino) {
            // Where the kernel was faster to forget it, everything has fallen already.
            if let Ok(crown) = self.crown(number) {
                crown.released();
            }
            return;
        }
        let Ok(inode) = self.inode(ino) else { return };
        let Inode::File(node) = &*inode else { return };
        let (pin, last) = node.release();
        drop(pin);
        if last && node.version().is_some_and(|version| !version.keep) {
            self.cache.tell_leaving(node.entry());
        }
    }
}

/// Says whether there is a version whose bytes are there or on their way.
fn alive(version: Option<&Version>) -> bool {
    version.is_some_and(|version| version.blob.broken().is_none())
}

/// Opens the file of a blob, on a thread that may wait for the disk.
async fn open_blob(entry: &Entry, version: &Version) -> Result<Arc<File>, OpenError> {
    let blob = version.blob.clone();
    let opened = tokio::task::spawn_blocking(move || blob.file()).await;
    let opened = opened.map_err(|_| OpenError::new(Refusal::Store, "the daemon is stopping"))?;
    opened.map_err(|error| match version.blob.broken() {
        // Its file went with the download.
        Some(broken) => OpenError::from(broken),
        None => OpenError::disk(&format!("{}: cannot open its blob", entry.name()), &error),
    })
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::cache::tests::{Reply, Rig, failure, head, source, table, until};
    use crate::origin::FailureKind;

    #[tokio::test]
    async fn who_opens_what_has_just_failed_hears_why() {
        let rig = Rig::new(table([("a", source("http://h/a"))]));
        let (body, sent) = mpsc::unbounded_channel();
        rig.will(Reply::Slow(head(Some("1"), Some(6)), sent));
        let opened = rig.open("a").await.unwrap();
        body.send(Err(failure(FailureKind::Gone))).unwrap();
        until("the failure", || opened.version.blob.broken().is_some()).await;
        until("the file to go", || opened.version.blob.file().is_err()).await;
        let error = open_blob(&rig.entry("a"), &opened.version).await.unwrap_err();
        assert_eq!(error.errno, libc::ENOENT, "{error}");
        assert!(error.message.contains("scripted: gone"), "{error}");
    }
}
