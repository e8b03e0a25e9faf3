//! Repeatable random decisions: which process a crash test kills, and when.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Returns the number of rounds of a crash test: 20, or 200 with `CARNET_TEST_LONG=1`.
pub(crate) fn rounds() -> usize {
    if std::env::var("CARNET_TEST_LONG").is_ok_and(|long| long == "1") { 200 } else { 20 }
}

/// SplitMix64, which is sufficient for such decisions.
pub(crate) struct Dice(u64);

impl Dice {
    /// Uses the seed in `CARNET_TEST_SEED`, or a new one, which is printed.
    pub(crate) fn new(test: &str) -> Self {
        let given = std::env::var("CARNET_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one(test));
        eprintln!("{test}: CARNET_TEST_SEED={seed}");
        Self(seed)
    }

    /// Returns another generator, seeded by this one: one for each thread.
    pub(crate) fn split(&mut self) -> Self {
        Self(self.next())
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn up_to(&mut self, millis: usize) -> Duration {
        Duration::from_millis(self.below(millis + 1) as u64)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}
