//! Checks what an earlier daemon left.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use super::durable;
use super::layout::{self, Kind, Layout};
use super::sidecar::Sidecar;
use crate::types::BlobId;

/// What lies in a store.
#[derive(Default)]
pub(super) struct Survey {
    /// Blobs whose sidecar is intact and fits the length of the data, by id, with the bytes of disk
    /// they take.
    pub(super) blobs: BTreeMap<BlobId, (Sidecar, u64)>,
    /// How many other files there were in `blobs/`; they are gone.
    pub(super) dropped: usize,
    /// How many files there were in `parts/`; they are gone.
    pub(super) parts: usize,
}

/// Which of its two files a blob has.
#[derive(Default)]
struct Pair {
    data: bool,
    meta: bool,
}

/// Looks through a store and removes what is no part of a committed blob. Reads no data. Blocks on
/// the disk.
///
/// What cannot be removed is left, with a warning.
///
/// # Errors
/// A directory that cannot be listed.
pub(super) fn survey(layout: &Layout) -> io::Result<Survey> {
    let mut survey = Survey::default();
    for entry in fs::read_dir(layout.parts())? {
        survey.parts += usize::from(discard(&entry?.path()));
    }
    let mut pairs: BTreeMap<BlobId, Pair> = BTreeMap::new();
    for entry in fs::read_dir(layout.blobs())? {
        let entry = entry?;
        match layout::parse(&entry.file_name()) {
            Some((id, Kind::Data)) => pairs.entry(id).or_default().data = true,
            Some((id, Kind::Meta)) => pairs.entry(id).or_default().meta = true,
            None => {
                warn(&entry.path(), "it does not belong into the store");
                survey.dropped += usize::from(discard(&entry.path()));
            }
        }
    }
    for (id, pair) in pairs {
        match check(layout, id) {
            Ok(found) => {
                survey.blobs.insert(id, found);
            }
            Err(e) => {
                // Data without a sidecar are what a commit leaves that was cut short.
                warn(&layout.data(id), &e.to_string());
                let paths = [(pair.meta, layout.meta(id)), (pair.data, layout.data(id))];
                for (_, path) in paths.iter().filter(|(there, _)| *there) {
                    survey.dropped += usize::from(discard(path));
                }
            }
        }
    }
    Ok(survey)
}

impl Survey {
    /// Returns the highest id and the highest epoch of the blobs, 0 if there are none.
    pub(super) fn highest(&self) -> (u64, u64) {
        let id = self.blobs.keys().next_back().map_or(0, |id| id.0);
        let epochs = self.blobs.values().map(|(sidecar, _)| sidecar.epoch);
        (id, epochs.max().unwrap_or(0))
    }
}

/// Returns the sidecar of a blob and the disk it takes, if both files are there, can be read, and
/// agree.
fn check(layout: &Layout, id: BlobId) -> io::Result<(Sidecar, u64)> {
    let about = |what: &str, e: io::Error| io::Error::new(e.kind(), format!("its {what}: {e}"));
    let meta = layout.meta(id);
    let sidecar = Sidecar::read(id, &meta).map_err(|e| about("sidecar", e))?;
    let data = durable::open_regular(&layout.data(id))
        .and_then(|file| file.metadata())
        .map_err(|e| about("data", e))?;
    if data.len() != sidecar.record.length {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "its data have {} bytes, its sidecar says {}",
                data.len(),
                sidecar.record.length
            ),
        ));
    }
    let usage = durable::allocated(&data) + durable::allocated(&fs::symlink_metadata(meta)?);
    Ok((sidecar, usage))
}

/// Removes whatever lies at a path, and says whether it is gone.
fn discard(path: &Path) -> bool {
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

fn warn(path: &Path, why: &str) {
    tracing::warn!(path = %path.display(), "dropped from the store: {why}");
}
