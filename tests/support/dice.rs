//! Chance that comes out the same every time.

/// A sequence of numbers that its seed alone decides (splitmix64).
#[derive(Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Begins the sequence of a seed.
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Begins another sequence, which belongs to this seed and a number.
    pub(crate) fn branch(seed: u64, number: u64) -> Dice {
        let mut dice = Dice(seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        dice.next();
        dice
    }

    /// Returns the next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Returns one of these.
    pub(crate) fn of<'a, T: ?Sized>(&mut self, these: &[&'a T]) -> &'a T {
        these[self.below(these.len() as u64) as usize]
    }

    /// Says yes once in `times`.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Returns so many bytes: noise, or lines that pack well.
    pub(crate) fn bytes(&mut self, len: usize, noise: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 64);
        while out.len() < len {
            let n = self.next();
            if noise {
                out.extend_from_slice(&n.to_le_bytes());
            } else {
                out.extend_from_slice(
                    format!("dependency {:>6} of a sample\n", n % 5000).as_bytes(),
                );
            }
        }
        out.truncate(len);
        out
    }
}
