//! The cache over a scripted origin and a store in a temporary directory.

mod alone;
mod answers;
mod catalogs;
mod cut;
mod doubts;
mod evicted;
mod gaps;
mod instead;
mod lies;
mod lifetimes;
mod room;
mod transient;
mod trees;
mod turns;
mod twins;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::digest::{Algorithm, Digest};
use crate::lifetime::Lifetime;
use crate::origin::{
    Answer, Ask, Body, Failure, FailureKind, Framing, Head, RangeAnswer, RangeAsk, Unchanged,
};
use crate::source::Source;
use crate::validators::Validators;

/// What the origin does with one question.
pub(crate) enum Reply {
    /// 200 with these bytes.
    Body(Head, Vec<u8>),
    /// As much as is asked for of these bytes, whose ranges are then served without end.
    Ranged(Head, Arc<Vec<u8>>),
    /// 200 whose body comes as it is sent.
    Slow(Head, mpsc::UnboundedReceiver<Result<bytes::Bytes, Failure>>),
    /// 304 with the validators asked about.
    NotModified,
    /// 304 with the validators asked about, and what it says of its use without asking.
    Lasts(Lifetime),
    /// No usable answer.
    Fail(FailureKind),
    /// The leader dies.
    Panic,
}

/// An origin that follows a script; the last line is repeated by a 404.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) script: Mutex<VecDeque<(Duration, Reply)>>,
    pub(crate) asked: Mutex<Vec<Option<Validators>>>,
    /// What questions for ranges are answered with, each; then they are of what was last ranged.
    pub(crate) parts: Mutex<VecDeque<PartReply>>,
    ranged: Mutex<Option<Arc<Vec<u8>>>>,
    /// The ranges asked for.
    pub(crate) ranges: Mutex<Vec<std::ops::Range<u64>>>,
    /// How many connections are allowed; one at least.
    pub(crate) connections: AtomicUsize,
    /// How many sources were said to lie.
    pub(crate) lies: AtomicUsize,
    pub(crate) wavered: AtomicUsize,
}

/// What the origin does with one question for a range.
pub(crate) enum PartReply {
    /// Serves it out of these bytes.
    Of(Arc<Vec<u8>>),
    /// An answer whose body comes as it is sent.
    Slow(mpsc::UnboundedReceiver<Result<bytes::Bytes, Failure>>),
    Changed,
    NotServed,
    /// No usable answer.
    Fail(FailureKind),
    /// An answer whose body fails before its first byte.
    Dead(FailureKind),
    /// An answer to another question.
    Unusable,
}

pub(crate) struct Chunks(VecDeque<bytes::Bytes>);

impl Chunks {
    fn of(bytes: &[u8]) -> Chunks {
        Chunks(bytes.chunks(64 << 10).map(bytes::Bytes::copy_from_slice).collect())
    }
}

impl Body for Chunks {
    fn chunk(&mut self) -> Pending<'_, Result<Option<bytes::Bytes>, Failure>> {
        let next = self.0.pop_front();
        Box::pin(async move { Ok(next) })
    }
}

pub(crate) struct Sent(mpsc::UnboundedReceiver<Result<bytes::Bytes, Failure>>);

impl Body for Sent {
    fn chunk(&mut self) -> Pending<'_, Result<Option<bytes::Bytes>, Failure>> {
        Box::pin(async move { self.0.recv().await.transpose() })
    }
}

pub(crate) fn failure(kind: FailureKind) -> Failure {
    let passing =
        matches!(kind, FailureKind::Unreachable | FailureKind::Silent | FailureKind::Status);
    let message = format!("scripted: {}", kind.as_str());
    Failure { kind, message, retry_after: None, passing }
}

impl Origin for Fake {
    fn get(&self, ask: Ask) -> Pending<'_, Result<Answer, Failure>> {
        let (validators, first) = (ask.validators.clone(), ask.first);
        self.asked.lock().unwrap().push(ask.validators);
        let next = self.script.lock().unwrap().pop_front();
        Box::pin(async move {
            let (after, reply) = next.unwrap_or((Duration::ZERO, Reply::Fail(FailureKind::Gone)));
            tokio::time::sleep(after).await;
            match reply {
                Reply::Body(head, bytes) => Ok(Answer::Found(head, Box::new(Chunks::of(&bytes)))),
                Reply::Ranged(head, bytes) => {
                    *self.ranged.lock().unwrap() = Some(bytes.clone());
                    let length = bytes.len() as u64;
                    let part = first.map(|first| 0..first.min(length));
                    let sent = &bytes[..part.as_ref().map_or(length, |part| part.end) as usize];
                    let head = Head { part, ranges: true, offered: true, ..head };
                    Ok(Answer::Found(head, Box::new(Chunks::of(sent))))
                }
                Reply::Slow(head, body) => Ok(Answer::Found(head, Box::new(Sent(body)))),
                Reply::NotModified => Ok(Answer::NotModified(Unchanged {
                    validators: validators.expect("a condition"),
                    lifetime: Lifetime::default(),
                })),
                Reply::Lasts(lifetime) => Ok(Answer::NotModified(Unchanged {
                    validators: validators.expect("a condition"),
                    lifetime,
                })),
                Reply::Fail(kind) => Err(failure(kind)),
                Reply::Panic => panic!("scripted"),
            }
        })
    }

    fn range(&self, ask: RangeAsk) -> Pending<'_, Result<RangeAnswer, Failure>> {
        self.ranges.lock().unwrap().push(ask.range.clone());
        let next = self.parts.lock().unwrap().pop_front();
        let ranged = || self.ranged.lock().unwrap().clone().map(PartReply::Of);
        let answer = match next.or_else(ranged) {
            Some(PartReply::Of(bytes)) => {
                let part = &bytes[ask.range.start as usize..ask.range.end as usize];
                RangeAnswer::Part(Box::new(Chunks::of(part)))
            }
            Some(PartReply::Dead(kind)) => {
                let (body, sent) = mpsc::unbounded_channel();
                // The receiver is in the answer.
                let _ = body.send(Err(failure(kind)));
                RangeAnswer::Part(Box::new(Sent(sent)))
            }
            Some(PartReply::Slow(sent)) => RangeAnswer::Part(Box::new(Sent(sent))),
            Some(PartReply::Changed) => RangeAnswer::Changed,
            Some(PartReply::Unusable) => RangeAnswer::Unusable(failure(FailureKind::BadAnswer)),
            Some(PartReply::Fail(kind)) => {
                return Box::pin(std::future::ready(Err(failure(kind))));
            }
            Some(PartReply::NotServed) | None => RangeAnswer::NotServed,
        };
        Box::pin(std::future::ready(Ok(answer)))
    }

    fn connections(&self, _source: &Source) -> usize {
        self.connections.load(Ordering::Relaxed).max(1)
    }

    fn lied(&self, _source: &Source) {
        self.lies.fetch_add(1, Ordering::Relaxed);
    }

    fn wavers(&self, _source: &Source) {
        self.wavered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts what the kernel is told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) moved: AtomicUsize,
    pub(crate) leaving: AtomicUsize,
    pub(crate) cleared: Mutex<Vec<BlobId>>,
}

impl KernelSide for Arc<Told> {
    fn moved(&self, _name: &Name) -> Pending<'static, ()> {
        self.moved.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(()))
    }

    fn sized(&self, _ino: Ino, _length: u64) -> Pending<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn stale(&self, _ino: Ino) -> Pending<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn clear(&self, blob: BlobId) -> Pending<'static, ()> {
        self.cleared.lock().unwrap().push(blob);
        Box::pin(std::future::ready(()))
    }

    fn relisted(&self) {}

    fn leaving(&self, _name: &Name) {
        self.leaving.fetch_add(1, Ordering::Relaxed);
    }
}

/// The directory of a store, which threads may still write to when a test has ended.
pub(crate) struct Place(TempDir);

impl From<TempDir> for Place {
    fn from(dir: TempDir) -> Place {
        Place(dir)
    }
}

impl Place {
    pub(crate) fn path(&self) -> &std::path::Path {
        self.0.path()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for _ in 0..200 {
            match std::fs::remove_dir_all(self.path()) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                _ => return,
            }
        }
    }
}

pub(crate) struct Rig {
    pub(crate) cache: Arc<Cache>,
    pub(crate) origin: Arc<Fake>,
    pub(crate) told: Arc<Told>,
    pub(crate) dir: Place,
}

pub(crate) const MIB: u64 = 1 << 20;

pub(crate) fn source(url: &str) -> Source {
    Source::new(url::Url::parse(url).unwrap())
}

pub(crate) fn table<const N: usize>(sources: [(&str, Source); N]) -> Table {
    let downloads = sources.into_iter().map(|(name, source)| {
        let bound = Bound { source: Arc::new(source), declared_at: SystemTime::UNIX_EPOCH };
        (name.parse().unwrap(), bound)
    });
    Table { downloads: downloads.collect(), aliases: HashMap::new(), may_prune: true }
}

pub(crate) fn head(tag: Option<&str>, length: Option<u64>) -> Head {
    Head {
        validators: Validators {
            etag: tag.map(|tag| format!("\"{tag}\"")),
            last_modified: None,
            resource: None,
        },
        length,
        part: None,
        ranges: false,
        offered: false,
        digest: None,
        lifetime: Lifetime::default(),
        framing: if length.is_some() { Framing::Length } else { Framing::Chunked },
        at: SystemTime::now(),
    }
}

pub(crate) fn found(tag: &str, bytes: &[u8]) -> Reply {
    Reply::Body(head(Some(tag), Some(bytes.len() as u64)), bytes.to_vec())
}

pub(crate) fn sha256(bytes: &[u8]) -> Option<Digest> {
    Digest::parse(Algorithm::Sha256, &crate::digest::sha256_hex(bytes)).ok()
}

impl Rig {
    pub(crate) fn new(table: Table) -> Rig {
        Rig::with(Limits { quota: 64 * MIB, hard: 80 * MIB, min_free: 0 }, table)
    }

    pub(crate) fn with(limits: Limits, table: Table) -> Rig {
        Rig::over(tempfile::tempdir().unwrap(), limits, table)
    }

    pub(crate) fn over(dir: impl Into<Place>, limits: Limits, table: Table) -> Rig {
        let rig = Rig::build(dir.into(), limits, table);
        rig.cache.attach(Arc::new(rig.told.clone()));
        rig
    }

    /// Without anybody who tells the kernel.
    pub(crate) fn unattached(table: Table) -> Rig {
        let limits = Limits { quota: 64 * MIB, hard: 80 * MIB, min_free: 0 };
        Rig::build(tempfile::tempdir().unwrap().into(), limits, table)
    }

    fn build(dir: Place, limits: Limits, table: Table) -> Rig {
        let (store, recovered) = Store::open(dir.path()).unwrap();
        let timing = Timing {
            window: Duration::from_millis(100),
            stall: Duration::from_secs(5),
            max_downloads: 4,
            archives: crate::tree::Limits::default(),
        };
        let (origin, told) = (Arc::new(Fake::default()), Arc::new(Told::default()));
        let counters = Arc::new(Counters::default());
        let store = Arc::new(store);
        let cache = Cache::new(store, recovered, origin.clone(), counters, limits, timing, table);
        Rig { cache, origin, told, dir }
    }

    pub(crate) fn will(&self, reply: Reply) -> &Rig {
        self.will_after(0, reply)
    }

    pub(crate) fn will_after(&self, ms: u64, reply: Reply) -> &Rig {
        self.origin.script.lock().unwrap().push_back((Duration::from_millis(ms), reply));
        self
    }

    pub(crate) fn entry(&self, name: &str) -> Arc<Entry> {
        match self.cache.names().get(name).and_then(Shown::download) {
            Some((_, entry)) => entry.clone(),
            None => panic!("{name} is not a download"),
        }
    }

    pub(crate) async fn open(&self, name: &str) -> Result<Opened, OpenError> {
        self.cache.open(&self.entry(name)).await
    }

    pub(crate) async fn size(&self, name: &str) -> Result<Size, OpenError> {
        self.cache.size(&self.entry(name)).await
    }

    pub(crate) fn asked(&self) -> usize {
        self.origin.asked.lock().unwrap().len()
    }

    pub(crate) fn last_condition(&self) -> Option<Validators> {
        self.origin.asked.lock().unwrap().last().cloned().flatten()
    }
}

pub(crate) fn errno(opened: Result<Opened, OpenError>) -> i32 {
    match opened {
        Ok(_) => panic!("opened"),
        Err(error) => error.errno,
    }
}

/// Waits for what happens in tasks behind the back of a test.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..400 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never came: {what}");
}

pub(crate) async fn committed(opened: &Opened) {
    until("the commit", || opened.version.complete()).await;
}

pub(crate) async fn bytes_of(opened: &Opened) -> Vec<u8> {
    committed(opened).await;
    let mut all = Vec::new();
    opened.version.blob.read_through(|some| all.extend_from_slice(some)).unwrap();
    all
}

/// Lets the window, and the second in which what landed is a hit, go by.
pub(crate) async fn later() {
    tokio::time::sleep(freshness::JUST_LANDED + Duration::from_millis(50)).await;
}
