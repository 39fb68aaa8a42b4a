//! Whether the run still waits for its check. Azure DevOps sends no word when a run is cancelled, a check bypassed or its
//! time over (Microsoft Learn: the built-in checks have no cancel section), so it is asked: once a minute for each build, whose
//! answer says so to all checks of it, and every two minutes for each check's own record.

use super::{Outcome, Pending};
use crate::config::Config;
use crate::guid::Guid;
use crate::secret::Secret;
use crate::time::{Mono, Wall};
use crate::wire::azure::{self, Callback, Entry};
use crate::wire::call::{CallOutcome, Request};
use std::time::Duration;

const EACH: Duration = Duration::from_secs(60);

/// While one check asks for the build, the others of it wait for its answer, but no longer than this.
const ASKING: Duration = Duration::from_secs(5);

/// Between two looks at one entry of Azure DevOps, whatever checks there are: 4 a second.
const APART: Duration = Duration::from_millis(250);

const OVER: Mono = Mono(0);

/// So many builds are remembered: the ones of 4 looks a second for some minutes.
const MAX_REMEMBERED: usize = 1_024;

/// What is known of all runs together, by one leader: lost without harm.
#[derive(Default)]
pub(crate) struct Runs {
    /// Builds that go on, or are being asked, and until when nobody asks them again; [`OVER`]: it is over, so each of its
    /// checks looks for itself.
    builds: Vec<(Build, Mono)>,
    /// When the next look at an entry may be.
    turns: Vec<(String, Mono)>,
}

/// When the run is looked at next, and where.
#[derive(Default)]
pub(super) struct RunWatch {
    next: Mono,
    /// The build has its turn.
    is_builds_turn: bool,
    /// It has the turn that it has waited for.
    has_turn: bool,
    is_record_unreadable: bool,
    is_build_unreadable: bool,
    /// Why the check is over by its own record, while the build is asked whether the run is.
    record_over: Option<String>,
}

/// A look at the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// At the check's own record, in its timeline.
    Record(Guid),
    /// At the build whose stage waits.
    Build(u64),
}

/// What a look has shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    GoesOn,
    Over(Outcome, String),
    /// This token may not look there, or nothing is to be seen there.
    Nothing,
}

impl Look {
    pub(super) fn request(self, entry: &Entry, callback: &Callback, token: &Secret) -> Request {
        match self {
            Look::Record(timeline) => azure::read_records(entry, callback, token, timeline),
            Look::Build(build) => azure::build(entry, callback, token, build),
        }
    }

    /// What an answer that was taken shows, to a look that was started for one delivery: a later one is another run's.
    pub(super) fn shows(self, pending: &Pending, delivery: u32, outcome: &CallOutcome, now: Wall) -> Shown {
        let body = match outcome {
            CallOutcome::Response(response) => response.body.as_deref().ok(),
            CallOutcome::Failed(_) => None,
        };
        let shown = match (self, body) {
            (_, None) => Shown::Nothing,
            (Look::Record(_), Some(body)) => own_record(body, pending, now),
            (Look::Build(build), Some(body)) => build_seen(body, pending, build),
        };
        match shown {
            Shown::Over(..) if pending.delivery != delivery => Shown::GoesOn,
            shown => shown,
        }
    }
}

impl RunWatch {
    /// The run of a check that is answered there.
    pub(super) fn of(callback: &Callback) -> RunWatch {
        RunWatch {
            is_record_unreadable: callback.timeline.is_none(),
            is_build_unreadable: callback.build.is_none(),
            ..RunWatch::default()
        }
    }

    /// When it is to be looked at; `None`: nothing is to be seen anywhere.
    pub(super) fn next(&self) -> Option<Mono> {
        (!(self.is_record_unreadable && self.is_build_unreadable)).then_some(self.next)
    }

    /// The look that is to be made now, if there is one: the own record first and then in turn with the build, unless another check
    /// of it has just asked.
    pub(super) fn due(&mut self, now: Mono, callback: &Callback, runs: &mut Runs) -> Option<Look> {
        if now < self.next {
            return None;
        }
        let record = callback.timeline.filter(|_| !self.is_record_unreadable).map(Look::Record);
        let build = callback.build.filter(|_| !self.is_build_unreadable).map(Look::Build);
        let known_until = runs.known_until(callback);
        let is_builds_turn = self.is_builds_turn || known_until == Some(OVER);
        let look = if is_builds_turn { build.or(record) } else { record.or(build) }?;
        // Where the own record is over, an answer from before that says nothing.
        let is_known = matches!(look, Look::Build(_)) && self.record_over.is_none();
        if let Some(until) = known_until.filter(|until| is_known && *until > now) {
            (self.next, self.has_turn, self.is_builds_turn) = (until, false, false);
            return None;
        }
        if !self.has_turn {
            (self.next, self.has_turn) = (runs.turn(now, &callback.entry), true);
        }
        (now >= self.next).then_some(look)
    }

    /// A look has been sent.
    pub(super) fn is_sent(&mut self, look: Look, now: Mono, callback: &Callback, runs: &mut Runs) {
        self.has_turn = false;
        if matches!(look, Look::Build(_)) && runs.known_until(callback) != Some(OVER) {
            runs.note(now.plus(ASKING), now, callback);
        }
    }

    /// Notes what a look has shown. Answers how the run has ended and why, and whether the build said so.
    pub(super) fn is_seen(
        &mut self,
        look: Look,
        shown: Shown,
        now: Mono,
        may_abort: bool,
        callback: &Callback,
        runs: &mut Runs,
    ) -> Option<(Outcome, String, bool)> {
        let is_record = matches!(look, Look::Record(_));
        match (is_record, &shown) {
            (true, _) => {}
            (false, Shown::GoesOn) => runs.note(now.plus(EACH), now, callback),
            (false, Shown::Over(..)) => runs.note(OVER, now, callback),
            // Another check's token may see more.
            (false, Shown::Nothing) => runs.forget(callback),
        }
        match shown {
            // Whether the run is over, or this check alone, only the build says.
            Shown::Over(Outcome::Over, reason) if may_abort && is_record && self.can_ask_build(callback) => {
                (self.record_over, self.is_builds_turn, self.next) = (Some(reason), true, Mono(0));
                return None;
            }
            Shown::Over(outcome, reason) => return Some((outcome, reason, !is_record)),
            Shown::GoesOn => (self.next, self.is_builds_turn) = (now.plus(EACH), is_record),
            Shown::Nothing if is_record => self.is_record_unreadable = true,
            Shown::Nothing => self.is_build_unreadable = true,
        }
        // The build has not said that the run is over: then it is the check alone that is.
        self.record_over.take().map(|reason| (Outcome::Over, reason, false))
    }

    fn can_ask_build(&self, callback: &Callback) -> bool {
        callback.build.is_some() && !self.is_build_unreadable
    }
}

impl Runs {
    fn known_until(&self, callback: &Callback) -> Option<Mono> {
        let build = build_of(callback)?;
        self.builds.iter().find(|(known, _)| *known == build).map(|(_, until)| *until)
    }

    /// The next turn for a look at an entry.
    fn turn(&mut self, now: Mono, entry: &str) -> Mono {
        match self.turns.iter_mut().find(|(known, _)| known == entry) {
            Some((_, turn)) => {
                let next = now.max(*turn);
                *turn = next.plus(APART);
                next
            }
            None => {
                self.turns.push((entry.into(), now.plus(APART)));
                now
            }
        }
    }

    /// A check's build goes on, or is being asked: nobody asks again until then.
    fn note(&mut self, until: Mono, now: Mono, callback: &Callback) {
        let Some(build) = build_of(callback) else { return };
        self.builds.retain(|(known, until)| *known != build && (*until > now || *until == OVER));
        if self.builds.len() >= MAX_REMEMBERED {
            self.builds.remove(0);
        }
        self.builds.push((build, until));
    }

    fn forget(&mut self, callback: &Callback) {
        let build = build_of(callback);
        self.builds.retain(|(known, _)| Some(known) != build.as_ref());
    }
}

/// A build, by its project and its number. Projects of two entries have different GUIDs.
type Build = (Guid, u64);

fn build_of(callback: &Callback) -> Option<Build> {
    Some((callback.project, callback.build?))
}

/// Whether executions of this check may be aborted when its run is over: its tag is of its build, and both the
/// configuration and its credential say so.
pub(super) fn may_abort(config: &Config, pending: &Pending) -> bool {
    let of_build = |build| pending.ask.as_ref().is_some_and(|ask| ask.tag.is_of(build));
    let mut credentials = config.credentials.iter();
    config.checks.abort_on_cancel
        && pending.callback.build.is_some_and(of_build)
        && credentials.any(|c| c.name == pending.credential && c.abort_on_cancel)
}

fn own_record(body: &[u8], pending: &Pending, now: Wall) -> Shown {
    let Some(own) = azure::own_record(body, &pending.callback.task) else { return Shown::Nothing };
    let is_open_gate = own.is_open_gate(pending.accepted.wall, now);
    match (own.completed, own.result.as_str()) {
        (false, _) => Shown::GoesOn,
        (true, _) if is_open_gate => Shown::Over(Outcome::OpenGate, OPEN_GATE.into()),
        (true, result) => {
            let result = if result.is_empty() { "no result" } else { result };
            let reason = format!(
                "Azure DevOps has completed this check itself ({result}): the run was cancelled, its time was over, the check was bypassed, or another one failed."
            );
            Shown::Over(Outcome::Over, reason)
        }
    }
}

const OPEN_GATE: &str = "Azure DevOps did not wait for this check: its completion event is ApiResponse, so the answer that accepted it counted as a pass before any test had ended. Set `Completion event` to `Callback` in the check's settings (REST and Terraform: waitForCompletion \"true\", completion_event \"Callback\").";

fn build_seen(body: &[u8], pending: &Pending, build: u64) -> Shown {
    match azure::build_over(body) {
        None => Shown::Nothing,
        Some((None, _)) => Shown::GoesOn,
        // The build of another pipeline, say: the one that waits was not over when it sent the check.
        Some((Some("completed"), Some(finished))) if finished < pending.accepted.wall => Shown::Nothing,
        Some((Some(status), _)) => Shown::Over(Outcome::Over, format!("Build {build} is {status}.")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::super::{Record, State};
    use super::*;

    const SECOND: u64 = 1_000;

    /// Check `n` of a build.
    fn callback(n: u32, build: Option<u64>) -> Callback {
        let Record { state: State::Pending(pending), .. } = record(n) else { panic!("a pending record") };
        Callback { build, ..pending.callback }
    }

    /// Plays checks whose looks are answered after half a second; at which seconds which looks were made.
    fn looks(of: &[Callback], seconds: u64, shown: impl Fn(Look, u64) -> Shown) -> Vec<(u64, usize, Look)> {
        let mut runs = Runs::default();
        let mut watches: Vec<RunWatch> = of.iter().map(RunWatch::of).collect();
        let (mut asked, mut made, mut over) = (Vec::new(), Vec::new(), Vec::new());
        for ms in (0..seconds * SECOND).step_by(100) {
            let now = Mono(1_000_000 + ms);
            let answered = |(at, ..): &(u64, usize, Look)| *at + 500 <= ms;
            for (_, n, look) in asked.extract_if(.., |asked| answered(asked)) {
                let ended = watches[n].is_seen(look, shown(look, ms / SECOND), now, false, &of[n], &mut runs);
                over.extend(ended.map(|_| n));
            }
            for (n, callback) in of.iter().enumerate() {
                let is_under_way = over.contains(&n) || asked.iter().any(|(_, other, _)| *other == n);
                let due = (!is_under_way).then(|| watches[n].due(now, callback, &mut runs)).flatten();
                if let Some(look) = due {
                    watches[n].is_sent(look, now, callback, &mut runs);
                    asked.push((ms, n, look));
                    made.push((ms / SECOND, n, look));
                }
            }
        }
        made
    }

    #[test]
    fn one_check_is_looked_at_once_a_minute_its_record_first_and_then_its_build() {
        let made = looks(&[callback(1, Some(7))], 320, |_, _| Shown::GoesOn);
        let kinds: Vec<(u64, bool)> =
            made.iter().map(|(at, _, look)| (*at, matches!(look, Look::Build(_)))).collect();
        assert_eq!(kinds, [(0, false), (60, true), (121, false), (181, true), (242, false), (302, true)]);
        let made = looks(&[callback(1, None)], 200, |_, _| Shown::GoesOn);
        assert_eq!(made.iter().map(|(at, ..)| *at).collect::<Vec<_>>(), [0, 60, 121, 181]);
    }

    #[test]
    fn a_build_is_asked_once_a_minute_for_all_of_its_checks() {
        let of: Vec<Callback> = (1..=200).map(|n| callback(n, Some(7))).collect();
        let made = looks(&of, 240, |_, _| Shown::GoesOn);
        let builds = made.iter().filter(|(.., look)| matches!(look, Look::Build(_))).count();
        assert!((2..=4).contains(&builds), "{builds}");
        assert!(
            (400..=600).contains(&(made.len() - builds)),
            "each record every two minutes: {}",
            made.len()
        );
    }

    #[test]
    fn an_entry_is_looked_at_four_times_a_second_and_every_check_has_its_turn() {
        let of: Vec<Callback> = (1..=1_000).map(|n| callback(n, Some(u64::from(n)))).collect();
        let made = looks(&of, 520, |_, _| Shown::GoesOn);
        for second in 0..520 {
            let at_once = made.iter().filter(|(at, ..)| *at == second).count();
            assert!(at_once <= 5, "{at_once} looks in second {second}");
        }
        let builds: std::collections::BTreeSet<usize> =
            made.iter().filter(|(.., look)| matches!(look, Look::Build(_))).map(|(_, n, _)| *n).collect();
        assert_eq!(builds.len(), 1_000);
    }

    #[test]
    fn when_a_build_is_over_each_of_its_checks_sees_it_itself_within_a_minute() {
        let of: Vec<Callback> = (1..=10).map(|n| callback(n, Some(7))).collect();
        let over = |look, at| match (look, at >= 100) {
            (Look::Build(build), true) => Shown::Over(Outcome::Over, format!("Build {build} is over.")),
            _ => Shown::GoesOn,
        };
        let made = looks(&of, 190, over);
        let first = made.iter().find(|(at, _, look)| *at >= 100 && matches!(look, Look::Build(_))).unwrap().0;
        let seen: std::collections::BTreeSet<usize> = made
            .iter()
            .filter(|(at, _, look)| (first..first + 65).contains(at) && matches!(look, Look::Build(_)))
            .map(|(_, n, _)| *n)
            .collect();
        assert_eq!(seen.len(), 10, "{made:?}");
    }
}
