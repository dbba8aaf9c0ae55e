//! The cache's record for one name.
//!
//! *Stale* is not a state here but a verdict of [`freshness`](super::freshness); *evicting* is
//! none either: eviction takes only the ledger's lock, and an entry learns of it the next time it
//! asks for a pin.
//!
//! Lock order: an entry's state, then the ledger. The state is never locked across a wait.

mod facts;
mod failing;
mod forms;
mod heads;
mod permit;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::OpenError;
use super::doubt::{Doubt, Left};
use super::flight::Ticket;
use super::freshness::{JUST_LANDED, Verdict, judge};
use super::parking::Parked;
use super::version::{Peek, Unfinished, Version};
use crate::digest::Digest;
use crate::source::Source;
use crate::types::{BlobId, Name};
pub(super) use forms::Forms;
use forms::TreeFailure;
pub(super) use permit::Permit;

/// How long a failure is answered again without asking, unless the origin says more.
pub(super) const REMEMBERED: Duration = Duration::from_secs(1);

/// The errno of a body that nobody wants any more, which is no failure of its name.
pub(super) const UNWANTED: i32 = libc::ECANCELED;

/// The cache's record for one name.
pub struct Entry {
    name: Name,
    /// Its origin gave other bytes under one strong tag: its tags tell nothing of bytes any more.
    tags_lie: AtomicBool,
    state: Mutex<State>,
}

/// The whole life of an entry.
pub(super) enum Slot {
    /// Nothing at hand, nothing under way.
    Absent,
    /// Nothing at hand, a flight under way.
    Fetching(Ticket),
    /// A version at hand, whole or still with gaps.
    Ready(Arc<Version>),
    /// A version at hand, and a flight that asks whether it still is the current one.
    Refreshing(Arc<Version>, Ticket),
}

pub(super) struct State {
    /// The names it is shown under now.
    pub(super) forms: Forms,
    pub(super) source: Arc<Source>,
    /// [`Source::identity`] of it, worked out once.
    pub(super) identity: String,
    /// When the catalog that declares the source was written.
    pub(super) declared_at: SystemTime,
    pub(super) slot: Slot,
    /// When the origin last vouched for the version, by either clock.
    pub(super) validated: Option<Instant>,
    pub(super) validated_at: SystemTime,
    /// When the sidecar was last told so.
    pub(super) recorded_at: SystemTime,
    /// When the version landed in this process.
    pub(super) landed: Option<Instant>,
    /// When a version came back because the one after it failed.
    fell_back: Option<Instant>,
    /// A blob that was found not to have the digest that the catalog declares, and that digest.
    pub(super) unlike: Option<(BlobId, Digest)>,
    /// What is held against the version that failed last.
    pub(super) doubt: Option<Doubt>,
    /// Versions that the origin offered and had another one for meanwhile.
    pub(super) left: Left,
    /// A failure that is answered again without asking.
    pub(super) failure: Option<(Instant, OpenError)>,
    /// The last failure, for the operator; cleared by success.
    pub(super) last_error: Option<(SystemTime, OpenError)>,
    /// What the last head said, and when, while nothing was fetched.
    pub(super) peeked: Option<(Instant, Peek)>,
    /// A body whose head was asked for and which waits for an open to adopt it.
    pub(super) parked: Option<Parked>,
    /// A time that was shown before anything was known; a version that lands keeps it.
    pub(super) promised: Option<SystemTime>,
    /// The number of the blob that the next fetch will make, and so of the inode shown meanwhile.
    pub(super) next_blob: Option<BlobId>,
    /// A whole version that the one at hand, which still has gaps, is to replace; it comes back if
    /// that one's download fails.
    pub(super) fallback: Option<Fallback>,
    /// A download that can be gone on with.
    pub(super) unfinished: Option<Unfinished>,
    /// Why the tree of a version cannot be shown.
    tree_failure: Option<TreeFailure>,
    /// The last version was evicted, and nothing asked for it since.
    pub(super) evicted: bool,
    /// No catalog claims the name any more.
    pub(super) withdrawn: bool,
}

/// A whole version that may come back, and when its origin last vouched for it.
pub(super) struct Fallback {
    pub(super) version: Arc<Version>,
    validated_at: SystemTime,
}

/// What a name shows now.
pub enum Shows {
    /// Nothing fetched yet; the number its blob will have.
    Nothing(BlobId),
    /// A version, whole or with gaps.
    Version(Arc<Version>),
}

/// What a caller needs from an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// A version to read.
    Version,
    /// Its length.
    Length,
}

/// What a caller has to do next.
pub(super) enum Step {
    /// Take this version; `stale` when the origin is known to fail.
    Take { version: Arc<Version>, stale: bool },
    /// Take this version, and run the errand in a task of its own that nobody waits for.
    TakeAndLead { version: Arc<Version>, permit: Permit, errand: Errand },
    /// Take this head.
    TakeHead(Peek),
    /// Wait for the flight.
    Join(Ticket),
    /// Lead: run the errand in a task of its own.
    Lead(Permit, Errand, Ticket),
    /// Fail.
    Refuse(OpenError),
}

/// What a leader is to do.
pub(super) enum Errand {
    /// Compare the bytes on disk with checksums and digest, then judge again.
    Verify(Arc<Version>),
    /// Ask the origin; with a version at hand, whether that is still the current one.
    Ask { have: Option<Arc<Version>>, parked: Option<Box<Parked>>, want: Want },
}

impl Entry {
    /// Makes the record of a name that nothing is known of yet.
    pub(super) fn new(name: Name, source: Arc<Source>, declared_at: SystemTime) -> Arc<Entry> {
        let never = SystemTime::UNIX_EPOCH;
        let state = State {
            forms: Forms::default(),
            identity: source.identity(),
            source,
            declared_at,
            slot: Slot::Absent,
            validated: None,
            validated_at: never,
            recorded_at: never,
            landed: None,
            fell_back: None,
            unlike: None,
            doubt: None,
            left: Left::default(),
            failure: None,
            last_error: None,
            peeked: None,
            parked: None,
            promised: None,
            next_blob: None,
            fallback: None,
            unfinished: None,
            tree_failure: None,
            evicted: false,
            withdrawn: false,
        };
        Arc::new(Entry { name, tags_lie: AtomicBool::new(false), state: Mutex::new(state) })
    }

    /// Binds the name to what the catalogs say now, shown in these forms.
    pub(super) fn rebind(&self, source: Arc<Source>, declared_at: SystemTime, forms: Forms) {
        let identity = source.identity();
        let mut state = self.state();
        state.forms = forms;
        state.identity = identity;
        state.source = source;
        state.declared_at = declared_at;
        // What is known of another source's head or body is not used (see `peeked`, `Parked`).
        // What failed may have been mended.
        state.failure = None;
        state.retry_tree();
        state.doubt = None;
        state.left = Left::default();
    }

    /// Returns the name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Returns what the name is bound to.
    pub fn source(&self) -> Arc<Source> {
        self.state().source.clone()
    }

    /// Says whether the version at hand may be used without asking its origin, also because that is
    /// known to fail.
    pub(super) fn is_fresh(&self, window: Duration) -> bool {
        let now = Instant::now();
        let state = self.state();
        let Some(version) = state.version() else { return false };
        let verdict = judge(state.facts(version, now, window));
        let failing = state.failure.as_ref().filter(|(until, _)| now < *until);
        match verdict {
            Verdict::Fresh => true,
            Verdict::Verify | Verdict::Replace => false,
            // Who stands in a tree must not be moved on twice within a moment.
            Verdict::Behind | Verdict::Revalidate if state.just_fell_back(now) => true,
            Verdict::Behind => failing.is_some(),
            Verdict::Revalidate => failing.is_some_and(|(_, error)| state.may_be_stale(error)),
        }
    }

    /// Returns [`Source::identity`] of what the name is bound to.
    pub(super) fn identity(&self) -> String {
        self.state().identity.clone()
    }

    /// Returns the last failure and its time, if nothing succeeded since.
    pub fn last_error(&self) -> Option<(SystemTime, OpenError)> {
        self.state().last_error.clone()
    }

    /// Returns the version at hand.
    pub fn version(&self) -> Option<Arc<Version>> {
        self.state().version().cloned()
    }

    /// Says whether a flight is under way.
    pub fn flying(&self) -> bool {
        matches!(self.state().slot, Slot::Fetching(_) | Slot::Refreshing(..))
    }

    /// Returns when the origin last vouched for the version at hand.
    pub fn validated_at(&self) -> Option<SystemTime> {
        let state = self.state();
        state.version().map(|_| state.validated_at)
    }

    /// Returns the length and time that the catalog promises for a name that was never fetched.
    /// The time stays with the version that lands, so that a stat before the download agrees with
    /// one after it.
    pub fn promise(&self) -> Option<(u64, SystemTime)> {
        let mut state = self.state();
        let size = state.source.size?;
        let declared_at = state.declared_at;
        Some((size, *state.promised.get_or_insert(declared_at)))
    }

    /// Returns what the name shows now; `allocate` gives the number of a blob to come.
    pub(super) fn shows(&self, allocate: impl FnOnce() -> BlobId) -> Shows {
        let mut state = self.state();
        match state.version() {
            Some(version) => Shows::Version(version.clone()),
            None => Shows::Nothing(*state.next_blob.get_or_insert_with(allocate)),
        }
    }

    /// Says whether a version is one of what the name is bound to now.
    pub(super) fn means(&self, version: &Version) -> bool {
        version.source == self.state().identity
    }

    /// Says whether a version may be used as far as its bytes go: they are what the source in force
    /// means, and in no doubt.
    pub fn trusts(&self, version: &Version) -> bool {
        let state = self.state();
        let declared = state.source.digest.as_ref();
        version.source == state.identity
            && !version.untrusted
            && declared.is_none_or(|declared| version.digest.as_ref() == Some(declared))
    }

    /// Forgets a version whose blob is gone: evicted, if that is why. What it was to replace comes
    /// back.
    pub(super) fn lost(&self, blob: BlobId, evicted: bool) {
        let mut state = self.state();
        if state.held().is_some_and(|v| v.blob.id() == blob) {
            state.fall_back();
            state.evicted |= evicted && state.version().is_none();
        }
        if evicted {
            state.unfinished.take_if(|unfinished| unfinished.id == blob);
        }
    }

    /// Forgets a version whose download failed, and remembers why. What it was to replace comes
    /// back, if it is still there.
    pub(super) fn lost_to(&self, blob: BlobId, error: &OpenError, remembered: Duration) {
        let mut state = self.state();
        if state.held().is_some_and(|v| v.blob.id() == blob) {
            state.lost_to(error, remembered);
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Every statement leaves the state consistent, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides what a caller does next; takes the permit where there is something to do.
    pub(super) fn step(self: &Arc<Self>, want: Want, window: Duration) -> Step {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(broken) = state.held().and_then(|version| version.blob.broken()) {
            match broken.errno == UNWANTED || broken.superseded {
                true => state.fall_back(),
                false => state.lost_to(&OpenError::from(broken), REMEMBERED),
            }
        }
        if let Slot::Fetching(ticket) | Slot::Refreshing(_, ticket) = &state.slot {
            return match (&state.slot, want) {
                (Slot::Refreshing(version, _), Want::Length) => {
                    Step::Take { version: version.clone(), stale: false }
                }
                (Slot::Refreshing(version, _), Want::Version)
                    if judge(state.facts(version, now, window)) == Verdict::Behind =>
                {
                    Step::Take { version: version.clone(), stale: false }
                }
                (Slot::Fetching(_), Want::Length) => match state.tellable(now, window) {
                    Some(peek) => Step::TakeHead(peek.clone()),
                    None => Step::Join(ticket.for_length()),
                },
                _ => Step::Join(ticket.clone()),
            };
        }
        let failing = state.failure.as_ref().filter(|(until, _)| now < *until);
        let Slot::Ready(version) = &state.slot else {
            if let Some((_, error)) = failing {
                return Step::Refuse(error.clone());
            }
            if state.withdrawn {
                return Step::Refuse(withdrawn(&self.name));
            }
            if want == Want::Length
                && let Some(peek) = state.tellable(now, window)
            {
                return Step::TakeHead(peek.clone());
            }
            let State { parked, identity, .. } = &mut *state;
            let parked = parked.take_if(|p| want == Want::Version && p.source == *identity);
            let parked = parked.map(Box::new);
            let (permit, ticket) = self.permit(&state.source);
            state.slot = Slot::Fetching(ticket.clone());
            return Step::Lead(permit, Errand::Ask { have: None, parked, want }, ticket);
        };
        let version = version.clone();
        let verdict = judge(state.facts(&version, now, window));
        if want == Want::Length || verdict == Verdict::Fresh {
            return Step::Take { version, stale: false };
        }
        if let Some((_, error)) = failing {
            let served = match verdict {
                Verdict::Behind => true,
                Verdict::Revalidate => state.may_be_stale(error),
                Verdict::Fresh | Verdict::Verify | Verdict::Replace => false,
            };
            return match served {
                true => Step::Take { version, stale: true },
                false => Step::Refuse(error.clone()),
            };
        }
        let (permit, ticket) = self.permit(&state.source);
        state.slot = Slot::Refreshing(version.clone(), ticket.clone());
        let errand = match verdict {
            Verdict::Verify => Errand::Verify(version),
            Verdict::Behind => {
                let errand = Errand::Ask { have: Some(version.clone()), parked: None, want };
                return Step::TakeAndLead { version, permit, errand };
            }
            Verdict::Revalidate | Verdict::Replace | Verdict::Fresh => {
                Errand::Ask { have: Some(version), parked: None, want }
            }
        };
        Step::Lead(permit, errand, ticket)
    }
}

/// Makes the refusal of a name that no catalog claims any more.
pub(super) fn withdrawn(name: &Name) -> OpenError {
    OpenError::new(
        crate::metrics::Refusal::Gone,
        format!("{name}: no catalog claims this name any more"),
    )
}

impl State {
    /// Returns the version at hand, unless its download failed.
    pub(super) fn version(&self) -> Option<&Arc<Version>> {
        self.held().filter(|version| version.blob.broken().is_none())
    }

    /// Takes out the version that would have come back.
    pub(super) fn take_fallback(&mut self) -> Option<Arc<Version>> {
        self.fallback.take().map(|fallback| fallback.version)
    }

    /// Forgets the version at hand; what it was to replace comes back.
    fn fall_back(&mut self) {
        self.drop_version();
        if let Some(Fallback { version, validated_at }) = self.fallback.take() {
            self.fell_back = Some(Instant::now());
            self.validated = None;
            self.validated_at = validated_at;
            self.slot = match std::mem::replace(&mut self.slot, Slot::Absent) {
                Slot::Fetching(ticket) => Slot::Refreshing(version, ticket),
                _ => Slot::Ready(version),
            };
        }
    }

    fn just_fell_back(&self, now: Instant) -> bool {
        self.fell_back.is_some_and(|at| now.duration_since(at) < JUST_LANDED)
    }

    /// Takes out what can be gone on with, if it is of the source in force.
    pub(super) fn take_unfinished(&mut self) -> Option<Unfinished> {
        let identity = &self.identity;
        self.unfinished.take_if(|unfinished| unfinished.record.source == *identity)
    }

    /// Returns the version in the slot.
    fn held(&self) -> Option<&Arc<Version>> {
        match &self.slot {
            Slot::Ready(version) | Slot::Refreshing(version, _) => Some(version),
            Slot::Absent | Slot::Fetching(_) => None,
        }
    }

    /// Puts a version in the place of `old`, or of what came back since that was at hand. Returns those
    /// that nothing points at any more: a whole one stays behind one that still has gaps.
    pub(super) fn replace(
        &mut self,
        version: &Arc<Version>,
        old: Option<Arc<Version>>,
    ) -> [Option<Arc<Version>>; 3] {
        let id = old.as_ref().map(|old| old.blob.id());
        let came_back = self.held().filter(|held| Some(held.blob.id()) != id).cloned();
        let (old, lost) = if came_back.is_some() { (came_back, old) } else { (old, None) };
        if !self.withdrawn {
            self.slot = Slot::Ready(version.clone());
        }
        if self.withdrawn || version.complete() || !version.keep {
            return [old, self.take_fallback(), lost];
        }
        match old {
            Some(old) if old.complete() && old.source == version.source => {
                let fallback = Fallback { version: old, validated_at: self.validated_at };
                [self.fallback.replace(fallback).map(|before| before.version), None, lost]
            }
            old => [old, None, lost],
        }
    }

    /// Forgets the version at hand; a flight goes on.
    pub(super) fn drop_version(&mut self) {
        self.slot = match std::mem::replace(&mut self.slot, Slot::Absent) {
            Slot::Refreshing(_, ticket) | Slot::Fetching(ticket) => Slot::Fetching(ticket),
            Slot::Ready(_) | Slot::Absent => Slot::Absent,
        };
        self.landed = None;
    }

    /// Notes that the origin answered.
    pub(super) fn succeeded(&mut self) {
        self.failure = None;
        self.last_error = None;
    }
}
