//! What the demo's origin offers.

use bytes::Bytes;

use super::origin::Sample;
use super::pack::{self, Member};

/// The body that arrives slowly: three seconds.
pub(super) const SLOW: &str = "jdk.tar";
/// The body that is replaced under a reader.
pub(super) const NOTES: &str = "notes.txt";
/// Three bodies that do not fit into the quota together, in the order in which they are read.
pub(super) const PACKS: [&str; 3] = ["ruby.zip", "node.zip", "go.zip"];
/// The archive that is shown as a directory.
pub(super) const PACKED: &str = "buildpack";
/// What its script says.
pub(super) const DETECTED: &str = "ruby 3.4";
/// The body that nobody reads before the origin stops.
pub(super) const LATE: &str = "late.txt";

/// How fast the slow body comes, in bytes a second.
const SLOW_RATE: usize = 8 << 20;

/// Returns every sample under its name.
pub(super) fn all() -> Vec<(&'static str, Sample)> {
    let mut all = vec![
        (SLOW, Sample { rate: Some(SLOW_RATE), ..Sample::file(noise(1, 24 << 20), 1) }),
        (NOTES, notes(1)),
        (LATE, notes(7)),
        (PACKED, Sample { archive: true, ..Sample::file(packed(), 1) }),
    ];
    for (seed, name) in (2..).zip(PACKS) {
        all.push((name, Sample::file(noise(seed, 16 << 20), 1)));
    }
    all
}

/// Returns a text in which every line names its revision, so that a mixture would show.
pub(super) fn notes(revision: u32) -> Sample {
    let lines: String =
        (0..4000).map(|line| format!("revision {revision}, line {line:04}\n")).collect();
    Sample::file(Bytes::from(lines), revision)
}

/// Returns an archive of small scripts between two large files.
fn packed() -> Bytes {
    let script = |says: &str| format!("#!/bin/sh\necho '{says}'\n");
    let (detect, compile) = (script(DETECTED), script("installed"));
    pack::zip(&[
        Member { path: "manifest.yml", mode: 0o644, body: b"language: ruby\n" },
        Member { path: "dependencies/jruby.tar", mode: 0o644, body: &noise(5, 16 << 20) },
        Member { path: "bin/detect", mode: 0o755, body: detect.as_bytes() },
        Member { path: "bin/compile", mode: 0o755, body: compile.as_bytes() },
        Member { path: "dependencies/ruby.tar", mode: 0o644, body: &noise(6, 16 << 20) },
    ])
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
