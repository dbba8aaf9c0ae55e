//! Contents of any length that can be checked byte by byte without being kept in memory.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

const PAGE: u64 = 4096;
const BLOCK: usize = 64 << 10;

/// What an origin serves for a path.
///
/// A made body repeats one pseudo-random block; every page begins with the seed and its own
/// number, so that a page of another version or of another place is always seen.
#[derive(Clone)]
pub(crate) enum Body {
    /// Made from a seed, of this length.
    Made { seed: u64, len: u64, block: Arc<OnceLock<Vec<u8>>> },
    /// Given in full.
    Given(Arc<[u8]>),
}

impl Body {
    /// Returns `len` pseudo-random bytes that depend on `seed` alone.
    pub(crate) fn made(seed: u64, len: u64) -> Body {
        Body::Made { seed, len, block: Arc::default() }
    }

    /// Returns a body of exactly these bytes.
    pub(crate) fn given(bytes: impl AsRef<[u8]>) -> Body {
        Body::Given(bytes.as_ref().into())
    }

    /// Returns a body of the same length that differs from any made with a small seed.
    pub(crate) fn other(&self) -> Body {
        Body::made(u64::MAX - self.len(), self.len())
    }

    /// Returns the length in bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Body::Made { len, .. } => *len,
            Body::Given(bytes) => bytes.len() as u64,
        }
    }

    /// Fills `buf` from `offset` on and returns how many bytes there were.
    pub(crate) fn read_at(&self, offset: u64, buf: &mut [u8]) -> usize {
        let count = self.len().saturating_sub(offset).min(buf.len() as u64) as usize;
        let buf = &mut buf[..count];
        match self {
            Body::Given(bytes) => {
                let from = offset.min(bytes.len() as u64) as usize;
                buf.copy_from_slice(&bytes[from..from + count]);
            }
            Body::Made { seed, block, .. } => {
                let block = block.get_or_init(|| noise(*seed));
                let mut done = 0;
                while done < count {
                    let page = (offset + done as u64) / PAGE;
                    let within = ((offset + done as u64) % PAGE) as usize;
                    let n = (PAGE as usize - within).min(count - done);
                    let at = (page * PAGE) as usize % BLOCK + within;
                    buf[done..done + n].copy_from_slice(&block[at..at + n]);
                    for (i, byte) in stamp(*seed, page).into_iter().enumerate() {
                        if i >= within && i < within + n {
                            buf[done + i - within] = byte;
                        }
                    }
                    done += n;
                }
            }
        }
        count
    }

    /// Returns the bytes of a range, clipped to the length.
    pub(crate) fn slice(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut buf = vec![0; len];
        let n = self.read_at(offset, &mut buf);
        buf.truncate(n);
        buf
    }

    /// Returns all bytes.
    pub(crate) fn all(&self) -> Vec<u8> {
        self.slice(0, self.len() as usize)
    }

    /// Returns the SHA-256 in hexadecimal.
    pub(crate) fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        let mut buf = vec![0; 1 << 20];
        let mut offset = 0;
        loop {
            let n = self.read_at(offset, &mut buf);
            if n == 0 {
                break;
            }
            hash.update(&buf[..n]);
            offset += n as u64;
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Says where `bytes`, read from `offset` on, first differ from this body.
    pub(crate) fn differs(&self, offset: u64, bytes: &[u8]) -> Option<u64> {
        let expected = self.slice(offset, bytes.len());
        if expected == bytes {
            return None;
        }
        let same = expected.iter().zip(bytes).take_while(|(a, b)| a == b);
        Some(offset + same.count() as u64)
    }

    /// Reads the rest of an open file and checks every byte and the end.
    ///
    /// # Errors
    /// What read(2) said, or where the bytes differ.
    pub(crate) fn check_rest(&self, file: &mut File, mut offset: u64) -> Result<(), String> {
        let mut buf = vec![0; 256 << 10];
        loop {
            let n = file.read(&mut buf).map_err(|error| format!("read at {offset}: {error}"))?;
            if n == 0 {
                break;
            }
            if let Some(at) = self.differs(offset, &buf[..n]) {
                return Err(format!("other bytes from offset {at} on"));
            }
            offset += n as u64;
        }
        if offset == self.len() {
            Ok(())
        } else {
            Err(format!("ends at {offset}, expected {}", self.len()))
        }
    }

    /// Opens and reads a file and checks every byte and the end.
    ///
    /// # Errors
    /// What open(2) or read(2) said, or where the bytes differ.
    pub(crate) fn check(&self, path: &Path) -> Result<(), String> {
        let mut file = File::open(path).map_err(|error| format!("open: {error}"))?;
        self.check_rest(&mut file, 0)
    }

    /// Checks `len` bytes from `offset` on with pread(2).
    ///
    /// # Errors
    /// What read(2) said, or where the bytes differ.
    pub(crate) fn check_at(&self, file: &File, offset: u64, len: usize) -> Result<(), String> {
        let mut buf = vec![0; len];
        file.read_exact_at(&mut buf, offset)
            .map_err(|error| format!("pread at {offset}: {error}"))?;
        match self.differs(offset, &buf) {
            None => Ok(()),
            Some(at) => Err(format!("other bytes from offset {at} on")),
        }
    }

    /// Writes the body to a file.
    pub(crate) fn write_to(&self, path: &Path) {
        let file = File::create(path).expect("create a sample");
        let mut buf = vec![0; 1 << 20];
        let mut offset = 0;
        loop {
            let n = self.read_at(offset, &mut buf);
            if n == 0 {
                break;
            }
            file.write_all_at(&buf[..n], offset).expect("write a sample");
            offset += n as u64;
        }
    }
}

/// Returns the first bytes of a page.
fn stamp(seed: u64, page: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..].copy_from_slice(&page.to_le_bytes());
    bytes
}

/// Returns one block of the sequence that `seed` starts (splitmix64).
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut block = Vec::with_capacity(BLOCK);
    while block.len() < BLOCK {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        block.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    block
}
