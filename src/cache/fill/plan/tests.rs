//! Claims: who brings what, and that every byte is written once.

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
    plan.stop_one(&[], MIB, Instant::now());
    let part = SHORT / 4;
    assert_eq!(plan.take(first, part, nothing_there(MIB)), taken(0..part, true));
    let chunk = plan.claim(Kind::Chunk, MIB..4 * MIB);
    plan.stop_one(&[], MIB, Instant::now());
    let came = plan.take(chunk, BLOCK, nothing_there(4 * MIB));
    assert_eq!(came, taken(MIB..MIB + BLOCK, false));
    assert_eq!(plan.take(first, part, nothing_there(MIB)), taken(part..2 * part, true));
}

#[test]
fn what_readers_wait_for_does_not_make_way_before_it_has_brought_some() {
    let missing = nothing_there(100 * MIB);
    let mut plan = Plan::new(true);
    let chunk = plan.claim(Kind::Chunk, 10 * MIB..100 * MIB);
    let (near, far) = (10 * MIB..10 * MIB + 1, 90 * MIB..90 * MIB + 1);
    let (wanted, now) = ([near, far], Instant::now());
    plan.stop_one(&wanted, MIB, now);
    assert!(!plan.is_stopped(chunk), "nothing has come of it");
    assert!(plan.take(chunk, TURN - 1, &missing).go_on);
    plan.stop_one(&wanted, MIB, now);
    assert!(!plan.is_stopped(chunk), "little has come of it");
    assert!(plan.take(chunk, 1, &missing).go_on);
    plan.stop_one(&wanted, MIB, now);
    assert!(plan.is_stopped(chunk), "it is the turn of the other");
    plan.drop_claim(chunk);
    let chunk = plan.claim(Kind::Chunk, 10 * MIB..100 * MIB);
    plan.stop_one(&wanted[1..], MIB, now);
    assert!(plan.is_stopped(chunk), "nobody waits for it");
    plan.drop_claim(chunk);
    let chunk = plan.claim(Kind::Chunk, 10 * MIB..100 * MIB);
    plan.stop_one(&wanted, MIB, Instant::now() + TURN_TIME);
    assert!(plan.is_stopped(chunk), "it has had its time");
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
    let piece = plan.claim(Kind::Piece, 2 * BLOCK..3 * BLOCK);
    plan.take(piece, 1, &missing);
    let taken = plan.take(stream, 4 * BLOCK, &missing);
    assert_eq!(taken.keep, [0..2 * BLOCK, 3 * BLOCK..4 * BLOCK]);
    assert!(taken.go_on);
    let chunk = plan.claim(Kind::Chunk, 5 * BLOCK..5 * BLOCK + 4 * MIB);
    plan.take(chunk, 1, &missing);
    assert!(plan.take(stream, BLOCK / 2, &missing).go_on);
    assert!(!plan.take(stream, BLOCK / 2, &missing).go_on, "a whole chunk lies ahead");
}

/// An answer that never comes is not to leave a hole behind the stream.
#[test]
fn the_stream_makes_no_way_for_what_has_not_begun() {
    let missing = nothing_there(100 * MIB);
    let mut plan = Plan::new(false);
    let stream = plan.claim(Kind::Stream, 0..100 * MIB);
    let piece = plan.claim(Kind::Piece, 2 * BLOCK..3 * BLOCK);
    let chunk = plan.claim(Kind::Chunk, 5 * BLOCK..5 * BLOCK + 4 * MIB);
    let came = plan.take(stream, 4 * BLOCK, &missing);
    assert_eq!(came, taken(0..4 * BLOCK, true));
    let came = plan.take(stream, 2 * BLOCK, &missing);
    assert_eq!(came, taken(4 * BLOCK..6 * BLOCK, true));
    // What the stream keeps is nobody else's, written or not.
    assert_eq!(plan.take(piece, 1, &missing), Taken { keep: Vec::new(), go_on: false });
    let came = plan.take(chunk, 2 * BLOCK, &missing);
    assert_eq!(came, taken(6 * BLOCK..7 * BLOCK, true));
    assert!(!plan.take(stream, 1, &missing).go_on, "now it has begun");
}

/// What died behind the stream is for others to bring, whatever the stream brings meanwhile.
#[test]
fn the_stream_does_not_pass_what_lies_behind_it() {
    let missing = nothing_there(100 * MIB);
    let mut plan = Plan::new(false);
    let stream = plan.claim(Kind::Stream, 0..100 * MIB);
    let piece = plan.claim(Kind::Piece, 2 * BLOCK..3 * BLOCK);
    plan.take(piece, 1, &missing);
    plan.take(stream, 4 * BLOCK, &missing);
    plan.drop_claim(piece);
    let again = plan.claim(Kind::Piece, 2 * BLOCK..3 * BLOCK);
    plan.take(stream, 4 * BLOCK, &missing);
    assert_eq!(plan.take(again, BLOCK, &missing), taken(2 * BLOCK..3 * BLOCK, false));
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
fn a_reader_far_ahead_in_a_chunk_ends_it_there() {
    let missing = nothing_there(100 * MIB);
    let mut plan = Plan::new(true);
    let chunk = plan.claim(Kind::Chunk, 0..100 * MIB);
    let piece = |plan: &Plan, wanted: Range<u64>| plan.piece(&wanted, 100 * MIB, MIB, &missing);
    assert_eq!(piece(&plan, MIB - 10..MIB), None, "near");
    let far = piece(&plan, 50 * MIB..50 * MIB + 10).unwrap();
    assert_eq!(far, 50 * MIB..50 * MIB + BLOCK);
    plan.claim(Kind::Piece, far);
    assert_eq!(plan.chunk(0, 100 * MIB, 100 * MIB, &missing), Some(50 * MIB + BLOCK..100 * MIB));
    assert!(plan.take(chunk, 50 * MIB - 1, &missing).go_on);
    let last = plan.take(chunk, 5 * MIB, &missing);
    assert_eq!(last, taken(50 * MIB - 1..50 * MIB, false));
}

#[test]
fn a_long_chunk_is_shared_out_where_nothing_else_is_left() {
    let missing = nothing_there(100 * MIB);
    let mut plan = Plan::new(true);
    plan.claim(Kind::Chunk, 0..50 * MIB);
    let chunk = |plan: &Plan| plan.chunk(0, 50 * MIB, 100 * MIB, &missing);
    let rest = chunk(&plan).unwrap();
    assert_eq!(rest, 50 * MIB..100 * MIB);
    plan.claim(Kind::Chunk, rest);
    let shared = chunk(&plan).unwrap();
    assert_eq!(shared, STREAM_REACH..50 * MIB);
    plan.claim(Kind::Chunk, shared);
    for _ in 0..10 {
        if let Some(chunk) = chunk(&plan) {
            plan.claim(Kind::Chunk, chunk);
        }
    }
    assert_eq!(chunk(&plan), None, "none is long any more");
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
        let mut flowing = None;
        for (id, mut batch) in live {
            write(&mut plan, &mut present, id, &mut batch);
            if id == stream {
                flowing = Some((id, Vec::new()));
            } else {
                plan.drop_claim(id);
            }
        }
        // What nobody claims can be claimed, and who claims it brings it, or the stream has.
        while let Some(chunk) = plan.chunk(0, length, length, gaps(&present)) {
            let id = plan.claim(Kind::Chunk, chunk.clone());
            if let Some((stream, batch)) = &mut flowing {
                batch.extend(plan.take(*stream, BLOCK, gaps(&present)).keep);
            }
            let mut batch = plan.take(id, chunk.end - chunk.start, gaps(&present)).keep;
            write(&mut plan, &mut present, id, &mut batch);
            plan.drop_claim(id);
            if let Some((stream, batch)) = &mut flowing {
                write(&mut plan, &mut present, *stream, batch);
            }
            prop_assert!(gaps(&present)(chunk).is_empty());
        }
        if let Some((stream, _)) = flowing {
            plan.drop_claim(stream);
        }
        while let Some(chunk) = plan.chunk(0, length, length, gaps(&present)) {
            for block in chunk.start / BLOCK..chunk.end.div_ceil(BLOCK) {
                present[block as usize] = true;
            }
        }
        prop_assert!(present.iter().all(|there| *there));
    }
}
