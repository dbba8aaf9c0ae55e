//! Files of a tree: opening, closing, reading, and where links point.

use std::ffi::OsString;
use std::fs::File;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt as _;
use std::sync::Arc;

use super::crown::Crown;
use super::{Fs, How, Refused};
use crate::cache::OpenError;
use crate::tree::{self, NodeNo, Ready, Tree};

impl Fs {
    /// Opens a file of a tree. Waits where its bytes must come first.
    ///
    /// # Errors
    /// The member cannot be had.
    pub(super) async fn open_member(
        &self,
        crown: &Arc<Crown>,
        node: NodeNo,
    ) -> Result<How, Refused> {
        let how = match crown.tree() {
            Some(tree) if tree.ready(node) => {
                self.cache.counters().hits.inc();
                How::Kept
            }
            _ => self.opened(crown, node).await?,
        };
        // Nothing may wait from here on: a caller who gives up would leave the handle behind.
        match crown.opened(|blob| self.cache.ledger().pin(blob)) {
            Some(()) => Ok(how),
            None => Err(Refused::Errno(libc::ESTALE)),
        }
    }

    async fn opened(&self, crown: &Arc<Crown>, node: NodeNo) -> Result<How, Refused> {
        let tree = self.rooted(crown).await?;
        let (_, ready) =
            self.asked(crown, tree, |tree| async move { tree.open(node).await }).await?;
        Ok(match ready {
            Ready::Whole { .. } => How::Kept,
            Ready::Arriving => How::Direct,
        })
    }

    /// Returns where some bytes of a member lie, once they are there.
    ///
    /// # Errors
    /// They do not come.
    pub(super) async fn find_bytes(
        &self,
        crown: &Arc<Crown>,
        node: NodeNo,
        wanted: Range<u64>,
    ) -> Result<(Arc<File>, Range<u64>), Refused> {
        let tree = self.standing(crown).await?;
        // Bytes that are known to be wrong are not served, also where they are there.
        if let Some(broken) = tree.blob().broken().filter(|broken| broken.tainted) {
            return Err(OpenError::from(broken).into());
        }
        let read = |tree: Arc<Tree>| {
            let wanted = wanted.clone();
            async move { tree.read(node, wanted).await }
        };
        let (_, found) = self.asked(crown, tree, read).await?;
        Ok(found)
    }

    /// Returns where a symbolic link of a tree points. Some archives hold that as a file's bytes.
    ///
    /// # Errors
    /// EINVAL for what is no link; its bytes do not come.
    pub(super) async fn link(&self, crown: &Arc<Crown>, node: NodeNo) -> Result<OsString, Refused> {
        let tree = self.standing(crown).await?;
        if tree.attr(node).is_some_and(|attr| attr.kind != tree::Kind::Symlink) {
            return Err(Refused::Errno(libc::EINVAL));
        }
        let (_, target) =
            self.asked(crown, tree, |tree| async move { tree.link(node).await }).await?;
        Ok(OsString::from_vec(target))
    }
}
