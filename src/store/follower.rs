//! Checksums and digest of a part, computed while it fills.

use std::fs::File;
use std::io;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::FileExt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::checksum::Checksums;
use crate::digest::{Algorithm, Digest, Hasher};

/// How much is read from the file at once.
const STEP: u64 = 256 << 10;

/// The sums over the first bytes of a part.
#[derive(Default)]
pub(super) struct Prefix {
    /// How many bytes the sums cover.
    reached: u64,
    sums: Checksums,
    hasher: Option<Hasher>,
    /// What the hasher said; covers `reached` bytes too.
    digest: Option<Digest>,
}

/// The one prefix of a part, which one thread at a time has in its hands. It is lent, not locked:
/// to follow may mean to read the file, and nobody waits for a lock meanwhile.
pub(super) struct Follower {
    /// `None` while it is lent.
    prefix: Mutex<Option<Prefix>>,
    given_back: Condvar,
}

/// The prefix, lent; dropping it gives it back.
pub(super) struct Lent<'a> {
    follower: &'a Follower,
    prefix: Prefix,
}

impl Follower {
    /// Makes one that has followed nothing.
    pub(super) fn new() -> Follower {
        Follower { prefix: Mutex::new(Some(Prefix::default())), given_back: Condvar::new() }
    }

    /// Lends the prefix if it is there and covers fewer than `to` bytes. Never waits.
    pub(super) fn try_lend(&self, to: u64) -> Option<Lent<'_>> {
        let prefix = self.lock().take_if(|prefix| prefix.reached < to)?;
        Some(Lent { follower: self, prefix })
    }

    /// Waits until nobody has the prefix, and lends it.
    pub(super) fn lend(&self) -> Lent<'_> {
        let mut seat = self.lock();
        loop {
            if let Some(prefix) = seat.take() {
                return Lent { follower: self, prefix };
            }
            seat = self.given_back.wait(seat).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Prefix>> {
        self.prefix.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        *self.follower.lock() = Some(mem::take(&mut self.prefix));
        self.follower.given_back.notify_all();
    }
}

impl Deref for Lent<'_> {
    type Target = Prefix;

    fn deref(&self) -> &Prefix {
        &self.prefix
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Prefix {
        &mut self.prefix
    }
}

impl Prefix {
    /// Returns how many bytes are covered.
    pub(super) fn reached(&self) -> u64 {
        self.reached
    }

    /// Hashes from the beginning; does nothing once bytes went by.
    pub(super) fn hash(&mut self, algorithm: Algorithm) {
        if self.reached == 0 {
            self.hasher = Some(Hasher::new(algorithm));
        }
    }

    /// Takes in what lies at `at`, as far as it goes on where the prefix ends; nothing otherwise.
    pub(super) fn follow(&mut self, at: u64, chunks: &[Bytes]) {
        let mut start = at;
        for chunk in chunks {
            let end = start + chunk.len() as u64;
            if (start..end).contains(&self.reached) {
                // Fits, being less than the length of a chunk.
                self.update(&chunk[(self.reached - start) as usize..]);
            }
            start = end;
        }
    }

    /// Takes in what the file holds up to byte `to`. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said; the prefix covers what was read until then.
    pub(super) fn read(&mut self, file: &File, to: u64) -> io::Result<()> {
        let mut buffer = vec![0; to.saturating_sub(self.reached).min(STEP) as usize];
        while self.reached < to {
            let step = (to - self.reached).min(STEP) as usize;
            file.read_exact_at(&mut buffer[..step], self.reached)?;
            self.update(&buffer[..step]);
        }
        Ok(())
    }

    /// Ends the hashing and returns the digest of what is covered, if it was asked for.
    pub(super) fn digest(&mut self) -> Option<Digest> {
        if let Some(hasher) = self.hasher.take() {
            self.digest = Some(hasher.finish());
        }
        self.digest.clone()
    }

    /// Takes the checksums; the prefix covers nothing afterwards.
    pub(super) fn checksums(&mut self) -> Vec<u32> {
        mem::take(self).sums.finish()
    }

    fn update(&mut self, bytes: &[u8]) {
        self.sums.update(bytes);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        // That of fewer bytes is not the digest of these.
        self.digest = None;
        self.reached += bytes.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn who_comes_while_it_is_lent_goes_on_and_the_end_waits() {
        let follower = Follower::new();
        let returned = AtomicBool::new(false);
        let mut lent = follower.lend();
        assert!(follower.try_lend(u64::MAX).is_none(), "a writer does not queue");
        std::thread::scope(|scope| {
            let end = scope.spawn(|| {
                let prefix = follower.lend();
                assert!(returned.load(Ordering::SeqCst), "two at once");
                prefix.reached()
            });
            lent.follow(0, &[Bytes::from_static(b"abc")]);
            returned.store(true, Ordering::SeqCst);
            drop(lent);
            assert_eq!(end.join().unwrap(), 3);
        });
        assert!(follower.try_lend(3).is_none(), "there is nothing to follow");
        assert!(follower.try_lend(4).is_some());
        assert_eq!(follower.lend().reached(), 3, "given back");
    }

    #[test]
    fn only_what_goes_on_at_the_end_is_followed() {
        let chunks = ["ab", "", "cde", "f"].map(|s| Bytes::from_static(s.as_bytes()));
        let mut prefix = Prefix::default();
        prefix.hash(Algorithm::Sha256);
        prefix.follow(1, &chunks);
        assert_eq!(prefix.reached(), 0, "a gap");
        prefix.follow(0, &chunks[..1]);
        prefix.follow(0, &chunks[..1]);
        assert_eq!(prefix.reached(), 2, "seen before");
        prefix.follow(0, &chunks);
        assert_eq!(prefix.reached(), 6);
        prefix.hash(Algorithm::Md5);
        assert_eq!(prefix.digest().unwrap().hex(), crate::digest::sha256_hex(b"abcdef"));
        assert_eq!(prefix.checksums(), [crc32c::crc32c(b"abcdef")]);
    }
}
