//! Figures of many rounds: what was measured in each with and without, the ratios, and how far they spread.

use crate::load::Sent;
use crate::machine;
use anyhow::Result;
use std::time::Duration;

/// What was measured of one case: a pair of values for each round.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// What was done: `1 GB, by tag`.
    pub case: &'static str,
    /// What of it was measured.
    pub measure: Measure,
    /// Per round: without the module (or with the one that ours is compared with), then with it.
    pub rounds: Vec<(f64, f64)>,
}

/// What is measured, and its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Millions of bytes per second.
    Throughput,
    /// Requests per second.
    Requests,
    /// Half of the requests were answered within this time, in milliseconds.
    P50,
    /// 99 of 100 requests were, in milliseconds.
    P99,
    /// Processor time of Envoy, all threads, in milliseconds per request.
    Processor,
    /// How much more memory Envoy had at its peak during the large file than during one of a sixteenth, in MiB.
    Growth,
    /// How much of the time Envoy's processor worked for it, in percent: near 100, Envoy is what was measured.
    Busy,
}

impl Measure {
    /// Name and unit.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Throughput => "throughput, MB/s",
            Measure::Requests => "requests/s",
            Measure::P50 => "p50, ms",
            Measure::P99 => "p99, ms",
            Measure::Processor => "Envoy's CPU, ms/request",
            Measure::Growth => "memory, MiB more than for 1/16",
            Measure::Busy => "Envoy's processor busy, %",
        }
    }

    /// Whether the figure is one of ours alone, and not a ratio.
    pub fn is_absolute(self) -> bool {
        self == Measure::Growth
    }
}

/// Median, least and most of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The one in the middle; of two in the middle, their mean.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// `None` without a value, or where one is no number.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().collect();
        if values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Spread { median: f64::midpoint(lower, upper), least, most })
    }
}

impl Figures {
    /// What was measured without the module.
    pub fn without(&self) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(|(without, _)| *without))
    }

    /// What was measured with it.
    pub fn with(&self) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(|(_, with)| *with))
    }

    /// What is held against a target: the ratios, each between neighbours in time, or the absolute figure.
    pub fn judged(&self) -> Option<Spread> {
        match self.measure.is_absolute() {
            true => self.with(),
            false => Spread::of(self.rounds.iter().map(|(without, with)| with / without)),
        }
    }

    /// The ratios to the same measure of another case, round by round.
    pub fn beside(&self, base: &Figures) -> Option<Spread> {
        Spread::of(self.rounds.iter().zip(&base.rounds).map(|((_, own), (_, base))| own / base))
    }
}

/// A series of requests, and what Envoy has worked for it.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// The requests.
    pub sent: Sent,
    /// Processor time of Envoy, all threads.
    pub processor: Duration,
}

impl Work {
    /// Sends requests to the Envoy with this process id and looks at what it works meanwhile.
    ///
    /// # Errors
    /// Those of `send`, or there is no such process.
    pub fn of(envoy: u32, send: impl FnOnce() -> Result<Sent>) -> Result<Work> {
        let before = machine::processor_time(envoy)?;
        let sent = send()?;
        let processor = machine::processor_time(envoy)?.saturating_sub(before);
        Ok(Work { sent, processor })
    }

    /// Adds a later series.
    pub fn add(&mut self, later: Work) {
        self.sent.add(later.sent);
        self.processor += later.processor;
    }

    /// Milliseconds of Envoy's processor time for each request.
    pub fn per_request(&self) -> f64 {
        self.processor.as_secs_f64() * 1e3 / self.sent.latencies.len() as f64
    }

    /// How much of the time Envoy worked, in percent.
    pub fn busy(&self) -> f64 {
        self.processor.as_secs_f64() / self.sent.took.as_secs_f64() * 100.0
    }
}

/// All rounds so far, figure by figure.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    /// In the order in which they came first.
    pub figures: Vec<Figures>,
}

impl Collected {
    /// One round more of one figure: without, then with.
    pub fn put(&mut self, case: &'static str, measure: Measure, round: (f64, f64)) {
        let known = self.figures.iter_mut().find(|own| own.case == case && own.measure == measure);
        match known {
            Some(known) => known.rounds.push(round),
            None => self.figures.push(Figures { case, measure, rounds: vec![round] }),
        }
    }

    /// One round more of a case that is a series of requests.
    pub fn add_requests(&mut self, case: &'static str, without: &Work, with: &Work) {
        let mut put =
            |measure, value: fn(&Work) -> f64| self.put(case, measure, (value(without), value(with)));
        put(Measure::Requests, |own| own.sent.rate());
        put(Measure::P50, |own| own.sent.percentile(50));
        put(Measure::P99, |own| own.sent.percentile(99));
        put(Measure::Processor, Work::per_request);
        put(Measure::Busy, Work::busy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let figures = |rounds: &[(f64, f64)]| Figures {
            case: "x",
            measure: Measure::Requests,
            rounds: rounds.to_vec(),
        };
        // A machine that is twice as fast in the second round changes nothing.
        let steady = figures(&[(100.0, 90.0), (200.0, 180.0), (50.0, 50.0)]).judged().unwrap();
        assert_eq!(steady, Spread { median: 0.9, least: 0.9, most: 1.0 });
        assert_eq!(figures(&[(1.0, 1.0), (1.0, 2.0)]).judged().unwrap().median, 1.5);
        assert_eq!(figures(&[]).judged(), None);
        assert_eq!(figures(&[(0.0, 0.0)]).judged(), None, "nothing was measured");
        let growth = Figures { measure: Measure::Growth, ..figures(&[(3.0, 1.0), (0.0, 2.0), (5.0, 0.0)]) };
        assert_eq!(growth.judged().unwrap().median, 1.0);
        let (own, base) = (figures(&[(9.0, 5.0), (9.0, 20.0)]), figures(&[(7.0, 10.0), (7.0, 20.0)]));
        assert_eq!(own.beside(&base).unwrap(), Spread { median: 0.75, least: 0.5, most: 1.0 });
    }
}
