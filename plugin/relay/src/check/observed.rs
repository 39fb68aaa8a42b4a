//! Sums of observed time: only what lies between two complete readings counts. For how long the expected executions have been
//! absent, and for how long failures have waited for their re-run.

use std::time::Duration;

/// Steps in which a sum is written to the ledger: a lost leader loses little, and not every poll writes.
const STEP: Duration = Duration::from_secs(10);

/// The part of a sum that one context has counted and not written yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Observed {
    /// What the record said when the count began.
    written: Duration,
    unwritten: Duration,
}

impl Observed {
    /// Adds the time since this context's last reading to `record`'s sum, and returns it. If another context has
    /// written meanwhile, as the leader before a reload may do, it has counted the same time: this context begins anew.
    pub(super) fn add(&mut self, record: &mut Duration, elapsed: Duration) -> Duration {
        if self.written != *record {
            *self = Observed { written: *record, unwritten: Duration::ZERO };
            return *record;
        }
        self.unwritten = self.unwritten.saturating_add(elapsed);
        let sum = record.saturating_add(self.unwritten);
        if self.unwritten >= STEP {
            *record = sum;
            *self = Observed { written: sum, unwritten: Duration::ZERO };
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_sum_is_written_in_steps() {
        let (mut sum, mut record) = (Observed::default(), Duration::ZERO);
        assert_eq!(sum.add(&mut record, seconds(0)), seconds(0));
        assert_eq!((sum.add(&mut record, seconds(6)), record), (seconds(6), seconds(0)));
        assert_eq!((sum.add(&mut record, seconds(6)), record), (seconds(12), seconds(12)));
        assert_eq!((sum.add(&mut record, seconds(3)), record), (seconds(15), seconds(12)));
    }

    #[test]
    fn a_new_leader_goes_on_from_what_was_written() {
        let mut record = seconds(91);
        let mut sum = Observed::default();
        assert_eq!(sum.add(&mut record, seconds(0)), seconds(91));
        assert_eq!(sum.add(&mut record, seconds(7)), seconds(98));
    }

    #[test]
    fn what_two_contexts_have_counted_side_by_side_counts_once() {
        let mut record = Duration::ZERO;
        let (mut old, mut new) = (Observed::default(), Observed::default());
        let (mut by_old, mut by_new) = (Duration::ZERO, Duration::ZERO);
        for n in 0..20 {
            // Whose answer comes first changes.
            let elapsed = seconds(if n == 0 { 0 } else { 3 + n % 5 });
            for is_old in [n % 3 != 0, n % 3 == 0] {
                let (sum, own) = if is_old { (&mut old, &mut by_old) } else { (&mut new, &mut by_new) };
                *own += elapsed;
                let observed = sum.add(&mut record, elapsed);
                assert!(observed <= *own, "{observed:?} of {own:?}");
            }
        }
        assert!(record > seconds(60), "{record:?}");
    }
}
