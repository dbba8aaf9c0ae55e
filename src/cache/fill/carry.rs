//! One connection: takes its bytes to the disk, one batch being written while the next comes.

use std::collections::VecDeque;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::{JoinError, JoinHandle};

use super::Shared;
use super::plan::ClaimId;
use crate::cache::entry::UNWANTED;
use crate::cache::error::OpenError;
use crate::cache::lie;
use crate::cache::slots::{Pace, Slot, Slots};
use crate::metrics::Refusal;
use crate::origin::{Body, Failure};
use crate::store::Blob;

/// How much is received while the disk is busy; with as much being written, the most memory a
/// connection takes beside the HTTP client's buffer.
const BATCH: u64 = 512 << 10;

/// How much is written at first, however much came: readers of the beginning need not wait for the
/// rest, nor for the allocation that follows the first write. As much as cat and cp ask for.
const FIRST: u64 = 128 << 10;

/// So much of a body is received with a pause for others after each piece. Whoever opened it is to be
/// answered meanwhile, by the same few threads, and a near origin's bytes are always there.
const POLITE: u64 = 4 << 20;

/// A body that brings nothing for this long goes on without its slot.
const LENDS_AFTER: Duration = Duration::from_secs(1);

/// Why a connection ended before its claim.
pub(super) enum Fault {
    /// The origin failed, or the way to it.
    Origin(Failure),
    /// It ends the whole download.
    Final(OpenError),
}

/// A body with the slot it is received under.
struct Source {
    shared: Arc<Shared>,
    body: Box<dyn Body>,
    /// Where the slot comes from, if it takes one, and the slot.
    slots: Option<Arc<Slots>>,
    slot: Option<Slot>,
    /// It has had its turn, and is never made to wait again.
    begun: bool,
    pace: Pace,
}

/// Bytes that follow each other.
struct Batch {
    at: u64,
    length: u64,
    chunks: Vec<Bytes>,
    /// They are there already, and to be compared.
    again: bool,
}

/// A batch on its way to the disk, or being compared.
type Writing = JoinHandle<std::io::Result<Came>>;

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    Written,
    /// It was there already.
    Alike,
    /// It is not of one version with what is there, as is noted already.
    Other,
}

/// A connection at work.
pub(super) struct Carrier {
    shared: Arc<Shared>,
    claim: ClaimId,
    waiting: VecDeque<Batch>,
    queued: u64,
    writing: Option<(u64, Writing)>,
    /// Everything below came.
    at: u64,
    /// Where the first batch ends at the latest.
    first_end: u64,
    /// Where it stops to pause for others.
    polite_end: u64,
    /// Some of what came was kept.
    contributed: bool,
}

impl Source {
    /// Receives the next bytes, the first ones once it has a slot.
    async fn next(mut self) -> (Source, Result<Option<Bytes>, Failure>) {
        let Some(slots) = self.slots.clone() else {
            let came = self.body.chunk().await;
            return (self, came);
        };
        if !std::mem::replace(&mut self.begun, true) {
            self.slot = slots.turn(|| self.shared.queued()).await;
        } else if let Some(slow) = self.pace.is_slow() {
            if slow && slots.are_wanted() {
                self.slot = None;
            } else if !slow && self.slot.is_none() {
                self.slot = slots.free_one();
            }
        }
        let asked = Instant::now();
        let mut chunk = self.body.chunk();
        let came = match tokio::time::timeout(LENDS_AFTER, &mut chunk).await {
            Ok(came) => came,
            Err(_) => {
                self.slot = None;
                (&mut chunk).await
            }
        };
        drop(chunk);
        if let Ok(Some(bytes)) = &came {
            self.pace.came(bytes.len() as u64, asked.elapsed());
        }
        (self, came)
    }
}

impl Carrier {
    /// Makes the carrier of a claim that begins at `at`.
    pub(super) fn new(shared: Arc<Shared>, claim: ClaimId, at: u64) -> Carrier {
        let first_end = at.saturating_add(FIRST);
        Carrier {
            shared,
            claim,
            waiting: VecDeque::new(),
            queued: 0,
            writing: None,
            at,
            first_end,
            polite_end: at.saturating_add(POLITE),
            contributed: false,
        }
    }

    /// Carries a body until it ends, its claim is fulfilled, or either side fails. What has come is
    /// on the disk when this returns. Returns also how many bytes came.
    pub(super) async fn run(
        mut self,
        body: Box<dyn Body>,
        slots: Option<Arc<Slots>>,
    ) -> (u64, Result<(), Fault>) {
        let begin = self.at;
        let source = Source {
            shared: self.shared.clone(),
            body,
            slots,
            slot: None,
            begun: false,
            pace: Pace::default(),
        };
        let result = self.receive(source).await;
        let flushed = self.flush().await;
        // That the origin failed as well is no matter then.
        let result = match flushed {
            Err(Fault::Final(_)) => flushed,
            _ => result.and(flushed),
        };
        (self.at - begin, result)
    }

    async fn receive(&mut self, source: Source) -> Result<(), Fault> {
        let shared = self.shared.clone();
        let stopped = shared.stopped(self.claim);
        tokio::pin!(stopped);
        let mut receiving = Some(Box::pin(source.next()));
        while receiving.is_some() {
            self.write().await?;
            let full = self.queued >= BATCH;
            tokio::select! {
                written = join(&mut self.writing), if self.writing.is_some() => {
                    self.written(written)?;
                }
                // A reader waits for its place, whatever it waits for itself.
                () = &mut stopped => receiving = None,
                (source, came) = take(&mut receiving), if !full => {
                    receiving = None;
                    match came {
                        Ok(Some(bytes)) => {
                            if self.came(bytes)? {
                                receiving = Some(Box::pin(source.next()));
                            }
                            if self.at < self.polite_end {
                                tokio::task::yield_now().await;
                            }
                        }
                        Ok(None) => {}
                        Err(failure) => return Err(Fault::Origin(failure)),
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes what is left. What was received before a failure counts as well.
    async fn flush(&mut self) -> Result<(), Fault> {
        loop {
            self.write().await?;
            if self.writing.is_none() {
                return Ok(());
            }
            let written = join(&mut self.writing).await;
            self.written(written)?;
        }
    }

    /// Queues what is to be kept or compared, and says whether to go on.
    fn came(&mut self, bytes: Bytes) -> Result<bool, Fault> {
        let shared = &self.shared;
        let (begin, length) = (self.at, bytes.len() as u64);
        self.at += length;
        let taken = shared.plan().take(self.claim, length, |range| shared.blob.missing(range));
        let keep = taken.keep.iter().cloned().map(|range| (range, false));
        let again = there(&shared.blob, begin..self.at, &taken.keep).map(|range| (range, true));
        let mut parts: Vec<_> = keep.chain(again).collect();
        parts.sort_unstable_by_key(|(range, _)| range.start);
        let first_end = self.first_end;
        let parts = parts
            .into_iter()
            .flat_map(|(range, again)| split(range, first_end).map(move |range| (range, again)));
        for (range, again) in parts {
            let part = bytes.slice((range.start - begin) as usize..(range.end - begin) as usize);
            let length = part.len() as u64;
            self.queued += length;
            if !again && !std::mem::replace(&mut self.contributed, true) {
                shared.contributed();
            }
            match self.waiting.back_mut() {
                Some(batch)
                    if batch.at + batch.length == range.start
                        && batch.again == again
                        && range.start != first_end =>
                {
                    batch.length += length;
                    batch.chunks.push(part);
                }
                _ => {
                    let batch = Batch { at: range.start, length, chunks: vec![part], again };
                    self.waiting.push_back(batch);
                }
            }
        }
        if self.waiting.is_empty() && self.writing.is_none() {
            // All that was left to others: should they fail, it is for somebody to claim.
            shared.plan().written(self.claim, self.at);
        }
        shared.came(length);
        if let Some(broken) = shared.blob.broken() {
            return Err(Fault::Final(broken.into()));
        }
        if shared.wanted() {
            return Ok(taken.go_on);
        }
        let text = format!("{}: nobody wants this version any more", shared.entry.name());
        let unwanted = OpenError { errno: UNWANTED, ..OpenError::new(Refusal::Interrupted, text) };
        Err(Fault::Final(unwanted))
    }

    /// Starts to write what has come, if the disk is idle.
    async fn write(&mut self) -> Result<(), Fault> {
        if self.writing.is_some() {
            return Ok(());
        }
        let Some(batch) = self.waiting.pop_front() else { return Ok(()) };
        self.queued -= batch.length;
        let end = batch.at + batch.length;
        if !batch.again {
            self.shared.grant.cover(end).await.map_err(Fault::Final)?;
        }
        let (shared, writing) = (self.shared.clone(), self.shared.begin_write().await);
        let task = tokio::task::spawn_blocking(move || {
            let came = match batch.again {
                true => {
                    // What is read over is progress to those who wait for what lies behind.
                    shared.blob.beat();
                    shared.blob.agrees(batch.at, &batch.chunks).map(|alike| match alike {
                        true => Came::Alike,
                        false => {
                            lie::note(&shared.cache, &shared.entry, &shared.source);
                            Came::Other
                        }
                    })
                }
                false => {
                    let written = shared.write(batch.at, &batch.chunks);
                    written.map(|written| if written { Came::Written } else { Came::Other })
                }
            };
            drop(writing);
            came
        });
        self.writing = Some((end, task));
        Ok(())
    }

    fn written(
        &mut self,
        (end, came): (u64, Result<std::io::Result<Came>, JoinError>),
    ) -> Result<(), Fault> {
        let name = self.shared.entry.name();
        let stopping = |_| OpenError::new(Refusal::Store, "the daemon is stopping");
        let came = came.map_err(stopping).map_err(Fault::Final)?.map_err(|error| {
            Fault::Final(OpenError::disk(&format!("{name}: cannot write or read back"), &error))
        })?;
        if came == Came::Other {
            return Err(Fault::Final(lie::other_bytes(name, self.shared.seen())));
        }
        self.shared.plan().written(self.claim, end);
        if came == Came::Written {
            self.shared.wrote();
        }
        Ok(())
    }
}

/// Returns what a blob holds of a range, without the ranges that are kept of it, which are in order.
fn there(
    blob: &Blob,
    range: Range<u64>,
    keep: &[Range<u64>],
) -> impl Iterator<Item = Range<u64>> + use<> {
    let mut found = Vec::new();
    let mut at = range.start;
    for kept in keep.iter().cloned().chain(std::iter::once(range.end..range.end)) {
        if at < kept.start {
            found.extend(blob.held(at..kept.start));
        }
        at = at.max(kept.end);
    }
    found.into_iter()
}

/// Returns the parts of a range below and from `at` on, those that are not empty.
fn split(range: Range<u64>, at: u64) -> impl Iterator<Item = Range<u64>> {
    let at = at.clamp(range.start, range.end);
    [range.start..at, at..range.end].into_iter().filter(|part| !part.is_empty())
}

/// Waits for the batch under way; pends for ever where there is none.
async fn join<T>(writing: &mut Option<(u64, JoinHandle<T>)>) -> (u64, Result<T, JoinError>) {
    match writing {
        Some((end, task)) => {
            let done = (*end, task.await);
            *writing = None;
            done
        }
        None => std::future::pending().await,
    }
}

/// Waits for the next bytes; pends for ever where none are being received.
async fn take<F: Future>(receiving: &mut Option<Pin<Box<F>>>) -> F::Output {
    match receiving {
        Some(receiving) => receiving.await,
        None => std::future::pending().await,
    }
}
