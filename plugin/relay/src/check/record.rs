//! What the ledger keeps of a check.

use super::{Ask, Candidate, CheckKey, Known, Outcome, Placed, ReasonCode, Tokens, is_default};
use crate::guid::Guid;
use crate::tag::Tag;
use crate::time::{Mono, Now, Wall};
use crate::wire::azure::{Callback, LogId};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What the ledger keeps of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which check.
    pub key: CheckKey,
    /// Pending or done.
    pub state: State,
}

/// Pending or done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A TaskCompleted is owed.
    Pending(Box<Pending>),
    /// It was delivered, or nobody wants it any more. Kept for [`DONE_STAYS`], to answer late deliveries.
    Done(Done),
}

/// How long a done check is remembered.
pub const DONE_STAYS: Duration = Duration::from_secs(600);

/// A check whose TaskCompleted is owed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Where it is answered.
    pub callback: Callback,
    /// What it asks; `None` where that could not be understood and the check was rejected.
    pub ask: Option<Ask>,
    /// What is decided as soon as its token is taken: it was rejected, or it comes again right after its decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<Known>,
    /// The tokens that came with its deliveries.
    pub tokens: Tokens,
    /// Deliveries with other values, as long as no token was taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rivals: Vec<Candidate>,
    /// How often its proof was tried since its last delivery.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tries: u32,
    /// When its proof had its last turn.
    #[serde(default, skip_serializing_if = "is_default")]
    pub turn: Mono,
    /// Whether its token was refused at the last try of its proof.
    #[serde(default, skip_serializing_if = "is_default")]
    pub is_refused: bool,
    /// When this evaluation began: it names it among those of the same check. Zero in records of modules that did not note it.
    #[serde(default)]
    pub began: Mono,
    /// How many times it was delivered.
    pub delivery: u32,
    /// When it was last delivered.
    #[serde(default)]
    pub delivered: Mono,
    /// When it was first accepted.
    pub accepted: Now,
    /// When its token ends. Told from the wall clock once, when it came: nobody can set this clock.
    pub token_end: Mono,
    /// The latest time of the decision, so that it arrives before the token's end.
    pub decide_by: Mono,
    /// The log in Azure DevOps.
    pub log: Log,
    /// Who is sending the TaskCompleted just now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// Whether Azure DevOps has taken a TaskCompleted with the token of an earlier delivery, or may have: its answer was lost.
    #[serde(default, skip_serializing_if = "is_default")]
    pub taken: bool,
    /// Whether Azure DevOps has taken one with the token of an earlier delivery for certain.
    #[serde(default, skip_serializing_if = "is_default")]
    pub is_reported: bool,
    /// VMs that fell while they read an answer for this check.
    pub falls: Falls,
    /// The credential that sent it.
    #[serde(default)]
    pub credential: String,
    /// Whose limits it is counted against.
    #[serde(default, skip_serializing_if = "is_default")]
    pub place: Placed,
    /// Whether its verdict is only told, and `succeeded` posted whatever it is. Never what a request says.
    #[serde(default, skip_serializing_if = "is_default")]
    pub observe: bool,
    /// What was reported for it before, if Azure DevOps has sent it again after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Reported>,
    /// What its log says so far; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
    /// Where in its life it is.
    pub phase: Phase,
}

/// A decision that was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// Which.
    pub outcome: Outcome,
    /// When.
    pub at: Wall,
}

/// What a check's log says so far, as far as the next context has to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// [`Scene::fingerprint`](crate::check::scene::Scene::fingerprint) of what was said last.
    #[serde(rename = "print")]
    pub fingerprint: u64,
    /// How much of the [`advice`](crate::check::scene::advice) has been given.
    pub advice: u8,
}

/// The log of a check in Azure DevOps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Log {
    /// Not created yet.
    Unopened,
    /// Created.
    Open(LogId),
    /// Azure DevOps does not let this token write one.
    Off,
}

/// The right to send a TaskCompleted. Until it is over or answered, nobody else sends one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The context that sends.
    pub holder: u64,
    /// Which of its sends.
    pub send: u64,
    /// The delivery whose token it uses.
    pub delivery: u32,
    /// When an answer can no longer come.
    pub until: Mono,
}

/// How often in a row a VM fell over this check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Falls {
    /// How often.
    pub count: u32,
    /// The last time.
    pub last: Mono,
}

/// Where in its life a pending check is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Azure DevOps has not yet been seen to take its token: Testkube is not asked anything for it.
    Accepted,
    /// Azure DevOps took its token; the lower bound is being found.
    Proven,
    /// Testkube is asked.
    Watching(Watch),
    /// The decision is to be reported.
    Decided(Decided),
    /// It was reported; what could not be written before is written still.
    Owing(Owing),
}

/// What is owed of a decision that was reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owing {
    /// The decision; its next part is what is owed.
    pub decided: Decided,
    /// When the event was taken.
    pub reported: Now,
    /// After this nothing is written any more.
    pub until: Mono,
}

/// What a check that waits for its executions remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Executions scheduled before this do not count.
    pub bound: Wall,
    /// Where the bound comes from, in words.
    pub bound_from: String,
    /// When it was fixed. `None` in records of modules that did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed: Option<Wall>,
    /// The counted set when it was last seen to change.
    pub seen: Option<Seen>,
    /// For how long the expected was absent while Testkube answered.
    pub absent: Duration,
}

/// A counted set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// [`Assessment::fingerprint`](crate::check::verdict::Assessment::fingerprint).
    #[serde(rename = "print")]
    pub fingerprint: u64,
    /// Since when it is the same.
    pub since: Mono,
    /// Its members, shortened.
    pub members: Vec<u32>,
}

/// A decision that is to be delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// Which.
    pub outcome: Outcome,
    /// Why, for the people at the pipeline.
    pub reason: String,
    /// Why, for programs. `None` in records of modules that did not note it.
    #[serde(default, deserialize_with = "super::code::known", skip_serializing_if = "Option::is_none")]
    pub code: Option<ReasonCode>,
    /// When.
    pub at: Wall,
    /// What of it is reported next.
    pub next: Part,
    /// What could not be written before the event.
    #[serde(default, skip_serializing_if = "is_default")]
    pub owed: Owed,
}

/// The parts of a report that can be written after the event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// The last lines of the log.
    pub lines: bool,
    /// The record's last change.
    pub record: bool,
}

impl Owed {
    /// Whether nothing is owed.
    pub fn is_empty(self) -> bool {
        self == Owed::default()
    }
}

/// The parts of a report, in their order. The event does not wait for the others for long: what could not be written before
/// it is written after it.
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

/// A check that is over. No token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// What was decided; `None` where the run was over, or the token refused, before a decision.
    pub outcome: Option<Outcome>,
    /// Whether Azure DevOps took the TaskCompleted.
    pub reported: bool,
    /// When.
    pub at: Now,
    /// What was asked, and where it was answered: a delivery that comes again may be the same.
    #[serde(default)]
    pub values: Option<Box<Values>>,
    /// When it came.
    #[serde(default)]
    pub accepted: Wall,
    /// When it was decided.
    #[serde(default)]
    pub decided: Option<Wall>,
    /// Why, shortened.
    #[serde(default)]
    pub reason: String,
    /// Why, for programs.
    #[serde(default, deserialize_with = "super::code::known", skip_serializing_if = "Option::is_none")]
    pub code: Option<ReasonCode>,
    /// ProjectId.
    #[serde(default)]
    pub project: Option<Guid>,
    /// The tag that it waited for.
    #[serde(default)]
    pub tag: Option<Tag>,
    /// Whether `succeeded` was posted whatever was decided.
    #[serde(default)]
    pub observe: bool,
}

/// What a check was asked, and where it was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Values {
    /// Where it was answered.
    pub callback: Callback,
    /// What it asked; `None` where that could not be understood.
    pub ask: Option<Ask>,
}

impl Log {
    /// What is reported first of a decision.
    pub fn first_part(self) -> Part {
        match self {
            Log::Unopened => Part::OpenLog,
            Log::Open(_) => Part::Line,
            Log::Off => Part::Event,
        }
    }
}

impl Done {
    /// What was reported, if anything was.
    pub fn reported(&self) -> Option<Reported> {
        let outcome = self.outcome.filter(|_| self.reported)?;
        Some(Reported { outcome, at: self.at.wall })
    }
}

impl Pending {
    /// What is done when a decision is made.
    pub fn decide(&mut self, outcome: Outcome, code: Option<ReasonCode>, reason: String, at: Wall) {
        let next = self.log.first_part();
        let reason = crate::text::clip(reason, 1_500);
        self.phase = Phase::Decided(Decided { outcome, reason, code, at, next, owed: Owed::default() });
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

    /// What stands for it once it is reported, though lines of its log are still owed.
    pub fn reported(&self) -> Option<Done> {
        match &self.phase {
            Phase::Owing(owing) => Some(self.done(true, owing.reported)),
            _ => None,
        }
    }

    /// What remains of it at its end.
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
        }
    }
}
