//! What became of each check, counted from what Azure DevOps got.

use std::fmt;
use std::ops::RangeInclusive;

use super::deliveries::Delivery;
use super::peers::Sent;
use super::replicas::Ended;

/// Between an event and the end of its check in the API server, in milliseconds, where the API server answers.
const STORED: i64 = 10_000;
/// The same where it does not: a decision that cannot be stored is sent after a minute.
const UNSTORED: i64 = 60_000;

/// What happened around the checks.
#[derive(Debug, Clone, Default)]
pub(super) struct Story {
    /// The processes.
    pub(super) ended: Vec<Ended>,
    /// When the API server was away, in Unix milliseconds.
    pub(super) outage: Option<RangeInclusive<i64>>,
    /// Checks that were adopted.
    pub(super) adopted: u64,
    /// Of these, while the API server was away.
    pub(super) adopted_in_outage: u64,
    /// Secrets that named a token while checks waited.
    pub(super) secrets_with_tokens: usize,
    /// Secrets that name a token after the end.
    pub(super) secrets_left: usize,
    /// How long all of it took.
    pub(super) seconds: u64,
}

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    checks: usize,
    accepted: usize,
    lost: Vec<String>,
    wrong: Vec<String>,
    second: usize,
    unexplained: Vec<String>,
    /// In milliseconds, sorted.
    waits: Vec<i64>,
    /// The longest of a check that did not wait while the API server was away, in milliseconds.
    longest_outside: i64,
    kills: usize,
    story: Story,
}

impl Verdict {
    /// Counts.
    pub(super) fn of(deliveries: &[Delivery], sent: &[Sent], story: Story) -> Verdict {
        let mut verdict = Verdict { checks: deliveries.len(), ..Verdict::default() };
        verdict.kills = story.ended.iter().filter(|ended| ended.killed.is_some()).count();
        for delivery in deliveries {
            let events: Vec<&Sent> = sent.iter().filter(|sent| sent.plan == delivery.plan).collect();
            verdict.count(delivery, &events, &story);
        }
        verdict.waits.sort_unstable();
        verdict.story = story;
        verdict
    }

    fn count(&mut self, delivery: &Delivery, events: &[&Sent], story: &Story) {
        let plan = &delivery.plan;
        let decided: Vec<&&Sent> = events.iter().filter(|event| event.accepted).collect();
        // A second decision that differs is wrong even where Azure DevOps does not take it.
        if decided.len() > 1 || events.iter().any(|event| event.result != delivery.result) {
            self.wrong.push(plan.clone());
        }
        for pair in events.windows(2) {
            self.second += 1;
            if !is_explained(pair[0], pair[1], story) {
                self.unexplained.push(plan.clone());
            }
        }
        let Some(accepted) = delivery.accepted else { return };
        self.accepted += 1;
        match decided.first() {
            Some(event) => {
                let since = accepted.max(delivery.ends);
                let was_away = |away: &RangeInclusive<i64>| since <= *away.end() && *away.start() <= event.at;
                if !story.outage.as_ref().is_some_and(was_away) {
                    self.longest_outside = self.longest_outside.max(event.at - since);
                }
                self.waits.push(event.at - since);
            }
            None => self.lost.push(plan.clone()),
        }
    }

    /// Whether it is as promised.
    pub(super) fn is_kept(&self) -> bool {
        let story = &self.story;
        let faults = [self.lost.len(), self.wrong.len(), self.unexplained.len(), story.secrets_left];
        faults == [0; 4] && story.adopted_in_outage == 0 && story.secrets_with_tokens > 0
    }
}

/// Whether who sent the first event could not store that it had: it was killed before, or the API server was away.
fn is_explained(first: &Sent, second: &Sent, story: &Story) -> bool {
    let of = |ended: &&Ended| ended.process == first.process;
    let killed = story.ended.iter().find(of).and_then(|ended| ended.killed);
    let is_killed = killed.is_some_and(|at| at <= second.at && at - first.at <= STORED);
    let was_away =
        |away: &RangeInclusive<i64>| *away.start() - STORED <= first.at && first.at <= *away.end() + UNSTORED;
    is_killed || story.outage.as_ref().is_some_and(was_away)
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let story = &self.story;
        let seconds = |millis: i64| format!("{:.1} s", millis as f64 / 1_000.0);
        let median = self.waits.get(self.waits.len() / 2).copied().unwrap_or_default();
        let longest = self.waits.last().copied().unwrap_or_default();
        let mut row = |what: &str, figure: String| writeln!(f, "| {what:<48} | {figure:>9} |");
        row("checks", self.checks.to_string())?;
        row("answered 200", self.accepted.to_string())?;
        row("of these lost", self.lost.len().to_string())?;
        row("wrong", self.wrong.len().to_string())?;
        row("second events", self.second.to_string())?;
        row("second events that no lost answer explains", self.unexplained.len().to_string())?;
        row("kills", self.kills.to_string())?;
        row("adoptions, of a restarted pod's own checks too", story.adopted.to_string())?;
        row("adoptions while the API server was away", story.adopted_in_outage.to_string())?;
        row("Secrets with a token, in the middle", story.secrets_with_tokens.to_string())?;
        row("Secrets with a token, at the end", story.secrets_left.to_string())?;
        row("from the execution's end to the decision, median", seconds(median))?;
        row("the longest", seconds(longest))?;
        row("the longest while the API server was there", seconds(self.longest_outside))?;
        row("seconds", story.seconds.to_string())?;
        for (what, plans) in
            [("lost", &self.lost), ("wrong", &self.wrong), ("sent twice, unexplained", &self.unexplained)]
        {
            plans.iter().take(5).try_for_each(|plan| writeln!(f, "{what}: {plan}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(plan: &str) -> Delivery {
        Delivery { plan: plan.into(), result: "failed", ends: 1_000, accepted: Some(500) }
    }

    fn sent(plan: &str, process: usize, at: i64, result: &str, accepted: bool) -> Sent {
        Sent { at, process, plan: plan.into(), result: result.into(), accepted }
    }

    fn story(killed: Option<i64>) -> Story {
        let ended = Ended { process: 0, pod: "a".into(), killed, log: String::new() };
        Story { ended: vec![ended], secrets_with_tokens: 1, ..Story::default() }
    }

    #[test]
    fn a_check_that_was_decided_once_is_kept_and_its_wait_is_counted() {
        let verdict = Verdict::of(&[delivery("a")], &[sent("a", 0, 4_000, "failed", true)], story(None));
        assert!(verdict.is_kept(), "{verdict}");
        assert_eq!((verdict.accepted, verdict.waits), (1, vec![3_000]));
    }

    #[test]
    fn lost_and_wrong_checks_are_noticed_and_a_refused_one_is_neither() {
        let refused = Delivery { accepted: None, ..delivery("c") };
        let events = [
            sent("b", 0, 4_000, "succeeded", true),
            sent("d", 0, 4_000, "failed", true),
            sent("d", 1, 9_000, "succeeded", false),
        ];
        let all = [delivery("a"), delivery("b"), refused, delivery("d")];
        let verdict = Verdict::of(&all, &events, story(Some(4_100)));
        assert!(!verdict.is_kept());
        assert_eq!((verdict.lost, verdict.wrong), (vec!["a".into()], vec!["b".into(), "d".into()]));
    }

    #[test]
    fn only_a_kill_of_the_sender_or_an_outage_explains_a_second_event() {
        let events = [sent("a", 0, 4_000, "failed", true), sent("a", 1, 30_000, "failed", false)];
        let judged = |story: Story| {
            let verdict = Verdict::of(&[delivery("a")], &events, story);
            assert_eq!((verdict.second, verdict.lost.len(), verdict.wrong.len()), (1, 0, 0));
            verdict.is_kept()
        };
        assert!(!judged(story(None)));
        assert!(judged(story(Some(4_020))) && judged(story(Some(3_990))));
        assert!(!judged(story(Some(20_000))) && !judged(story(Some(31_000))));
        assert!(judged(Story { outage: Some(5_000..=20_000), ..story(None) }));
        assert!(!judged(Story { outage: Some(15_000..=20_000), ..story(None) }));
    }

    #[test]
    fn a_token_that_stays_an_adoption_in_an_outage_and_a_look_that_sees_no_token_are_no_success() {
        let events = [sent("a", 0, 4_000, "failed", true)];
        for spoilt in [
            Story { secrets_left: 1, ..story(None) },
            Story { adopted_in_outage: 1, ..story(None) },
            Story { secrets_with_tokens: 0, ..story(None) },
        ] {
            assert!(!Verdict::of(&[delivery("a")], &events, spoilt).is_kept());
        }
    }
}
