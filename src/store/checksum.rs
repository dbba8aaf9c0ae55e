//! Checksums per MiB of data.

/// How many bytes one checksum covers.
pub(super) const BLOCK: u64 = 1 << 20;

/// Computes the CRC32C of each MiB of the bytes that pass.
#[derive(Debug, Default)]
pub(super) struct Checksums {
    done: Vec<u32>,
    current: u32,
    /// Bytes in `current`, always fewer than [`BLOCK`].
    pending: u64,
}

impl Checksums {
    /// Takes in more bytes.
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(BLOCK - self.pending).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.current = crc32c::crc32c_append(self.current, now);
            self.pending += now.len() as u64;
            if self.pending == BLOCK {
                self.done.push(self.current);
                self.current = 0;
                self.pending = 0;
            }
            bytes = later;
        }
    }

    /// Returns one checksum per MiB, the last one of what is left.
    pub(super) fn finish(mut self) -> Vec<u32> {
        if self.pending > 0 {
            self.done.push(self.current);
        }
        self.done
    }
}

/// Returns how many checksums belong to so many bytes.
pub(super) fn count(length: u64) -> u64 {
    length.div_ceil(BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_do_not_matter() {
        let data: Vec<u8> = (0..2 * BLOCK + 12_345).map(|i| (i * 7 % 251) as u8).collect();
        let expected: Vec<u32> = data.chunks(BLOCK as usize).map(crc32c::crc32c).collect();
        for piece in [1000, 65_536, BLOCK as usize, BLOCK as usize + 1, data.len()] {
            let mut sums = Checksums::default();
            data.chunks(piece).for_each(|c| sums.update(c));
            assert_eq!(sums.finish(), expected, "in pieces of {piece}");
        }
        assert_eq!(expected.len() as u64, count(data.len() as u64));
    }

    #[test]
    fn whole_blocks_and_nothing() {
        assert!(Checksums::default().finish().is_empty());
        assert_eq!(count(0), 0);
        let mut sums = Checksums::default();
        sums.update(&vec![0; BLOCK as usize]);
        assert_eq!(sums.finish().len() as u64, count(BLOCK));
    }
}
