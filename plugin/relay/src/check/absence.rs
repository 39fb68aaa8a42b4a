//! How long the expected executions have been absent while Testkube answered.

use std::time::Duration;

/// Steps in which absence is written to the ledger: a lost leader loses little, and not every poll writes.
const STEP: Duration = Duration::from_secs(10);

/// The absence that one context has counted and not written yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Absence {
    /// What the record said when the count began.
    written: Duration,
    unwritten: Duration,
}

impl Absence {
    /// Adds the time since this context's last reading to `record`'s absence, and returns the sum. If another context has
    /// written meanwhile, as the leader before a reload may do, it has counted the same time: this context begins anew.
    pub(super) fn add(&mut self, record: &mut Duration, elapsed: Duration) -> Duration {
        if self.written != *record {
            *self = Absence { written: *record, unwritten: Duration::ZERO };
            return *record;
        }
        self.unwritten = self.unwritten.saturating_add(elapsed);
        let absent = record.saturating_add(self.unwritten);
        if self.unwritten >= STEP {
            *record = absent;
            *self = Absence { written: absent, unwritten: Duration::ZERO };
        }
        absent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn absence_is_written_in_steps() {
        let (mut absence, mut record) = (Absence::default(), Duration::ZERO);
        assert_eq!(absence.add(&mut record, seconds(0)), seconds(0));
        assert_eq!((absence.add(&mut record, seconds(6)), record), (seconds(6), seconds(0)));
        assert_eq!((absence.add(&mut record, seconds(6)), record), (seconds(12), seconds(12)));
        assert_eq!((absence.add(&mut record, seconds(3)), record), (seconds(15), seconds(12)));
    }

    #[test]
    fn a_new_leader_goes_on_from_what_was_written() {
        let mut record = seconds(91);
        let mut absence = Absence::default();
        assert_eq!(absence.add(&mut record, seconds(0)), seconds(91));
        assert_eq!(absence.add(&mut record, seconds(7)), seconds(98));
    }

    #[test]
    fn what_two_contexts_have_counted_side_by_side_counts_once() {
        let mut record = Duration::ZERO;
        let (mut old, mut new) = (Absence::default(), Absence::default());
        let (mut by_old, mut by_new) = (Duration::ZERO, Duration::ZERO);
        for n in 0..20 {
            // Whose answer comes first changes.
            let elapsed = seconds(if n == 0 { 0 } else { 3 + n % 5 });
            for is_old in [n % 3 != 0, n % 3 == 0] {
                let (absence, own) = if is_old { (&mut old, &mut by_old) } else { (&mut new, &mut by_new) };
                *own += elapsed;
                let absent = absence.add(&mut record, elapsed);
                assert!(absent <= *own, "{absent:?} of {own:?}");
            }
        }
        assert!(record > seconds(60), "{record:?}");
    }
}
