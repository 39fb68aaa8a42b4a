//! One check, from its first delivery to its end. Knows no store, no leader and no other check.
//!
//! ```text
//! Accepted → Proven → Watching → Decided → Owing → Done → gone
//! ```
//!
//! The ledger keeps [`Pending`]; [`Volatile`] is lost with the leader. A delivery changes the check in
//! [`deliver`](crate::surface::accept), everything else in [`Check::step`]: an event comes in, [`Effects`] go out.

mod answers;
mod ask;
mod bounding;
mod candidate;
mod code;
mod deadline;
mod delivery;
mod doubt;
mod effects;
mod fallback;
mod heard;
mod kept;
mod live_log;
mod naming;
mod observed;
mod outcome;
mod place;
pub(crate) mod policies;
mod proving;
pub(crate) mod reason;
mod rebase;
mod record;
mod remains;
mod reporting;
mod results;
mod retry;
mod run;
pub mod scene;
mod step;
mod telling;
mod tokens;
pub mod verdict;
mod view;
mod watching;

use crate::guid::Guid;
use crate::hash::fnv1a;
use crate::wire::azure::Callback;
pub use ask::{Ask, Given};
pub use candidate::{Candidate, Known, MAX_CANDIDATES, MAX_OF_CREDENTIAL, Stands, is_same_ask};
pub use code::ReasonCode;
pub use deadline::Deadline;
pub(crate) use delivery::{Delivered, Delivery, deliver};
pub use effects::Counter;
pub(crate) use effects::{Acted, Call, Effects, Room, Space};
pub(crate) use heard::Heard;
pub(crate) use kept::Reread;
pub use kept::{Kept, Saved, Written};
pub(crate) use live_log::{LiveLog, LogCx};
pub use outcome::Outcome;
pub use place::{Place, Placed};
pub use policies::Policies;
pub use record::{
    Claim, DONE_STAYS, Decided, Done, Falls, Log, Owed, Owing, Part, Pending, Phase, Record, Reported, Seen,
    State, Told, Values, Watch,
};
pub(crate) use remains::remains;
pub use retry::Retries;
pub(crate) use run::Runs;
use std::cmp::Ordering;
pub(crate) use step::{Check, Cx, Event, Reporting, Times, Volatile};
pub use tokens::{Ends, Tokens};
pub(crate) use view::{Live, View, explain, shown_trouble};
pub(crate) use watching::{FALLS_TOGETHER, Reading, Unread, Wanted};

/// The identity of a check: PlanId, JobId and TaskInstanceId.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckKey {
    /// PlanId.
    pub plan: Guid,
    /// JobId.
    pub job: Guid,
    /// TaskInstanceId.
    pub task: Guid,
}

/// Not inlined: each tree of checks would have it in all of its searches.
impl Ord for CheckKey {
    #[inline(never)]
    fn cmp(&self, other: &CheckKey) -> Ordering {
        let others = || self.job.cmp(&other.job).then_with(|| self.task.cmp(&other.task));
        self.plan.cmp(&other.plan).then_with(others)
    }
}

impl PartialOrd for CheckKey {
    fn partial_cmp(&self, other: &CheckKey) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl CheckKey {
    /// The key of the check at `callback`.
    pub fn of(callback: &Callback) -> CheckKey {
        CheckKey { plan: callback.plan, job: callback.job, task: callback.task }
    }

    /// The order of printed keys, in which the API server lists Secrets. That of `Ord` is another, and faster.
    pub(crate) fn cmp_as_printed(&self, other: &CheckKey) -> Ordering {
        self.bytes().cmp(&other.bytes())
    }

    /// A short id for logs and answers.
    pub fn id(&self) -> String {
        format!("{:016x}", self.hash())
    }

    /// Length of [`CheckKey::bytes`].
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

    /// A hash that is the same in every process and version.
    pub fn hash(&self) -> u64 {
        fnv1a(&self.bytes())
    }
}

/// Whether a field is left out of a record, as fields are that few records set.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
pub(crate) mod tests {
    mod deliveries;
    mod histories;
    mod life;
    mod lost;
    mod oracle;
    mod policies;
    mod results;
    mod retry;
    mod servers;
    mod stale;
    pub(crate) mod verdicts;
    mod world;

    use super::*;
    use crate::secret::Secret;
    use crate::time::{Mono, Now};
    use crate::wire::azure::HubName;

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
        let first = Candidate {
            callback,
            ask: None,
            known: None,
            tokens: Tokens::new(Secret::new("token".into()), 1, Ends::default()),
            credential: String::new(),
            observe: false,
            accepted: Now::default(),
            earlier: std::time::Duration::ZERO,
            tries: 0,
            turn: Mono(0),
            is_refused: false,
        };
        let pending = Pending { place: Placed::default(), ..delivery::first_delivery(first, Now::default()) };
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
