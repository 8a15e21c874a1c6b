//! Choices and contents that follow from a seed.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A small seeded generator.
///
/// Source: `SplitMix64`, Steele, Lea and Flood (2014), "Fast splittable pseudorandom number
/// generators".
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The generator of one part of a run, so that what one part does leaves the others alone.
    pub(crate) fn of(seed: u64, part: &str) -> Self {
        Self(seed ^ hash(part))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0. The bias is of no matter here.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("it is below a usize")
    }

    pub(crate) fn within(&mut self, range: RangeInclusive<usize>) -> usize {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    pub(crate) fn millis(&mut self, range: RangeInclusive<usize>) -> Duration {
        Duration::from_millis(self.within(range) as u64)
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    /// Puts a list in another order. Source: Fisher and Yates, as in Knuth, volume 2.
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for end in (1..list.len()).rev() {
            list.swap(end, self.below(end + 1));
        }
    }
}

/// The content that a name has in one of its generations: made again for a comparison, so that
/// nothing but its length need be remembered.
pub(crate) fn content(seed: u64, name: &str, generation: u32, bytes: usize) -> Vec<u8> {
    let mut random = Random::of(seed, &format!("{name}#{generation}"));
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        content.extend_from_slice(&random.next().to_le_bytes());
    }
    content.truncate(bytes);
    content
}

/// Source: FNV-1a, 64 bits, draft-eastlake-fnv.
fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// A seed for a run that is given none.
pub(crate) fn draw_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // A short number is easier to type again.
    Random::new(u64::from(now.subsec_nanos()) ^ now.as_secs()).next() % 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        let mut random = Random::new(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn content_follows_from_seed_name_and_generation() {
        let one = content(1, "a", 0, 1000);
        assert_eq!(one, content(1, "a", 0, 1000));
        assert_eq!(one[..10], content(1, "a", 0, 10));
        assert_ne!(one, content(2, "a", 0, 1000));
        assert_ne!(one, content(1, "b", 0, 1000));
        assert_ne!(one, content(1, "a", 1, 1000));
    }
}
