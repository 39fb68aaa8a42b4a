//! An outage of Testkube: since when it has given no usable answer, and why.

use crate::collections::Few;
use crate::time::{Mono, Now, Wall};
use crate::wire::call::Fault;
use std::time::Duration;

/// A run of failed calls. The first good answer ends it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    since: Option<Now>,
    faults: Few<Fault, u32>,
    last: Option<Fault>,
    /// Failed calls in a row.
    pub failures: u32,
    /// The time before which no call is made.
    pub wait_until: Mono,
}

/// Maximum kinds of fault that are told apart, so that answers from outside cannot make the map grow.
const MAX_KINDS: usize = 8;

impl Trouble {
    /// Notes a failed call; the next one waits until `wait_until`.
    pub fn add(&mut self, fault: Fault, now: Now, wait_until: Mono) {
        self.since.get_or_insert(now);
        self.failures = self.failures.saturating_add(1);
        self.wait_until = wait_until;
        self.last = Some(fault.clone());
        let fault = self.without_further_words(fault);
        if self.faults.contains_key(&fault) || self.faults.len() < MAX_KINDS {
            self.faults.count(fault);
        }
    }

    /// Drops the server's words from a fault when two faults with other words of its status are known: words may differ
    /// in every answer, for instance by a port.
    fn without_further_words(&self, fault: Fault) -> Fault {
        const MAX_WORDS: usize = 2;
        let Fault::Said(status, _) = &fault else { return fault };
        let is_alike = |other: &&Fault| matches!(other, Fault::Said(its, _) if its == status);
        let is_full = self.faults.keys().filter(is_alike).count() >= MAX_WORDS;
        if is_full && !self.faults.contains_key(&fault) { Fault::Status(*status) } else { fault }
    }

    /// Notes a good answer: the outage is over.
    pub fn end(&mut self) {
        *self = Trouble::default();
    }

    /// Since when it has lasted, and the last fault.
    pub fn last(&self) -> Option<(Wall, &Fault)> {
        Some((self.since?.wall, self.last.as_ref()?))
    }

    /// How long the outage has lasted; zero if there is none.
    pub fn lasts(&self, now: Mono) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.since(since.mono))
    }

    /// The most frequent fault.
    pub fn main_fault(&self) -> Option<&Fault> {
        self.faults.iter().max_by_key(|(_, count)| **count).map(|(fault, _)| fault)
    }

    /// `Requests to Testkube have failed since 14:02 UTC (HTTP 503 × 31)`; `None` if there is no outage.
    pub fn in_words(&self, now: Wall) -> Option<String> {
        self.in_words_of("Requests to Testkube have failed", now)
    }

    /// The same with another beginning.
    pub fn in_words_of(&self, what: &str, now: Wall) -> Option<String> {
        let since = self.since?.wall.clock(now);
        let mut often_first: Vec<(&Fault, u32)> = Vec::new();
        for (fault, count) in self.faults.iter() {
            let place = often_first.partition_point(|(_, more)| more >= count);
            often_first.insert(place, (fault, *count));
        }
        let faults = often_first
            .iter()
            .map(|(fault, n)| if *n == 1 { fault.to_string() } else { format!("{fault} × {n}") });
        Some(format!("{what} since {since} ({})", crate::text::listed(faults, 4)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_says_since_when_and_how_often_each_fault() {
        let mut trouble = Trouble::default();
        let now = |minute| Now {
            mono: Mono(0),
            wall: Wall::parse(&format!("2026-01-23T14:{minute:02}:00Z")).unwrap(),
        };
        assert_eq!(trouble.in_words(now(1).wall), None);
        trouble.add(Fault::NoConnection, now(2), Mono(0));
        for minute in 3..34 {
            trouble.add(Fault::Status(503), now(minute), Mono(0));
        }
        let want =
            "Requests to Testkube have failed since 14:02 UTC (HTTP 503 × 31, connection refused or broken)";
        assert_eq!(trouble.in_words(now(40).wall).as_deref(), Some(want));
        trouble.end();
        assert_eq!(trouble.in_words(now(41).wall), None);
    }

    #[test]
    fn words_that_change_with_each_answer_do_not_fill_the_line() {
        let mut trouble = Trouble::default();
        for port in 0..50 {
            let fault = Fault::Said(502, format!("dial from port {}", port % 40));
            trouble.add(fault, Now::default(), Mono(0));
        }
        let words = trouble.in_words(Wall(0)).unwrap();
        assert!(
            words
                .ends_with("(HTTP 502 × 46, HTTP 502: dial from port 0 × 2, HTTP 502: dial from port 1 × 2)"),
            "{words}"
        );
    }
}
