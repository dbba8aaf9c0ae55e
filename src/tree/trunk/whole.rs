//! A complete index, and where its contents lie.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::members::Members;
use crate::store::Canopy;
use crate::tree::index::{Content, ContentNo, Index, Packed};

/// What stands before the index in its file.
const HEAD: usize = 16;

/// A complete index with what belongs to it. Its files are open.
pub(super) struct Whole {
    pub(super) index: Arc<Index>,
    /// How far the members of a zip are unpacked.
    pub(super) members: Members,
    archive: Arc<File>,
    /// The unpacked bytes, where there are any.
    data: Arc<File>,
}

impl Whole {
    /// Completes an index. `directory` is where the members of a zip end. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said.
    pub(super) fn new(
        index: Index,
        directory: u64,
        filled: &[u8],
        archive: Arc<File>,
        canopy: &Canopy,
    ) -> io::Result<Whole> {
        let data = canopy.data()?;
        let index = Arc::new(index);
        let members = Members::new(&index, directory, filled);
        Ok(Whole { index, members, archive, data })
    }

    /// Says where bytes of a content of a zip lie that are unpacked.
    pub(super) fn place(
        &self,
        no: ContentNo,
        content: Content,
        range: Range<u64>,
    ) -> (Arc<File>, Range<u64>) {
        let (file, begin) = match content.packed {
            Packed::Stored { header, .. } => (&self.archive, header + self.members.start(no)),
            _ => (&self.data, content.at),
        };
        (file.clone(), begin + range.start..begin + range.end)
    }

    /// Returns the file of unpacked bytes.
    pub(super) fn data(&self) -> &Arc<File> {
        &self.data
    }

    /// Returns the file of the archive.
    pub(super) fn archive(&self) -> &Arc<File> {
        &self.archive
    }
}

/// Returns an index as it is saved: with where the members of a zip end, 0 for others.
pub(super) fn seal(index: &Index, directory: u64) -> Vec<u8> {
    let index = index.encode();
    let mut sealed = Vec::with_capacity(HEAD + index.len());
    sealed.extend_from_slice(&directory.to_le_bytes());
    // Inverted as well, as the index's checksum does not reach it.
    sealed.extend_from_slice(&(!directory).to_le_bytes());
    sealed.extend_from_slice(&index);
    sealed
}

/// Reads what [`seal`] wrote; `None` for anything else.
pub(super) fn unseal(sealed: &[u8]) -> Option<(Index, u64)> {
    let (directory, rest) = sealed.split_first_chunk::<8>()?;
    let (inverted, index) = rest.split_first_chunk::<8>()?;
    let directory = u64::from_le_bytes(*directory);
    (u64::from_le_bytes(*inverted) == !directory).then_some(())?;
    Some((Index::decode(index).ok()?, directory))
}

/// Says whether the unpacked bytes of an index can be what the map says: those of a stream all there,
/// and none past the end of the file.
pub(super) fn plausible(index: &Index, filled: &[u8], length: u64) -> bool {
    let unpacked = |content: Content| content.packed.has_to_be_unpacked();
    let there = |content: Content| content.at + content.size <= length;
    (0..index.contents()).filter_map(|no| Some((no, index.content(ContentNo(no))?))).all(
        |(no, content)| match filled.get(no as usize) {
            Some(1) => !unpacked(content) || there(content),
            _ => content.packed != Packed::Streamed,
        },
    )
}
