//! How long Envoy's threads were busy without a pause: `loop_duration_us` of their event loops, which has every callback in it,
//! and what a client sees of it, by requests at a steady rate.

use crate::load::Sent;
use anyhow::{Context, Result, ensure};
use host_tests::{Connection, Envoy, Request};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The event loop of the main thread.
pub const MAIN: &str = "server.dispatcher.loop_duration_us";
/// The event loop of the only worker.
pub const WORKER: &str = "listener_manager.worker_0.dispatcher.loop_duration_us";

/// Envoy adds up its histograms so often, with what [`settings`] sets.
const FLUSH: Duration = Duration::from_secs(1);

/// Lets Envoy measure its loops.
pub fn settings(bootstrap: &mut Value) {
    bootstrap["enable_dispatcher_stats"] = true.into();
    bootstrap["stats_flush_interval"] = "1s".into();
}

/// A histogram: how many values there were, by the upper ends of the buckets, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loops(BTreeMap<u64, u64>);

impl Loops {
    /// The loops of both threads so far.
    ///
    /// # Errors
    /// Envoy does not tell.
    pub fn of(envoy: &Envoy) -> Result<BTreeMap<String, Loops>> {
        // What was noted last is added up by then.
        std::thread::sleep(FLUSH + FLUSH / 2);
        let page =
            envoy.admin_get("/stats?format=json&histogram_buckets=detailed&filter=loop_duration_us")?;
        parse(&serde_json::from_str(&page)?)
    }

    /// Those that have come since `before`.
    pub fn since(&self, before: &Loops) -> Loops {
        let left = self
            .0
            .iter()
            .map(|(end, count)| (*end, count - before.0.get(end).copied().unwrap_or(0).min(*count)));
        Loops(left.filter(|(_, count)| *count > 0).collect())
    }

    /// The longest, in milliseconds, as the upper end of its bucket, which is at most a tenth too much.
    pub fn worst(&self) -> f64 {
        self.0.last_key_value().map_or(f64::NAN, |(end, _)| *end as f64 / 1e3)
    }

    /// How many were longer than this.
    pub fn longer_than(&self, time: Duration) -> u64 {
        let least = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.0.range(least.saturating_add(1)..).map(|(_, count)| count).sum()
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// The time within which 99 of 100 were over, in milliseconds.
    pub fn p99(&self) -> f64 {
        let rank = (self.count() * 99).div_ceil(100);
        let mut seen = 0;
        let found = self.0.iter().find(|(_, count)| {
            seen += **count;
            seen >= rank.max(1)
        });
        found.map_or(f64::NAN, |(end, _)| *end as f64 / 1e3)
    }
}

fn parse(page: &Value) -> Result<BTreeMap<String, Loops>> {
    let mut all = BTreeMap::new();
    let stats = page["stats"].as_array().context("no stats")?;
    for histogram in stats.iter().filter_map(|stat| stat["histograms"]["details"].as_array()).flatten() {
        let name = histogram["name"].as_str().context("a histogram without a name")?;
        let mut loops = Loops::default();
        for bucket in histogram["totals"].as_array().into_iter().flatten() {
            let number =
                |member: &str| bucket[member].as_f64().with_context(|| format!("a bucket without {member}"));
            let (end, count) = (number("lower_bound")? + number("width")?, number("count")?);
            // Counts and microseconds are whole numbers far below 2^53.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let (end, count) = (end.ceil() as u64, count as u64);
            *loops.0.entry(end).or_default() += count;
        }
        all.insert(name.to_owned(), loops);
    }
    Ok(all)
}

/// Sends a GET at a steady rate over one connection. A request that had to wait for the one before it counts from the time at
/// which it was due.
///
/// # Errors
/// An answer was not 200.
pub fn probe(address: SocketAddr, path: &str, pause: Duration, time: Duration) -> Result<Sent> {
    let mut connection = Connection::open(address)?;
    let request = Request::get(path);
    let (began, mut sent) = (Instant::now(), Sent::default());
    let mut due = began;
    while due < began + time {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let answer = connection.send(&request)?;
        ensure!(answer.status == 200, "{path} was answered {}", answer.status);
        sent.latencies.push(due.elapsed());
        due += pause;
    }
    sent.took = began.elapsed();
    sent.latencies.sort_unstable();
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_before_is_taken_off_and_the_rest_has_a_worst_and_a_percentile() {
        let page = |short: u64, long: u64| {
            let totals = json!([{"lower_bound": 90, "width": 10, "count": short}, {"lower_bound": 4000, "width": 100.0, "count": long}]);
            json!({"stats": [{"histograms": {"details": [{"name": MAIN, "totals": totals}]}}]})
        };
        let (before, after) = (parse(&page(10, 3)).unwrap(), parse(&page(110, 3)).unwrap());
        let own = after[MAIN].since(&before[MAIN]);
        assert_eq!((own.count(), own.worst(), own.p99()), (100, 0.1, 0.1));
        let all = &after[MAIN];
        assert_eq!((all.worst(), all.p99(), all.longer_than(Duration::from_millis(1))), (4.1, 4.1, 3));
        assert!(Loops::default().worst().is_nan());
    }
}
