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
}

impl Claim {
    /// Returns what a head of a source claims; `None` without a strong tag.
    pub(super) fn of(source: &Source, head: &Head) -> Option<Claim> {
        let tag = head.validators.strong()?.to_owned();
        Some(Claim { tag, length: head.length, digest: expected(source, head) })
    }
}

/// Returns the digest that a body is to have: the catalog's, else the one that the answer gives.
pub(super) fn expected(source: &Source, head: &Head) -> Option<Digest> {
    source.digest.clone().or_else(|| head.digest.clone())
}

impl Doubt {
    /// Returns the doubt that a failure leaves about what was claimed, and the failure as it is to
    /// be taken, given the doubt there was before.
    pub(super) fn after(
        before: Option<&Doubt>,
        claim: Option<Claim>,
        (error, pieces): (OpenError, bool),
        version: &Version,
    ) -> (Option<Doubt>, OpenError) {
        let Some(claim) = claim else { return (None, error) };
        if pieces {
            return (Some(Doubt::Pieces(claim)), error);
        }
        if error.why != Refusal::Changed {
            return (None, error);
        }
        let doubt = Doubt::Changed(claim);
        let error = match before == Some(&doubt) {
            true => OpenError::new(
                Refusal::BadBody,
                format!(
                    "{}; it says so each time, and goes on to offer {}",
                    error.message,
                    version.validators.strong().unwrap_or("it")
                ),
            ),
            false => error,
        };
        (Some(doubt), error)
    }
}
