//! One version on its way from the origin to the disk.
//!
//! Without a digest (or with `integrity = "eventual"` and a strong validator) the version lands as
//! soon as its head is there, with gaps, and the openers go on; with a digest in strict mode it
//! lands when the digest has matched. Either way it is committed when it is whole. What a download
//! leaves that failed is put aside where it can be gone on with.

mod aside;
mod end;
mod place;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::Cache;
use super::doubt::{Charge, expected};
use super::entry::{Entry, Permit, REMEMBERED, State};
use super::errand::{beating, check_size, confirm, peek, shown_at};
use super::error::OpenError;
use super::fill::{Fill, Filled, First, GROWTH, Job};
use super::flight::{Landed, Pulse};
use super::freshness::JUST_LANDED;
use super::kept::{Kept, put_back};
use super::ledger::{Pin, Reservation};
use super::lie::{Again, Beside};
use super::room::overhead;
use super::version::{Version, keeps};
use crate::metrics::Refusal;
use crate::origin::{Body, Framing, Head, Unchanged};
use crate::source::{Integrity, Source};
use crate::store::{Allocation, Staging};
use end::End;
use place::Place;

/// What a version is made from.
pub(super) enum Content {
    /// The body of an answer.
    Body(Box<dyn Body>),
    /// A part of the very version that the head describes, and what comes beside it.
    Unfinished(Box<Kept>, Option<First>),
}

/// A download that has its place on disk.
struct Download {
    cache: Arc<Cache>,
    entry: Arc<Entry>,
    source: Arc<Source>,
    version: Arc<Version>,
    head: Head,
    staging: Arc<Staging>,
    reservation: Reservation,
    allocation: Allocation,
    /// Keeps the blob while it is filled.
    pin: Pin,
    /// Whether the name showed another inode before.
    moves: bool,
    /// What is at hand of the version that the origin says this is: whole, or in part.
    again: Option<Again>,
    beside: Option<Beside>,
}

/// Receives a version for a flight, answers the flight, and goes on until the version is committed
/// or has failed. Gives the flight back where it failed before anything landed.
pub(super) async fn begin(
    cache: &Arc<Cache>,
    permit: Permit,
    source: Arc<Source>,
    head: Head,
    content: Content,
    have: Option<Arc<Version>>,
) -> Option<Failed> {
    if let Some(version) = have.as_ref().filter(|version| already_have(version, &source, &head)) {
        // Whatever the origin sends now either has this digest or would be refused.
        if let Content::Unfinished(kept, _) = content {
            kept.let_go(cache);
        }
        let unchanged = Unchanged { validators: head.validators, lifetime: head.lifetime };
        confirm(cache, permit, version.clone(), unchanged).await;
        return None;
    }
    let streaming = match (&source.digest, source.integrity) {
        (None, _) => true,
        (Some(_), Integrity::Eventual) => head.validators.strong().is_some(),
        (Some(_), Integrity::Strict) => false,
    };
    let charge = streaming.then(|| Charge::take(&mut permit.entry().state().doubt, &source, &head));
    let in_one = head.part.is_none() && charge.as_ref().is_some_and(Charge::wants_one_answer);
    let in_order = head.part.is_none() && charge.as_ref().is_some_and(Charge::wants_no_ranges);
    let (ranges, offered) = (head.ranges && !in_one, head.offered && !in_order);
    let head = Head { ranges, offered, ..head };
    let prepared =
        Download::prepare(cache, &permit, source.clone(), head.clone(), content, have.as_ref());
    let (download, first) = match prepared.await {
        Ok(prepared) => prepared,
        Err(error) => {
            if let Some(charge) = charge {
                charge.failed(&mut permit.entry().state().doubt, error.why, false);
            }
            return Some(Failed { permit, have, error, doubtful: false });
        }
    };
    if streaming {
        let version = download.version.clone();
        download.land(permit, have).await;
        let entry = download.entry.clone();
        match download.receive(first, None, charge).await {
            // So one of the several was wrong.
            Ok(_) if in_one => cache.origin.lied(&source),
            Ok(_) => {}
            Err(Unmade { error, .. }) => abandon(cache, &entry, &version, error).await,
        }
        None
    } else {
        let pulse = permit.pulse();
        let landing = download.landing();
        // Nobody may look into it yet, but it is built as the bytes arrive.
        let tree = permit.entry().is_tree().then(|| cache.tree(permit.entry(), &landing.version));
        if let Some(length) = head.length.filter(|_| have.is_none()) {
            // A stat need not wait for the digest.
            permit.body_comes(peek(permit.entry(), &source, &head, length));
        }
        match download.receive(first, Some(pulse), None).await {
            Ok(pin) => {
                landing.land(cache, permit, pin, have).await;
                if let Some(tree) = tree {
                    // It is completed whatever happens, and kept until whoever waits takes it up.
                    tokio::spawn(async move {
                        let _ = tree.whole().await;
                        tokio::time::sleep(JUST_LANDED).await;
                    });
                }
                None
            }
            Err(Unmade { error, doubtful }) => {
                drop(tree);
                if error.why == Refusal::Digest {
                    // What is fetched instead may have another length.
                    permit.entry().state().peeked = None;
                }
                // Nobody has seen it: only its bytes must go, unless they were put aside.
                aside::let_go(cache, permit.entry(), &landing.version);
                Some(Failed { permit, have, error, doubtful })
            }
        }
    }
}

/// A download that failed before anybody saw it; the flight is still to be answered.
pub(super) struct Failed {
    pub(super) permit: Permit,
    pub(super) have: Option<Arc<Version>>,
    pub(super) error: OpenError,
    /// See [`Unmade::doubtful`].
    pub(super) doubtful: bool,
}

/// Why a download became no version.
struct Unmade {
    error: OpenError,
    /// Several answers under one strong tag brought its bytes, and these do not have the digest
    /// that they should: one of the answers is wrong, or the digest is.
    doubtful: bool,
}

impl From<OpenError> for Unmade {
    fn from(error: OpenError) -> Unmade {
        Unmade { error, doubtful: false }
    }
}

/// Says whether the version at hand is what the source declares, or what the answer says it holds,
/// byte for byte.
fn already_have(version: &Version, source: &Source, head: &Head) -> bool {
    let expected = source.digest.as_ref().or(head.digest.as_ref());
    let same = source.digest.is_some() || version.source == source.identity();
    expected.is_some() && version.digest.as_ref() == expected && same && version.complete()
}

impl Download {
    /// Makes room and a place on disk. Returns also what comes first.
    async fn prepare(
        cache: &Arc<Cache>,
        permit: &Permit,
        source: Arc<Source>,
        head: Head,
        content: Content,
        have: Option<&Arc<Version>>,
    ) -> Result<(Download, Option<First>), OpenError> {
        let entry = permit.entry().clone();
        let name = entry.name().as_str();
        let expected = expected(&source, &head);
        let again = have.and_then(|version| Again::of(version, &source, &head));
        let beside = have.and_then(|version| Beside::of(version, &source, &head));
        let (kept, first) = match content {
            Content::Body(body) => (None, Some(First { body, part: head.part.clone() })),
            // Pinned, so that it does not make room for itself.
            Content::Unfinished(kept, first) => (Some(*kept), first),
        };
        let all_comes = first.as_ref().is_some_and(|first| first.part.is_none());
        let allocation = allocation(&source, &head, all_comes);
        let there = kept.as_ref().map_or(0, |kept| cache.ledger.bytes(kept.id()));
        let reservation = match reserve(cache, name, &source, &head, allocation, there).await {
            Ok(reservation) => reservation,
            Err(error) => {
                put_back(cache, &entry, kept);
                return Err(error);
            }
        };
        let (id, moves) = {
            let mut state = entry.state();
            // The number promised to the inode of a name never fetched.
            let promised = state.next_blob.take().filter(|_| have.is_none());
            (promised.unwrap_or_else(|| cache.store.allocate()), promised.is_none())
        };
        let shown_at = shown_at(entry.state().promised.take(), &head);
        let from = kept.as_ref().map(Kept::id);
        let place = Place { id, from, allocation, length: head.length };
        let (staging, reservation, pin) =
            place.take(cache, &entry, reservation, expected.as_ref()).await?;
        drop(kept);
        let digest = source.digest.as_ref();
        let keep = keeps(&head.validators, digest, &head.lifetime, source.revalidate);
        let version = Arc::new(Version {
            blob: staging.blob(),
            source: source.identity(),
            validators: head.validators.clone(),
            lifetime: head.lifetime.clone(),
            digest: expected,
            fetched_at: head.at,
            shown_at,
            keep,
            untrusted: false,
        });
        cache.index(id, &entry);
        if !keep {
            // Served to whoever holds it, and gone with the last of them.
            cache.ledger.orphan(id);
        }
        let download = Download {
            cache: cache.clone(),
            source,
            version,
            head,
            staging,
            reservation,
            allocation,
            pin,
            moves,
            again,
            beside,
            entry: entry.clone(),
        };
        Ok((download, first))
    }

    fn landing(&self) -> Landing {
        Landing { version: self.version.clone(), at: self.head.at, moves: self.moves }
    }

    /// Lands the version with gaps.
    async fn land(&self, permit: Permit, have: Option<Arc<Version>>) {
        let landing = self.landing();
        landing.land(&self.cache, permit, self.pin.clone(), have).await;
    }

    /// Receives the version and commits it. Gives back the pin that held it meanwhile.
    async fn receive(
        self,
        first: Option<First>,
        pulse: Option<Arc<Pulse>>,
        charge: Option<Charge>,
    ) -> Result<Pin, Unmade> {
        let Download {
            cache,
            entry,
            source,
            version,
            head,
            staging,
            reservation,
            pin,
            allocation,
            again,
            beside,
            ..
        } = self;
        let (id, at) = (version.blob.id(), head.at);
        let record = version.record(entry.name(), at);
        let length = head.length;
        let ranges = head.ranges && version.keep && version.validators.strong().is_some();
        let fill = Fill::new(Job {
            cache: cache.clone(),
            entry: entry.clone(),
            source: source.clone(),
            staging: staging.clone(),
            reservation,
            allocation,
            record: record.clone(),
            length,
            ranges: ranges && length.is_some(),
            offered: head.offered,
            beside,
            pulse: pulse.clone(),
        });
        let (reservation, filled) = fill.run(first).await;
        let pieced = matches!(filled, Ok(Filled::Whole { pieced: true }));
        let received = match filled {
            Ok(Filled::Whole { .. }) => Ok(()),
            Ok(Filled::Aside) => Err(aside::unwanted(&entry)),
            Err(error) => Err(error),
        };
        if let Err(error) = &received
            && ranges
            && aside::worth_keeping(&cache, &version, error)
        {
            if let Some(charge) = charge {
                charge.failed(&mut entry.state().doubt, error.why, false);
            }
            let part = aside::Part { staging, record, reservation, version };
            aside::put(&cache, &entry, part, error).await;
            return received.map(|()| pin).map_err(Unmade::from);
        }
        let received = match (received, &charge) {
            (Err(error), Some(charge)) if error.why == Refusal::Changed => {
                let (error, to_and_fro) = {
                    let State { doubt, left, .. } = &mut *entry.state();
                    charge.changed(doubt, left, error)
                };
                if to_and_fro {
                    cache.origin.wavers(&source);
                }
                Err(error)
            }
            (received, _) => received,
        };
        // The place of a part says where it ends, however it is framed.
        let framing = if head.part.is_some() { Framing::Length } else { head.framing };
        let end = End { source: source.clone(), framing, record, keep: version.keep };
        let task = tokio::task::spawn_blocking(move || end.reach(&staging, received));
        // Hashing what is left is progress, for who waits for the version and who reads it.
        let beat = || {
            version.blob.beat();
            pulse.iter().for_each(|pulse| pulse.beat());
        };
        let done = beating(beat, task).await;
        let (on_disk, done) = done.unwrap_or_else(|_stopping| {
            let error = OpenError::new(Refusal::Store, "the daemon is stopping");
            (version.blob.filled(), Err(error))
        });
        // An unlinked part stays on the books while somebody has it open.
        if let Some(reservation) = reservation {
            cache.ledger.settle(reservation, id, on_disk);
        }
        if let Err(error) = done {
            cache.ledger.committed(id);
            let doubtful = error.why == Refusal::Digest && ranges && pieced;
            if let Some(charge) = charge {
                charge.failed(&mut entry.state().doubt, error.why, doubtful);
            }
            return Err(Unmade { error, doubtful });
        }
        if version.keep {
            if let Some(again) = again {
                again.compare(&cache, &entry, &source, id).await;
            }
            let fallback = {
                let mut state = entry.state();
                state.recorded_at = at;
                // Only of this very version: another may have landed since.
                let current = state.version().is_some_and(|v| v.blob.id() == id);
                if current { state.take_fallback() } else { None }
            };
            cache.orphan(fallback.as_deref());
            cache.tell_moved(&entry).await;
        }
        cache.ledger.committed(id);
        Ok(pin)
    }
}

/// Returns whether the place of a whole body is taken at once: where only what is read is fetched,
/// and can be, it is not.
fn allocation(source: &Source, head: &Head, all_comes: bool) -> Allocation {
    match source.wants_all() || all_comes {
        false if head.ranges && head.offered => Allocation::Sparse,
        _ => Allocation::Whole,
    }
}

/// Makes room for what a head announces, of which some bytes may be there.
async fn reserve(
    cache: &Arc<Cache>,
    name: &str,
    source: &Source,
    head: &Head,
    allocation: Allocation,
    there: u64,
) -> Result<Reservation, OpenError> {
    if let Some(length) = head.length {
        check_size(source, name, length)?;
    }
    match allocation {
        Allocation::Whole => cache.reserve(name, head.length.unwrap_or(GROWTH), there).await,
        Allocation::Sparse => {
            cache.check_fits(name, head.length.unwrap_or(0))?;
            let first = head.part.as_ref().map_or(GROWTH, |part| part.end - part.start);
            cache.reserve_exactly(name, first + overhead(first)).await
        }
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
        let mut replaced = [None, None, None];
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
            cache.tell_moved(&entry).await;
        }
        if !version.keep || replacing {
            // Between the answer and the open by another inode that follows it, nobody else holds
            // it; and that open must not be sent on once more.
            let (pin, keep, cache) = (pin.clone(), version.keep, cache.clone());
            tokio::spawn(async move {
                tokio::time::sleep(JUST_LANDED).await;
                if !keep {
                    // Of a file the last handle says so; who walks through a tree need not have one.
                    cache.tell_walked(id);
                }
                drop(pin);
            });
        }
        permit.answer(Ok(Landed::Version { version, pin, stale: false }));
    }
}

/// Gives up a version that had landed with gaps: who holds it reads what is there, new opens
/// fetch anew.
async fn abandon(cache: &Arc<Cache>, entry: &Arc<Entry>, version: &Arc<Version>, error: OpenError) {
    let blob = version.blob.id();
    match error.why {
        Refusal::Interrupted => {
            // Nobody wanted it, so nobody is to be told.
            tracing::debug!(name = %entry.name(), %error, "download given up");
            entry.lost(blob, false);
        }
        Refusal::Changed => {
            // Whoever opens it next gets the version that took its place.
            tracing::warn!(name = %entry.name(), %error, "download given up");
            entry.lost_to(blob, &error, std::time::Duration::ZERO);
        }
        why => {
            tracing::warn!(name = %entry.name(), why = why.as_str(), %error, "download failed");
            entry.lost_to(blob, &error, REMEMBERED);
        }
    }
    // Nobody finds the way there any more; and what is tainted may not be served again at all.
    cache.tell_walked(blob);
    aside::let_go(cache, entry, version);
    cache.tell_moved(entry).await;
}
