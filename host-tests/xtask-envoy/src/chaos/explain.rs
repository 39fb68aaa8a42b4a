//! Why a check's event came twice: each time there must be a reason, and these are all that there are.

use std::fmt;

use super::deliveries::Delivery;
use super::peers::Sent;
use super::replicas::Ended;
use super::verdict::Story;

/// Between an event and the end of its check in the API server, in milliseconds, where the API server answers.
const STORED: i64 = 10_000;
/// The same after the API server was away: a write that failed is repeated 15 s later at most, at a tick, and may take 5 s.
pub(super) const RECOVERED: i64 = 21_000;

/// A second event of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Second {
    plan: String,
    /// The pods of both senders, and the milliseconds between the events.
    from: String,
    to: String,
    after: i64,
    /// Why it came.
    pub(super) why: Explanation,
}

/// Why it may come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Explanation {
    /// Who had sent the first was killed this number of milliseconds later (or before its answer came), and had not stored yet
    /// that it was answered.
    Killed(i64),
    /// It could not store its decision before it sent it.
    Unfenced,
    /// There is no reason.
    None,
}

/// Looks for the reason of a second event.
pub(super) fn explain(delivery: &Delivery, first: &Sent, second: &Sent, story: &Story) -> Second {
    let sender = story.ended.iter().find(|ended| ended.process == first.process);
    let killed = sender.and_then(|ended| ended.killed);
    let had_time = stored_by(first.at, story);
    let why = match (killed, sender, &delivery.id) {
        (Some(at), ..) if at <= second.at && at <= had_time => Explanation::Killed(at - first.at),
        (_, Some(sender), Some(id)) if sent_unfenced(sender, id) => Explanation::Unfenced,
        _ => Explanation::None,
    };
    let pod = |process: usize| {
        let found = story.ended.iter().find(|ended| ended.process == process);
        found.map_or_else(|| format!("process {process}"), |ended| ended.pod.clone())
    };
    Second {
        plan: delivery.plan.clone(),
        from: pod(first.process),
        to: pod(second.process),
        after: second.at - first.at,
        why,
    }
}

/// By when its sender has stored that an event of this time was answered: soon, or soon after the API server is back.
fn stored_by(at: i64, story: &Story) -> i64 {
    let away = story.outages.iter().find(|away| *away.start() <= at + STORED && at <= *away.end());
    (at + STORED).max(away.map_or(at, |away| *away.end() + RECOVERED))
}

/// Whether its log says so.
fn sent_unfenced(sender: &Ended, id: &str) -> bool {
    sender.log.contains(&format!("check {id}: its decision could not be stored"))
}

impl fmt::Display for Second {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Second { plan, from, to, after, why } = self;
        let seconds = |millis: i64| format!("{:.2} s", millis as f64 / 1_000.0);
        write!(f, "second event of {plan}: from {to}, {} after that from {from}; ", seconds(*after))?;
        match why {
            Explanation::Killed(later) if *later < 0 => {
                write!(f, "the answer was lost: {from} was killed {} before", seconds(-later))
            }
            Explanation::Killed(later) => {
                write!(f, "{from} was killed {} after it, before it had stored the answer", seconds(*later))
            }
            Explanation::Unfenced => write!(f, "{from} could not store its decision"),
            Explanation::None => f.write_str("NOTHING explains it"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn delivery(plan: &str) -> Delivery {
        Delivery {
            plan: plan.into(),
            result: "failed",
            ends: 1_000,
            accepted: Some(500),
            id: Some(format!("id-of-{plan}")),
        }
    }

    pub(crate) fn sent(plan: &str, process: usize, at: i64, result: &str, accepted: bool) -> Sent {
        Sent { at, process, plan: plan.into(), result: result.into(), accepted }
    }

    pub(crate) fn ended(killed: Option<i64>, log: &str) -> Ended {
        Ended { process: 0, pod: "pod-0".into(), killed, log: log.into() }
    }

    fn why(killed: Option<i64>, log: &str, outages: &[(i64, i64)]) -> Explanation {
        let (first, second) = (sent("a", 0, 4_000, "failed", true), sent("a", 1, 60_000, "failed", false));
        let outages = outages.iter().map(|(from, until)| *from..=*until).collect();
        let story = Story { ended: vec![ended(killed, log)], outages, ..Story::default() };
        explain(&delivery("a"), &first, &second, &story).why
    }

    #[test]
    fn a_kill_explains_it_if_the_sender_had_no_time_to_store_the_answer() {
        assert_eq!(why(Some(4_020), "", &[]), Explanation::Killed(20));
        assert_eq!(why(Some(3_990), "", &[]), Explanation::Killed(-10));
        for late in [14_001, 61_000] {
            assert_eq!(why(Some(late), "", &[]), Explanation::None);
        }
        // While the API server was away it could not.
        assert_eq!(why(Some(41_000), "", &[(5_000, 20_000)]), Explanation::Killed(37_000));
        assert_eq!(why(Some(41_001), "", &[(5_000, 20_000)]), Explanation::None);
        assert_eq!(why(Some(25_000), "", &[(15_000, 20_000)]), Explanation::None);
    }

    #[test]
    fn an_outage_alone_explains_nothing_but_a_decision_that_could_not_be_stored_does() {
        assert_eq!(why(None, "", &[(1_000, 20_000)]), Explanation::None);
        let line =
            |id: &str| format!("[warning] check {id}: its decision could not be stored for one minute");
        assert_eq!(why(None, &line("id-of-a"), &[]), Explanation::Unfenced);
        assert_eq!(why(None, &line("id-of-b"), &[]), Explanation::None);
    }

    #[test]
    fn it_is_told_with_both_pods_and_the_times() {
        let (first, second) = (sent("a", 0, 4_000, "failed", true), sent("a", 1, 26_500, "failed", false));
        let story = Story { ended: vec![ended(Some(4_020), "")], ..Story::default() };
        assert_eq!(
            explain(&delivery("a"), &first, &second, &story).to_string(),
            "second event of a: from process 1, 22.50 s after that from pod-0; pod-0 was killed 0.02 s after it, before \
             it had stored the answer"
        );
    }
}
