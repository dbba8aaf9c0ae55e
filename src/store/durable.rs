//! Writing small files so that a power cut, or at least a kill, leaves the old one or the new one.
//!
//! Everything here blocks on the disk. After an fsync that failed the kernel may have dropped the
//! dirty pages and call the next fsync a success, so none is ever repeated: the file is deleted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Writes a new file, replacing a leftover of the same name, and fsyncs it.
///
/// # Errors
/// What the disk said; the file is then gone.
pub(super) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let written = create(path).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(path);
    }
    written
}

/// Opens a new file for us alone, or an old one that it empties.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Puts a file in place of `path` by way of `temporary`, which lies on the same filesystem. After
/// a power cut either the old or the new one is there, whole; which one is certain only after
/// [`sync_dir`].
///
/// # Errors
/// What the disk said; the old file is then still in place.
pub(super) fn replace(path: &Path, temporary: &Path, content: &[u8]) -> io::Result<()> {
    write(temporary, content)?;
    fs::rename(temporary, path).inspect_err(|_| {
        let _ = fs::remove_file(temporary);
    })
}

/// Puts a file of these pieces in place of `path` as [`replace`] does, but waits for no disk: whole
/// after the death of the process, anything after that of the machine.
///
/// # Errors
/// What the disk said; the old file is then still in place.
pub(super) fn replace_unsynced(path: &Path, temporary: &Path, pieces: &[&[u8]]) -> io::Result<()> {
    create(temporary)
        .and_then(|mut file| pieces.iter().try_for_each(|piece| file.write_all(piece)))
        .and_then(|()| fs::rename(temporary, path))
        .inspect_err(|_| {
            let _ = fs::remove_file(temporary);
        })
}

/// Makes the names in a directory durable.
///
/// # Errors
/// What open(2) or fsync(2) said.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes a file; one that is gone already is no error.
///
/// # Errors
/// What unlink(2) said.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Opens a regular file for reading. Does not wait on a FIFO, nor follow a symlink.
///
/// # Errors
/// What open(2) said; `InvalidData` for what is no regular file.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file"))
    }
}

/// Reads a whole regular file of at most `limit` bytes.
///
/// # Errors
/// What the disk said; `InvalidData` for what is longer or no regular file.
pub(super) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open_regular(path)?.take(limit + 1).read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it is longer than {limit} bytes"),
        ));
    }
    Ok(content)
}

/// Returns the bytes of disk a file takes.
pub(super) fn allocated(meta: &fs::Metadata) -> u64 {
    // The unit of st_blocks is 512 bytes, whatever the filesystem's block is.
    meta.blocks() * 512
}

/// Removes whatever lies at a path, and says whether it is gone.
pub(super) fn discard(path: &Path) -> bool {
    let removed = fs::symlink_metadata(path).and_then(|meta| {
        if meta.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
    });
    match removed {
        Ok(()) => true,
        Err(e) if e.kind() == io::ErrorKind::NotFound => true,
        Err(e) => {
            tracing::warn!(path = %path.display(), "cannot be removed: {e}; remove it by hand, it takes space that is not accounted for");
            false
        }
    }
}
