//! The HTTP side; the only room that names `reqwest`.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Serialize;

use crate::digest::Digest;
use crate::lifetime::Lifetime;
use crate::source::Source;
use crate::types::Pending;
use crate::validators::Validators;

mod allowed;
mod body;
mod breaker;
mod budget;
mod by_origin;
mod clients;
mod connect;
mod credit;
mod dead;
mod declared;
mod fault;
mod fields;
mod head;
mod http;
mod material;
mod near;
mod partial;
mod pem;
mod proxies;
mod redirect;
mod request;
mod retry;
mod settings;
mod settings_error;
mod stats;
mod tls;
mod trails;
mod verify;
mod way;

#[cfg(test)]
mod tests;

pub use http::HttpOrigin;
pub use settings::{OriginSettings, OriginTls};
pub use settings_error::SettingsError;
pub use stats::{OriginStats, OriginStatsSnapshot};

/// Where bodies come from; the cache knows only this trait.
pub trait Origin: Send + Sync + 'static {
    /// Sends one conditional (or, without validators, plain) GET and follows redirects, retrying
    /// what can pass, until there is a usable head or `ask.patience` has run out.
    ///
    /// The body of the answer is not read until [`Body::chunk`] is called. A 304 with another
    /// strong tag than the one asked about, or from another resource, is asked again, once, without
    /// the condition. Dropping the future abandons the question.
    ///
    /// # Errors
    /// See [`FailureKind`].
    fn get(&self, ask: Ask) -> Pending<'_, Result<Answer, Failure>>;

    /// Asks for some bytes of a version that is known by a strong tag: one GET with `Range` and
    /// `If-Range` (RFC 9110, section 14.2 and 13.1.5), redirects and retries as in
    /// [`get`](Origin::get).
    ///
    /// Of a 206 everything is checked before its first byte is handed out: unit, first and last
    /// byte, complete length, tag, coding; a multipart answer is refused.
    ///
    /// # Errors
    /// See [`FailureKind`]; an answer that does not fit what was asked is none of them, see
    /// [`RangeAnswer::Unusable`].
    fn range(&self, ask: RangeAsk) -> Pending<'_, Result<RangeAnswer, Failure>>;

    /// Returns how many connections may be used for one body of this source; at least 1.
    fn connections(&self, source: &Source) -> usize;

    /// Notes that the origin of a source gave other bytes under the same strong tag: from now on
    /// its [`Head::ranges`] are false, and [`range`](Origin::range) answers
    /// [`RangeAnswer::NotServed`] without asking. Counted and logged here.
    fn lied(&self, source: &Source);

    /// Notes that the origin of a source goes back and forth between versions: for an hour its
    /// [`Head::offered`] is false, and [`range`](Origin::range) answers [`RangeAnswer::NotServed`]
    /// without asking. Logged here.
    fn wavers(&self, source: &Source);
}

/// One question to an origin.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What to fetch.
    pub source: Arc<Source>,
    /// The validators of the version at hand; `None` asks for the body whatever it is.
    pub validators: Option<Validators>,
    /// How long to try.
    pub patience: Patience,
    /// Only so many bytes from the beginning are wanted for now. An origin that serves no ranges
    /// sends the whole body all the same.
    pub first: Option<u64>,
}

/// A question for some bytes of a known version.
#[derive(Clone, Debug)]
pub struct RangeAsk {
    /// What to fetch.
    pub source: Arc<Source>,
    /// The bytes wanted; not empty, and within `length`.
    pub range: Range<u64>,
    /// The validators of the version; the tag must be a strong one.
    pub validators: Validators,
    /// The length of the whole version.
    pub length: u64,
    /// How long to try.
    pub patience: Patience,
}

/// What came of a question for some bytes.
pub enum RangeAnswer {
    /// The bytes asked for, of the version asked for; the body holds exactly those.
    Part(Box<dyn Body>),
    /// The origin has another version now: another tag, another length (also in a 416), 412, or a
    /// redirect that leads to another resource.
    Changed,
    /// The whole of the same version came, now or within the last five minutes, or the origin is known
    /// to lie: there are no ranges to be had.
    NotServed,
    /// What came is no answer to the question: it has another place or length, a weak tag, several
    /// parts, or a status that makes no sense. The whole may be had all the same.
    Unusable(Failure),
}

/// How long a question may be tried before it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Nobody has a copy: retry refused connections for up to 10 s, all else for up to 30 s.
    Cold,
    /// A range, instead of which the whole can be asked for: as [`Patience::Cold`], for as long as
    /// leaves time for that.
    Range,
    /// The whole, after a range was in vain for as long as `spent`: as [`Patience::Cold`], for what is
    /// left of that.
    Instead {
        /// How long ranges have been asked for already.
        spent: Duration,
    },
    /// A copy can be served instead: give up on connections that are refused, reset or
    /// unroutable, and on 5xx answers, within 1.5 s; wait 10 s for a silent origin.
    Warm,
}

/// What an origin answered.
pub enum Answer {
    /// 304 to a conditional request of ours, with no other strong tag than the one asked about.
    NotModified(Unchanged),
    /// A representation: whole (200), or its beginning (206) where only that was asked for.
    Found(Head, Box<dyn Body>),
}

/// What a 304 leaves in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Unchanged {
    /// The validators to keep from now on: those asked with, updated by the answer's.
    pub validators: Validators,
    /// What the answer says of its use without asking; fields that it lacks are for the stored
    /// ones to fill in ([`Lifetime::updated`]).
    pub lifetime: Lifetime,
}

/// The head of an answer with a body.
#[derive(Clone, Debug)]
pub struct Head {
    /// ETag and Last-Modified as received.
    pub validators: Validators,
    /// The length of the whole representation, where announced.
    pub length: Option<u64>,
    /// The bytes that the body holds where it is only a part (206); `None`: all of them.
    pub part: Option<Range<u64>>,
    /// Whether ranges of this version can be asked for: strong tag, known length, and the origin
    /// neither says `Accept-Ranges: none` nor is known to lie.
    pub ranges: bool,
    /// Whether the origin says that it serves them (`Accept-Ranges: bytes`), or just has.
    pub offered: bool,
    /// What Repr-Digest, or in a whole answer also Content-Digest (RFC 9530) or Content-MD5, says
    /// of the whole representation: the strongest known algorithm of them.
    pub digest: Option<Digest>,
    /// What the answer says of its use without asking.
    pub lifetime: Lifetime,
    /// How the end of the body is known.
    pub framing: Framing,
    /// When the head came.
    pub at: SystemTime,
}

/// How the end of a body is known (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By Content-Length.
    Length,
    /// By the last chunk.
    Chunked,
    /// Only by the closing of the connection, so a cut cannot be told from the end.
    Close,
}

/// The rest of an answer. Dropping it closes the connection.
pub trait Body: Send {
    /// Returns the next bytes, or `None` after the last.
    ///
    /// `None` comes only when the body is as long as announced and, unless it is framed by
    /// [`Framing::Close`], ended as its framing demands.
    ///
    /// # Errors
    /// Cut, reset, longer than announced, no byte for 10 s, or under 16 KiB/s over 30 s.
    fn chunk(&mut self) -> Pending<'_, Result<Option<Bytes>, Failure>>;
}

/// Why an origin gave no usable answer. Its text holds no secret and no query.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The class of failure, which decides the errno.
    pub kind: FailureKind,
    /// What was tried, what came, how often and for how long; for a person.
    pub message: String,
    /// What the origin asked us to wait.
    pub retry_after: Option<Duration>,
    /// The origin could not be reached, was silent, or said that it cannot answer now: it may be asked
    /// again later.
    pub passing: bool,
}

/// The classes of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// 404 or 410.
    Gone,
    /// 401, 403 or 407.
    Denied,
    /// No connection: refused, unroutable, name not resolved.
    Unreachable,
    /// No byte of an answer, or of the body, within its time.
    Silent,
    /// Another status, 5xx among them.
    Status,
    /// TLS failed.
    Tls,
    /// A redirect that the rules refuse.
    Redirect,
    /// An answer that breaks HTTP, a connection lost before it, or a body that was cut, too long or
    /// too slow.
    BadAnswer,
    /// The request could not be made: a secret file that cannot be read, a proxy that is wrong.
    Local,
}

impl FailureKind {
    /// Every class, in the order of declaration.
    pub const ALL: [FailureKind; 9] = [
        FailureKind::Gone,
        FailureKind::Denied,
        FailureKind::Unreachable,
        FailureKind::Silent,
        FailureKind::Status,
        FailureKind::Tls,
        FailureKind::Redirect,
        FailureKind::BadAnswer,
        FailureKind::Local,
    ];

    /// Returns the name used in logs, metrics and status.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureKind::Gone => "gone",
            FailureKind::Denied => "denied",
            FailureKind::Unreachable => "unreachable",
            FailureKind::Silent => "silent",
            FailureKind::Status => "status",
            FailureKind::Tls => "tls",
            FailureKind::Redirect => "redirect",
            FailureKind::BadAnswer => "bad-answer",
            FailureKind::Local => "local",
        }
    }
}
