//! What a reader gets for every way in which an origin goes wrong: the table, and its text.

use std::fmt::Write as _;

use crate::support::origin::{Fault, Place};

/// The moments at which a fault strikes, as the columns of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The first GET of a name.
    First,
    /// The conditional GET of a name that has a copy; the origin has another version.
    Revalidate,
    /// The request for a part that a reader waits for, where only what is read is fetched.
    Range,
    /// The request for the rest of a body that was cut.
    Resume,
    /// The request for the rest of what a daemon had that was killed.
    Killed,
}

/// What may come of a case: words joined by `or`, and the seconds within which. `bytes` are those
/// of the version that was opened, all of them; `copy` is the version held before, `newest` the one
/// after; behind `then` stands what the next open gets. Other bytes, bytes of two versions or an
/// early end of file are never allowed.
pub(super) type Cell = (&'static str, u64);

/// A cell for what cannot be told from an honest answer, or means nothing there.
const NONE: Cell = ("–", 0);

/// One behaviour, struck at every request of a phase, and what comes of it in each.
pub(super) struct Row {
    pub(super) behaviour: &'static str,
    pub(super) fault: Fault,
    /// Whether the catalog declares the digest of the body: then nobody is served before the check.
    pub(super) digest: bool,
    pub(super) cells: [Cell; 5],
}

const fn row(behaviour: &'static str, fault: Fault, cells: [Cell; 5]) -> Row {
    Row { behaviour, fault, digest: false, cells }
}

/// A row about a body whose digest the catalog declares.
const fn declared(behaviour: &'static str, fault: Fault, cells: [Cell; 5]) -> Row {
    Row { digest: true, ..row(behaviour, fault, cells) }
}

/// Where a body goes wrong, in bytes of an answer.
const AT: u64 = 50_000;

const EIO: Cell = ("EIO", 10);
/// What can pass is tried again for as long as an open may wait.
const LATE: Cell = ("EIO", 32);
const SILENT: Cell = ("ETIMEDOUT", 32);
/// The same for bytes in the middle: an open and a read, and what came before may have taken a while.
const LATER: Cell = ("EIO", 42);
const MUTE: Cell = ("ETIMEDOUT", 42);
/// A body that brings next to nothing is borne with for half a minute, and so is the one that it is
/// gone on with; then the whole is asked for.
const BARELY: Cell = ("bytes", 45);
const DRY: Cell = ("bytes", 80);
const COPY: Cell = ("copy", 2);
/// A refusal that is tried again a few times first.
const TRIED: Cell = ("copy", 5);
/// The new version takes the name, and fails; then the name has its copy again.
const BACK: Cell = ("EIO, then copy", 10);
const BYTES: Cell = ("bytes", 10);
/// The whole is asked for when a range was for as long as it may be.
const BYTES_LATE: Cell = ("bytes", 42);
const DENIED_SOON: Cell = ("EACCES", 5);
const GONE_SOON: Cell = ("ENOENT", 5);

pub(super) const ROWS: &[Row] = &[
    // No answer.
    row("never answers", Fault::Silent, [SILENT, ("copy", 12), MUTE, BYTES_LATE, BYTES_LATE]),
    // It counts as away, and is spared the question for the whole as well.
    row("closes before the head", Fault::CloseFirst, [LATE, TRIED, LATER, LATER, LATER]),
    row("resets before the head", Fault::ResetFirst, [LATE, TRIED, LATER, LATER, LATER]),
    row("is not HTTP", Fault::Garbage, [EIO, TRIED, BYTES, BYTES, BYTES]),
    row("has 1,000 fields", Fault::HeaderFlood(1000), [EIO, TRIED, BYTES, BYTES, BYTES]),
    row(
        "sends 102 without end",
        Fault::EndlessInterim,
        [SILENT, ("copy", 12), MUTE, BYTES_LATE, BYTES_LATE],
    ),
    // Another status.
    row("400", Fault::Status(400, &[]), [EIO, COPY, BYTES, BYTES, BYTES]),
    row("401", Fault::Status(401, &[]), [DENIED_SOON, DENIED_SOON, BYTES, BYTES, BYTES]),
    row("403", Fault::Status(403, &[]), [DENIED_SOON, DENIED_SOON, BYTES, BYTES, BYTES]),
    row("404", Fault::Status(404, &[]), [GONE_SOON, GONE_SOON, BYTES, BYTES, BYTES]),
    row("410", Fault::Status(410, &[]), [GONE_SOON, GONE_SOON, BYTES, BYTES, BYTES]),
    row("412", Fault::Status(412, &[]), [EIO, COPY, EIO, EIO, EIO]),
    row("416", Fault::Status(416, &[]), [EIO, COPY, BYTES, BYTES, BYTES]),
    row("429", Fault::Status(429, &[]), [LATE, TRIED, LATER, BYTES_LATE, BYTES_LATE]),
    row("500", Fault::Status(500, &[]), [LATE, TRIED, LATER, BYTES_LATE, BYTES_LATE]),
    row(
        "503, try again in an hour",
        Fault::Status(503, &[("Retry-After", "3600")]),
        [EIO, TRIED, EIO, BYTES, BYTES],
    ),
    row("204", Fault::Status(204, &[]), [EIO, COPY, BYTES, BYTES, BYTES]),
    row("redirects to itself", Fault::Redirect(""), [EIO, COPY, BYTES, BYTES, BYTES]),
    row(
        "redirects to `file:`",
        Fault::Redirect("file:///etc/passwd"),
        [EIO, COPY, BYTES, BYTES, BYTES],
    ),
    row("304 that nobody asked for", Fault::NotModified(None), [EIO, NONE, BYTES, BYTES, BYTES]),
    row(
        "304 with another tag",
        Fault::NotModified(Some("\"other\"")),
        [EIO, BYTES, BYTES, BYTES, BYTES],
    ),
    // A part that is none, or not asked for. The whole is asked for instead.
    row("206 with the right place", Fault::Partial(Place::Right), [EIO, COPY, BYTES, BYTES, BYTES]),
    row("206 in another unit", Fault::Partial(Place::Unit), [EIO, COPY, BYTES, BYTES, BYTES]),
    row(
        "206 with another first byte",
        Fault::Partial(Place::First),
        [EIO, COPY, BYTES, BYTES, BYTES],
    ),
    row(
        "206 with another last byte",
        Fault::Partial(Place::Last),
        [EIO, COPY, BYTES, BYTES, BYTES],
    ),
    row(
        "206 with another length",
        Fault::Partial(Place::Complete),
        [EIO, COPY, BYTES, BYTES, BYTES],
    ),
    row("206 without a place", Fault::Partial(Place::Missing), [EIO, COPY, BYTES, BYTES, BYTES]),
    row("206 with another tag", Fault::PartialOf("\"other\""), [NONE, NONE, EIO, EIO, EIO]),
    row("206 of `multipart/byteranges`", Fault::Multipart, [EIO, COPY, BYTES, BYTES, BYTES]),
    row("200 with the whole body", Fault::Whole, [BYTES; 5]),
    row("is compressed", Fault::Coded, [EIO, COPY, BYTES, BYTES, BYTES]),
    // A body that ends wrongly.
    row("is cut", Fault::Cut(AT), [BYTES; 5]),
    row("is cut without the closing word of TLS", Fault::Dropped(AT), [BYTES; 5]),
    row("is cut before its first byte", Fault::Cut(0), [BYTES; 5]),
    row("is reset", Fault::Reset(AT), [BYTES; 5]),
    row(
        "stalls",
        Fault::Stall(AT),
        [("bytes", 25), ("bytes", 25), ("bytes", 30), ("bytes", 42), ("bytes", 42)],
    ),
    // The rest of a body that brought too little is asked for once more, and may do better.
    row("drips", Fault::Drip(64), [BARELY, BARELY, DRY, DRY, DRY]),
    row("announces too much", Fault::TooLong(5), [EIO, EIO, BYTES, BYTES, BYTES]),
    row("announces too little", Fault::TooShort(5), [NONE, NONE, BYTES, BYTES, BYTES]),
    row(
        "announces more than there is room for",
        Fault::TooLong(1 << 50),
        [("EFBIG", 5), ("EFBIG", 5), BYTES, BYTES, BYTES],
    ),
    row("has a chunk that is none", Fault::BadChunk(AT), [EIO, BACK, BYTES, BYTES, BYTES]),
    row("lacks its last chunk", Fault::NoLastChunk, [EIO, BACK, BYTES, BYTES, BYTES]),
    row("never ends", Fault::Endless, [NONE, NONE, BYTES, BYTES, BYTES]),
    row("ends with its connection", Fault::CloseDelimited, [EIO, BACK, BYTES, BYTES, BYTES]),
    // Lies.
    row(
        "sends a `Repr-Digest` of other bytes",
        Fault::WrongDigest,
        [EIO, BACK, BYTES, BYTES, BYTES],
    ),
    row("has fewer bytes under the same tag", Fault::Shorter(5), [NONE, BYTES, EIO, EIO, EIO]),
    // Noticed by the copy at hand; without one, nothing tells.
    row("has other bytes under the same tag", Fault::Lie, [NONE, BYTES, NONE, NONE, NONE]),
    declared(
        "has other bytes under the same tag, where a digest is declared",
        Fault::Lie,
        // Asked for whole and in one piece, as nobody is served before the check.
        [EIO, COPY, NONE, BYTES, BYTES],
    ),
    // Another version.
    row("changes between two requests", Fault::Replaced, [NONE, NONE, EIO, EIO, EIO]),
    row(
        "changes in the middle of a body",
        Fault::Change(AT),
        [EIO, ("EIO, then newest", 10), EIO, EIO, EIO],
    ),
];

/// Returns the table as it stands in docs/semantics.md.
pub(super) fn text() -> String {
    let mut text = String::from(
        "| the origin | first fetch | revalidation | a part that is read (`on-read`) | the rest after a cut | the rest after kill -9 |\n|---|---|---|---|---|---|\n",
    );
    for row in ROWS {
        let _ = write!(text, "| {} |", row.behaviour);
        for (allowed, seconds) in row.cells {
            let _ = match seconds {
                0 => write!(text, " {allowed} |"),
                _ => write!(text, " {allowed}, {seconds} s |"),
            };
        }
        text.push('\n');
    }
    text
}
