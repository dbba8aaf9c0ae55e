//! What lies on the disk for a tree: its index, its unpacked bytes, and which of them are there.
//!
//! The files carry the number of the archive's blob, and go with it. Nothing of them is fsynced:
//! they hold for one boot, which the [`stamp`] at the head of the index names, and are otherwise
//! made anew from the archive. Without an index the others are rubbish.

mod grove;
mod stamp;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, OnceLock};

pub(super) use self::grove::Grove;
use super::durable;
use super::layout::{Kind, Layout, OF_TREE};
use super::site::Site;
use super::turns::Turn;
use crate::types::BlobId;

/// The longest index that is read back: what any limit allows, several times.
const LONGEST: u64 = 1 << 30;

/// The files of one tree. What makes a file does so only while the archive is in the store, so that
/// none is left behind where the archive was removed meanwhile.
pub struct Canopy {
    site: Arc<Site>,
    id: BlobId,
    /// Opened once, and then used without a look at the directory.
    data: OnceLock<Arc<File>>,
    filled: OnceLock<File>,
}

impl Canopy {
    /// Names the files of a tree.
    pub(super) fn new(site: &Arc<Site>, id: BlobId) -> Canopy {
        Canopy { site: site.clone(), id, data: OnceLock::new(), filled: OnceLock::new() }
    }

    /// Returns the index that was saved, if it can be trusted. Blocks on the disk.
    pub fn saved(&self) -> Option<Vec<u8>> {
        let path = self.site.layout.tree(self.id, Kind::Index);
        match self.read_index(&path) {
            Ok(index) => Some(index),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => {
                tracing::debug!(path = %path.display(), "the index of a tree is made anew: {e}");
                None
            }
        }
    }

    /// Saves the index, and with it makes the other files worth something to a successor of this
    /// daemon. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said; `ENOENT` where the archive was removed.
    pub fn save(&self, index: &[u8]) -> io::Result<()> {
        let stamp = stamp::encode(&self.site)?;
        let _turn = self.turn()?;
        let layout = &self.site.layout;
        let path = layout.tree(self.id, Kind::Index);
        durable::replace_unsynced(&path, &layout.new_index(self.id), &[&stamp, index])
    }

    /// Removes what an earlier attempt left, whose places may have been others. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said; `InvalidInput` once a file was opened.
    pub fn clear(&self) -> io::Result<()> {
        let _turn = self.turn()?;
        if self.data.get().is_some() || self.filled.get().is_some() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("tree {} is in use and cannot be cleared", self.id),
            ));
        }
        remove(&self.site.layout, self.id)
    }

    /// Removes the files that were opened here, unless an index was saved: without one they are
    /// rubbish. Those of a successor, which have the same names, stay. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said.
    pub fn discard(&self) -> io::Result<()> {
        let layout = &self.site.layout;
        let _turn = self.site.turns.take(self.id);
        if layout.tree(self.id, Kind::Index).try_exists()? {
            return Ok(());
        }
        let open =
            [(Kind::Data, self.data.get().map(|data| &**data)), (Kind::Filled, self.filled.get())];
        for (kind, file) in open {
            let (Some(file), path) = (file, layout.tree(self.id, kind)) else { continue };
            match fs::symlink_metadata(&path) {
                Ok(found) if found.ino() == file.metadata()?.ino() => durable::remove(&path)?,
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns the sparse file of unpacked bytes, opened for reading and writing. Blocks on the disk
    /// the first time.
    ///
    /// # Errors
    /// What the disk said; `ENOENT` where the archive was removed.
    pub fn data(&self) -> io::Result<Arc<File>> {
        if let Some(file) = self.data.get() {
            return Ok(file.clone());
        }
        let _turn = self.turn()?;
        match self.data.get() {
            Some(file) => Ok(file.clone()),
            None => {
                let file = Arc::new(self.open(Kind::Data)?);
                Ok(self.data.get_or_init(|| file).clone())
            }
        }
    }

    /// Returns that file if it was opened before; never waits.
    pub fn opened(&self) -> Option<&Arc<File>> {
        self.data.get()
    }

    /// Returns which contents are complete and checked: one byte for each, 0 or 1. What belongs to
    /// another number of contents is emptied. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said; `ENOENT` where the archive was removed.
    pub fn filled(&self, contents: u32) -> io::Result<Vec<u8>> {
        let file = self.map()?;
        let mut map = vec![0; contents as usize];
        if file.metadata()?.len() == u64::from(contents) {
            file.read_exact_at(&mut map, 0)?;
        } else {
            file.set_len(0)?;
            file.set_len(u64::from(contents))?;
        }
        map.iter_mut().for_each(|byte| *byte = u8::from(*byte == 1));
        Ok(map)
    }

    /// Returns what was noted as complete and checked, and the length of the file of unpacked bytes,
    /// nothing where there is none. Opens neither for good, so that [`clear`](Canopy::clear) is still
    /// possible. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said.
    pub fn noted(&self) -> io::Result<(Vec<u8>, u64)> {
        fn found<T: Default>(found: io::Result<T>) -> io::Result<T> {
            match found {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(T::default()),
                found => found,
            }
        }
        let layout = &self.site.layout;
        let data = durable::open_regular(&layout.tree(self.id, Kind::Data));
        let length = found(data.and_then(|data| Ok(data.metadata()?.len())))?;
        Ok((found(durable::read(&layout.tree(self.id, Kind::Filled), LONGEST))?, length))
    }

    /// Notes that a content is complete and checked: after its bytes were written. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said.
    pub fn fill(&self, content: u32) -> io::Result<()> {
        self.map()?.write_all_at(&[1], u64::from(content))
    }

    /// Notes that all contents are complete and checked. Blocks on the disk.
    ///
    /// # Errors
    /// As [`fill`](Canopy::fill).
    pub fn fill_all(&self, contents: u32) -> io::Result<()> {
        let file = self.map()?;
        file.set_len(u64::from(contents))?;
        file.write_all_at(&vec![1; contents as usize], 0)
    }

    /// Returns the allocated bytes of the tree's files. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said.
    pub fn usage(&self) -> io::Result<u64> {
        usage(&self.site.layout, self.id)
    }

    /// Returns the files that are open here and have no name any more, as those of an archive whose
    /// download failed while somebody stands in its tree: the number of each, and its allocated
    /// bytes. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said.
    pub fn unlinked(&self) -> io::Result<Vec<(u64, u64)>> {
        let open = [self.data.get().map(|data| &**data), self.filled.get()];
        let found = open.into_iter().flatten().map(File::metadata);
        let nameless =
            found.filter(|found| found.as_ref().map_or(true, |found| found.nlink() == 0));
        nameless.map(|found| found.map(|found| (found.ino(), durable::allocated(&found)))).collect()
    }

    /// Returns the file that says what is filled.
    fn map(&self) -> io::Result<&File> {
        if let Some(file) = self.filled.get() {
            return Ok(file);
        }
        let _turn = self.turn()?;
        match self.filled.get() {
            Some(file) => Ok(file),
            None => {
                let file = self.open(Kind::Filled)?;
                Ok(self.filled.get_or_init(|| file))
            }
        }
    }

    fn open(&self, kind: Kind) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(self.site.layout.tree(self.id, kind))
    }

    /// Takes the turn at the blob's files, if it is still there.
    fn turn(&self) -> io::Result<Turn<'_>> {
        let turn = self.site.turns.take(self.id);
        let layout = &self.site.layout;
        match fs::symlink_metadata(layout.data(self.id)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                fs::symlink_metadata(layout.part(self.id))?
            }
            found => found?,
        };
        Ok(turn)
    }

    fn read_index(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut file = durable::open_regular(path)?;
        let begin = stamp::read(&file, &self.site)?;
        file.seek(SeekFrom::Start(begin))?;
        let length = file.metadata()?.len().saturating_sub(begin);
        if length > LONGEST {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it is longer than {LONGEST} bytes"),
            ));
        }
        let mut index = Vec::with_capacity(length as usize);
        file.read_to_end(&mut index)?;
        Ok(index)
    }
}

/// Removes the files of a tree, its index first; one that is gone already is no error. The caller
/// has the turn of the blob, or the store for itself.
pub(super) fn remove(layout: &Layout, id: BlobId) -> io::Result<()> {
    durable::remove(&layout.new_index(id))?;
    OF_TREE.iter().try_for_each(|kind| durable::remove(&layout.tree(id, *kind)))
}

/// Gives the files of a tree to a blob that goes on under another number, the index last: before it
/// is there the others are rubbish.
///
/// # Errors
/// What the disk said; nothing is then left of the tree.
pub(super) fn rename(layout: &Layout, from: BlobId, to: BlobId) -> io::Result<()> {
    let moved = OF_TREE.iter().rev().try_for_each(|kind| {
        match fs::rename(layout.tree(from, *kind), layout.tree(to, *kind)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    });
    moved.inspect_err(|_| {
        // The first error is the one to report.
        let _ = remove(layout, from).and(remove(layout, to));
    })
}

/// Returns the allocated bytes of the files of a tree, 0 where there are none.
pub(super) fn usage(layout: &Layout, id: BlobId) -> io::Result<u64> {
    OF_TREE.iter().try_fold(0, |sum, kind| match fs::symlink_metadata(layout.tree(id, *kind)) {
        Ok(found) => Ok(sum + durable::allocated(&found)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(sum),
        Err(e) => Err(e),
    })
}
