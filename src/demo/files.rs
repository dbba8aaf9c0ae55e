//! What the tour does with files. All of it may wait for the mount, and runs where it may.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// A file that was read whole.
pub(super) struct Cat {
    /// When the first bytes had come.
    pub(super) first: Duration,
    /// When the last had.
    pub(super) whole: Duration,
    /// What it held.
    pub(super) bytes: Vec<u8>,
}

/// Opens a file and reads it to its end.
pub(super) fn cat(path: &Path) -> io::Result<Cat> {
    let began = Instant::now();
    let mut file = File::open(path)?;
    let mut bytes = vec![0; 64 << 10];
    let got = file.read(&mut bytes)?;
    let first = began.elapsed();
    bytes.truncate(got);
    file.read_to_end(&mut bytes)?;
    let whole = began.elapsed();
    Ok(Cat { first, whole, bytes })
}

/// Returns the names in a directory, in no order.
pub(super) fn list(dir: &Path) -> io::Result<Vec<String>> {
    std::fs::read_dir(dir)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Returns what a directory takes on disk, as `du` counts.
pub(super) fn used(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => sum += used(&entry.path())?,
            Ok(meta) => sum += meta.blocks() * 512,
            // Removed in the meantime.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sum)
}

/// Runs what waits for the kernel where it may wait.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())
}
