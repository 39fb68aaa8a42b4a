//! The ledger's record of a check.

use super::{
    Ask, Candidate, CheckKey, Kept, Known, Outcome, Placed, ReasonCode, Retries, Tokens, is_default,
};
use crate::guid::Guid;
use crate::tag::Tag;
use crate::time::{Mono, Now, Wall};
use crate::wire::azure::{Callback, LogId};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The ledger's record of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The check's key.
    pub key: CheckKey,
    /// Pending or done.
    pub state: State,
}

/// The state of a check: pending or done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A TaskCompleted is owed.
    Pending(Box<Pending>),
    /// It was delivered, or is no longer wanted. Kept for [`DONE_STAYS`], to answer late deliveries.
    Done(Done),
}

/// How long a done check is kept.
pub const DONE_STAYS: Duration = Duration::from_secs(600);

/// A check whose TaskCompleted is owed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The address of its answer.
    pub callback: Callback,
    /// Its request; `None` if it could not be understood and the check was rejected.
    pub ask: Option<Ask>,
    /// The decision to make as soon as its token is taken: a rejection, or the repeat of a decision just reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<Known>,
    /// The tokens that came with its deliveries.
    pub tokens: Tokens,
    /// Deliveries with other values, while no token was taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rivals: Vec<Candidate>,
    /// Number of tries of its proof since its last delivery.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tries: u32,
    /// When its proof last had its turn.
    #[serde(default, skip_serializing_if = "is_default")]
    pub turn: Mono,
    /// Whether its token was refused at the last try of its proof.
    #[serde(default, skip_serializing_if = "is_default")]
    pub is_refused: bool,
    /// When this evaluation began, which identifies it among those of the same check. Zero in records of modules that
    /// did not note it.
    #[serde(default)]
    pub began: Mono,
    /// Number of its deliveries.
    pub delivery: u32,
    /// When it was last delivered.
    #[serde(default)]
    pub delivered: Mono,
    /// When it was first accepted.
    pub accepted: Now,
    /// When its token ends. Computed once from the wall clock at its arrival, because nobody can set this clock.
    pub token_end: Mono,
    /// The latest time of its decision, early enough to be delivered before the token ends.
    pub decide_by: Mono,
    /// Its log in Azure DevOps.
    pub log: Log,
    /// The context that is sending the TaskCompleted now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// Whether Azure DevOps has taken a TaskCompleted with the token of an earlier delivery, or may have, because its
    /// answer was lost.
    #[serde(default, skip_serializing_if = "is_default")]
    pub taken: bool,
    /// Whether Azure DevOps has certainly taken one with the token of an earlier delivery.
    #[serde(default, skip_serializing_if = "is_default")]
    pub is_reported: bool,
    /// Falls of VMs while they read an answer for this check.
    pub falls: Falls,
    /// The credential that sent it.
    #[serde(default)]
    pub credential: String,
    /// The place that it holds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub place: Placed,
    /// Whether its verdict is only logged, and `succeeded` posted in any case. Never set by a request.
    #[serde(default, skip_serializing_if = "is_default")]
    pub observe: bool,
    /// The decision that was reported before Azure DevOps sent the check again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Reported>,
    /// What its log says so far; `None` if it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
    /// How long it had waited before this process's monotonic clock began: the process has adopted it on a machine that
    /// started later.
    #[serde(default, skip_serializing_if = "is_default")]
    pub earlier: Duration,
    /// The number of the acceptance that last wrote its Secret, which recognises its own write after a lost answer.
    #[serde(default, skip_serializing_if = "is_default")]
    pub acceptance: u64,
    /// The number of the acceptance that began this evaluation. Zero without a cluster store.
    #[serde(default, skip_serializing_if = "is_default")]
    pub evaluation: u64,
    /// Its Secret; `None` without a cluster store, and until it is stored there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Box<Kept>>,
    /// Whether its Secret was missing, so that another process may have ended it: Azure DevOps is asked before anything else.
    #[serde(default, skip_serializing_if = "is_default")]
    pub is_doubted: bool,
    /// The phase of its life.
    pub phase: Phase,
}

/// A decision that was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// The decision.
    pub outcome: Outcome,
    /// When.
    pub at: Wall,
}

/// What a check's log says so far, as far as the next context must know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// [`Scene::fingerprint`](crate::check::scene::Scene::fingerprint) of the last scene told.
    #[serde(rename = "print")]
    pub fingerprint: u64,
    /// Number of pieces of [`advice`](crate::check::scene::advice) given.
    pub advice: u8,
    /// Numbers for the executions whose test results it tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<u32>,
}

/// The log of a check in Azure DevOps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Log {
    /// Not created yet.
    Unopened,
    /// Created.
    Open(LogId),
    /// Azure DevOps forbids this token to write one.
    Off,
}

/// The right to send a TaskCompleted. Until it expires or is answered, no other context sends one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The context that sends.
    pub holder: u64,
    /// The number of the send.
    pub send: u64,
    /// The delivery whose token it uses.
    pub delivery: u32,
    /// When it expires, because an answer can no longer come.
    pub until: Mono,
}

/// Falls of VMs over this check, in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Falls {
    /// Number of falls.
    pub count: u32,
    /// Time of the last one.
    pub last: Mono,
}

/// The phase of a pending check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Azure DevOps has not accepted its token yet. Testkube is not asked.
    Accepted,
    /// Azure DevOps accepted its token; the lower bound is being determined.
    Proven,
    /// Testkube is asked.
    Watching(Watch),
    /// The decision is being reported.
    Decided(Decided),
    /// It was reported; parts that could not be written before are still being written.
    Owing(Owing),
}

/// The parts of a reported decision that are still to be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owing {
    /// The decision; `next` is the part to write.
    pub decided: Decided,
    /// When the event was taken.
    pub reported: Now,
    /// The time after which nothing more is written.
    pub until: Mono,
}

/// The state of a check that waits for its executions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// The lower bound: executions scheduled before this time do not count.
    pub bound: Wall,
    /// The source of the bound, in words.
    pub bound_from: String,
    /// The start of the newest attempt of the stage, if only some of the stage's jobs ran in it: the bound is then that of the
    /// earlier attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Wall>,
    /// When it was fixed. `None` in records of modules that did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed: Option<Wall>,
    /// The counted set when it last changed.
    pub seen: Option<Seen>,
    /// How long the expected executions were absent while Testkube answered.
    pub absent: Duration,
    /// The re-runs that Testkube was asked for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retries: Retries,
}

/// A counted set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// [`Assessment::fingerprint`](crate::check::verdict::Assessment::fingerprint).
    #[serde(rename = "print")]
    pub fingerprint: u64,
    /// Since when it has been the same.
    pub since: Mono,
    /// Short fingerprints of its members.
    pub members: Vec<u32>,
    /// For how long its failures have waited for a re-run, while Testkube answered.
    #[serde(default, skip_serializing_if = "is_default")]
    pub waited: Duration,
}

/// A decision to deliver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// The decision.
    pub outcome: Outcome,
    /// The reason in words, for the people at the pipeline.
    pub reason: String,
    /// The reason as a code, for programs. `None` in records of modules that did not note it.
    #[serde(default, deserialize_with = "super::code::known", skip_serializing_if = "Option::is_none")]
    pub code: Option<ReasonCode>,
    /// When it was made.
    pub at: Wall,
    /// The next part of the report.
    pub next: Part,
    /// The parts that could not be written before the event.
    #[serde(default, skip_serializing_if = "is_default")]
    pub owed: Owed,
    /// How often its event was sent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sends: u32,
}

/// The parts of a report that can be written after the event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// The last lines of the log.
    pub lines: bool,
    /// The record's last change.
    pub record: bool,
    /// The names of failed tests that were not known before the event.
    #[serde(default, skip_serializing_if = "is_default")]
    pub results: bool,
}

impl Part {
    /// Whether the last lines come after it, or are it.
    pub(super) fn is_before_lines(self) -> bool {
        matches!(self, Part::CancelBuild | Part::OpenLog | Part::Line)
    }
}

impl Owed {
    /// Whether lines of the log are owed.
    pub fn has_lines(self) -> bool {
        self.lines || self.results
    }

    /// Whether nothing is owed.
    pub fn is_empty(self) -> bool {
        self == Owed::default()
    }
}

/// The parts of a report, in order. The event does not wait long for the others: what could not be written before it is
/// written after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Cancel the build whose gate is open.
    CancelBuild,
    /// Create the log.
    OpenLog,
    /// Append the log line.
    Line,
    /// Link the log to the record.
    Link,
    /// Send the TaskCompleted.
    Event,
}

/// A check that is over. Holds no token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The decision; `None` if the run was over, or the token refused, before one was made.
    pub outcome: Option<Outcome>,
    /// Whether Azure DevOps took the TaskCompleted.
    pub reported: bool,
    /// When it ended.
    pub at: Now,
    /// Its request and address: a later delivery may be the same.
    #[serde(default)]
    pub values: Option<Box<Values>>,
    /// When it came.
    #[serde(default)]
    pub accepted: Wall,
    /// When it was decided.
    #[serde(default)]
    pub decided: Option<Wall>,
    /// The reason in words, shortened.
    #[serde(default)]
    pub reason: String,
    /// The reason as a code.
    #[serde(default, deserialize_with = "super::code::known", skip_serializing_if = "Option::is_none")]
    pub code: Option<ReasonCode>,
    /// ProjectId.
    #[serde(default)]
    pub project: Option<Guid>,
    /// The tag that it waited for.
    #[serde(default)]
    pub tag: Option<Tag>,
    /// Whether `succeeded` was posted whatever the decision.
    #[serde(default)]
    pub observe: bool,
    /// As [`Pending::acceptance`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub acceptance: u64,
    /// As [`Pending::evaluation`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub evaluation: u64,
    /// Number of its deliveries at its end.
    #[serde(default, skip_serializing_if = "is_default")]
    pub served: u32,
    /// How often its event was sent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sends: u32,
    /// Its Secret, until that is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Box<Kept>>,
}

/// The request of a check, and its address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Values {
    /// Its address.
    pub callback: Callback,
    /// Its request; `None` if it could not be understood.
    pub ask: Option<Ask>,
}

impl Log {
    /// The first part of this decision's report.
    pub fn first_part(self) -> Part {
        match self {
            Log::Unopened => Part::OpenLog,
            Log::Open(_) => Part::Line,
            Log::Off => Part::Event,
        }
    }
}

impl Done {
    /// The reported decision, if there is one.
    pub fn reported(&self) -> Option<Reported> {
        let outcome = self.outcome.filter(|_| self.reported)?;
        Some(Reported { outcome, at: self.at.wall })
    }
}

impl Pending {
    /// Makes the decision.
    pub fn decide(&mut self, outcome: Outcome, code: Option<ReasonCode>, reason: String, at: Wall) {
        let next = self.log.first_part();
        let reason = crate::text::clip(reason, 1_500);
        let owed = Owed::default();
        self.phase = Phase::Decided(Decided { outcome, reason, code, at, next, owed, sends: 0 });
    }

    /// Whether nobody waits for it any more, so that a delivery is a new check.
    pub fn is_over(&self) -> bool {
        match &self.phase {
            Phase::Decided(decided) => decided.outcome.is_silent(),
            Phase::Owing(_) => true,
            _ => false,
        }
    }

    /// Its decision, if it was made.
    pub fn decided(&self) -> Option<&Decided> {
        match &self.phase {
            Phase::Decided(decided) => Some(decided),
            Phase::Owing(owing) => Some(&owing.decided),
            _ => None,
        }
    }

    /// Its done record once it is reported, even if lines of its log are still owed.
    pub fn reported(&self) -> Option<Done> {
        match &self.phase {
            Phase::Owing(owing) => Some(self.done(true, owing.reported)),
            _ => None,
        }
    }

    /// Its done record at its end.
    pub fn done(&self, reported: bool, at: Now) -> Done {
        let decided = self.decided();
        Done {
            outcome: decided.map(|decided| decided.outcome),
            reported,
            at,
            values: Some(Box::new(Values { callback: self.callback.clone(), ask: self.ask.clone() })),
            accepted: self.accepted.wall,
            decided: decided.map(|decided| decided.at),
            reason: decided.map(|decided| crate::text::clip(decided.reason.clone(), 300)).unwrap_or_default(),
            code: decided.and_then(|decided| decided.code),
            project: Some(self.callback.project),
            tag: self.ask.as_ref().map(|ask| ask.tag.clone()),
            observe: self.observe,
            acceptance: self.acceptance,
            evaluation: self.evaluation,
            served: self.delivery,
            sends: decided.map_or(0, |decided| decided.sends),
            kept: self.kept.clone(),
        }
    }
}
