//! Who fetches which bytes of one blob: bookkeeping, no waiting, no network.
//!
//! A *claim* is what one connection is to bring. A *piece* is a claim for bytes that a reader waits
//! for; a *chunk* is one for bytes that are to come anyway; the *stream* is the answer to a plain
//! GET, which brings everything from some byte on and cannot be told where to stop. Pieces and
//! chunks never overlap: what is taken out of a chunk ends it there. The stream makes way for both once
//! they have brought something; before, nobody knows whether they will.

use std::ops::Range;
use std::time::{Duration, Instant};

/// What pieces are rounded to: a round trip costs more than these bytes.
pub(super) const BLOCK: u64 = 64 << 10;

/// How far ahead of the stream its bytes count as on their way, for those who choose chunks.
const STREAM_REACH: u64 = 8 << 20;

/// A chunk is shared out, where nothing else is left, if it has more than this to bring.
const LONG: u64 = 4 * STREAM_REACH;

/// The stream reads on over bytes that others bring, and throws its own away, if they are fewer
/// than this; a new connection would cost more.
const SKIP: u64 = 1 << 20;

/// What is left of a claim that ends before another answer would begin.
const SHORT: u64 = 64 << 10;

/// What a claim brings to those who wait for it before it makes way for others who wait, and how
/// long it has for that: its origin may be silent, or it may have to wait for a slot.
const TURN: u64 = 256 << 10;
const TURN_TIME: Duration = Duration::from_secs(1);

/// The largest piece that a reader who reads on in order is given.
const LARGEST_PIECE: u64 = 8 << 20;

/// How many ends of pieces are remembered, to see who reads on in order.
const REMEMBERED: usize = 16;

/// What kind of claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The answer to a plain GET.
    Stream,
    /// Bytes that are to come anyway.
    Chunk,
    /// Bytes that a reader waits for.
    Piece,
}

/// A number for a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClaimId(u32);

#[derive(Debug)]
struct Claim {
    id: ClaimId,
    kind: Kind,
    begin: u64,
    /// Up to here its bytes are in the file, or were left to others.
    written: u64,
    /// Up to here its bytes have come.
    at: u64,
    end: u64,
    /// What the stream came by before anything of this had come, and has kept.
    passed: Range<u64>,
    stopped: bool,
    made: Instant,
}

/// What to do with bytes that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Those to write.
    pub(super) keep: Vec<Range<u64>>,
    /// Whether the connection is to bring more.
    pub(super) go_on: bool,
}

/// The claims on one blob.
#[derive(Debug)]
pub(super) struct Plan {
    claims: Vec<Claim>,
    next: u32,
    /// Bytes come from more than one place, or came before: what is present must be looked at.
    shared: bool,
    /// The stream goes on over whatever is there: nobody can be asked for what comes behind.
    through: bool,
    /// Where pieces ended and how long they were, the latest last.
    ends: Vec<(u64, u64)>,
}

impl Plan {
    /// Makes a plan; `shared` when some bytes are there already.
    pub(super) fn new(shared: bool) -> Plan {
        Plan { claims: Vec::new(), next: 0, shared, through: false, ends: Vec::new() }
    }

    /// Enters a claim.
    pub(super) fn claim(&mut self, kind: Kind, range: Range<u64>) -> ClaimId {
        let id = ClaimId(self.next);
        self.next = self.next.wrapping_add(1);
        self.shared |= !self.claims.is_empty();
        if kind == Kind::Piece {
            if self.ends.len() == REMEMBERED {
                self.ends.remove(0);
            }
            self.ends.push((range.end, range.end - range.start));
        }
        let Range { start, end } = range;
        if kind != Kind::Stream {
            // What lies behind is free again.
            let chunks = self.claims.iter_mut().filter(|claim| claim.kind == Kind::Chunk);
            chunks.filter(|c| c.area().contains(&start)).for_each(|c| c.end = start.max(c.at));
        }
        let (begin, written, at) = (start, start, start);
        let made = Instant::now();
        let (passed, stopped) = (start..start, false);
        self.claims.push(Claim { id, kind, begin, written, at, end, passed, stopped, made });
        id
    }

    /// Takes a claim out; what it did not bring is missing again.
    pub(super) fn drop_claim(&mut self, id: ClaimId) {
        self.claims.retain(|claim| claim.id != id);
        // What it brought is present, and must not be written twice.
        self.shared = true;
    }

    /// Has the stream read on to its end from now on, whatever is there: no range can be asked for.
    pub(super) fn read_through(&mut self) {
        self.through = true;
    }

    /// Decides about the next `length` bytes of a claim. `missing` returns the gaps of a range.
    pub(super) fn take(
        &mut self,
        id: ClaimId,
        length: u64,
        missing: impl Fn(Range<u64>) -> Vec<Range<u64>>,
    ) -> Taken {
        let Some(index) = self.claims.iter().position(|claim| claim.id == id) else {
            return Taken { keep: Vec::new(), go_on: false };
        };
        let Claim { kind, at, end, stopped, ref passed, .. } = self.claims[index];
        let passed = passed.clone();
        let came = at..at.saturating_add(length).min(end);
        self.claims[index].at = came.end;
        if !self.shared {
            return Taken { keep: vec![came.clone()], go_on: !stopped && came.end < end };
        }
        let mut keep = missing(came.clone());
        let mut go_on = !stopped && came.end < end;
        if kind == Kind::Stream {
            for other in self.claims.iter_mut().filter(|other| other.id != id) {
                if other.begun() {
                    keep = without(keep, &other.area());
                } else {
                    other.pass(&came);
                }
            }
            go_on &= match self.through {
                true => !missing(came.end..end).is_empty(),
                false => self.foreign(came.end, id, &missing) < SKIP,
            };
        } else {
            keep = without(keep, &passed);
            if go_on && keep.is_empty() && !passed.is_empty() {
                go_on = !without(missing(came.end..end), &passed).is_empty();
            }
        }
        Taken { keep, go_on }
    }

    /// Returns for how many bytes from `at` on others care, or cared; at most [`SKIP`].
    fn foreign(
        &self,
        at: u64,
        id: ClaimId,
        missing: &impl Fn(Range<u64>) -> Vec<Range<u64>>,
    ) -> u64 {
        let mut own = missing(at..at + SKIP);
        for other in self.claims.iter().filter(|other| other.id != id && other.begun()) {
            own = without(own, &other.area());
        }
        own.first().map_or(SKIP, |first| first.start - at)
    }

    /// Notes that everything of a claim below `to` is in the file or was left to others.
    pub(super) fn written(&mut self, id: ClaimId, to: u64) {
        if let Some(claim) = self.claims.iter_mut().find(|claim| claim.id == id) {
            claim.written = claim.written.max(to);
        }
    }

    /// Returns what to ask for so that `wanted` can be read, or nothing if that is under way: a
    /// claim will come to it within `near` bytes. `missing` are its gaps in the blob, which has
    /// `length` bytes.
    pub(super) fn piece(
        &self,
        wanted: &Range<u64>,
        length: u64,
        near: u64,
        missing: impl Fn(Range<u64>) -> Vec<Range<u64>>,
    ) -> Option<Range<u64>> {
        let mut lacking = missing(wanted.clone());
        for claim in &self.claims {
            let soon = match claim.kind {
                Kind::Piece => claim.area(),
                Kind::Stream | Kind::Chunk => claim.soon(near),
            };
            lacking = without(lacking, &soon);
        }
        let (first, last) = (lacking.first()?.start, lacking.last()?.end);
        let start = first - first % BLOCK;
        // Who reads on where a piece ended is given twice as much as then.
        let ended = self.ends.iter().rev().find(|(end, _)| *end == first);
        let ahead = ended.map_or(BLOCK, |(_, size)| (size * 2).min(LARGEST_PIECE));
        let end = last.next_multiple_of(BLOCK).max(start + ahead).min(length);
        let mut free = missing(start..end);
        for claim in &self.claims {
            let taken = match claim.kind {
                // What has come is on its way to the disk.
                Kind::Stream => claim.written..claim.at,
                Kind::Chunk => claim.soon(near),
                Kind::Piece => claim.area(),
            };
            free = without(free, &taken);
        }
        // One request for what is in one piece; the rest is wanted again if it still is missing.
        free.into_iter().find(|range| range.contains(&first))
    }

    /// Returns the next chunk for a connection that brings what is to come anyway: the first gap
    /// at or after `from`, else the first of all.
    pub(super) fn chunk(
        &self,
        from: u64,
        size: u64,
        length: u64,
        missing: impl Fn(Range<u64>) -> Vec<Range<u64>>,
    ) -> Option<Range<u64>> {
        let all = missing(0..length);
        let mut free = self.free(all.clone(), u64::MAX);
        if free.is_empty() {
            free = self.free(all, LONG);
        }
        let from = from.min(length);
        let after = free.iter().find(|range| range.end > from);
        let gap = after
            .map(|range| range.start.max(from)..range.end)
            .or_else(|| free.first().cloned())?;
        Some(gap.start..gap.end.min(gap.start.saturating_add(size)))
    }

    /// Returns what no claim will bring. The stream, and chunks with more to come than `long`, have
    /// claimed only what they reach soon.
    fn free(&self, missing: Vec<Range<u64>>, long: u64) -> Vec<Range<u64>> {
        self.claims.iter().fold(missing, |free, claim| {
            let shares = claim.kind == Kind::Chunk && claim.end.saturating_sub(claim.at) > long;
            let area = if shares || claim.kind == Kind::Stream {
                claim.soon(STREAM_REACH)
            } else {
                claim.area()
            };
            without(free, &area)
        })
    }

    /// Says how many claims there are of the kinds that fill, and of pieces.
    pub(super) fn count(&self) -> (usize, usize) {
        let pieces = self.claims.iter().filter(|claim| claim.kind == Kind::Piece).count();
        (self.claims.len() - pieces, pieces)
    }

    /// Says whether one answer goes on bringing what comes.
    pub(super) fn streams(&self) -> bool {
        self.claims.iter().any(|claim| claim.kind == Kind::Stream && !claim.stopped)
    }

    /// Says how many of the claims that fill have brought bytes.
    pub(super) fn flowing(&self) -> usize {
        let filling = self.claims.iter().filter(|claim| claim.kind != Kind::Piece);
        filling.filter(|claim| claim.begun()).count()
    }

    /// Has the claim that fills the furthest place stop, to make way for a piece; none that is at its
    /// end as soon, nor one that readers wait for before it has brought them some: it would be
    /// claimed again, and so they for ever. One at a time.
    pub(super) fn stop_one(&mut self, wanted: &[Range<u64>], near: u64, now: Instant) {
        if self.claims.iter().any(|claim| claim.stopped) {
            return;
        }
        let filling = self.claims.iter_mut().filter(|claim| claim.kind != Kind::Piece);
        let long = filling.filter(|claim| claim.end.saturating_sub(claim.at) > SHORT);
        let free = long.filter(|claim| {
            let soon = claim.soon(near);
            let awaited = wanted.iter().any(|w| w.start < soon.end && soon.start < w.end);
            let had_turn = claim.at - claim.begin >= TURN || now - claim.made >= TURN_TIME;
            !awaited || had_turn
        });
        if let Some(claim) = free.max_by_key(|claim| claim.at) {
            claim.stopped = true;
        }
    }

    /// Has every claim make way.
    pub(super) fn stop_all(&mut self) {
        self.claims.iter_mut().for_each(|claim| claim.stopped = true);
    }

    /// Says whether a claim is to make way.
    pub(super) fn is_stopped(&self, id: ClaimId) -> bool {
        self.claims.iter().any(|claim| claim.id == id && claim.stopped)
    }

    /// Returns the bytes that are promised but not in the file yet, the stream's not counted.
    pub(super) fn outstanding(&self) -> u64 {
        let asked = self.claims.iter().filter(|claim| claim.kind != Kind::Stream);
        asked.map(|claim| claim.end.saturating_sub(claim.written)).sum()
    }
}

impl Claim {
    /// Says whether anything has come of it.
    fn begun(&self) -> bool {
        self.at > self.begin
    }

    /// Notes what the stream brings of it; that goes on where it was the last time.
    fn pass(&mut self, came: &Range<u64>) {
        let part = came.start.max(self.begin)..came.end.min(self.end);
        if part.is_empty() {
            return;
        }
        if self.passed.is_empty() {
            self.passed = part;
        } else {
            self.passed.end = self.passed.end.max(part.end);
        }
    }

    /// Returns the bytes that nobody else may bring.
    fn area(&self) -> Range<u64> {
        self.written..self.end
    }

    /// Returns the bytes that it has or will have come to when it has brought `near` more.
    fn soon(&self, near: u64) -> Range<u64> {
        self.written..self.end.min(self.at.saturating_add(near))
    }
}

/// Returns ranges without the bytes of another.
fn without(ranges: Vec<Range<u64>>, hole: &Range<u64>) -> Vec<Range<u64>> {
    if hole.is_empty() || !ranges.iter().any(|r| r.start < hole.end && hole.start < r.end) {
        return ranges;
    }
    let mut left = Vec::with_capacity(ranges.len() + 1);
    for range in ranges {
        let before = range.start..range.end.min(hole.start);
        let after = range.start.max(hole.end)..range.end;
        left.extend([before, after].into_iter().filter(|part| part.start < part.end));
    }
    left
}

#[cfg(test)]
mod tests;
