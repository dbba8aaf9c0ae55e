//! Buffers for the bytes on their way to the kernel, used again and again.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// The largest read the kernel sends (`fs.fuse.max_pages_limit` pages).
const LARGEST: usize = 1 << 20;

/// How many buffers are kept. Two session threads read in parallel and the rest wait for bytes.
const KEPT: usize = 8;

type Shelf = Arc<Mutex<Vec<Vec<u8>>>>;

/// A shelf of buffers. Locked alone.
#[derive(Default)]
pub(super) struct Buffers(Shelf);

/// A buffer that goes back to its shelf when dropped.
pub struct Buffer {
    bytes: Vec<u8>,
    /// How much of it holds data.
    length: usize,
    shelf: Shelf,
}

impl Buffers {
    /// Takes a buffer of at least `size` bytes; what is in it is left over from earlier.
    pub(super) fn take(&self, size: usize) -> Buffer {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut bytes = kept.unwrap_or_default();
        if bytes.len() < size {
            bytes.resize(size, 0);
        }
        Buffer { bytes, length: 0, shelf: self.0.clone() }
    }
}

impl Buffer {
    /// Returns room for `size` bytes.
    pub(super) fn room(&mut self, size: usize) -> &mut [u8] {
        let size = size.min(self.bytes.len());
        &mut self.bytes[..size]
    }

    /// Says how many bytes of it hold data.
    pub(super) fn filled(&mut self, length: usize) {
        self.length = length.min(self.bytes.len());
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.len() < KEPT && bytes.len() <= LARGEST {
            shelf.push(bytes);
        }
    }
}
