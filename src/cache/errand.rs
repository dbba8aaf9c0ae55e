//! What the leader of a flight does.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::Cache;
use super::doubt::Doubt;
use super::download::{self, Content, Failed};
use super::entry::{Errand, Permit, REMEMBERED, Slot, Want};
use super::error::OpenError;
use super::flight::Landed;
use super::kept::{Kept, put_back};
use super::lie;
use super::parking::Parked;
use super::version::{Peek, Version};
use crate::digest::Hasher;
use crate::metrics::Refusal;
use crate::origin::{Answer, Ask, Failure, FailureKind, Head, Patience, Unchanged};
use crate::source::Source;
use crate::types::Pending;
use crate::validators::Validators;

/// The longest it is.
const REMEMBERED_AT_MOST: Duration = Duration::from_secs(5);

/// How much older than the truth the time of validation on disk may be; rewriting a sidecar costs
/// an fsync, and opens are many.
const RECORD_EVERY: Duration = Duration::from_secs(3600);

/// How much is asked for with the head, where only what is read is fetched.
pub(super) const FIRST: u64 = 64 << 10;

/// How often work on the disk counts as progress.
const BEAT: Duration = Duration::from_secs(5);

/// Runs an errand to its end: whoever waits is answered, or elects another leader. Then lingers a
/// moment for the next.
///
/// A task carries room for the largest of its steps, and is moved several times as it begins and
/// ends. Nearly all errands ask and hear that nothing has changed, so what else there is to do is
/// boxed.
pub(super) async fn run(cache: Arc<Cache>, permit: Permit, errand: Errand) {
    cache.linger.begins();
    match errand {
        Errand::Verify(version) => Box::pin(verify(&cache, permit, version)).await,
        Errand::Ask { have, parked, want } => ask(&cache, permit, have, parked, want).await,
    }
    cache.linger.stay().await;
}

async fn ask(
    cache: &Arc<Cache>,
    permit: Permit,
    have: Option<Arc<Version>>,
    parked: Option<Box<Parked>>,
    want: Want,
) {
    let entry = permit.entry().clone();
    let source = entry.source();
    // The catalogs may have changed since it was taken.
    if let Some(parked) = parked.filter(|parked| parked.source == source.identity()) {
        let Parked { head, body, .. } = *parked;
        cache.counters.misses.inc();
        let content = match Kept::take(cache, &entry, Want::Version) {
            Some(kept) => kept.or_body(cache, &entry, &source, &head, body),
            None => Content::Body(body),
        };
        return fetch(cache, permit, source, head, content, have).await;
    }
    let kept = Kept::take(cache, &entry, want);
    let identity = source.identity();
    let mut validators = conditions(&permit, &identity, have.as_deref(), want);
    if let (None, Some(kept)) = (&have, &kept) {
        validators = Some(kept.unfinished.record.validators.clone());
    }
    let patience = match &have {
        Some(version) if version.source == identity => Patience::Warm,
        _ => Patience::Cold,
    };
    match &have {
        Some(_) => cache.counters.revalidations.inc(),
        // A head that an open adopts is counted with the open.
        None if want == Want::Version => cache.counters.misses.inc(),
        None => {}
    }
    if std::mem::take(&mut entry.state().evicted) {
        cache.counters.evicted_then_wanted.inc();
    }
    let in_one = source.wants_all() || entry.state().doubt.as_ref().is_some_and(Doubt::wants_whole);
    let first = (!in_one).then_some(FIRST);
    let ask = Ask { source: source.clone(), validators, patience, first };
    match (cache.origin.get(ask).await, have) {
        (Ok(Answer::NotModified(unchanged)), Some(version)) => {
            put_back(cache, &entry, kept);
            let lifetime = version.lifetime.updated(&unchanged.lifetime);
            confirm(cache, permit, version, Unchanged { lifetime, ..unchanged }).await;
        }
        (Ok(Answer::NotModified(unchanged)), None) => match kept {
            Some(kept) => {
                let head = kept.head(unchanged);
                let content = Content::Unfinished(Box::new(kept), None);
                fetch(cache, permit, source, head, content, None).await;
            }
            None => confirm_head(permit),
        },
        (Ok(Answer::Found(head, body)), have) => match head.length {
            Some(length) if want == Want::Length && have.is_none() => {
                if let Err(error) = check_size(&source, entry.name().as_str(), length) {
                    return Box::pin(fail(cache, permit, None, error, None)).await;
                }
                let peek = peek(&entry, &source, &head, length);
                cache.lot.park(&entry, identity, head, body);
                land_head(permit, peek);
            }
            _ => {
                lie::note_length(cache, &entry, &source, have.as_deref(), &head);
                let content = match kept {
                    Some(kept) => kept.or_body(cache, &entry, &source, &head, body),
                    None => Content::Body(body),
                };
                fetch(cache, permit, source, head, content, have).await;
            }
        },
        (Err(failure), have) => {
            match kept {
                Some(kept) if failure.kind == FailureKind::Gone => kept.let_go(cache),
                kept => put_back(cache, &entry, kept),
            }
            let error = refusal(&entry, &failure);
            Box::pin(fail(cache, permit, have, error, failure.retry_after)).await;
        }
    }
}

/// Receives a body. Where it does not have the digest declared, it is fetched once more from zero:
/// something on the way may have been at fault.
fn fetch(
    cache: &Arc<Cache>,
    permit: Permit,
    source: Arc<Source>,
    head: Head,
    content: Content,
    have: Option<Arc<Version>>,
) -> Pending<'_, ()> {
    Box::pin(receive(cache, permit, source, head, content, have))
}

async fn receive(
    cache: &Arc<Cache>,
    permit: Permit,
    source: Arc<Source>,
    head: Head,
    content: Content,
    have: Option<Arc<Version>>,
) {
    let (claimed, length) = (head.validators.clone(), head.length);
    let Some(failed) = download::begin(cache, permit, source.clone(), head, content, have).await
    else {
        return;
    };
    let Failed { permit, have, error, doubtful } = failed;
    if error.why != Refusal::Digest {
        return fail(cache, permit, have, error, None).await;
    }
    tracing::warn!(name = %permit.entry().name(), %error, "fetching once more");
    let ask =
        Ask { source: source.clone(), validators: None, patience: Patience::Cold, first: None };
    let failed = match cache.origin.get(ask).await {
        Ok(Answer::Found(head, body)) => {
            // In one answer, which tells who was wrong: if that is right, one of the several was.
            let same = head.validators.same_strong(&claimed) && head.length == length;
            let whole = Head { ranges: !doubtful && head.ranges, ..head };
            let body = Content::Body(body);
            let failed = download::begin(cache, permit, source.clone(), whole, body, have).await;
            if doubtful && same && failed.is_none() {
                cache.origin.lied(&source);
            }
            failed
        }
        Ok(Answer::NotModified(_)) | Err(_) => Some(Failed { permit, have, error, doubtful }),
    };
    if let Some(Failed { permit, have, error, .. }) = failed {
        fail(cache, permit, have, error, None).await;
    }
}

/// Runs work that makes progress nobody can see, and has those who wait see it.
pub(super) async fn beating<T>(beat: impl Fn(), work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        match tokio::time::timeout(BEAT, &mut work).await {
            Ok(done) => return done,
            Err(_) => beat(),
        }
    }
}

/// Returns what the question may be made conditional on.
fn conditions(
    permit: &Permit,
    identity: &str,
    have: Option<&Version>,
    want: Want,
) -> Option<Validators> {
    let validators = match have {
        Some(version) if version.source == identity => version.validators.clone(),
        // Another source's validators mean nothing here.
        Some(_) => return None,
        None if want == Want::Length => {
            let state = permit.entry().state();
            let (_, peek) = state.peeked()?;
            if peek.source != identity {
                return None;
            }
            peek.validators.clone()
        }
        None => return None,
    };
    (!validators.is_empty()).then_some(validators)
}

fn refusal(entry: &super::Entry, failure: &Failure) -> OpenError {
    let mut error = OpenError::from(failure);
    error.message = format!("{}: {}", entry.name(), error.message);
    if failure.kind == FailureKind::Silent {
        error.errno = libc::ETIMEDOUT;
    }
    error
}

/// Checks an announced or found length against the catalog's.
pub(super) fn check_size(source: &Source, name: &str, length: u64) -> Result<(), OpenError> {
    match source.size {
        Some(size) if size != length => Err(OpenError::new(
            Refusal::BadBody,
            format!(
                "{name}: the catalog gives size = {size}, the origin sends {length} bytes; correct the catalog or leave size out"
            ),
        )),
        _ => Ok(()),
    }
}

/// Returns what a head says of its body.
pub(super) fn peek(entry: &super::Entry, source: &Source, head: &Head, length: u64) -> Peek {
    let promised = entry.state().promised;
    Peek {
        length,
        shown_at: shown_at(promised, head),
        validators: head.validators.clone(),
        source: source.identity(),
        coming: false,
    }
}

/// Returns the time that programs see: what was promised, else Last-Modified, else now.
pub(super) fn shown_at(promised: Option<SystemTime>, head: &Head) -> SystemTime {
    promised.or_else(|| head.validators.modified()).unwrap_or(head.at)
}

fn land_head(mut permit: Permit, peek: Peek) {
    permit.settle(|state| {
        state.peeked = Some((Instant::now(), peek.clone()));
        state.succeeded();
    });
    permit.answer(Ok(Landed::Head(peek)));
}

/// A head that was asked about is still the current one.
fn confirm_head(permit: Permit) {
    let peeked = permit.entry().state().peeked().cloned();
    // Without one the permit is dropped, and the waiters ask again.
    if let Some((_, peek)) = peeked {
        land_head(permit, peek);
    }
}

/// The version at hand is still the current one.
pub(super) async fn confirm(
    cache: &Arc<Cache>,
    mut permit: Permit,
    version: Arc<Version>,
    unchanged: Unchanged,
) {
    let entry = permit.entry().clone();
    let pin = cache.ledger.pin(version.blob.id());
    let (Some(pin), None) = (pin, version.blob.broken()) else {
        // Evicted, or its download failed, while its origin was asked. The permit falls, and the
        // waiters fetch it.
        entry.lost(version.blob.id(), false);
        return;
    };
    let older = version;
    let version = Arc::new(older.confirmed(unchanged, entry.source().revalidate));
    let changed = version.differs(&older);
    let now = SystemTime::now();
    let mut record = false;
    permit.settle(|state| {
        if !state.withdrawn {
            state.slot = Slot::Ready(version.clone());
        }
        state.validated = Some(Instant::now());
        state.validated_at = now;
        state.succeeded();
        let age = now.duration_since(state.recorded_at).unwrap_or(RECORD_EVERY);
        record = version.keep && version.complete() && (changed || age >= RECORD_EVERY);
        if record {
            state.recorded_at = now;
        }
    });
    if !version.keep {
        // Its origin does not want it stored any longer.
        cache.ledger.orphan(version.blob.id());
        cache.tell_leaving(&entry);
    }
    permit.answer(Ok(Landed::Version { version: version.clone(), pin, stale: false }));
    if record {
        Box::pin(cache.rewrite(&entry, &version, now)).await;
    }
}

/// Ends a flight that brought nothing: serves the version at hand where that is allowed.
pub(super) async fn fail(
    cache: &Arc<Cache>,
    mut permit: Permit,
    have: Option<Arc<Version>>,
    error: OpenError,
    retry_after: Option<Duration>,
) {
    let entry = permit.entry().clone();
    if permit.is_of_another_source() {
        // The permit falls, and who waits asks the source that the catalogs name now.
        tracing::debug!(name = %entry.name(), %error, "of a source that is no more declared");
        return;
    }
    let wait = retry_after.map_or(REMEMBERED, |asked| asked.clamp(REMEMBERED, REMEMBERED_AT_MOST));
    let gone = error.why == Refusal::Gone;
    let pin = match &have {
        Some(version) if !gone && version.blob.broken().is_none() => {
            cache.ledger.pin(version.blob.id())
        }
        _ => None,
    };
    let mut stale = false;
    let (mut fallback, mut came_back) = (None, None);
    permit.settle(|state| {
        let same = have.as_ref().is_some_and(|version| version.source == state.source.identity());
        stale = pin.is_some() && same && state.may_be_stale(&error);
        state.failed(&error, wait);
        if gone {
            came_back = state.version().cloned();
            state.slot = Slot::Absent;
            state.landed = None;
            state.peeked = None;
            fallback = state.take_fallback();
        }
    });
    cache.orphan(fallback.as_deref());
    cache.orphan(came_back.as_deref());
    match &have {
        Some(_) if stale => {
            tracing::warn!(name = %entry.name(), %error, "serving the copy at hand")
        }
        _ => tracing::warn!(name = %entry.name(), why = error.why.as_str(), %error, "refused"),
    }
    if let (true, Some(version)) = (gone, &have) {
        cache.orphan(Some(version));
        cache.tell_moved(&entry).await;
    }
    match (stale, have, pin) {
        (true, Some(version), Some(pin)) => {
            permit.answer(Ok(Landed::Version { version, pin, stale: true }));
        }
        _ => permit.answer(Err(error)),
    }
}

/// Compares the bytes on disk with what they should be. Those who wait judge again afterwards.
async fn verify(cache: &Arc<Cache>, mut permit: Permit, version: Arc<Version>) {
    let entry = permit.entry().clone();
    let source = entry.source();
    let Some(pin) = cache.ledger.pin(version.blob.id()) else {
        entry.lost(version.blob.id(), false);
        return;
    };
    if !version.complete() {
        // Its bytes are still coming; whatever they are, the digest was not checked on the way.
        drop(pin);
        return ask(cache, permit, Some(version), None, Want::Version).await;
    }
    let checked = {
        let (store, version, source) = (cache.store.clone(), version.clone(), source.clone());
        let record = version.record(entry.name(), entry.state().validated_at);
        let work = tokio::task::spawn_blocking(move || -> std::io::Result<Checked> {
            if version.untrusted && !store.verify(&version.blob, &record)? {
                return Ok(Checked::Damaged);
            }
            match &source.digest {
                Some(declared) if version.digest.as_ref() != Some(declared) => {
                    let mut hasher = Hasher::new(declared.algorithm);
                    version.blob.read_through(|bytes| hasher.update(bytes))?;
                    Ok(if hasher.finish() == *declared { Checked::Good } else { Checked::Other })
                }
                _ => Ok(Checked::Good),
            }
        });
        let pulse = permit.pulse();
        beating(|| pulse.beat(), work).await
    };
    match checked {
        Ok(Ok(Checked::Good)) => {
            let version = Arc::new(version.verified(&source));
            let mut validated_at = SystemTime::now();
            permit.settle(|state| {
                state.slot = Slot::Ready(version.clone());
                validated_at = state.validated_at;
            });
            cache.rewrite(&entry, &version, validated_at).await;
        }
        Ok(Ok(Checked::Other)) => {
            tracing::info!(name = %entry.name(), "the cached bytes do not match the digest declared now");
            drop(pin);
            if let Some(declared) = source.digest.clone() {
                entry.state().unlike = Some((version.blob.id(), declared));
            }
            replace(cache, permit, version).await;
        }
        Ok(Ok(Checked::Damaged)) => discard(cache, permit, version, "checksums differ").await,
        Ok(Err(error)) if passing(&error) => {
            let error =
                OpenError::disk(&format!("{}: cannot check its blob", entry.name()), &error);
            tracing::warn!(name = %entry.name(), %error, "not verified");
            permit.settle(|state| state.failed(&error, REMEMBERED));
            permit.answer(Err(error));
        }
        Ok(Err(error)) => discard(cache, permit, version, &error.to_string()).await,
        Err(stopping) => tracing::debug!(%stopping, "not verified"),
    }
}

/// Says whether an error tells of this moment or of the way to a disk, and nothing of the bytes on it.
fn passing(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EMFILE
                | libc::ENFILE
                | libc::ENOMEM
                | libc::ENOBUFS
                | libc::EAGAIN
                | libc::EINTR
                | libc::ESTALE
                | libc::ETIMEDOUT
        )
    )
}

enum Checked {
    Good,
    /// Whole, but not what the catalog declares now.
    Other,
    Damaged,
}

/// Fetches what the catalog declares now in place of a version that it does not mean any more.
async fn replace(cache: &Arc<Cache>, permit: Permit, version: Arc<Version>) {
    let other = Arc::new(version.of_another_source());
    ask(cache, permit, Some(other), None, Want::Version).await;
}

async fn discard(cache: &Arc<Cache>, permit: Permit, version: Arc<Version>, why: &str) {
    let entry = permit.entry().clone();
    tracing::error!(name = %entry.name(), blob = %version.blob.id(), why, "a cached blob is damaged; it will be fetched again");
    cache.counters.damaged.inc();
    entry.lost(version.blob.id(), false);
    cache.orphan(Some(&version));
    cache.tell_moved(&entry).await;
}

impl Cache {
    /// Tells the sidecar what is known now. A failure leaves the old one in place.
    async fn rewrite(
        self: &Arc<Self>,
        entry: &super::Entry,
        version: &Arc<Version>,
        validated_at: SystemTime,
    ) {
        let record = version.record(entry.name(), validated_at);
        let (store, blob) = (self.store.clone(), version.blob.clone());
        let done = tokio::task::spawn_blocking(move || store.update(&blob, &record)).await;
        if let Ok(Err(error)) = done
            // Evicted meanwhile.
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(name = %entry.name(), %error, "cannot rewrite a sidecar");
        }
    }
}
