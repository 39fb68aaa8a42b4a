//! The rules that hold at every moment of every history. Rules that can only be judged at the end are in
//! [`reference`](crate::reference).

mod checks;
mod poller;
mod proof;
mod readings;
mod results;
mod secrets;

use crate::network::KUBERNETES;
pub use secrets::MARK;
pub(crate) use secrets::Tokens;

use crate::network::Outgoing;
use crate::shared_data::SharedData;
use crate::vm::VmId;
use checks::Checks;
use poller::Poller;
use readings::Readings;
use results::Results;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

/// A rule was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When, in microseconds of the monotonic clock.
    pub at: u64,
    /// Which rule.
    pub rule: &'static str,
    /// How.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {:.3} s, rule {}: {}", self.at as f64 / 1e6, self.rule, self.text)
    }
}

/// 256 buckets of checks and as many of what is shown of them, 64 parts of what was decided, the lease, and a few more.
const MAX_KEYS: usize = 640;
const MAX_BYTES: usize = 8 << 20;
/// 64 to Azure DevOps, 2 lists and 8 confirmations to Testkube, for each of two contexts that led.
const MAX_CALLS: usize = 160;

/// The outcome of a TaskCompleted, as the module learned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    InFlight,
    /// Taken, or the run is over.
    Final,
    NotFinal,
    Lost,
}

/// What the rules watch all the time.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) violations: Vec<Violation>,
    /// How often each rule was checked with its premise true.
    pub(crate) checked: BTreeMap<&'static str, u64>,
    /// Of one process, or of all that share their checks.
    checks: Rc<RefCell<Checks>>,
    /// By instance.
    pollers: BTreeMap<String, Poller>,
    looked_at: u64,
    gone: BTreeSet<(VmId, u32)>,
    stalled_until: BTreeMap<usize, u64>,
    /// What streams have asked Testkube for.
    of_streams: BTreeSet<(String, i64)>,
    /// The calls whose outcome is being read.
    reading: Vec<(VmId, u32)>,
    /// How many VMs fell, and when the last one did, in Unix milliseconds of the true clock.
    pub(crate) falls: (u64, Option<i64>),
    /// When another context began to start calls, in microseconds of the monotonic clock.
    pub(crate) handovers: Vec<u64>,
    readings: Readings,
    results: Results,
}

impl Rules {
    pub(crate) fn violation(&mut self, at: u64, rule: &'static str, text: String) {
        self.violations.push(Violation { at, rule, text });
    }

    fn checked(&mut self, rule: &'static str) {
        *self.checked.entry(rule).or_default() += 1;
    }

    /// Whether a thread has stalled since a time, or still does.
    pub(crate) fn has_stalled_since(&self, thread: usize, time: u64) -> bool {
        self.stalled_until.get(&thread).is_some_and(|until| *until >= time)
    }

    /// A stream's request reaches its server, at `wall` in Unix milliseconds.
    pub(crate) fn stream_asks(&mut self, target: &str, wall: i64) {
        self.of_streams.insert((target.to_string(), wall));
    }

    /// Whether the request that reached a server then came from a stream. A check may make the same request.
    pub(crate) fn is_of_a_stream(&self, target: &str, wall: i64) -> bool {
        self.of_streams.contains(&(target.to_string(), wall))
    }

    /// The module starts a call.
    pub(crate) fn call_starts(&mut self, now: u64, outgoing: &Outgoing) {
        // A stream asks for its own caller, who has presented a credential, and decides no other check. Its root context asks the
        // API server for it after a pause.
        if !outgoing.is_of_a_stream() && outgoing.cluster != KUBERNETES {
            self.one_poller(now, outgoing);
            self.proven_before_asked(now, outgoing);
            self.one_result(now, outgoing);
        }
        if let Some(check) = event_of(&outgoing.request) {
            self.one_event(now, &check, outgoing);
        }
    }

    pub(crate) fn call_refused(&mut self, outgoing: &Outgoing) {
        self.call_ends(0, outgoing.vm, outgoing.token, Fate::Lost);
        self.result_ends(outgoing.vm, outgoing.token);
    }

    /// A VM begins to read the outcome of a call.
    pub(crate) fn reading_begins(&mut self, now: u64, vm: VmId, token: u32, fate: Fate) {
        self.call_ends(now, vm, token, fate);
        self.result_ends(vm, token);
        self.reading.push((vm, token));
    }

    /// It has read it.
    pub(crate) fn reading_ends(&mut self, vm: VmId, token: u32) {
        self.reading.retain(|call| *call != (vm, token));
    }

    pub(crate) fn scan_key(&mut self, now: u64, key: &[u8]) {
        self.scan(now, "a key's name", key);
    }

    /// A VM fell, at `wall` in Unix milliseconds.
    pub(crate) fn fell(&mut self, wall: i64) {
        self.falls = (self.falls.0 + 1, Some(wall));
    }

    /// A context ended or fell.
    pub(crate) fn context_gone(&mut self, vm: VmId, root: u32) {
        self.gone.insert((vm, root));
    }

    /// Rule `bounds`, after every event: what all VMs share, and the calls under way.
    pub(crate) fn bounds(&mut self, now: u64, shared: &SharedData, calls: usize) {
        self.checked("bounds");
        let (keys, bytes) = shared.size();
        if keys > MAX_KEYS || bytes > MAX_BYTES {
            self.violation(now, "bounds", format!("shared data has {keys} keys and {bytes} bytes"));
        }
        if calls > MAX_CALLS {
            self.violation(now, "bounds", format!("{calls} calls under way"));
        }
    }
}

/// The check that a TaskCompleted is for: plan, job and task.
fn event_of(request: &fakes::Request) -> Option<String> {
    let plan = plan_of(request.path())?;
    let last = request.path().rsplit('/').next()?;
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let completes = last == "events" && body["name"] == "TaskCompleted";
    completes.then(|| {
        check_name(plan, body["jobId"].as_str().unwrap_or(""), body["taskId"].as_str().unwrap_or(""))
    })
}

/// The plan that a call is about.
fn plan_of(path: &str) -> Option<&str> {
    path.split('/').skip_while(|segment| *segment != "plans").nth(1)
}

/// The tag values in a request for a list of executions.
fn tags_of(request: &fakes::Request) -> Vec<String> {
    let selector = request.query().split('&').find_map(|pair| pair.strip_prefix("tagSelector="));
    let items = selector.unwrap_or_default().split("%2C").filter_map(|item| item.split_once("%3D"));
    items.map(|(_, value)| value.to_string()).collect()
}

/// The name of a check in these rules.
fn check_name(plan: &str, job: &str, task: &str) -> String {
    format!("{plan}/{job}/{task}").to_ascii_lowercase()
}

/// The meaning of the answer to a TaskCompleted; the body of a 404 or 500 says that nobody waits any more.
pub(crate) fn fate_of(answer: Option<&fakes::Response>, from_upstream: bool) -> Fate {
    let Some(answer) = answer.filter(|_| from_upstream) else { return Fate::Lost };
    if !(200..300).contains(&answer.status) && !matches!(answer.status, 404 | 500) {
        return Fate::NotFinal;
    }
    if answer.status == 204 {
        return Fate::Final;
    }
    let over = String::from_utf8_lossy(&answer.body);
    let over = ["OrchestrationSessionNotFound", "TaskOrchestrationPlanNotFound", "OrchestrationJobNotFound"]
        .iter()
        .any(|name| over.contains(name));
    // A sign-in page comes with 200 or 203.
    let page = answer.value("content-type").is_some_and(|kind| kind.starts_with("text/html"));
    if ((200..300).contains(&answer.status) && !page) || over { Fate::Final } else { Fate::NotFinal }
}
