//! Reading: each read waits for its own range only.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::node::Inode;
use super::nodeid::{Place, place};
use super::step::refused;
use super::{Buffer, Fs, Refused};
use crate::cache::OpenError;
use crate::sys;
use crate::tree::NodeNo;
use crate::types::{Ino, Name};

impl Fs {
    /// Reads up to `size` bytes at `offset`: fewer only at the end. Returns at once when they are
    /// in memory; else waits for the disk, or for the download for as long as bytes come.
    ///
    /// # Errors
    /// ETIMEDOUT when no byte came within the deadline, EIO when the download failed.
    pub async fn read(&self, ino: Ino, offset: u64, size: u32) -> Result<Buffer, Refused> {
        let wanted = offset..offset.saturating_add(u64::from(size));
        let inode = match place(ino) {
            Place::Root => return Err(Refused::Errno(libc::EISDIR)),
            Place::Name => self.inode(ino)?,
            Place::Tree(number, node) => {
                let read = self.read_member(number, node, wanted).await;
                return read.map_err(not_to_be_looked_up);
            }
        };
        let Inode::File(node) = &*inode else {
            return Err(Refused::Errno(libc::EINVAL));
        };
        let Some((version, file)) = node.reading() else {
            return Err(Refused::Errno(libc::EBADF));
        };
        let blob = &version.blob;
        if let Some(broken) = blob.broken().filter(|broken| broken.tainted) {
            return Err(OpenError::from(broken).into());
        }
        let range = match blob.present(wanted.clone()) {
            Some(range) => range,
            None => {
                let stall = self.cache.timing().stall;
                blob.wait_for(wanted, stall).await.map_err(|error| {
                    let mut error = OpenError::from(error);
                    error.message = format!("{}: {}", node.entry().name(), error.message);
                    error
                })?
            }
        };
        self.bytes(node.entry().name(), file, range).await
    }

    /// Reads bytes of a member.
    ///
    /// # Errors
    /// They do not come.
    async fn read_member(
        &self,
        number: u64,
        node: NodeNo,
        wanted: Range<u64>,
    ) -> Result<Buffer, Refused> {
        let crown = self.crown(number)?;
        let checked = crown.tree().is_some_and(|tree| tree.ready(node));
        let (file, range) = self.find_bytes(&crown, node, wanted).await?;
        let read = self.bytes(crown.name(), file, range).await?;
        if !checked && let Some(tree) = crown.tree() {
            // What turns out to be damaged is taken away, perhaps just before it was read.
            tree.still(node).map_err(|error| refused(&crown, error))?;
        }
        Ok(read)
    }

    /// Reads bytes that are there; waits for the disk where they are not in memory.
    async fn bytes(
        &self,
        name: &Name,
        file: Arc<File>,
        range: Range<u64>,
    ) -> Result<Buffer, Refused> {
        let buffer = self.buffers.take((range.end - range.start) as usize);
        let read = match fill_now(buffer, &file, &range) {
            Ok(Ok(buffer)) => Ok(buffer),
            Ok(Err(buffer)) => {
                let task = tokio::task::spawn_blocking(move || fill(buffer, &file, &range));
                task.await.unwrap_or_else(|_| Err(io::Error::from_raw_os_error(libc::EIO)))
            }
            Err(error) => Err(error),
        };
        read.map_err(|error| {
            OpenError::disk(&format!("{name}: cannot read its blob"), &error).into()
        })
    }
}

/// Returns what a read is answered where a path would be looked up anew: the kernel hands the ESTALE
/// of a READ on to the program, which asked for bytes that cannot be had.
fn not_to_be_looked_up(refused: Refused) -> Refused {
    match refused {
        Refused::Errno(libc::ESTALE) => Refused::Errno(libc::EIO),
        Refused::Open(error) if error.errno == libc::ESTALE => {
            Refused::Open(OpenError { errno: libc::EIO, ..error })
        }
        refused => refused,
    }
}

/// Reads what the page cache holds, without waiting for the disk; gives the buffer back where it
/// does not hold all of it.
fn fill_now(
    mut buffer: Buffer,
    file: &Arc<File>,
    range: &Range<u64>,
) -> io::Result<Result<Buffer, Buffer>> {
    let size = (range.end - range.start) as usize;
    match sys::pread_nowait(file, buffer.room(size), range.start)? {
        Some(length) if length == size => {
            buffer.filled(length);
            Ok(Ok(buffer))
        }
        _ => Ok(Err(buffer)),
    }
}

/// Reads from the disk. Blocks.
fn fill(mut buffer: Buffer, file: &Arc<File>, range: &Range<u64>) -> io::Result<Buffer> {
    let size = (range.end - range.start) as usize;
    // What is present is in the file: a short file is a damaged one.
    file.read_exact_at(buffer.room(size), range.start)?;
    buffer.filled(size);
    Ok(buffer)
}
