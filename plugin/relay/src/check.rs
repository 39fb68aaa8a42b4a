//! A check: its identity, what it asks, and where in its life it is.
//!
//! ```text
//! Accepted → Proven → Watching → Decided → Done → gone
//! ```

mod candidate;
mod deadline;
mod place;
mod tokens;

use crate::azure::{Callback, LogId};
use crate::expect::Expect;
use crate::guid::Guid;
use crate::hash::fnv1a;
use crate::tag::Tag;
use crate::time::{Mono, Now, Wall};
pub use candidate::{Candidate, Known, MAX_CANDIDATES, Stands, is_same_ask};
pub use deadline::Deadline;
pub use place::{Place, Placed};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;
pub use tokens::{Ends, Tokens};

/// What makes a delivery the same check: PlanId, JobId and TaskInstanceId.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckKey {
    /// PlanId.
    pub plan: Guid,
    /// JobId.
    pub job: Guid,
    /// TaskInstanceId.
    pub task: Guid,
}

impl CheckKey {
    /// The key of the check that is answered at `callback`.
    pub fn of(callback: &Callback) -> CheckKey {
        CheckKey { plan: callback.plan, job: callback.job, task: callback.task }
    }

    /// A short name for logs and answers.
    pub fn id(&self) -> String {
        format!("{:016x}", self.hash())
    }

    /// How many [`CheckKey::bytes`] there are.
    pub const BYTES: usize = 48;

    /// Plan, job and task, 16 bytes each.
    pub fn bytes(&self) -> [u8; CheckKey::BYTES] {
        let mut bytes = [0; CheckKey::BYTES];
        let (ids, _) = bytes.as_chunks_mut::<16>();
        for (to, from) in ids.iter_mut().zip([self.plan, self.job, self.task]) {
            *to = *from.bytes();
        }
        bytes
    }

    /// The inverse of [`CheckKey::bytes`].
    pub fn from_bytes(bytes: &[u8; CheckKey::BYTES]) -> Option<CheckKey> {
        let (ids, _) = bytes.as_chunks::<16>();
        let [plan, job, task] = ids else { return None };
        Some(CheckKey {
            plan: Guid::from_bytes(*plan)?,
            job: Guid::from_bytes(*job)?,
            task: Guid::from_bytes(*task)?,
        })
    }

    /// The same in every process and version.
    pub fn hash(&self) -> u64 {
        fnv1a(&self.bytes())
    }
}

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
    /// Whether its token was refused at the last try of its proof.
    #[serde(default, skip_serializing_if = "is_default")]
    pub is_refused: bool,
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
    pub claim: Option<Claim>,
    /// Whether Azure DevOps has taken a TaskCompleted with the token of an earlier delivery, or may have: its answer was lost.
    #[serde(default)]
    pub taken: bool,
    /// VMs that fell while they read an answer for this check.
    pub falls: Falls,
    /// The credential that sent it.
    #[serde(default)]
    pub credential: String,
    /// Whose limits it is counted against.
    #[serde(default, skip_serializing_if = "is_default")]
    pub place: Placed,
    /// Whether its verdict is only told, and `succeeded` posted whatever it is. Never what a request says.
    #[serde(default)]
    pub observe: bool,
    /// What was reported for it before, if Azure DevOps has sent it again after that.
    #[serde(default)]
    pub before: Option<Reported>,
    /// What its log says so far; `None`: nothing.
    #[serde(default)]
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
    /// [`Scene::print`](crate::status::Scene::print) of what was said last.
    pub print: u64,
    /// How much of the [`advice`](crate::status::advice) has been given.
    pub advice: u8,
}

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The tag of its executions.
    pub tag: Tag,
    /// What must be there.
    pub expect: Expect,
    /// How long the counted set must have been the same.
    pub settle: Duration,
    /// The total deadline, counted from its acceptance.
    pub timeout: Duration,
    /// How long the expected may take to appear, counted while Testkube answers.
    pub appear_timeout: Duration,
    /// The stage whose newest start is the lower bound.
    pub since_stage: Option<String>,
    /// What a re-run means.
    #[serde(default)]
    pub rerun: Rerun,
    /// Which of these the request gave itself; the others are the configuration's. `None` in records of modules that did not
    /// note it.
    #[serde(default)]
    pub given: Option<Given>,
}

/// The policies that a request gave itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Given {
    /// `expect`.
    #[serde(skip_serializing_if = "is_default")]
    pub expect: bool,
    /// `settle`.
    #[serde(skip_serializing_if = "is_default")]
    pub settle: bool,
    /// `timeout`.
    #[serde(skip_serializing_if = "is_default")]
    pub timeout: bool,
    /// `appear_timeout`.
    #[serde(skip_serializing_if = "is_default")]
    pub appear_timeout: bool,
    /// `rerun`.
    #[serde(skip_serializing_if = "is_default")]
    pub rerun: bool,
}

/// What stands in few records is left out of the others.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Given {
    const ALL: Given = Given { expect: true, settle: true, timeout: true, appear_timeout: true, rerun: true };
}

impl Ask {
    /// Whether another request asks the same. What neither of them gave does not count: it may be another configuration's.
    pub fn is_same(&self, other: &Ask) -> bool {
        let given = match (self.given, other.given) {
            (Some(own), Some(others)) if own != others => return false,
            (own, others) => own.or(others).unwrap_or(Given::ALL),
        };
        self.tag == other.tag
            && self.since_stage == other.since_stage
            && (!given.expect || self.expect == other.expect)
            && (!given.settle || self.settle == other.settle)
            && (!given.timeout || self.timeout == other.timeout)
            && (!given.appear_timeout || self.appear_timeout == other.appear_timeout)
            && (!given.rerun || self.rerun == other.rerun)
    }
}

/// What it means that an execution provably repeats another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rerun {
    /// The newest of a chain counts, in place of those that it repeats.
    #[default]
    Latest,
    /// Every one counts: what has failed once stays failed.
    All,
    /// The first of a chain counts: repeating changes nothing.
    None,
}

impl Rerun {
    /// Reads a policy's name.
    pub fn parse(text: &str) -> Option<Rerun> {
        match text {
            "latest" => Some(Rerun::Latest),
            "all" => Some(Rerun::All),
            "none" => Some(Rerun::None),
            _ => None,
        }
    }
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
    /// The decision is to be delivered.
    Decided(Decided),
}

/// What a check that waits for its executions remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Executions scheduled before this do not count.
    pub bound: Wall,
    /// Where the bound comes from, in words.
    pub bound_from: String,
    /// The counted set when it was last seen to change.
    pub seen: Option<Seen>,
    /// For how long the expected was absent while Testkube answered.
    pub absent: Duration,
}

/// A counted set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// [`Assessment::print`](crate::verdict::Assessment::print).
    pub print: u64,
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
    /// When.
    pub at: Wall,
    /// What of it is delivered next.
    pub next: Delivery,
}

/// The steps of a delivery, in their order. Only the event is owed; the others are given up after three tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
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

/// A decision. Only [`Outcome::Passed`] is posted as `succeeded`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every counted execution passed.
    Passed,
    /// All ended, and one did not pass.
    Failed,
    /// It could not be determined.
    Inconclusive,
    /// The request could not be evaluated.
    Rejected,
    /// The run ended before a decision: nothing is posted.
    Over,
    /// Azure DevOps did not wait for the check at all: nothing is posted, because nobody waits.
    OpenGate,
}

impl Outcome {
    /// Whether no TaskCompleted is owed for it.
    pub fn is_silent(self) -> bool {
        matches!(self, Outcome::Over | Outcome::OpenGate)
    }
}

impl Outcome {
    /// Its one word, in lists and metrics; the log explains it ([`Outcome`]'s `Display`).
    pub fn code(self) -> &'static str {
        match self {
            Outcome::Passed => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Inconclusive => "inconclusive",
            Outcome::Rejected => "rejected",
            Outcome::Over => "over",
            Outcome::OpenGate => "open_gate",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Passed => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Inconclusive => "failed (inconclusive: could not be determined)",
            Outcome::Rejected => "failed (rejected)",
            Outcome::Over => "not reported (the run is over)",
            Outcome::OpenGate => "not reported (the gate is open)",
        })
    }
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
    /// What is delivered first of a decision.
    pub fn first_delivery(self) -> Delivery {
        match self {
            Log::Unopened => Delivery::OpenLog,
            Log::Open(_) => Delivery::Line,
            Log::Off => Delivery::Event,
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
    pub fn decide(&mut self, outcome: Outcome, reason: String, at: Wall) {
        let next = self.log.first_delivery();
        let reason = crate::text::clip(reason, 1_500);
        self.phase = Phase::Decided(Decided { outcome, reason, at, next });
    }

    /// Whether nobody waits for it any more, so that a delivery is a new check.
    pub fn is_over(&self) -> bool {
        matches!(&self.phase, Phase::Decided(decided) if decided.outcome.is_silent())
    }

    /// What remains of it at its end.
    pub fn done(&self, reported: bool, at: Now) -> Done {
        let decided = match &self.phase {
            Phase::Decided(decided) => Some(decided),
            _ => None,
        };
        Done {
            outcome: decided.map(|decided| decided.outcome),
            reported,
            at,
            values: Some(Box::new(Values { callback: self.callback.clone(), ask: self.ask.clone() })),
            accepted: self.accepted.wall,
            decided: decided.map(|decided| decided.at),
            reason: decided.map(|decided| crate::text::clip(decided.reason.clone(), 300)).unwrap_or_default(),
            project: Some(self.callback.project),
            tag: self.ask.as_ref().map(|ask| ask.tag.clone()),
            observe: self.observe,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::azure::HubName;
    use crate::secret::Secret;

    pub(crate) fn guid(n: u32) -> Guid {
        Guid::parse(&format!("{n:08x}-0000-4000-8000-000000000001")).unwrap()
    }

    pub(crate) fn record(n: u32) -> Record {
        let callback = Callback {
            entry: "https://dev.azure.com/fabrikam".into(),
            project: guid(1),
            hub: HubName::Checks,
            plan: guid(n),
            job: guid(n),
            task: guid(n),
            timeline: Some(guid(n)),
            build: Some(4711),
        };
        let pending = Pending {
            ask: None,
            known: None,
            tokens: Tokens::new(Secret::new("token".into()), 1, Ends::default()),
            rivals: Vec::new(),
            tries: 0,
            is_refused: false,
            delivery: 1,
            delivered: Mono(0),
            accepted: Now::default(),
            token_end: Mono(0),
            decide_by: Mono(0),
            log: Log::Unopened,
            claim: None,
            taken: false,
            falls: Falls::default(),
            credential: String::new(),
            place: Placed::default(),
            observe: false,
            before: None,
            told: None,
            phase: Phase::Accepted,
            callback,
        };
        Record { key: CheckKey::of(&pending.callback), state: State::Pending(Box::new(pending)) }
    }

    impl Record {
        pub(crate) fn make_large(&mut self, bytes: usize) {
            if let State::Pending(pending) = &mut self.state {
                pending.tokens = Tokens::new(Secret::new("x".repeat(bytes)), 1, Ends::default());
            }
        }
    }

    #[test]
    fn a_record_comes_back_from_its_bytes() {
        let json = serde_json::to_string(&record(1).state).unwrap();
        assert_eq!(serde_json::from_str::<State>(&json).unwrap(), record(1).state);
        assert_eq!(CheckKey::from_bytes(&record(1).key.bytes()), Some(record(1).key));
    }
}
