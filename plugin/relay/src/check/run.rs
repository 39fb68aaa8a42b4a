//! Whether the run still waits for its check. Azure DevOps sends no word when a run is cancelled, a check bypassed or its
//! time over (Microsoft Learn: the built-in checks have no cancel section), so it is asked: once a minute for each build, whose
//! answer says so to all checks of it, and every two minutes for each check's own record.

use super::{CheckKey, Outcome, Pending};
use crate::config::Config;
use crate::guid::Guid;
use crate::secret::Secret;
use crate::time::{Mono, Wall};
use crate::wire::azure::{self, Callback, Entry};
use crate::wire::call::{CallOutcome, Request};
use std::collections::VecDeque;
use std::time::Duration;

const EACH: Duration = Duration::from_secs(60);

/// While one check asks for the build, the others of it wait for its answer, but no longer than this.
const ASKING: Duration = Duration::from_secs(5);

const OVER: Mono = Mono(0);

/// So many builds are remembered: the ones of 2 looks a second for some minutes.
const MAX_REMEMBERED: usize = 1_024;

/// What is known of all runs together, by one leader: lost without harm.
#[derive(Default)]
pub(crate) struct Runs {
    /// Builds that go on, or are being asked, and until when nobody asks them again; [`OVER`]: it is over, so each of its
    /// checks looks for itself.
    builds: Vec<(Build, Mono)>,
    /// Who waits for a look, and what of this second's looks is used up, for each entry of Azure DevOps.
    entries: Vec<(String, [Turns; 3])>,
}

/// Why a look is made. Each kind has its own share of an entry's looks, so that none waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The build's, for all checks of it.
    Build,
    /// A check's first, which finds an open gate.
    First,
    /// At its own record again.
    Record,
}

/// How many looks of each kind may be made at one entry in a second, in the order of [`Kind`]: 5 in all.
const A_SECOND: [u32; 3] = [2, 2, 1];

/// The looks of one kind at one entry.
struct Turns {
    a_second: u32,
    /// In this second.
    used: u32,
    waiting: VecDeque<CheckKey>,
}

/// When the run is looked at next, and where.
#[derive(Default)]
pub(super) struct RunWatch {
    next: Mono,
    /// The build has its turn.
    is_builds_turn: bool,
    /// It waits for its turn, or has it.
    is_queued: bool,
    has_turn: bool,
    /// Something was seen before.
    has_looked: bool,
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
    /// The same for a delivery that has come since: nothing is known of that one.
    Stale,
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
            Shown::Over(..) if pending.delivery != delivery => Shown::Stale,
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
        let is_anywhere = !(self.is_record_unreadable && self.is_build_unreadable);
        (is_anywhere && !self.is_queued).then_some(self.next)
    }

    /// The look that is to be made now, if there is one: the own record first and then in turn with the build, unless another check
    /// of it has just asked.
    pub(super) fn due(
        &mut self,
        now: Mono,
        key: &CheckKey,
        callback: &Callback,
        runs: &mut Runs,
    ) -> Option<Look> {
        if now < self.next || self.is_queued {
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
        if !self.has_turn && !runs.has_turn(&callback.entry, self.kind(look)) {
            runs.enqueue(&callback.entry, self.kind(look), *key);
            self.is_queued = true;
            return None;
        }
        self.has_turn = true;
        Some(look)
    }

    /// Its turn has come.
    pub(super) fn take_turn(&mut self) {
        (self.is_queued, self.has_turn) = (false, true);
    }

    fn kind(&self, look: Look) -> Kind {
        match look {
            Look::Build(_) => Kind::Build,
            Look::Record(_) if !self.has_looked => Kind::First,
            Look::Record(_) => Kind::Record,
        }
    }

    /// A look has been sent.
    pub(super) fn is_sent(&mut self, look: Look, now: Mono, callback: &Callback, runs: &mut Runs) {
        runs.use_turn(&callback.entry, self.kind(look));
        (self.has_turn, self.has_looked) = (false, true);
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
            (false, Shown::Nothing | Shown::Stale) => runs.forget(callback),
        }
        match shown {
            // Whether the run is over, or this check alone, only the build says.
            Shown::Over(Outcome::Over, reason) if may_abort && is_record && self.can_ask_build(callback) => {
                (self.record_over, self.is_builds_turn, self.next) = (Some(reason), true, Mono(0));
                return None;
            }
            Shown::Over(outcome, reason) => return Some((outcome, reason, !is_record)),
            Shown::GoesOn | Shown::Stale => (self.next, self.is_builds_turn) = (now.plus(EACH), is_record),
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

    fn turns(&mut self, entry: &str, kind: Kind) -> Option<&mut Turns> {
        if !self.entries.iter().any(|(known, _)| known == entry) {
            self.entries.push((entry.into(), A_SECOND.map(Turns::of)));
        }
        let (_, turns) = self.entries.iter_mut().find(|(known, _)| known == entry)?;
        turns.get_mut(kind as usize)
    }

    /// Whether a look of this kind may be made at once: nobody waits for one.
    fn has_turn(&mut self, entry: &str, kind: Kind) -> bool {
        self.turns(entry, kind).is_some_and(|turns| turns.has_room() && turns.waiting.is_empty())
    }

    fn use_turn(&mut self, entry: &str, kind: Kind) {
        if let Some(turns) = self.turns(entry, kind) {
            turns.used = turns.used.saturating_add(1);
        }
    }

    fn enqueue(&mut self, entry: &str, kind: Kind, key: CheckKey) {
        if let Some(turns) = self.turns(entry, kind) {
            turns.waiting.push_back(key);
        }
    }

    /// A second has passed.
    pub(crate) fn tick(&mut self) {
        self.entries.iter_mut().flat_map(|(_, turns)| turns).for_each(|turns| turns.used = 0);
    }

    /// The next check that has its turn. One that does not want it any more has used nothing up.
    pub(crate) fn next_turn(&mut self) -> Option<CheckKey> {
        let mut all = self.entries.iter_mut().flat_map(|(_, turns)| turns);
        all.find_map(|turns| if turns.has_room() { turns.waiting.pop_front() } else { None })
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

impl Turns {
    fn of(a_second: u32) -> Turns {
        Turns { a_second, used: 0, waiting: VecDeque::new() }
    }

    fn has_room(&self) -> bool {
        self.used < self.a_second
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
mod tests;
