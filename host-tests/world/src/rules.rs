//! The rules that hold at every moment of every history. Rules that can only be judged at the end are in
//! [`reference`](crate::reference).

mod poller;
mod proof;
mod readings;
mod secrets;

pub use secrets::MARK;
pub(crate) use secrets::Tokens;

use crate::network::{Call, Outgoing};
use crate::shared_data::SharedData;
use crate::state::SECOND;
use crate::vm::VmId;
use fakes::CheckSpec;
use poller::Poller;
use proof::Proofs;
use readings::Readings;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

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

/// How long after a call's timeout the module counts its answer as lost.
const GRACE: u64 = 5 * SECOND;
/// 256 buckets, the lease, and a few more.
const MAX_KEYS: usize = 300;
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

#[derive(Debug)]
struct Send {
    vm: VmId,
    token: u32,
    deadline: u64,
    fate: Fate,
    /// The callback that learns of it has not ended.
    being_read: bool,
}

impl Send {
    /// Whether the module knows that nothing more is to be sent. If its thread stalls before it can note that, until its
    /// claim has ended, the answer counts as lost.
    fn is_known_final(&self, now: u64) -> bool {
        self.fate == Fate::Final && !(self.being_read && now >= self.deadline)
    }
}

/// What the rules watch all the time.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) violations: Vec<Violation>,
    /// How often each rule was checked with its premise true.
    pub(crate) checked: BTreeMap<&'static str, u64>,
    sends: BTreeMap<String, Vec<Send>>,
    deliveries: BTreeMap<String, usize>,
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
    proofs: Proofs,
    readings: Readings,
}

impl Rules {
    pub(crate) fn violation(&mut self, at: u64, rule: &'static str, text: String) {
        self.violations.push(Violation { at, rule, text });
    }

    fn checked(&mut self, rule: &'static str) {
        *self.checked.entry(rule).or_default() += 1;
    }

    /// A check that waits for a tag is about to be delivered to the module.
    pub(crate) fn delivery(&mut self, spec: &CheckSpec, tag: &str) {
        let check = check_name(&spec.plan, &spec.job, &spec.task);
        *self.deliveries.entry(check).or_default() += 1;
        self.proofs.needed(&spec.plan, tag);
    }

    /// A thread stalls inside a callback. Nobody else knows what it reads until it goes on: if its claim ends before that,
    /// the answer is as good as lost.
    pub(crate) fn stalled(&mut self, thread: usize, until: u64) {
        self.stalled_until.insert(thread, until);
        let reading = &self.reading;
        for send in self.sends.values_mut().flatten() {
            if reading.contains(&(send.vm, send.token)) && until >= send.deadline {
                send.fate = Fate::Lost;
            }
        }
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
        // A stream asks for its own caller, who has presented a credential, and decides no other check.
        if !outgoing.is_of_a_stream() {
            self.one_poller(now, outgoing);
            self.proven_before_asked(now, outgoing);
        }
        if let Some(check) = event_of(&outgoing.request) {
            self.one_event(now, &check, outgoing);
        }
    }

    /// Rule 2: no second TaskCompleted for one delivery unless the answer before was lost or not final.
    fn one_event(&mut self, now: u64, check: &str, outgoing: &Outgoing) {
        self.checked("2 (one event)");
        let sends = self.sends.entry(check.to_string()).or_default();
        let finals = sends.iter().filter(|send| send.is_known_final(now)).count();
        let open = sends.iter().any(|send| send.fate == Fate::InFlight && now < send.deadline);
        // A claim counts from the time at which its callback began.
        let deadline = outgoing.callback_began + outgoing.timeout + GRACE;
        let (vm, token) = (outgoing.vm, outgoing.token);
        sends.push(Send { vm, token, deadline, fate: Fate::InFlight, being_read: false });
        let deliveries = self.deliveries.get(check).copied().unwrap_or(0);
        if open {
            self.violation(now, "2", format!("{check}: a TaskCompleted while another is under way"));
        }
        if finals >= deliveries {
            let text =
                format!("{check}: a TaskCompleted after {finals} final answers to {deliveries} deliveries");
            self.violation(now, "2", text);
        }
    }

    /// Whether the answer to a TaskCompleted for this check may still come.
    pub(crate) fn is_event_under_way(&self, now: u64, spec: &CheckSpec) -> bool {
        let sends = self.sends.get(&check_name(&spec.plan, &spec.job, &spec.task));
        sends.is_some_and(|sends| sends.iter().any(|send| send.fate == Fate::InFlight && now < send.deadline))
    }

    pub(crate) fn call_refused(&mut self, outgoing: &Outgoing) {
        self.call_ends(0, outgoing.vm, outgoing.token, Fate::Lost);
    }

    /// A VM begins to read the outcome of a call.
    pub(crate) fn reading_begins(&mut self, now: u64, vm: VmId, token: u32, fate: Fate) {
        self.call_ends(now, vm, token, fate);
        self.reading.push((vm, token));
    }

    /// It has read it.
    pub(crate) fn reading_ends(&mut self, vm: VmId, token: u32) {
        self.reading.retain(|call| *call != (vm, token));
    }

    /// The module has the outcome of a call, or will never have it.
    pub(crate) fn call_ends(&mut self, now: u64, vm: VmId, token: u32, fate: Fate) {
        for send in self.sends.values_mut().flatten() {
            if send.vm == vm && send.token == token && send.fate == Fate::InFlight {
                send.fate = if now >= send.deadline { Fate::Lost } else { fate };
                send.being_read = true;
            }
        }
    }

    /// The callback for the answer to a call has ended.
    pub(crate) fn call_was_read(&mut self, now: u64, call: &Call) {
        let (vm, token) = (call.outgoing.vm, call.outgoing.token);
        for send in self.sends.values_mut().flatten().filter(|send| send.vm == vm && send.token == token) {
            if !send.is_known_final(now) && send.fate == Fate::Final {
                send.fate = Fate::Lost;
            }
            send.being_read = false;
        }
        if !call.outgoing.is_of_a_stream() {
            self.note_reading(call);
        }
    }

    /// The VM trapped while it read the outcome of a call.
    pub(crate) fn call_unread(&mut self, vm: VmId, token: u32) {
        for send in self.sends.values_mut().flatten().filter(|send| send.vm == vm && send.token == token) {
            send.fate = Fate::Lost;
        }
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

    /// Rule 6, after every event: what all VMs share, and the calls under way.
    pub(crate) fn bounds(&mut self, now: u64, shared: &SharedData, calls: usize) {
        self.checked("6 (bounds)");
        let (keys, bytes) = shared.size();
        if keys > MAX_KEYS || bytes > MAX_BYTES {
            self.violation(now, "6", format!("shared data has {keys} keys and {bytes} bytes"));
        }
        if calls > MAX_CALLS {
            self.violation(now, "6", format!("{calls} calls under way"));
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
