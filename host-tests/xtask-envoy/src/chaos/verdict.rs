//! What became of each check, counted from what Azure DevOps got.

use std::fmt;
use std::ops::RangeInclusive;

use super::deliveries::Delivery;
use super::explain::{Explanation, RECOVERED, Second, explain};
use super::peers::Sent;
use super::replicas::Ended;

/// From a kill until its checks have another owner, in milliseconds, even if the one that should have taken them is dead too.
const ADOPTED: i64 = 26_000;

/// What happened around the checks.
#[derive(Debug, Clone, Default)]
pub(super) struct Story {
    /// The processes.
    pub(super) ended: Vec<Ended>,
    /// When the API server was away, in Unix milliseconds.
    pub(super) outages: Vec<RangeInclusive<i64>>,
    /// When the replicas were replaced, in Unix milliseconds.
    pub(super) update: Option<RangeInclusive<i64>>,
    /// How many replicas were.
    pub(super) replaced: usize,
    /// Checks that drained replicas had still when they were ended.
    pub(super) kept_by_drained: usize,
    /// Checks that were adopted.
    pub(super) adopted: u64,
    /// Of these, while the API server was away.
    pub(super) adopted_in_outage: u64,
    /// Of these, from replicas that had given them up.
    pub(super) taken_from_drained: u64,
    /// Secrets that named a token while checks waited.
    pub(super) secrets_with_tokens: usize,
    /// Secrets that name a token after the end.
    pub(super) secrets_left: usize,
    /// How long all of it took.
    pub(super) seconds: u64,
}

/// How long checks waited, in milliseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Longest {
    of_all: i64,
    /// Those that did not wait while the API server was away.
    outside: i64,
    /// Those that waited while replicas were replaced.
    update: i64,
    /// Those that waited while nothing was done, and nothing had to be made up for: what polling alone takes.
    quiet: i64,
}

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    checks: usize,
    accepted: usize,
    lost: Vec<String>,
    wrong: Vec<String>,
    second: Vec<Second>,
    /// In milliseconds, sorted.
    waits: Vec<i64>,
    longest: Longest,
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
        let pairs = events.windows(2);
        self.second.extend(pairs.map(|pair| explain(delivery, pair[0], pair[1], story)));
        let Some(accepted) = delivery.accepted else { return };
        self.accepted += 1;
        match decided.first() {
            Some(event) => self.count_wait(accepted.max(delivery.ends), event.at, story),
            None => self.lost.push(plan.clone()),
        }
    }

    fn count_wait(&mut self, since: i64, until: i64, story: &Story) {
        let overlaps = |span: &RangeInclusive<i64>| since <= *span.end() && *span.start() <= until;
        let (wait, longest) = (until - since, &mut self.longest);
        longest.of_all = longest.of_all.max(wait);
        if !story.outages.iter().any(overlaps) {
            longest.outside = longest.outside.max(wait);
        }
        if story.update.as_ref().is_some_and(overlaps) {
            longest.update = longest.update.max(wait);
        }
        let outages = story.outages.iter().map(|away| *away.start()..=*away.end() + RECOVERED);
        let killed = story.ended.iter().filter_map(|ended| ended.killed);
        let mut busy = outages.chain(killed.map(|at| at..=at + ADOPTED)).chain(story.update.clone());
        if !busy.any(|span| overlaps(&span)) {
            longest.quiet = longest.quiet.max(wait);
        }
        self.waits.push(wait);
    }

    fn unexplained(&self) -> usize {
        self.second.iter().filter(|second| second.why == Explanation::None).count()
    }

    /// Whether it is as promised.
    pub(super) fn is_kept(&self) -> bool {
        let story = &self.story;
        let faults = [self.lost.len(), self.wrong.len(), self.unexplained(), story.secrets_left];
        faults == [0; 4]
            && (story.adopted_in_outage, story.kept_by_drained) == (0, 0)
            && story.secrets_with_tokens > 0
            && (story.replaced == 0 || story.taken_from_drained > 0)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let story = &self.story;
        let seconds = |millis: i64| format!("{:.1} s", millis as f64 / 1_000.0);
        let median = self.waits.get(self.waits.len() / 2).copied().unwrap_or_default();
        let explained = self.second.len() - self.unexplained();
        let away = story.outages.iter().map(|away| seconds(away.end() - away.start())).collect::<Vec<_>>();
        let mut row = |what: &str, figure: String| writeln!(f, "| {what:<48} | {figure:>14} |");
        row("checks", self.checks.to_string())?;
        row("answered 200", self.accepted.to_string())?;
        row("of these lost", self.lost.len().to_string())?;
        row("wrong", self.wrong.len().to_string())?;
        row("second events", self.second.len().to_string())?;
        row("second events explained", explained.to_string())?;
        row("kills", self.kills.to_string())?;
        row("the API server was away", away.join(", "))?;
        row("replicas drained, ended and replaced", story.replaced.to_string())?;
        row("adoptions, of a restarted pod's own checks too", story.adopted.to_string())?;
        row("adoptions while the API server was away", story.adopted_in_outage.to_string())?;
        row("adoptions from drained replicas", story.taken_from_drained.to_string())?;
        row("checks that a drained replica had at its end", story.kept_by_drained.to_string())?;
        row("Secrets with a token, in the middle", story.secrets_with_tokens.to_string())?;
        row("Secrets with a token, at the end", story.secrets_left.to_string())?;
        row("from the execution's end to the decision, median", seconds(median))?;
        row("the longest", seconds(self.longest.of_all))?;
        row("the longest while the API server was there", seconds(self.longest.outside))?;
        row("the longest while replicas were replaced", seconds(self.longest.update))?;
        row("the longest while nothing was done", seconds(self.longest.quiet))?;
        row("seconds", story.seconds.to_string())?;
        self.second.iter().try_for_each(|second| writeln!(f, "{second}"))?;
        for (what, plans) in [("lost", &self.lost), ("wrong", &self.wrong)] {
            plans.iter().take(5).try_for_each(|plan| writeln!(f, "{what}: {plan}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::explain::tests::{delivery, ended, sent};
    use super::*;

    fn story(killed: Option<i64>) -> Story {
        Story { ended: vec![ended(killed, "")], secrets_with_tokens: 1, ..Story::default() }
    }

    #[test]
    fn a_check_that_was_decided_once_is_kept_and_its_wait_is_counted() {
        let verdict = Verdict::of(&[delivery("a")], &[sent("a", 0, 4_000, "failed", true)], story(None));
        assert!(verdict.is_kept(), "{verdict}");
        assert_eq!((verdict.accepted, verdict.waits), (1, vec![3_000]));
        assert_eq!(verdict.longest, Longest { of_all: 3_000, outside: 3_000, update: 0, quiet: 3_000 });
    }

    #[test]
    fn a_wait_counts_where_it_was() {
        let waits =
            [("a", 1_000, 4_000), ("b", 35_000, 35_500), ("c", 61_000, 61_400), ("d", 90_000, 90_300)];
        let checks = waits.map(|(plan, ends, _)| Delivery { ends, ..delivery(plan) });
        let events = waits.map(|(plan, _, at)| sent(plan, 0, at, "failed", true));
        let story = Story { outages: vec![0..=2_000], update: Some(35_100..=35_200), ..story(Some(40_000)) };
        let verdict = Verdict::of(&checks, &events, story);
        assert_eq!(verdict.longest, Longest { of_all: 3_000, outside: 500, update: 500, quiet: 300 });
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
    fn a_second_event_is_no_success_unless_it_is_explained() {
        let events = [sent("a", 0, 4_000, "failed", true), sent("a", 1, 30_000, "failed", false)];
        for (killed, is_kept) in [(None, false), (Some(4_020), true), (Some(20_000), false)] {
            let verdict = Verdict::of(&[delivery("a")], &events, story(killed));
            assert_eq!((verdict.second.len(), verdict.lost.len(), verdict.wrong.len()), (1, 0, 0));
            assert_eq!(verdict.is_kept(), is_kept, "{verdict}");
            let explained = format!("| second events explained {:>39} |", u8::from(is_kept));
            let squeezed = |text: &str| text.replace([' ', '|'], "");
            assert!(squeezed(&verdict.to_string()).contains(&squeezed(&explained)), "{verdict}");
        }
    }

    #[test]
    fn what_else_must_not_be_is_no_success() {
        let events = [sent("a", 0, 4_000, "failed", true)];
        for spoilt in [
            Story { secrets_left: 1, ..story(None) },
            Story { adopted_in_outage: 1, ..story(None) },
            Story { secrets_with_tokens: 0, ..story(None) },
            Story { kept_by_drained: 1, replaced: 1, taken_from_drained: 1, ..story(None) },
            Story { replaced: 1, ..story(None) },
        ] {
            assert!(!Verdict::of(&[delivery("a")], &events, spoilt).is_kept());
        }
    }
}
