//! A zip of any bytes.

#![no_main]

use cached_downloads::tree;
use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../../src/tree/tests/held.rs"]
mod held;
#[path = "../../../src/tree/tests/sound.rs"]
mod sound;

fuzz_target!(|bytes: &[u8]| {
    let limits = tree::Limits { members: 1000, index: 100_000, ..tree::Limits::default() };
    let _ = held::zip(bytes, &limits);
    let _ = tree::Format::of(bytes);
});
