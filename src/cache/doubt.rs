//! What is held against a version that could not be had whole, until it is asked for again.

use std::time::{Duration, Instant};

use super::error::OpenError;
use crate::digest::Digest;
use crate::metrics::Refusal;
use crate::origin::Head;
use crate::source::Source;

/// What is offered and then is another within this time is to come in one answer the next time.
const SOON: Duration = Duration::from_secs(10);

/// How long a version is remembered that the origin offered and then had another one for.
const LEFT: Duration = Duration::from_secs(3600);

/// How many of them are.
const LEFT_AT_MOST: usize = 8;

/// Which version an answer claims to bring: its strong tag, its length where that is announced, and
/// the digest that it is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    tag: String,
    resource: Option<String>,
    length: Option<u64>,
    digest: Option<Digest>,
}

/// What went wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Several answers brought its bytes, and these do not have the digest: one of the answers is
    /// wrong, or the digest is. One answer will tell.
    Pieces(Claim),
    /// The origin had another one a moment after it offered it, or offers it again and again. What
    /// one answer brings cannot change in the middle.
    Fickle,
}

/// The versions that an origin offered lately, and had another one for before they were whole.
///
/// One that offers such a version again goes back and forth: several servers with tags of their own
/// behind one name, as a rule. That is no reason to withhold the copy at hand.
#[derive(Debug, Default)]
pub(super) struct Left(Vec<(Instant, Claim)>);

impl Left {
    /// Adds a version. Says whether it was left before it was offered this time, within an hour.
    fn again(&mut self, claim: &Claim, offered: Instant, now: Instant) -> bool {
        self.0.retain(|(at, _)| now.duration_since(*at) < LEFT);
        let before = |(at, before): &(Instant, Claim)| *at < offered && before.looks_like(claim);
        let again = self.0.iter().any(before);
        self.0.retain(|(_, before)| !before.looks_like(claim));
        if self.0.len() == LEFT_AT_MOST {
            self.0.remove(0);
        }
        self.0.push((now, claim.clone()));
        again
    }
}

impl Doubt {
    /// Says whether the next question is for all in one answer.
    pub(super) fn wants_whole(&self) -> bool {
        matches!(self, Doubt::Pieces(_) | Doubt::Fickle)
    }
}

impl Claim {
    /// Returns what a head of a source claims; `None` without a strong tag.
    pub(super) fn of(source: &Source, head: &Head) -> Option<Claim> {
        let tag = head.validators.strong()?.to_owned();
        let resource = head.validators.resource.clone();
        Some(Claim { tag, resource, length: head.length, digest: expected(source, head) })
    }

    /// Says whether both claim the same, whatever resource they are of: redirects may lead to another
    /// one each time.
    fn looks_like(&self, other: &Claim) -> bool {
        self.tag == other.tag && self.length == other.length && self.digest == other.digest
    }
}

/// Returns the digest that a body is to have: the catalog's, else the one that the answer gives.
pub(super) fn expected(source: &Source, head: &Head) -> Option<Digest> {
    source.digest.clone().or_else(|| head.digest.clone())
}

/// A version on its way, and what was held against it before. What is held now is its entry's.
pub(super) struct Charge {
    claim: Option<Claim>,
    /// When it was offered.
    at: Instant,
    before: Option<Doubt>,
}

impl Charge {
    /// Takes up what is held against the version that a head offers.
    pub(super) fn take(held: &mut Option<Doubt>, source: &Source, head: &Head) -> Charge {
        Charge { claim: Claim::of(source, head), at: Instant::now(), before: held.take() }
    }

    /// Says whether one answer is to bring all of it, which tells who was wrong with pieces.
    pub(super) fn wants_one_answer(&self) -> bool {
        matches!((&self.before, &self.claim), (Some(Doubt::Pieces(held)), Some(claim)) if held == claim)
    }

    /// Says whether nothing is to be asked for beside one answer, which would be of another version; the
    /// rest of one that is cut still is.
    pub(super) fn wants_no_ranges(&self) -> bool {
        self.before == Some(Doubt::Fickle)
    }

    /// Notes that the origin has another version meanwhile, before anybody learns of it. Returns the
    /// failure as it is to be taken, and whether the origin goes back and forth.
    pub(super) fn changed(
        &self,
        held: &mut Option<Doubt>,
        left: &mut Left,
        error: OpenError,
    ) -> (OpenError, bool) {
        let Some(claim) = &self.claim else { return (error, false) };
        let now = Instant::now();
        let again = left.again(claim, self.at, now);
        if again || now.duration_since(self.at) < SOON {
            held.get_or_insert(Doubt::Fickle);
        }
        if !again {
            return (error, false);
        }
        let text =
            format!("{}; it says so each time, and goes on to offer {}", error.message, claim.tag);
        (OpenError::new(Refusal::BadBody, text), true)
    }

    /// Notes how it failed. What tells nothing of what was held against it leaves that as it was.
    pub(super) fn failed(self, held: &mut Option<Doubt>, why: Refusal, pieces: bool) {
        let doubt = match why {
            Refusal::Digest if pieces => self.claim.map(Doubt::Pieces),
            Refusal::Digest => None,
            // There may be room for what is read, where there is none for all of it.
            Refusal::HardLimit | Refusal::DiskFull | Refusal::TooLarge => {
                self.before.filter(|before| *before != Doubt::Fickle)
            }
            _ => self.before,
        };
        if let Some(doubt) = doubt {
            // Another download may have found out more since.
            held.get_or_insert(doubt);
        }
    }
}
