//! What is done to the replicas and the API server, and when.

use std::time::Duration;

/// How many Envoys share the checks.
pub(crate) const REPLICAS: usize = 3;

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
/// From a drain until whatever is in front sends no more checks there: until then it accepts them for the others.
const LEARNT: Duration = Duration::from_secs(4);
/// From a drain to SIGTERM.
const DRAINED: Duration = Duration::from_secs(6);
/// From a drain to the next act.
const AFTER_DRAIN: Duration = Duration::from_secs(12);

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
    /// The replica of a place is to give its checks to the others.
    Drain(usize),
    /// It gets no more checks.
    Leave(usize),
    /// Its process ends by SIGTERM, and a pod of another name takes its place.
    Replace(usize),
}

/// How much is done.
#[derive(Debug, Clone)]
pub(super) struct Plan<'a> {
    /// How many times an Envoy is killed.
    pub(super) kills: u32,
    /// How long the API server stops, each time; zero: not at all.
    pub(super) outages: &'a [Duration],
    /// How many replicas the rolling update replaces, one after the other.
    pub(super) updated: usize,
}

/// What comes between the kills.
#[derive(Clone, Copy)]
enum Between {
    Outage(Duration),
    Update(usize),
}

/// All acts in their order, each with its time after the beginning, and when the story ends. The outages and the rolling
/// update, which comes after the first outage, are spread over the kills.
pub(super) fn script(plan: &Plan<'_>) -> (Vec<(Duration, Act)>, Duration) {
    let lasting = plan.outages.iter().filter(|outage| !outage.is_zero());
    let mut between: Vec<Between> = lasting.map(|outage| Between::Outage(*outage)).collect();
    if plan.updated > 0 {
        between.insert(between.len().min(1), Between::Update(plan.updated));
    }
    let parts = u32::try_from(between.len()).unwrap_or(u32::MAX).saturating_add(1);
    let (mut acts, mut at) = (Vec::new(), FIRST);
    for n in 0..=plan.kills {
        for (part, what) in (1..).zip(&between) {
            if (plan.kills * part).div_ceil(parts) == n {
                match what {
                    Between::Outage(outage) => stop(&mut acts, &mut at, *outage),
                    Between::Update(places) => update(&mut acts, &mut at, *places),
                }
            }
        }
        if n == plan.kills {
            break;
        }
        let place = usize::try_from(n).unwrap_or_default() % REPLICAS;
        let same_pod = n % 2 == 0;
        let (away, whole) = if same_pod { (RESTART, AFTER_RESTART) } else { (GONE, AFTER_GONE) };
        acts.push((at, Act::Kill(place)));
        acts.push((at + away, Act::Start { place, same_pod }));
        at += whole;
    }
    (acts, at)
}

fn stop(acts: &mut Vec<(Duration, Act)>, at: &mut Duration, outage: Duration) {
    acts.extend([(*at, Act::Stop), (*at + outage, Act::Resume)]);
    *at += outage + AFTER_OUTAGE;
}

fn update(acts: &mut Vec<(Duration, Act)>, at: &mut Duration, places: usize) {
    for place in (0..REPLICAS).take(places) {
        let steps = [
            (*at, Act::Drain(place)),
            (*at + LEARNT, Act::Leave(place)),
            (*at + DRAINED, Act::Replace(place)),
        ];
        acts.extend(steps);
        *at += AFTER_DRAIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(90)];

    fn full() -> (Vec<(Duration, Act)>, Duration) {
        script(&Plan { kills: 6, outages: &SECONDS, updated: REPLICAS })
    }

    #[test]
    fn six_kills_reach_each_replica_once_in_each_way_and_each_is_replaced_once() {
        let (acts, end) = full();
        for place in 0..REPLICAS {
            let count = |wanted| acts.iter().filter(|(_, act)| *act == wanted).count();
            assert_eq!(count(Act::Kill(place)), 2);
            for same_pod in [true, false] {
                assert_eq!(count(Act::Start { place, same_pod }), 1);
            }
            assert_eq!([Act::Drain(place), Act::Leave(place), Act::Replace(place)].map(count), [1; 3]);
        }
        assert!(acts.iter().zip(acts.iter().skip(1)).all(|(one, next)| one.0 < next.0), "{acts:?}");
        assert!(acts.iter().all(|(at, _)| *at < end));
    }

    #[test]
    fn the_api_server_stops_twice_and_the_update_lies_between() {
        let (acts, _) = full();
        let place = |wanted| acts.iter().position(|(_, act)| *act == wanted).unwrap();
        let stops: Vec<usize> = (0..acts.len()).filter(|n| acts[*n].1 == Act::Stop).collect();
        let away: Vec<Duration> = stops.iter().map(|n| acts[n + 1].0 - acts[*n].0).collect();
        assert_eq!(away, SECONDS);
        assert!(stops.iter().all(|n| acts[n + 1].1 == Act::Resume));
        assert!(stops[0] < place(Act::Drain(0)) && place(Act::Replace(2)) < stops[1]);
        let killed_before =
            |n: usize| acts[..n].iter().filter(|(_, act)| matches!(act, Act::Kill(_))).count();
        assert_eq!([stops[0], place(Act::Drain(0)), stops[1]].map(killed_before), [2, 3, 5]);
    }

    #[test]
    fn what_is_not_asked_for_is_not_there() {
        let acts = |kills, outages: &[Duration], updated| script(&Plan { kills, outages, updated }).0;
        assert_eq!(acts(0, &[Duration::ZERO], 0), []);
        assert_eq!(acts(1, &[Duration::from_secs(5)], 0).len(), 4);
        let short = acts(2, &[Duration::ZERO], 1);
        assert!(short.iter().all(|(_, act)| *act != Act::Stop));
        assert_eq!(short.iter().filter(|(_, act)| matches!(act, Act::Drain(_))).count(), 1);
        assert_eq!(short.len(), 7);
    }
}
