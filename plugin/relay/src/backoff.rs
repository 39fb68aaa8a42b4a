//! Exponential back-off with jitter, and the random numbers for it.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014). The core has no randomness of its own; its host provides a seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// A sequence that depends on `seed` alone.
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `d` less up to a quarter of it, so that many checks do not come due together. Never longer than `d`.
    pub(crate) fn jitter(&mut self, d: Duration) -> Duration {
        let ms = crate::time::millis(d);
        Duration::from_millis(ms.saturating_sub(self.draw() % (ms / 4).max(1)))
    }
}

/// The shortest result of [`Random::jitter`] for `d`.
pub(crate) fn shortest(d: Duration) -> Duration {
    d.saturating_sub(d / 4)
}

/// The pause before try number `failures` + 1: `first`, doubled with each failure, at most `most`.
pub(crate) fn delay(failures: u32, first: Duration, most: Duration) -> Duration {
    let factor = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    first.checked_mul(factor).map_or(most, |d| d.min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_wait_up_to_a_bound() {
        let (first, most) = (Duration::from_secs(1), Duration::from_secs(300));
        let waits: Vec<u64> = (1..=12).map(|n| delay(n, first, most).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(delay(u32::MAX, first, most), most);
    }

    #[test]
    fn jitter_takes_at_most_a_quarter_and_never_adds() {
        let mut random = Random::new(7);
        let d = Duration::from_secs(2);
        let drawn: Vec<u64> = (0..1000).map(|_| crate::time::millis(random.jitter(d))).collect();
        assert!(drawn.iter().all(|ms| (1500..=2000).contains(ms)));
        assert_eq!(shortest(d), Duration::from_millis(1500));
        assert!(drawn.iter().collect::<std::collections::BTreeSet<_>>().len() > 100);
    }
}
