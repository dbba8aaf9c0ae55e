//! What is held against a version that could not be had whole, until it is asked for again.

use super::error::OpenError;
use super::version::Version;
use crate::digest::Digest;
use crate::metrics::Refusal;
use crate::origin::Head;
use crate::source::Source;

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
    /// The origin said that it had another one meanwhile. Of an origin that says so each time and
    /// goes on to offer it, it is no reason to withhold the copy at hand.
    Changed(Claim),
    /// It did so again. What one answer brings cannot change in the middle.
    Fickle(Claim),
}

impl Doubt {
    /// Says whether the next question is for all in one answer.
    pub(super) fn wants_whole(&self) -> bool {
        matches!(self, Doubt::Pieces(_) | Doubt::Fickle(_))
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
    before: Option<Doubt>,
}

impl Charge {
    /// Takes up what is held against the version that a head offers.
    pub(super) fn take(held: &mut Option<Doubt>, source: &Source, head: &Head) -> Charge {
        Charge { claim: Claim::of(source, head), before: held.take() }
    }

    /// Says whether one answer is to bring all of it, which tells who was wrong with pieces.
    pub(super) fn wants_one_answer(&self) -> bool {
        matches!((&self.before, &self.claim), (Some(Doubt::Pieces(held)), Some(claim)) if held == claim)
    }

    /// Notes that the origin has another version meanwhile, before anybody learns of it. Returns the
    /// failure as it is to be taken.
    pub(super) fn changed(
        &self,
        held: &mut Option<Doubt>,
        error: OpenError,
        version: &Version,
    ) -> OpenError {
        let Some(claim) = self.claim.clone() else { return error };
        let again = match &self.before {
            Some(Doubt::Changed(before) | Doubt::Fickle(before)) => before.looks_like(&claim),
            _ => false,
        };
        held.get_or_insert(if again { Doubt::Fickle(claim) } else { Doubt::Changed(claim) });
        if !again {
            return error;
        }
        let text = format!(
            "{}; it says so each time, and goes on to offer {}",
            error.message,
            version.validators.strong().unwrap_or("it")
        );
        OpenError::new(Refusal::BadBody, text)
    }

    /// Notes how it failed. What tells nothing of what was held against it leaves that as it was.
    pub(super) fn failed(self, held: &mut Option<Doubt>, why: Refusal, pieces: bool) {
        let doubt = match why {
            Refusal::Digest if pieces => self.claim.map(Doubt::Pieces),
            Refusal::Digest => None,
            _ => self.before,
        };
        if let Some(doubt) = doubt {
            // Another download may have found out more since.
            held.get_or_insert(doubt);
        }
    }
}
