//! Checks what an earlier daemon left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io, mem};

use super::durable;
use super::layout::{self, Kind, Layout};
use super::part::Part;
use super::sidecar::Sidecar;
use super::site::Site;
use crate::types::BlobId;

/// What lies in a store.
#[derive(Default)]
pub(super) struct Survey {
    /// Blobs whose sidecar is intact and fits the length of the data, by id.
    pub(super) blobs: BTreeMap<BlobId, Intact>,
    /// Unfinished parts, likewise.
    pub(super) unfinished: BTreeMap<BlobId, (Part, u64)>,
    /// How many other files there were in `blobs/`; they are gone.
    pub(super) dropped: usize,
    /// How many other files there were in `parts/`; they are gone.
    pub(super) parts: usize,
}

/// A blob whose two files agree.
pub(super) struct Intact {
    pub(super) sidecar: Sidecar,
    /// The bytes of disk it takes.
    pub(super) usage: u64,
    /// When it was used last, as far as that was written down.
    pub(super) used_at: SystemTime,
}

/// What lies in one directory.
#[derive(Default)]
struct Listing {
    pairs: BTreeMap<BlobId, Pair>,
    strangers: Vec<PathBuf>,
}

/// Which of its two files a blob or a part has.
#[derive(Default)]
struct Pair {
    data: Option<PathBuf>,
    meta: Option<PathBuf>,
}

/// Looks through a store and removes what is neither part of a committed blob nor of a download
/// that can go on. Reads no data. Blocks on the disk.
///
/// What cannot be removed is left, with a warning.
///
/// # Errors
/// A directory that cannot be listed.
pub(super) fn survey(layout: &Layout) -> io::Result<Survey> {
    let mut survey = Survey::default();
    let parts = list(&layout.parts())?;
    survey.parts += parts.strangers.iter().filter(|path| durable::discard(path)).count();
    for (id, pair) in parts.pairs {
        match Part::examine(layout, id) {
            Ok(found) => drop(survey.unfinished.insert(id, found)),
            // Most downloads that were cut short have no sidecar yet.
            Err(e) => {
                if pair.data.is_some() && pair.meta.is_some() {
                    warn(&layout.part(id), &e.to_string());
                }
                survey.parts += pair.discard();
            }
        }
    }
    let blobs = list(&layout.blobs())?;
    for path in &blobs.strangers {
        warn(path, "it does not belong into the store");
        survey.dropped += usize::from(durable::discard(path));
    }
    for (id, pair) in blobs.pairs {
        match check(layout, id) {
            Ok(found) => drop(survey.blobs.insert(id, found)),
            Err(e) => {
                // Data without a sidecar are what a commit leaves that was cut short.
                warn(&layout.data(id), &e.to_string());
                survey.dropped += pair.discard();
            }
        }
    }
    Ok(survey)
}

impl Survey {
    /// Returns the highest id and the highest epoch of blobs and parts, 0 if there are none.
    pub(super) fn highest(&self) -> (u64, u64) {
        let ids = self.blobs.keys().chain(self.unfinished.keys()).map(|id| id.0);
        let blobs = self.blobs.values().map(|intact| intact.sidecar.epoch);
        let parts = self.unfinished.values().map(|(part, _)| part.epoch);
        (ids.max().unwrap_or(0), blobs.chain(parts).max().unwrap_or(0))
    }

    /// Says whether there is a blob or a part of this number.
    pub(super) fn knows(&self, id: BlobId) -> bool {
        self.blobs.contains_key(&id) || self.unfinished.contains_key(&id)
    }

    /// Removes the parts that may have lost bytes: they have no checksums to find that out by. Blocks
    /// on the disk.
    pub(super) fn keep_trusted(&mut self, site: &Site) {
        let (kept, lost): (BTreeMap<_, _>, BTreeMap<_, _>) = mem::take(&mut self.unfinished)
            .into_iter()
            .partition(|(_, (part, _))| part.trusted(site));
        self.unfinished = kept;
        for id in lost.into_keys() {
            let files = [site.layout.part_meta(id), site.layout.part(id)];
            self.parts += files.iter().filter(|path| durable::discard(path)).count();
        }
    }
}

impl Pair {
    /// Removes what there is of it, the sidecar first, and returns how many files are gone.
    fn discard(&self) -> usize {
        [&self.meta, &self.data].into_iter().flatten().filter(|path| durable::discard(path)).count()
    }
}

/// Sorts the files of a directory.
fn list(dir: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        match layout::parse(&name) {
            Some((id, Kind::Data)) => listing.pairs.entry(id).or_default().data = Some(path),
            Some((id, Kind::Meta)) => listing.pairs.entry(id).or_default().meta = Some(path),
            _ => listing.strangers.push(path),
        }
    }
    Ok(listing)
}

/// Returns what there is of a blob, if both files are there, can be read, and agree.
fn check(layout: &Layout, id: BlobId) -> io::Result<Intact> {
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
    Ok(Intact { sidecar, usage, used_at: data.modified()? })
}

fn warn(path: &Path, why: &str) {
    tracing::warn!(path = %path.display(), "dropped from the store: {why}");
}
