//! What the demo's origin offers.

use bytes::Bytes;

use super::origin::Sample;

/// The body that arrives slowly: three seconds.
pub(super) const SLOW: &str = "jdk.tar";
/// The body that is replaced under a reader.
pub(super) const NOTES: &str = "notes.txt";
/// Three bodies that do not fit into the quota together, in the order in which they are read.
pub(super) const PACKS: [&str; 3] = ["ruby.zip", "node.zip", "go.zip"];
/// The body that nobody reads before the origin stops.
pub(super) const LATE: &str = "late.txt";

/// How fast the slow body comes, in bytes a second.
const SLOW_RATE: usize = 8 << 20;

/// Returns every sample under its name.
pub(super) fn all() -> Vec<(&'static str, Sample)> {
    let mut all = vec![
        (SLOW, Sample { body: noise(1, 24 << 20), revision: 1, rate: Some(SLOW_RATE) }),
        (NOTES, notes(1)),
        (LATE, notes(7)),
    ];
    for (seed, name) in (2..).zip(PACKS) {
        let sample = Sample { body: noise(seed, 16 << 20), revision: 1, rate: None };
        all.push((name, sample));
    }
    all
}

/// Returns a text in which every line names its revision, so that a mixture would show.
pub(super) fn notes(revision: u32) -> Sample {
    let lines: String =
        (0..4000).map(|line| format!("revision {revision}, line {line:04}\n")).collect();
    Sample { body: Bytes::from(lines), revision, rate: None }
}

/// Returns bytes that do not repeat (xorshift64).
fn noise(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut body = Vec::with_capacity(length + 8);
    while body.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        body.extend_from_slice(&state.to_le_bytes());
    }
    body.truncate(length);
    Bytes::from(body)
}
