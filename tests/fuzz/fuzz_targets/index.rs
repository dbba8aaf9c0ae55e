//! An index of any bytes, with the checksum that it should have.

#![no_main]

use cached_downloads::tree::{self, Index};
use libfuzzer_sys::fuzz_target;

#[path = "../../../src/tree/tests/sound.rs"]
mod sound;

fuzz_target!(|bytes: &[u8]| {
    let sum = crc32c::crc32c(bytes).to_le_bytes();
    if let Ok(index) = Index::decode(&[bytes, &sum].concat()) {
        sound::check(&index);
    }
});
