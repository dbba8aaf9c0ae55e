//! A tar of any bytes, behind one that says whether its checksums are made right.

#![no_main]

use cached_downloads::tree;
use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../../src/tree/tests/held.rs"]
mod held;
#[path = "../../../src/tree/tests/sound.rs"]
mod sound;

/// Gives every block the checksum that it should have as a header.
fn seal(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512).filter(|block| block.iter().any(|b| *b != 0)) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

fuzz_target!(|bytes: &[u8]| {
    let [first, bytes @ ..] = bytes else { return };
    let mut bytes = bytes.to_vec();
    if first & 1 == 1 {
        seal(&mut bytes);
    }
    let limits = tree::Limits { members: 1000, index: 100_000, ..tree::Limits::default() };
    let _ = held::tar(&bytes, limits);
    let _ = tree::Format::of(&bytes);
});
