//! One body on its way from the origin to the disk.
//!
//! Without a digest (or with `integrity = "eventual"` and a strong validator) the version lands as
//! soon as its head is there, with gaps, and the openers go on; with a digest in strict mode it
//! lands when the digest has matched. Either way it is committed when it is whole.

mod pump;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::Cache;
use super::entry::{Entry, Permit, REMEMBERED};
use super::errand::{beating, check_size, confirm, peek, shown_at};
use super::error::OpenError;
use super::flight::{Landed, Pulse};
use super::freshness::JUST_LANDED;
use super::ledger::{Pin, Reservation};
use super::version::Version;
use crate::metrics::Refusal;
use crate::origin::{Body, Framing, Head};
use crate::source::{Integrity, Source};
use crate::store::{Record, Staging};
use pump::Pump;

/// What a body of unknown length reserves at first, and at least each time it grows.
pub(super) const GROWTH: u64 = 1 << 20;

/// A download that has its place on disk.
struct Download {
    cache: Arc<Cache>,
    entry: Arc<Entry>,
    source: Arc<Source>,
    version: Arc<Version>,
    framing: Framing,
    staging: Staging,
    reservation: Reservation,
    /// Keeps the blob while it is filled.
    pin: Pin,
    /// When the head came: the moment the origin vouched for it.
    at: SystemTime,
    /// Whether the name showed another inode before.
    moves: bool,
}

/// Receives a body for a flight, answers the flight, and goes on until the body is committed or
/// has failed. Gives the flight back where it failed before anything landed.
pub(super) async fn begin(
    cache: &Arc<Cache>,
    permit: Permit,
    source: Arc<Source>,
    head: Head,
    body: Box<dyn Body>,
    have: Option<Arc<Version>>,
) -> Option<Failed> {
    if let Some(version) = have.as_ref().filter(|version| already_have(version, &source)) {
        // Whatever the origin sends now either has this digest or would be refused.
        drop(body);
        confirm(cache, permit, version.clone(), head.validators).await;
        return None;
    }
    let streaming = match (&source.digest, source.integrity) {
        (None, _) => true,
        (Some(_), Integrity::Eventual) => head.validators.strong().is_some(),
        (Some(_), Integrity::Strict) => false,
    };
    let prepared = Download::prepare(cache, &permit, source.clone(), &head, have.as_deref()).await;
    let download = match prepared {
        Ok(download) => download,
        Err(error) => return Some(Failed { permit, have, error }),
    };
    if streaming {
        let version = download.version.clone();
        download.land(permit, have).await;
        let entry = download.entry.clone();
        if let Err(error) = download.receive(body, None).await {
            abandon(cache, &entry, &version, error).await;
        }
        None
    } else {
        let pulse = permit.pulse();
        let landing = download.landing();
        if let Some(length) = head.length.filter(|_| have.is_none()) {
            // A stat need not wait for the digest.
            let peek = peek(permit.entry(), &source, &head, length);
            permit.entry().state().peeked = Some((Instant::now(), peek));
        }
        match download.receive(body, Some(pulse)).await {
            Ok(pin) => {
                landing.land(cache, permit, pin, have).await;
                None
            }
            Err(error) => {
                // Nobody has seen it: only its bytes must go.
                cache.orphan(Some(&landing.version));
                Some(Failed { permit, have, error })
            }
        }
    }
}

/// A download that failed before anybody saw it; the flight is still to be answered.
pub(super) struct Failed {
    pub(super) permit: Permit,
    pub(super) have: Option<Arc<Version>>,
    pub(super) error: OpenError,
}

/// Says whether the version at hand is what the source declares, byte for byte.
fn already_have(version: &Version, source: &Source) -> bool {
    source.digest.is_some() && version.digest == source.digest && version.complete()
}

impl Download {
    async fn prepare(
        cache: &Arc<Cache>,
        permit: &Permit,
        source: Arc<Source>,
        head: &Head,
        have: Option<&Version>,
    ) -> Result<Download, OpenError> {
        let entry = permit.entry().clone();
        let name = entry.name().as_str();
        if let Some(length) = head.length {
            check_size(&source, name, length)?;
        }
        let reservation = cache.reserve(name, head.length.unwrap_or(GROWTH)).await?;
        let (id, moves) = {
            let mut state = entry.state();
            // The number promised to the inode of a name never fetched.
            let promised = state.next_blob.take().filter(|_| have.is_none());
            (promised.unwrap_or_else(|| cache.store.allocate()), promised.is_none())
        };
        let shown_at = shown_at(entry.state().promised.take(), head);
        let (store, length) = (cache.store.clone(), head.length);
        let algorithm = source.digest.as_ref().map(|digest| digest.algorithm);
        let staged = tokio::task::spawn_blocking(move || {
            let mut staging = store.stage(id, length)?;
            if let Some(algorithm) = algorithm {
                staging.hash(algorithm);
            }
            Ok(staging)
        });
        let staging = match staged.await {
            Ok(staged) => staged.map_err(|e: std::io::Error| {
                OpenError::disk(&format!("{name}: cannot stage the download"), &e)
            })?,
            Err(_) => return Err(OpenError::new(Refusal::Store, "the daemon is stopping")),
        };
        let keep = !head.validators.is_empty() || source.digest.is_some();
        let version = Arc::new(Version {
            blob: staging.blob(),
            source: source.identity(),
            validators: head.validators.clone(),
            digest: source.digest.clone(),
            fetched_at: head.at,
            shown_at,
            keep,
            untrusted: false,
        });
        let pin = cache.ledger.open(id);
        cache.index(id, &entry);
        if !keep {
            // Served to whoever holds it, and gone with the last of them.
            cache.ledger.orphan(id);
        }
        Ok(Download {
            cache: cache.clone(),
            source,
            version,
            framing: head.framing,
            staging,
            reservation,
            pin,
            at: head.at,
            moves,
            entry: entry.clone(),
        })
    }

    fn landing(&self) -> Landing {
        Landing { version: self.version.clone(), at: self.at, moves: self.moves }
    }

    /// Lands the version with gaps.
    async fn land(&self, permit: Permit, have: Option<Arc<Version>>) {
        let landing = self.landing();
        landing.land(&self.cache, permit, self.pin.clone(), have).await;
    }

    /// Receives the body and commits it. Gives back the pin that held it meanwhile.
    async fn receive(
        self,
        body: Box<dyn Body>,
        pulse: Option<Arc<Pulse>>,
    ) -> Result<Pin, OpenError> {
        let Download {
            cache, entry, source, version, framing, staging, reservation, pin, at, ..
        } = self;
        let pump = Pump::new(&cache, &entry, staging, reservation);
        let (staging, reservation, received) = pump.run(body, pulse.as_deref()).await;
        let end =
            End { source, framing, record: version.record(entry.name(), at), keep: version.keep };
        cache.ledger.committing(version.blob.id());
        let done = match staging {
            Some(staging) => {
                let task = tokio::task::spawn_blocking(move || end.reach(staging, received));
                beating(pulse.as_deref(), task)
                    .await
                    .map_err(|_| OpenError::new(Refusal::Store, "the daemon is stopping"))
            }
            None => Ok((version.blob.filled(), received)),
        };
        let (on_disk, done) = done.unwrap_or_else(|error| (version.blob.filled(), Err(error)));
        // An unlinked part stays on the books while somebody has it open.
        cache.ledger.settle(reservation, version.blob.id(), on_disk);
        if done.is_err() {
            cache.ledger.committed(version.blob.id());
        }
        done?;
        if version.keep {
            let fallback = {
                let mut state = entry.state();
                state.recorded_at = at;
                // Only of this very version: another may have landed since.
                let current = state.version().is_some_and(|v| v.blob.id() == version.blob.id());
                if current { state.take_fallback() } else { None }
            };
            cache.orphan(fallback.as_deref());
            cache.kernel().moved(entry.name()).await;
        }
        cache.ledger.committed(version.blob.id());
        Ok(pin)
    }
}

/// What the end of a body is checked against.
struct End {
    source: Arc<Source>,
    framing: Framing,
    record: Record,
    keep: bool,
}

impl End {
    /// Commits a part that was received whole, or fails it. Returns the bytes of disk it takes.
    /// Blocks on the disk.
    fn reach(
        mut self,
        mut staging: Staging,
        received: Result<(), OpenError>,
    ) -> (u64, Result<(), OpenError>) {
        self.record.length = staging.written();
        let allocated = staging.allocated();
        let checked = received.and_then(|()| self.check(&mut staging));
        if let Err(error) = checked {
            staging.blob().fail(error.broken());
            return (allocated, Err(error));
        }
        staging.end();
        let kept = if self.keep { staging.commit(&self.record) } else { staging.keep_private() };
        match kept {
            Ok(on_disk) => (on_disk, Ok(())),
            Err(error) => {
                let what = format!("{}: cannot commit the download", self.record.name);
                (allocated, Err(OpenError::disk(&what, &error)))
            }
        }
    }

    fn check(&self, staging: &mut Staging) -> Result<(), OpenError> {
        let (name, length) = (&self.record.name, self.record.length);
        check_size(&self.source, name.as_str(), length)?;
        let (why, text) = match (&self.source.digest, staging.digest()) {
            (Some(declared), Some(computed)) if *declared != computed => (
                Refusal::Digest,
                format!(
                    "{name}: the digest does not match: declared {declared}, the origin's bytes have {computed}"
                ),
            ),
            (None, _) if self.framing == Framing::Close && !self.source.allow_close_delimited => (
                Refusal::BadBody,
                format!(
                    "{name}: the body of {length} bytes ended only by the closing of the connection, so a cut cannot be told from the end; declare a digest, or set allow_close_delimited = true"
                ),
            ),
            _ => return Ok(()),
        };
        Err(OpenError::new(why, text))
    }
}

/// A version about to become the current one.
struct Landing {
    version: Arc<Version>,
    at: SystemTime,
    moves: bool,
}

impl Landing {
    /// Makes the version the current one, tells the kernel if the name showed another, then answers
    /// all who wait: an opener may be sent back to look the name up again only once the kernel
    /// forgot what it knew.
    async fn land(
        self,
        cache: &Arc<Cache>,
        mut permit: Permit,
        pin: Pin,
        have: Option<Arc<Version>>,
    ) {
        let Landing { version, at, moves } = self;
        let entry = permit.entry().clone();
        let id = version.blob.id();
        let mut withdrawn = false;
        let mut replaced = [None, None];
        let replacing = have.is_some();
        permit.settle(|state| {
            replaced = state.replace(&version, have);
            state.landed = Some(Instant::now());
            state.validated = state.landed;
            state.validated_at = at;
            state.next_blob = None;
            state.peeked = None;
            state.succeeded();
            withdrawn = state.withdrawn;
        });
        if withdrawn {
            cache.ledger.orphan(id);
        }
        for old in &replaced {
            cache.orphan(old.as_deref());
        }
        if moves {
            cache.kernel().moved(entry.name()).await;
        }
        if !version.keep || replacing {
            // Between the answer and the open by another inode that follows it, nobody else holds
            // it; and that open must not be sent on once more.
            let pin = pin.clone();
            tokio::spawn(async move {
                tokio::time::sleep(JUST_LANDED).await;
                drop(pin);
            });
        }
        permit.answer(Ok(Landed::Version { version, pin, stale: false }));
    }
}

/// Gives up a version that had landed with gaps: who holds it reads what is there, new opens
/// fetch anew.
async fn abandon(cache: &Arc<Cache>, entry: &Arc<Entry>, version: &Arc<Version>, error: OpenError) {
    if error.why == Refusal::Interrupted {
        // Nobody wanted it, so nobody is to be told.
        tracing::debug!(name = %entry.name(), %error, "download given up");
        entry.lost(version.blob.id(), false);
    } else {
        tracing::warn!(name = %entry.name(), why = error.why.as_str(), %error, "download failed");
        entry.lost_to(version.blob.id(), &error, REMEMBERED);
    }
    cache.ledger.orphan(version.blob.id());
    cache.kernel().moved(entry.name()).await;
}
