//! Whether the run still waits for its check. Azure DevOps sends no word when a run is cancelled, a check is bypassed
//! or its time is over (Microsoft Learn: the built-in checks have no cancel section). So it is asked: once a minute for
//! each build, whose answer serves all of its checks, and every two minutes for each check's own record.

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

/// How long the other checks of a build wait for the answer that one of them has asked for.
const ASKING: Duration = Duration::from_secs(5);

const OVER: Mono = Mono(0);

/// Maximum builds remembered: those of some minutes with 2 looks a second.
const MAX_REMEMBERED: usize = 1_024;

/// What one leader knows of all runs. May be lost without harm.
#[derive(Default)]
pub(crate) struct Runs {
    /// Builds that go on, or are being asked, and the time until which they are not asked again. [`OVER`]: the build is
    /// over, so each of its checks looks for itself.
    builds: Vec<(Build, Mono)>,
    /// For each entry of Azure DevOps, the checks that wait for a look, and the looks used up in this second.
    entries: Vec<(String, [Turns; 3])>,
}

/// The kind of a look. Each has its own share of an entry's looks, so that none waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// At the build, for all of its checks.
    Build,
    /// A check's first look at its record, which finds an open gate.
    First,
    /// A later look at a check's own record.
    Record,
}

/// Maximum looks in a second at one entry, for each [`Kind`] in order: 5 in all.
const A_SECOND: [u32; 3] = [2, 2, 1];

/// The looks of one kind at one entry.
struct Turns {
    a_second: u32,
    /// Looks made in this second.
    used: u32,
    waiting: VecDeque<CheckKey>,
}

/// When and where to look at a check's run next.
#[derive(Default)]
pub(super) struct RunWatch {
    next: Mono,
    /// Whether the next look is at the build.
    is_builds_turn: bool,
    /// Whether it waits for its turn, or has it.
    is_queued: bool,
    has_turn: bool,
    /// Whether a look has shown something before.
    has_looked: bool,
    is_record_unreadable: bool,
    is_build_unreadable: bool,
    /// Why the check's own record says that it is over, while the build is asked whether the run is.
    record_over: Option<String>,
}

/// A look at the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// At the check's own record, in this timeline.
    Record(Guid),
    /// At the build whose stage waits.
    Build(u64),
}

/// The result of a look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    GoesOn,
    Over(Outcome, String),
    /// The run of an earlier delivery is over: nothing is known of the newer one's.
    Stale,
    /// This token may not look there, or there is nothing to see.
    Nothing,
}

impl Look {
    pub(super) fn request(self, entry: &Entry, callback: &Callback, token: &Secret) -> Request {
        match self {
            Look::Record(timeline) => azure::read_records(entry, callback, token, timeline),
            Look::Build(build) => azure::build(entry, callback, token, build),
        }
    }

    /// What a successful answer shows. The look was started for delivery number `delivery`; a later delivery is another
    /// run's.
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
    /// For the run of the check at `callback`.
    pub(super) fn of(callback: &Callback) -> RunWatch {
        RunWatch {
            is_record_unreadable: callback.timeline.is_none(),
            is_build_unreadable: callback.build.is_none(),
            ..RunWatch::default()
        }
    }

    /// When to look next; `None` if there is nothing to see anywhere.
    pub(super) fn next(&self) -> Option<Mono> {
        let is_anywhere = !(self.is_record_unreadable && self.is_build_unreadable);
        (is_anywhere && !self.is_queued).then_some(self.next)
    }

    /// The look to make now, if any: first at the check's record, then in turn at the build, unless another of its checks
    /// has just asked.
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
        // If the check's record is over, an earlier answer of the build says nothing.
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

    /// Notes that its turn has come.
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

    /// Notes that a look has been sent.
    pub(super) fn note_sent(&mut self, look: Look, now: Mono, callback: &Callback, runs: &mut Runs) {
        runs.use_turn(&callback.entry, self.kind(look));
        (self.has_turn, self.has_looked) = (false, true);
        if matches!(look, Look::Build(_)) && runs.known_until(callback) != Some(OVER) {
            runs.note(now.plus(ASKING), now, callback);
        }
    }

    /// Notes what a look has shown. Returns how and why the run has ended, and whether the build said so.
    pub(super) fn note_seen(
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
            // Only the build says whether the run is over, or this check alone.
            Shown::Over(Outcome::Over, reason) if may_abort && is_record && self.can_ask_build(callback) => {
                (self.record_over, self.is_builds_turn, self.next) = (Some(reason), true, Mono(0));
                return None;
            }
            Shown::Over(outcome, reason) => return Some((outcome, reason, !is_record)),
            Shown::GoesOn | Shown::Stale => (self.next, self.is_builds_turn) = (now.plus(EACH), is_record),
            Shown::Nothing if is_record => self.is_record_unreadable = true,
            Shown::Nothing => self.is_build_unreadable = true,
        }
        // The build has not said that the run is over, so only the check is.
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

    /// Whether a look of this kind may be made at once, because nobody waits for one.
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

    /// Renews the looks of a second.
    pub(crate) fn tick(&mut self) {
        self.entries.iter_mut().flat_map(|(_, turns)| turns).for_each(|turns| turns.used = 0);
    }

    /// The next check that has its turn. If it no longer wants it, nothing is used up.
    pub(crate) fn next_turn(&mut self) -> Option<CheckKey> {
        let mut all = self.entries.iter_mut().flat_map(|(_, turns)| turns);
        all.find_map(|turns| if turns.has_room() { turns.waiting.pop_front() } else { None })
    }

    /// Notes that a check's build goes on, or is being asked: nobody asks again before `until`.
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

/// A build, by project and number. Projects of two entries have different GUIDs.
type Build = (Guid, u64);

fn build_of(callback: &Callback) -> Option<Build> {
    Some((callback.project, callback.build?))
}

/// Whether this check's executions may be aborted when its run is over: its tag belongs to its build, and
/// both the configuration and its credential allow it.
pub(super) fn may_abort(config: &Config, pending: &Pending) -> bool {
    let of_build = |build| pending.ask.as_ref().is_some_and(|ask| ask.tag.is_of(build));
    config.checks.abort_on_cancel
        && pending.callback.build.is_some_and(of_build)
        && config.credential(&pending.credential).is_some_and(|own| own.abort_on_cancel)
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
                "Azure DevOps has completed this check itself ({result}): the run was cancelled, the check timed out or was bypassed, or another check failed."
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
        // Another pipeline's build, for example: the build that waits was not over when it sent the check.
        Some((Some("completed"), Some(finished))) if finished < pending.accepted.wall => Shown::Nothing,
        Some((Some(status), _)) => Shown::Over(Outcome::Over, format!("Build {build} is {status}.")),
    }
}

#[cfg(test)]
mod tests;
