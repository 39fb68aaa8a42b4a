//! The protocol's events, as a run records them: one JSON object a line, in the order in which they happened. This file is
//! their definition; [`crate::conformance`] says whether they are a path of the model.
//!
//! Replicas are named by their ids, checks by the names of their Secrets, calls by numbers that occur once. Whoever runs
//! the replicas records what happens to them (started, died, delivered); the API server, or its stand-in, records what it
//! executes; the replicas record what they call, what they are answered and what they conclude. Calls for Leases are
//! recorded by what comes of them, lists of Secrets by one `called` with `get` for each Secret that the list made the
//! replica act on. A replica that gets a clear answer that nothing was done (401, 403, 429, 5xx that the server itself says)
//! records it as `received`, and calls again.

use serde::{Deserialize, Serialize};

/// One event.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// A process has started. It has no Lease yet.
    Started {
        /// Its id.
        replica: String,
    },
    /// A process has made its Lease, or made it anew: POST answered 201, or PUT answered 201.
    LeaseMade {
        /// Whose.
        replica: String,
    },
    /// A process has renewed its Lease: PUT answered 200. Needed only where it was taken for dead before, or could not reach
    /// a fence.
    LeaseRenewed {
        /// Whose.
        replica: String,
    },
    /// A Lease was deleted.
    LeaseDeleted {
        /// Whose.
        replica: String,
        /// By which replica; nobody's name: by hand.
        by: Option<String>,
    },
    /// A replica takes another for dead: its `renewTime` was seen unchanged for 20 s, or it has this pod's name and was
    /// there when this one started.
    TakenForDead {
        /// Who.
        replica: String,
        /// By whom.
        by: String,
    },
    /// A replica begins to drain.
    Drains {
        /// Who.
        replica: String,
    },
    /// A process is dead, however it came to that. Its calls that have no answer get none.
    Died {
        /// Who.
        replica: String,
    },
    /// A delivery of a check has reached a replica.
    Delivered {
        /// Which replica.
        replica: String,
        /// Of which check.
        check: String,
        /// Which one: 0 is the first that anybody got, and so on.
        delivery: u8,
        /// Something that tells its token from others; not the token.
        token: String,
        /// Azure DevOps sent it, and takes its token as long as it waits. A delivery of other values under the same ids has
        /// a token that is never taken.
        genuine: bool,
    },
    /// A delivery is answered.
    Answered {
        /// By whom.
        replica: String,
        /// Of which check.
        check: String,
        /// Which one.
        delivery: u8,
        /// 200, 409 or 503.
        status: u16,
    },
    /// A replica makes a call for a check.
    Called {
        /// The call.
        call: u64,
        /// Whose.
        replica: String,
        /// For which check.
        check: String,
        /// What it asks for.
        request: Request,
    },
    /// The API server, or Azure DevOps, has executed a call.
    Executed {
        /// Which.
        call: u64,
        /// 200 and 201 (204 for an event): done. 404, 409: what they say. For an event any other final answer: refused.
        status: u16,
        /// What a `get` has found.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        found: Option<Stored>,
    },
    /// The caller has got the answer.
    Received {
        /// To which call.
        call: u64,
        /// What it was.
        status: u16,
    },
    /// The caller has given the call up, without a clear answer.
    Unanswered {
        /// Which.
        call: u64,
    },
    /// A decision could not be stored for 60 s: the event goes out all the same.
    FenceUnreached {
        /// At which replica.
        replica: String,
        /// For which check.
        check: String,
        /// The decision.
        decision: String,
    },
    /// The API server does not answer, and the configuration says `on_outage: accept`: the delivery that waits is kept in the
    /// ledger alone, and answered 200.
    AcceptedWithoutStore {
        /// At which replica.
        replica: String,
        /// Of which check.
        check: String,
    },
    /// Somebody has deleted a Secret by hand.
    SecretDeleted {
        /// Which check's.
        check: String,
    },
}

/// What a call asks for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The Secret is read: GET, or a list that had it in it.
    Get,
    /// It is created.
    Post {
        /// With this in it.
        record: Stored,
    },
    /// It is replaced, where it is still as it was read.
    Put {
        /// By this.
        record: Stored,
    },
    /// It is deleted, where it is still as it was read.
    Delete,
    /// `TaskCompleted` is sent to Azure DevOps.
    TaskCompleted {
        /// The delivery whose token it carries.
        delivery: u8,
        /// What was decided.
        decision: String,
    },
}

/// What the Secret of a check holds, as far as the protocol is concerned.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// The id of the replica that owns it; none when it was given up.
    pub owner: Option<String>,
    /// The deliveries that it holds, in ascending order.
    pub deliveries: Vec<u8>,
    /// Those of them that are served, in ascending order.
    pub served: Vec<u8>,
    /// Whether Azure DevOps has taken a token of it.
    pub proven: bool,
    /// How far it has come.
    pub phase: Stage,
    /// What was decided; where it is not `decided`, nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
}

/// How far a check has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nothing was decided.
    Undecided,
    /// It was decided.
    Decided,
    /// All is served.
    Done,
}

impl Event {
    /// The check that it is about; none: it concerns a process.
    pub fn check(&self) -> Option<&str> {
        match self {
            Event::Delivered { check, .. }
            | Event::Answered { check, .. }
            | Event::Called { check, .. }
            | Event::FenceUnreached { check, .. }
            | Event::AcceptedWithoutStore { check, .. }
            | Event::SecretDeleted { check } => Some(check),
            _ => None,
        }
    }

    /// The call that it is about, if it is not its beginning.
    pub fn of_call(&self) -> Option<u64> {
        match self {
            Event::Executed { call, .. } | Event::Received { call, .. } | Event::Unanswered { call } => {
                Some(*call)
            }
            _ => None,
        }
    }
}

/// Reads a recording: one event a line; empty lines and those that begin with `#` say nothing.
///
/// # Errors
/// A line is no event.
pub fn parse(text: &str) -> anyhow::Result<Vec<Event>> {
    let lines = (1..).zip(text.lines().map(str::trim));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(number, line)| {
            serde_json::from_str(line).map_err(|error| anyhow::anyhow!("line {number}: {error}: {line}"))
        })
        .collect()
}
