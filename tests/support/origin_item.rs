//! What the scripted origin has for a path, and what it does wrong with it.

use std::time::Duration;

use super::Body;
use super::origin::Seen;

/// How the end of a body is marked (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length,
    Chunked,
    Close,
}

/// What a path answers. Build it with [`Item::new`] and change the fields.
#[derive(Clone)]
pub(crate) struct Item {
    pub(crate) body: Body,
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
    pub(crate) framing: Framing,
    /// Answer `Range` with 206; otherwise the field is not looked at.
    pub(crate) ranges: bool,
    /// Wait before the head.
    pub(crate) delay: Duration,
    /// Bytes per second, for each answer.
    pub(crate) rate: Option<u64>,
    /// Close the connection cleanly after this many bytes of an answer.
    pub(crate) cut_at: Option<u64>,
    /// Reset the connection after this many bytes of an answer.
    pub(crate) reset_at: Option<u64>,
    /// Answer with this status and no more than a line of body.
    pub(crate) status: Option<u16>,
    /// Redirect (302) there.
    pub(crate) redirect: Option<String>,
    /// Answer 403 unless this header comes with this value.
    pub(crate) require: Option<(String, String)>,
    /// More lines for the head.
    pub(crate) headers: Vec<(String, String)>,
    /// What goes wrong, and when; the first that fits a request strikes.
    pub(crate) strikes: Vec<Strike>,
    /// What the path has after a [`Fault::Replaced`] or [`Fault::Change`].
    pub(crate) next: Option<Box<Item>>,
}

impl Item {
    /// Returns a plain answer: this body, announced length, no validators, no ranges.
    pub(crate) fn new(body: Body) -> Item {
        Item {
            body,
            etag: None,
            last_modified: None,
            framing: Framing::Length,
            ranges: false,
            delay: Duration::ZERO,
            rate: None,
            cut_at: None,
            reset_at: None,
            status: None,
            redirect: None,
            require: None,
            headers: Vec::new(),
            strikes: Vec::new(),
            next: None,
        }
    }

    /// Returns pseudo-random bytes with a strong tag; both depend on the seed.
    pub(crate) fn made(seed: u64, len: u64) -> Item {
        Item { etag: Some(format!("\"v{seed}\"")), ..Item::new(Body::made(seed, len)) }
    }

    /// Returns the same as [`made`](Item::made), served in ranges too.
    pub(crate) fn ranged(seed: u64, len: u64) -> Item {
        Item { ranges: true, ..Item::made(seed, len) }
    }

    /// Adds a fault that strikes the first `times` requests of a kind.
    pub(crate) fn strike(mut self, when: When, fault: Fault, times: usize) -> Item {
        self.strikes.push(Strike { when, fault, times });
        self
    }

    /// Takes the fault that strikes a request, the `nth` for its path, if one does.
    pub(super) fn struck(&mut self, request: &Seen, nth: usize) -> Option<Fault> {
        let fits = |strike: &&mut Strike| strike.times > 0 && strike.when.fits(request, nth);
        if let Some(strike) = self.strikes.iter_mut().find(fits) {
            strike.times -= 1;
            return Some(strike.fault.clone());
        }
        match (self.cut_at, self.reset_at) {
            (Some(cut), Some(reset)) if reset < cut => Some(Fault::Reset(reset)),
            (Some(cut), _) => Some(Fault::Cut(cut)),
            (None, Some(reset)) => Some(Fault::Reset(reset)),
            (None, None) => None,
        }
    }
}

/// A fault and the requests that it strikes.
#[derive(Clone, Debug)]
pub(crate) struct Strike {
    when: When,
    fault: Fault,
    /// How many more requests it strikes.
    times: usize,
}

/// The kinds of requests that a client sends for one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Neither conditional nor for a part of a version known before.
    Plain,
    /// `If-None-Match` or `If-Modified-Since`.
    Conditional,
    /// `Range` with `If-Range`.
    Part,
    /// The request with this number, counted from 0, whatever it asks.
    Nth(usize),
}

impl When {
    fn fits(self, request: &Seen, nth: usize) -> bool {
        let has = |name| request.header(name).is_some();
        let conditional = has("if-none-match") || has("if-modified-since");
        match self {
            When::Plain => !conditional && !has("if-range"),
            When::Conditional => conditional,
            When::Part => has("if-range"),
            When::Nth(number) => number == nth,
        }
    }
}

/// What goes wrong. Places are bytes of the answer's body.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The request is read and never answered.
    Silent,
    /// The connection is closed instead of an answer.
    CloseFirst,
    /// The connection is reset instead of an answer.
    ResetFirst,
    /// The answer does not begin as HTTP does.
    Garbage,
    /// The head has this many fields.
    HeaderFlood(usize),
    /// Interim answers (102) without end.
    EndlessInterim,
    /// This status, these fields, and a line of body.
    Status(u16, &'static [(&'static str, &'static str)]),
    /// A redirect (302) there; to the request's own path where empty.
    Redirect(&'static str),
    /// 304, with this tag where given.
    NotModified(Option<&'static str>),
    /// 206 with a `Content-Range` of this kind, whether a range was asked for or not.
    Partial(Place),
    /// 206 whose tag is another.
    PartialOf(&'static str),
    /// 206 with all that was asked for as `multipart/byteranges`.
    Multipart,
    /// 200 with the whole body, whatever was asked for.
    Whole,
    /// `Content-Encoding: gzip`.
    Coded,
    /// Announces so many bytes more than it sends, then closes.
    TooLong(u64),
    /// Announces so many bytes fewer than it sends, then closes.
    TooShort(u64),
    /// Other bytes of the same length under the same tag.
    Lie,
    /// 200 with so many bytes fewer, under the tag that was asked about.
    Shorter(u64),
    /// A `Repr-Digest` (RFC 9530) that is not that of the body.
    WrongDigest,
    /// The path has its next item from this request on.
    Replaced,
    /// Closed cleanly here.
    Cut(u64),
    /// Closed here without the closing word of TLS, where that is spoken.
    Dropped(u64),
    /// Reset here.
    Reset(u64),
    /// Nothing more comes from here on; the connection stays open.
    Stall(u64),
    /// From here on a byte now and then.
    Trickle(u64),
    /// Closed cleanly here, and the path has its next item from then on.
    Change(u64),
    /// Bytes per second.
    Drip(u64),
    /// A chunked body with a line that is no chunk size here.
    BadChunk(u64),
    /// A chunked body that is closed where its last chunk should be.
    NoLastChunk,
    /// A chunked body that never ends.
    Endless,
    /// A body that ends with its connection.
    CloseDelimited,
}

/// What is wrong in a `Content-Range`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nothing; the whole is told as a part where no range was asked for.
    Right,
    Unit,
    First,
    Last,
    Complete,
    /// The field is not there.
    Missing,
}
