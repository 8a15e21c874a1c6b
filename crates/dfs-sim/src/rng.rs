//! The one source of chance: SplitMix64 (Steele et al. 2014), forked for each use so that what one
//! part draws does not change what another gets.

/// A seeded generator.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another generator, for the use that `label` names.
    #[must_use]
    pub fn fork(&self, label: u64) -> Self {
        let mut forked = Self(self.0 ^ label.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        forked.draw();
        forked
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from `from` to `to`, `to` left out.
    ///
    /// # Panics
    /// When the range is empty.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        assert!(from < to, "an empty range");
        from + self.draw() % (to - from)
    }

    /// An index below `len`.
    ///
    /// # Panics
    /// When `len` is 0.
    pub fn below(&mut self, len: usize) -> usize {
        usize::try_from(self.between(0, len as u64)).expect("an index fits")
    }

    /// Whether something with this chance in a thousand happens.
    pub fn per_mille(&mut self, chance: u64) -> bool {
        self.draw() % 1000 < chance
    }

    /// A coin.
    pub fn flip(&mut self) -> bool {
        self.per_mille(500)
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
