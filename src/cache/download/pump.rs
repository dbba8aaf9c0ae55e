//! Moves a body to the disk: one batch is written while the next is received.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinHandle};

use super::GROWTH;
use crate::cache::Cache;
use crate::cache::entry::{Entry, UNWANTED};
use crate::cache::error::OpenError;
use crate::cache::flight::Pulse;
use crate::cache::ledger::Reservation;
use crate::cache::room::overhead;
use crate::metrics::Refusal;
use crate::origin::{Body, Failure};
use crate::store::Staging;
use crate::types::BlobId;

/// How much is received while the disk is busy; with as much being written, the most memory a
/// download takes beside the HTTP client's buffer.
const BATCH: usize = 512 << 10;

/// A download that got nothing for this long lends its slot to others.
const LENDS_AFTER: Duration = Duration::from_secs(1);

/// A body with the slot it is received under.
struct Source {
    body: Box<dyn Body>,
    slots: Arc<Semaphore>,
    slot: Option<OwnedSemaphorePermit>,
}

impl Source {
    /// Receives the next bytes. Holds a slot whenever bytes come.
    async fn next(mut self) -> (Source, Result<Option<Bytes>, Failure>) {
        if self.slot.is_none() {
            self.slot = self.slots.clone().acquire_owned().await.ok();
        }
        let mut chunk = self.body.chunk();
        let came = match tokio::time::timeout(LENDS_AFTER, &mut chunk).await {
            Ok(came) => came,
            Err(_) => {
                self.slot = None;
                let came = chunk.await;
                self.slot = self.slots.clone().acquire_owned().await.ok();
                return (self, came);
            }
        };
        drop(chunk);
        (self, came)
    }
}

/// A body being moved.
pub(super) struct Pump {
    cache: Arc<Cache>,
    entry: Arc<Entry>,
    /// The part and its reservation; the part is away while a batch is written.
    staging: Option<Staging>,
    reservation: Reservation,
    /// The announced length, all of which is reserved.
    announced: Option<u64>,
    blob: BlobId,
    writing: Option<JoinHandle<(Staging, std::io::Result<()>)>>,
    batch: Vec<Bytes>,
    batched: usize,
    total: u64,
}

impl Pump {
    pub(super) fn new(
        cache: &Arc<Cache>,
        entry: &Arc<Entry>,
        staging: Staging,
        reservation: Reservation,
    ) -> Pump {
        let blob = staging.blob();
        Pump {
            cache: cache.clone(),
            entry: entry.clone(),
            staging: Some(staging),
            reservation,
            announced: blob.length(),
            blob: blob.id(),
            writing: None,
            batch: Vec::new(),
            batched: 0,
            total: 0,
        }
    }

    /// Receives a whole body. Gives back the part, if it still can be used, and the reservation.
    ///
    /// # Errors
    /// The origin failed, the disk failed, there is no room for a body of unknown length, or nobody
    /// wants it any more ([`Refusal::Interrupted`]).
    pub(super) async fn run(
        mut self,
        body: Box<dyn Body>,
        pulse: Option<&Pulse>,
    ) -> (Option<Staging>, Reservation, Result<(), OpenError>) {
        let mut result = self.receive(body, pulse).await;
        if let Some(writing) = self.writing.take() {
            let written = self.written(writing.await);
            result = result.and(written);
        }
        (self.staging, self.reservation, result)
    }

    async fn receive(
        &mut self,
        body: Box<dyn Body>,
        pulse: Option<&Pulse>,
    ) -> Result<(), OpenError> {
        let source = Source { body, slots: self.cache.slots.clone(), slot: None };
        let mut receiving = Some(Box::pin(source.next()));
        loop {
            self.write().await?;
            if receiving.is_none() && self.writing.is_none() {
                return Ok(());
            }
            let full = self.batched >= BATCH;
            tokio::select! {
                written = join(&mut self.writing), if self.writing.is_some() => {
                    self.writing = None;
                    self.written(written)?;
                }
                (source, came) = take(&mut receiving), if receiving.is_some() && !full => {
                    receiving = None;
                    match came {
                        Ok(Some(bytes)) => {
                            if let Some(pulse) = pulse {
                                pulse.beat();
                            }
                            self.came(bytes)?;
                            receiving = Some(Box::pin(source.next()));
                        }
                        Ok(None) => {}
                        Err(failure) => {
                            let mut error = OpenError::from(&failure);
                            error.message = format!("{}: {}", self.entry.name(), error.message);
                            return Err(error);
                        }
                    }
                }
            }
        }
    }

    fn came(&mut self, bytes: Bytes) -> Result<(), OpenError> {
        self.cache.counters.bytes_from_origin.add(bytes.len() as u64);
        self.total += bytes.len() as u64;
        self.batched += bytes.len();
        self.batch.push(bytes);
        if self.announced == Some(self.total) {
            self.cache.ledger.committing(self.blob);
        }
        if self.cache.ledger.wanted(self.blob) {
            return Ok(());
        }
        let text = format!("{}: nobody wants this version any more", self.entry.name());
        Err(OpenError { errno: UNWANTED, ..OpenError::new(Refusal::Interrupted, text) })
    }

    /// Starts to write what has come, if the disk is idle.
    async fn write(&mut self) -> Result<(), OpenError> {
        if self.writing.is_some() || self.batch.is_empty() {
            return Ok(());
        }
        self.grow().await?;
        let Some(mut staging) = self.staging.take() else {
            return Ok(());
        };
        let chunks = std::mem::take(&mut self.batch);
        self.batched = 0;
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let written = staging.append(&chunks);
            (staging, written)
        }));
        Ok(())
    }

    fn written(
        &mut self,
        written: Result<(Staging, std::io::Result<()>), JoinError>,
    ) -> Result<(), OpenError> {
        let (staging, written) =
            written.map_err(|_| OpenError::new(Refusal::Store, "the daemon is stopping"))?;
        // An announced length is allocated as a whole with the first batch.
        let allocated = self.announced.map_or(staging.written(), |_| self.reservation.bytes());
        self.reservation.allocated(allocated);
        self.staging = Some(staging);
        written.map_err(|e| OpenError::disk(&format!("{}: cannot write", self.entry.name()), &e))
    }

    /// Reserves ahead of a body of unknown length, in steps that grow with it.
    async fn grow(&mut self) -> Result<(), OpenError> {
        let needed = self.total + overhead(self.total);
        if self.announced.is_some() || needed <= self.reservation.bytes() {
            return Ok(());
        }
        let step = needed - self.reservation.bytes() + (self.total / 2).clamp(GROWTH, 64 << 20);
        let more = self.cache.reserve_exactly(self.entry.name().as_str(), step).await?;
        self.reservation.absorb(more);
        Ok(())
    }
}

/// Waits for the batch under way; pends for ever where there is none.
async fn join<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match task {
        Some(task) => task.await,
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
