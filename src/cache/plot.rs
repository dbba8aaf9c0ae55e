//! The place that one tree grows on: its bytes on the books, and what became of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Cache;
use super::entry::Entry;
use super::error::OpenError;
use super::ledger::{Ledger, Pin, Reservation};
use super::room::overhead;
use crate::metrics::Refusal;
use crate::store::Blob;
use crate::tree::{Room, TreeError, Why};
use crate::types::{Bytes, Pending};

/// Contents begin at multiples of this.
const BLOCK: u64 = 4096;

/// What one tree may take of the disk. Locked alone, and never across a wait.
pub(super) struct Plot {
    cache: Arc<Cache>,
    entry: Arc<Entry>,
    archive: Arc<Blob>,
    held: Mutex<Held>,
}

/// What is held while something is written.
#[derive(Default)]
struct Held {
    /// What was booked since all was settled.
    booked: Option<Reservation>,
    /// Without it the files could be removed while they are made.
    pin: Option<Pin>,
}

impl Plot {
    pub(super) fn new(cache: &Arc<Cache>, entry: &Arc<Entry>, archive: &Arc<Blob>) -> Plot {
        Plot {
            cache: cache.clone(),
            entry: entry.clone(),
            archive: archive.clone(),
            held: Mutex::default(),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn book(&self, bytes: u64) -> Result<(), TreeError> {
        let name = self.entry.name();
        let pin = self.cache.ledger.pin(self.archive.id()).ok_or_else(|| {
            TreeError::new(Why::Broken, format!("{name}: the archive has just been evicted"))
        })?;
        // What was gone on with under another number counts there.
        let blob = pin.blob();
        let before = match &mut self.held().booked {
            Some(booked) => {
                // What was booked before is written by now.
                let all = booked.bytes();
                booked.allocated(all);
                all
            }
            None => 0,
        };
        let bytes = weight(bytes);
        // What is unpacked from a stream is known to be too much only when it is.
        self.could_fit(self.cache.ledger.tree(blob).saturating_add(before).saturating_add(bytes))?;
        let more = self.cache.reserve_exactly(name.as_str(), bytes).await;
        let more = more.map_err(|error| refusal(&error))?;
        let surplus = {
            let mut held = self.held();
            match &mut held.booked {
                Some(booked) => booked.absorb(more),
                none => *none = Some(more),
            }
            match &held.pin {
                Some(_) => Some(pin),
                None => {
                    held.pin = Some(pin);
                    None
                }
            }
        };
        // Falls with no lock held.
        drop(surplus);
        Ok(())
    }

    /// Refuses a tree that takes so many bytes of disk, if it and its archive could never fit.
    fn could_fit(&self, tree: u64) -> Result<(), TreeError> {
        let hard = self.cache.ledger.limits().hard;
        let archive = self.archive.length().unwrap_or_else(|| self.archive.filled());
        let both = archive.saturating_add(overhead(archive)).saturating_add(tree);
        if both <= hard {
            return Ok(());
        }
        let text = format!(
            "{}: its archive of {} and the {} or more that it unpacks to do not fit the hard limit of {}; raise quota and hard_limit, or show it as a file",
            self.entry.name(),
            Bytes(archive),
            Bytes(tree),
            Bytes(hard)
        );
        Err(TreeError::new(Why::TooLarge, text))
    }
}

/// Returns what bytes take in a sparse file: whole blocks, and a share of those that map them.
fn weight(bytes: u64) -> u64 {
    let blocks = bytes.saturating_add(BLOCK - 1) / BLOCK * BLOCK;
    blocks.saturating_add(blocks / 16384 + 64)
}

fn refusal(error: &OpenError) -> TreeError {
    let why = match error.why {
        Refusal::TooLarge => Why::TooLarge,
        Refusal::HardLimit => Why::NoRoom,
        Refusal::DiskFull => Why::DiskFull,
        _ => Why::Disk,
    };
    TreeError { errno: error.errno, ..TreeError::new(why, error.message.clone()) }
}

/// Has all of an archive fetched that looks damaged, where it is to have a digest: that tells whether
/// it is the archive, or what came of it so far.
///
/// Not where there is no room for it but by making others wait: one damaged member is not to cost whoever
/// holds the archive the rest.
pub fn check_digest(ledger: &Ledger, entry: &Entry, archive: &Blob) {
    let current = entry.version().is_some_and(|version| version.blob.id() == archive.id());
    if archive.committed() || !current || entry.source().digest.is_none() {
        return;
    }
    let (balance, quota) = (ledger.balance(), ledger.limits().quota);
    let missing = archive.length().unwrap_or(u64::MAX).saturating_sub(archive.filled());
    let taken = balance.pinned + balance.held + balance.reserved;
    if taken.saturating_add(missing) <= quota {
        archive.want_all();
    }
}

impl Room for Plot {
    fn grow(&self, bytes: u64) -> Pending<'_, Result<(), TreeError>> {
        Box::pin(self.book(bytes))
    }

    fn fits(&self, unpacked: u64) -> Result<(), TreeError> {
        match self.entry.refused_tree(self.archive.id()) {
            Some(error) => Err(error),
            None if unpacked == 0 => Ok(()),
            None => self.could_fit(unpacked.saturating_add(overhead(unpacked))),
        }
    }

    fn settled(&self, on_disk: u64) {
        let Held { booked, pin } = std::mem::take(&mut *self.held());
        let (blob, before) = self.cache.ledger.numbers(self.archive.id());
        match before.is_empty() {
            true => self.cache.ledger.settle_tree(booked, blob, on_disk),
            false => self.cache.settle_shared(booked, pin, blob, before),
        }
    }

    fn indexed(&self, _members: u32) {
        self.entry.tree_shown(self.archive.id());
        self.cache.counters.trees_indexed.inc();
    }

    fn unpacked(&self, contents: u32) {
        self.cache.counters.members_unpacked.add(contents.into());
    }

    fn failed(&self, error: &TreeError) {
        let (name, blob) = (self.entry.name(), self.archive.id());
        self.entry.tree_failed(blob, error);
        if error.why == Why::Damaged {
            check_digest(&self.cache.ledger, &self.entry, &self.archive);
        }
        match error.why {
            // Told where it failed.
            Why::Broken => {
                tracing::debug!(%name, %blob, %error, "the directory ends with its archive")
            }
            _ => tracing::warn!(%name, %blob, %error, "the archive cannot be shown"),
        }
    }
}
