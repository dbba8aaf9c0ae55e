//! Blocks, which everything in a tar fills up to, and what is wrong at a place among them.

use std::fmt::Display;

use super::super::error::{TreeError, Why};

/// The bytes of a block.
pub(super) const BLOCK: usize = 512;

/// Says whether bytes are zeros.
pub(super) fn is_zeros(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| chunk == &ZEROS[..chunk.len()])
}

/// Makes the error for what is wrong at a place of the uncompressed stream.
pub(super) fn damaged(at: u64, what: impl Display) -> TreeError {
    TreeError::new(Why::Damaged, format!("tar: at byte {at}: {what}"))
}
