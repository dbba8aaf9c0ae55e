//! Who fetches which bytes of one blob: pure bookkeeping, no waiting, no network.
//!
//! A *claim* is what one connection is to bring. A *piece* is a claim for bytes that a reader waits
//! for; a *chunk* is one for bytes that are to come anyway; the *stream* is the answer to a plain
//! GET, which brings everything from some byte on and cannot be told where to stop. Pieces and
//! chunks never overlap; the stream makes way for both.

use std::ops::Range;

/// What pieces are rounded to: a round trip costs more than these bytes.
pub(super) const BLOCK: u64 = 64 << 10;

/// How far ahead of the stream its bytes count as on their way, for those who choose chunks.
const STREAM_REACH: u64 = 8 << 20;

/// The stream reads on over bytes that others bring, and throws its own away, if they are fewer
/// than this; a new connection would cost more.
const SKIP: u64 = 1 << 20;

/// What is left of a claim that ends before another answer would begin.
const SHORT: u64 = 64 << 10;

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
    stopped: bool,
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
        let claim =
            Claim { id, kind, begin: start, written: start, at: start, end, stopped: false };
        self.claims.push(claim);
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
        let Claim { kind, at, end, stopped, .. } = self.claims[index];
        let came = at..at.saturating_add(length).min(end);
        self.claims[index].at = came.end;
        if !self.shared {
            return Taken { keep: vec![came.clone()], go_on: !stopped && came.end < end };
        }
        let mut keep = missing(came.clone());
        let mut go_on = !stopped && came.end < end;
        if kind == Kind::Stream {
            for other in self.claims.iter().filter(|other| other.id != id) {
                keep = without(keep, &other.area());
            }
            go_on &= self.through || self.foreign(came.end, id, &missing) < SKIP;
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
        for other in self.claims.iter().filter(|other| other.id != id) {
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
                Kind::Stream | Kind::Chunk => claim.written..claim.end.min(claim.at + near),
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
                Kind::Chunk | Kind::Piece => claim.area(),
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
        let mut free = missing(0..length);
        for claim in &self.claims {
            let area = match claim.kind {
                Kind::Stream => claim.written..claim.end.min(claim.at.saturating_add(STREAM_REACH)),
                Kind::Chunk | Kind::Piece => claim.area(),
            };
            free = without(free, &area);
        }
        let from = from.min(length);
        let after = free.iter().find(|range| range.end > from);
        let gap = after
            .map(|range| range.start.max(from)..range.end)
            .or_else(|| free.first().cloned())?;
        Some(gap.start..gap.end.min(gap.start.saturating_add(size)))
    }

    /// Says how many claims there are of the kinds that fill, and of pieces.
    pub(super) fn count(&self) -> (usize, usize) {
        let pieces = self.claims.iter().filter(|claim| claim.kind == Kind::Piece).count();
        (self.claims.len() - pieces, pieces)
    }

    /// Says how many of the claims that fill have brought bytes.
    pub(super) fn flowing(&self) -> usize {
        let filling = self.claims.iter().filter(|claim| claim.kind != Kind::Piece);
        filling.filter(|claim| claim.at > claim.begin).count()
    }

    /// Has the claim that fills the furthest place stop soon, to make way for a piece; none that is
    /// at its end as soon.
    pub(super) fn stop_one(&mut self) {
        let filling = self.claims.iter_mut().filter(|c| c.kind != Kind::Piece && !c.stopped);
        let filling = filling.filter(|claim| claim.end.saturating_sub(claim.at) > SHORT);
        if let Some(claim) = filling.max_by_key(|claim| claim.at) {
            claim.stopped = true;
        }
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
    /// Returns the bytes that nobody else may bring.
    fn area(&self) -> Range<u64> {
        self.written..self.end
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// A blob as a list of bytes, a byte standing for a block.
    fn gaps(present: &[bool]) -> impl Fn(Range<u64>) -> Vec<Range<u64>> {
        move |range| {
            let mut found: Vec<Range<u64>> = Vec::new();
            for (index, there) in present.iter().enumerate() {
                let block = index as u64 * BLOCK..(index as u64 + 1) * BLOCK;
                let part = block.start.max(range.start)..block.end.min(range.end);
                if *there || part.start >= part.end {
                    continue;
                }
                match found.last_mut() {
                    Some(last) if last.end == part.start => last.end = part.end,
                    _ => found.push(part),
                }
            }
            found
        }
    }

    fn nothing_there(length: u64) -> impl Fn(Range<u64>) -> Vec<Range<u64>> {
        move |range| {
            let range = range.start.min(length)..range.end.min(length);
            if range.is_empty() { Vec::new() } else { vec![range] }
        }
    }

    fn taken(range: Range<u64>, go_on: bool) -> Taken {
        Taken { keep: Vec::from([range]), go_on }
    }

    #[test]
    fn a_piece_takes_the_place_of_the_furthest_but_of_none_that_is_about_to_end() {
        let mut plan = Plan::new(false);
        let first = plan.claim(Kind::Stream, 0..SHORT);
        plan.stop_one();
        let part = SHORT / 4;
        assert_eq!(plan.take(first, part, nothing_there(MIB)), taken(0..part, true));
        let chunk = plan.claim(Kind::Chunk, MIB..4 * MIB);
        plan.stop_one();
        let came = plan.take(chunk, BLOCK, nothing_there(4 * MIB));
        assert_eq!(came, taken(MIB..MIB + BLOCK, false));
        assert_eq!(plan.take(first, part, nothing_there(MIB)), taken(part..2 * part, true));
    }

    #[test]
    fn a_lone_stream_keeps_all() {
        let mut plan = Plan::new(false);
        let id = plan.claim(Kind::Stream, 0..10 * MIB);
        let none = |_| panic!("nothing need be looked up");
        assert_eq!(plan.take(id, MIB, none), taken(0..MIB, true));
        assert_eq!(plan.take(id, 9 * MIB, none), taken(MIB..10 * MIB, false));
    }

    #[test]
    fn the_stream_makes_way_for_pieces_and_goes_round_small_ones() {
        let missing = nothing_there(100 * MIB);
        let mut plan = Plan::new(false);
        let stream = plan.claim(Kind::Stream, 0..100 * MIB);
        plan.claim(Kind::Piece, 2 * BLOCK..3 * BLOCK);
        let taken = plan.take(stream, 4 * BLOCK, &missing);
        assert_eq!(taken.keep, [0..2 * BLOCK, 3 * BLOCK..4 * BLOCK]);
        assert!(taken.go_on);
        plan.claim(Kind::Chunk, 5 * BLOCK..5 * BLOCK + 4 * MIB);
        assert!(plan.take(stream, BLOCK / 2, &missing).go_on);
        assert!(!plan.take(stream, BLOCK / 2, &missing).go_on, "a whole chunk lies ahead");
    }

    #[test]
    fn a_reader_gets_a_piece_unless_its_bytes_are_near() {
        let missing = nothing_there(100 * MIB);
        let mut plan = Plan::new(false);
        plan.claim(Kind::Stream, 0..100 * MIB);
        let piece = |plan: &Plan, wanted: Range<u64>| plan.piece(&wanted, 100 * MIB, MIB, &missing);
        assert_eq!(piece(&plan, MIB - 10..MIB), None, "near");
        assert_eq!(piece(&plan, 5 * MIB + 10..5 * MIB + 20), Some(5 * MIB..5 * MIB + BLOCK));
        let last = 100 * MIB - 10..100 * MIB;
        assert_eq!(piece(&plan, last), Some(100 * MIB - BLOCK..100 * MIB));
        plan.claim(Kind::Piece, 5 * MIB..5 * MIB + BLOCK);
        assert_eq!(piece(&plan, 5 * MIB + 10..5 * MIB + 20), None, "asked for already");
        let across = piece(&plan, 5 * MIB + 10..5 * MIB + 2 * BLOCK);
        assert_eq!(across, Some(5 * MIB + BLOCK..5 * MIB + 3 * BLOCK), "reads on: twice as much");
    }

    #[test]
    fn chunks_begin_at_the_reader_and_come_back_to_what_was_left_out() {
        let missing = nothing_there(32 * MIB);
        let mut plan = Plan::new(true);
        let chunk = |plan: &Plan, from| plan.chunk(from, 4 * MIB, 32 * MIB, &missing);
        assert_eq!(chunk(&plan, 30 * MIB), Some(30 * MIB..32 * MIB));
        plan.claim(Kind::Chunk, 30 * MIB..32 * MIB);
        assert_eq!(chunk(&plan, 30 * MIB), Some(0..4 * MIB));
        plan.claim(Kind::Stream, 0..32 * MIB);
        assert_eq!(chunk(&plan, 0), Some(8 * MIB..12 * MIB), "ahead of the stream");
    }

    #[test]
    fn a_stream_reads_through_what_is_there_only_where_no_range_can_be_asked_for() {
        let missing = |range: Range<u64>| {
            let gap = range.start.max(4 * MIB)..range.end;
            Some(gap).filter(|gap| !gap.is_empty()).into_iter().collect()
        };
        let mut plan = Plan::new(true);
        let stream = plan.claim(Kind::Stream, 0..8 * MIB);
        assert!(!plan.take(stream, BLOCK, missing).go_on, "the rest is asked for instead");
        plan.drop_claim(stream);
        plan.read_through();
        let stream = plan.claim(Kind::Stream, 0..8 * MIB);
        assert_eq!(plan.take(stream, BLOCK, missing), Taken { keep: Vec::new(), go_on: true });
    }

    proptest! {
        /// Whatever is asked for, and whichever connection dies, every byte is written once.
        #[test]
        fn every_byte_is_written_once(
            present in prop::collection::vec(any::<bool>(), 1..64),
            steps in prop::collection::vec((0u8..6, 0u64..64, 1u64..6), 0..400),
        ) {
            let length = present.len() as u64 * BLOCK;
            let mut present = present;
            let mut plan = Plan::new(true);
            let stream = plan.claim(Kind::Stream, 0..length);
            // Each claim with what has come and is not written yet.
            let mut live: Vec<(ClaimId, Vec<Range<u64>>)> = vec![(stream, Vec::new())];
            let write = |plan: &mut Plan, present: &mut [bool], id, batch: &mut Vec<Range<u64>>| {
                for range in batch.drain(..) {
                    for block in range.start / BLOCK..range.end.div_ceil(BLOCK) {
                        let there = &mut present[block as usize];
                        assert!(!*there, "written twice");
                        *there = true;
                    }
                    plan.written(id, range.end);
                }
            };
            for (what, at, some) in steps {
                let which = at as usize % live.len().max(1);
                match what {
                    0 => {
                        let wanted = (at * BLOCK).min(length)..((at + some) * BLOCK).min(length);
                        let piece = plan.piece(&wanted, length, BLOCK, gaps(&present));
                        if let Some(piece) = piece {
                            prop_assert!(!piece.is_empty() && piece.end <= length);
                            live.push((plan.claim(Kind::Piece, piece), Vec::new()));
                        }
                    }
                    1 => {
                        let chunk = plan.chunk(at * BLOCK, some * BLOCK, length, gaps(&present));
                        if let Some(chunk) = chunk {
                            prop_assert!(!chunk.is_empty() && chunk.end <= length);
                            live.push((plan.claim(Kind::Chunk, chunk), Vec::new()));
                        }
                    }
                    2 if !live.is_empty() => {
                        let (id, mut batch) = live.remove(which);
                        write(&mut plan, &mut present, id, &mut batch);
                        plan.drop_claim(id);
                    }
                    3 if !live.is_empty() => {
                        let (id, batch) = &mut live[which];
                        write(&mut plan, &mut present, *id, batch);
                    }
                    _ if !live.is_empty() => {
                        let (id, batch) = &mut live[which];
                        batch.extend(plan.take(*id, some * BLOCK, gaps(&present)).keep);
                    }
                    _ => {}
                }
            }
            for (id, mut batch) in live {
                write(&mut plan, &mut present, id, &mut batch);
                plan.drop_claim(id);
            }
            // What nobody claims can be claimed.
            while let Some(chunk) = plan.chunk(0, length, length, gaps(&present)) {
                for block in chunk.start / BLOCK..chunk.end.div_ceil(BLOCK) {
                    present[block as usize] = true;
                }
            }
            prop_assert!(present.iter().all(|there| *there));
        }
    }
}
