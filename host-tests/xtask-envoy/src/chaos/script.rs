//! What is done to the replicas and the API server, and when.

use std::time::Duration;

/// How many Envoys share the checks.
pub(super) const REPLICAS: usize = 3;

/// Until the first act: some checks wait by then.
const FIRST: Duration = Duration::from_secs(5);
/// A container that starts again.
const RESTART: Duration = Duration::from_secs(1);
/// From a kill to the next act, where the container starts again: its checks go on meanwhile.
const AFTER_RESTART: Duration = Duration::from_secs(10);
/// A pod that is gone until its checks have another owner: a Lease lasts 20 s.
const GONE: Duration = Duration::from_secs(25);
/// From a kill to the next act, where the pod is gone.
const AFTER_GONE: Duration = Duration::from_secs(32);
/// After the API server goes on, until the next act.
const AFTER_OUTAGE: Duration = Duration::from_secs(10);

/// One act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Kills the Envoy of a place.
    Kill(usize),
    /// Starts an Envoy in that place: the same pod as before, or another.
    Start {
        /// The place.
        place: usize,
        /// Under the name of the pod before.
        same_pod: bool,
    },
    /// The API server stops.
    Stop,
    /// The API server goes on.
    Resume,
}

/// All acts in their order, each with its time after the beginning, and when the story ends.
pub(super) fn script(kills: u32, outage: Duration) -> (Vec<(Duration, Act)>, Duration) {
    let (mut acts, mut at) = (Vec::new(), FIRST);
    for n in 0..kills {
        if n == kills.div_ceil(2) {
            stop(&mut acts, &mut at, outage);
        }
        let place = usize::try_from(n).unwrap_or_default() % REPLICAS;
        let same_pod = n % 2 == 0;
        let (away, whole) = if same_pod { (RESTART, AFTER_RESTART) } else { (GONE, AFTER_GONE) };
        acts.push((at, Act::Kill(place)));
        acts.push((at + away, Act::Start { place, same_pod }));
        at += whole;
    }
    if kills < 2 {
        stop(&mut acts, &mut at, outage);
    }
    (acts, at)
}

fn stop(acts: &mut Vec<(Duration, Act)>, at: &mut Duration, outage: Duration) {
    if !outage.is_zero() {
        acts.extend([(*at, Act::Stop), (*at + outage, Act::Resume)]);
        *at += outage + AFTER_OUTAGE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_kills_reach_each_replica_once_in_each_way_and_the_api_server_stops_between_them() {
        let (acts, end) = script(6, Duration::from_secs(30));
        for place in 0..REPLICAS {
            assert_eq!(acts.iter().filter(|(_, act)| *act == Act::Kill(place)).count(), 2);
            for same_pod in [true, false] {
                assert!(acts.iter().any(|(_, act)| *act == Act::Start { place, same_pod }));
            }
        }
        let stop = acts.iter().position(|(_, act)| *act == Act::Stop).unwrap();
        assert_eq!((stop, acts[stop + 1].1), (6, Act::Resume));
        assert!(acts.iter().zip(acts.iter().skip(1)).all(|(one, next)| one.0 < next.0), "{acts:?}");
        assert!(acts.iter().all(|(at, _)| *at < end));
    }

    #[test]
    fn without_an_outage_or_a_kill_there_is_none() {
        assert_eq!(script(0, Duration::ZERO).0, []);
        assert_eq!(script(1, Duration::from_secs(5)).0.len(), 4);
        assert!(script(2, Duration::ZERO).0.iter().all(|(_, act)| *act != Act::Stop));
    }
}
