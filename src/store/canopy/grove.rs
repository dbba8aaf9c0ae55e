//! The trees that an earlier daemon left.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use super::stamp;
use crate::store::layout::{self, Kind, Layout, OF_TREE};
use crate::store::site::Site;
use crate::store::{canopy, durable};
use crate::types::BlobId;

/// What lies in `trees/`.
#[derive(Default)]
pub(in crate::store) struct Grove {
    /// The bytes of disk that each tree takes.
    trees: BTreeMap<BlobId, u64>,
    /// How many files in the place of trees were removed.
    pub(in crate::store) dropped: usize,
}

impl Grove {
    /// Looks through the trees and removes those without an archive (`known` tells), those that
    /// cannot be trusted, and what belongs to none. Reads no more than stamps. Blocks on the disk.
    ///
    /// What cannot be removed is left, with a warning.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub(in crate::store) fn survey(
        site: &Site,
        known: impl Fn(BlobId) -> bool,
    ) -> io::Result<Grove> {
        let layout = &site.layout;
        let mut grove = Grove::default();
        let mut found: BTreeMap<BlobId, usize> = BTreeMap::new();
        for entry in fs::read_dir(layout.trees())? {
            let entry = entry?;
            match layout::parse(&entry.file_name()) {
                Some((id, Kind::Data | Kind::Index | Kind::Filled)) => {
                    *found.entry(id).or_default() += 1;
                }
                // Among them an index that was being written.
                _ => grove.dropped += usize::from(durable::discard(&entry.path())),
            }
        }
        for (id, files) in found {
            if known(id)
                && let Ok(usage) = examine(site, id)
            {
                grove.trees.insert(id, usage);
            } else {
                // What is not there counts as gone.
                let kept =
                    OF_TREE.iter().filter(|kind| !durable::discard(&layout.tree(id, **kind)));
                grove.dropped += files.saturating_sub(kept.count());
            }
        }
        Ok(grove)
    }

    /// Returns the bytes of disk that the tree of a blob takes, 0 where there is none.
    pub(in crate::store) fn usage(&self, id: BlobId) -> u64 {
        self.trees.get(&id).copied().unwrap_or(0)
    }
}

/// Returns the disk that a tree takes, if its index was written in this boot and its other files
/// are files.
fn examine(site: &Site, id: BlobId) -> io::Result<u64> {
    let layout: &Layout = &site.layout;
    stamp::read(&durable::open_regular(&layout.tree(id, Kind::Index))?, site)?;
    for kind in [Kind::Data, Kind::Filled] {
        match durable::open_regular(&layout.tree(id, kind)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    canopy::usage(layout, id)
}
