//! Rule `one event`: one event for each delivery, whichever process sends it.

use super::proof::Proofs;
use super::{Fate, Rules, check_name};
use crate::network::{Call, KUBERNETES, Outgoing};
use crate::state::{MINUTE, SECOND};
use crate::vm::VmId;
use fakes::CheckSpec;
use std::collections::BTreeMap;

/// How long after a call's timeout the module counts its answer as lost.
const GRACE: u64 = 5 * SECOND;

/// A process that lives has renewed its Lease within this time.
const SILENT: u64 = 10 * SECOND;

/// For so long after a silence the others, and the process itself, may act on it: its checks are adopted, its decisions were sent
/// without having been stored.
const AFTER_SILENCE: u64 = 3 * MINUTE;

/// The longest time until it is stored that an event was answered, if the API server is there.
const STORED: u64 = MINUTE;

/// What processes that share their checks do with them. A process that shares none has its own.
#[derive(Debug, Default)]
pub(super) struct Checks {
    sends: BTreeMap<String, Vec<Send>>,
    deliveries: BTreeMap<String, usize>,
    pub(super) proofs: Proofs,
    /// By process.
    contacts: BTreeMap<u32, Contact>,
}

/// A process's contact with the API server.
#[derive(Debug, Default)]
struct Contact {
    /// The last clear answer to a write.
    last: u64,
    /// When a silence, or the trouble to write a Secret, was over last.
    troubled: Option<u64>,
    /// When another one's write was found in a Secret, by the Secret's name.
    conflicts: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Send {
    process: u32,
    vm: VmId,
    token: u32,
    deadline: u64,
    fate: Fate,
    /// When its fate became known.
    ended: u64,
    /// The callback that learns of it has not ended.
    being_read: bool,
}

impl Send {
    /// Whether the module knows that nothing more is to be sent. If its thread stalls before it can note that, until its
    /// claim has ended, the answer counts as lost.
    fn is_known_final(&self, now: u64) -> bool {
        self.fate == Fate::Final && !(self.being_read && now >= self.deadline)
    }

    fn is_of(&self, vm: VmId, token: u32) -> bool {
        self.vm == vm && self.token == token
    }
}

impl Checks {
    /// Whether the others may take this process for dead, or it could not store what it did.
    fn may_be_cut_off(&self, process: u32, now: u64) -> bool {
        self.contacts.get(&process).is_some_and(|contact| {
            now > contact.last + SILENT || contact.troubled.is_some_and(|at| now < at + AFTER_SILENCE)
        })
    }

    /// A process sends a TaskCompleted; how that breaks the rule.
    fn send(&mut self, now: u64, check: &str, outgoing: &Outgoing) -> Vec<String> {
        let process = outgoing.process;
        let is_excused = |other: u32| {
            other != process && (self.may_be_cut_off(other, now) || self.may_be_cut_off(process, now))
        };
        // It could not store how that ended, because another had taken the check, from whom it has it back.
        let secret = check.replace('/', "-");
        let conflict = self.contacts.get(&process).and_then(|contact| {
            contact.conflicts.iter().find(|(name, _)| name.ends_with(&secret)).map(|(_, at)| *at)
        });
        let was_taken = |send: &Send| {
            send.process == process
                && conflict.is_some_and(|at| send.ended <= at)
                && self.may_be_cut_off(process, now)
        };
        let earlier = self.sends.get(check).into_iter().flatten();
        let earlier = earlier.filter(|send| !is_excused(send.process) && !was_taken(send));
        let finals = earlier.clone().filter(|send| send.is_known_final(now)).count();
        let open = earlier.clone().any(|send| send.fate == Fate::InFlight && now < send.deadline);
        let deliveries = self.deliveries.get(check).copied().unwrap_or(0);
        let mut broken = Vec::new();
        if open {
            broken.push(format!("{check}: a TaskCompleted while another is under way"));
        }
        if finals >= deliveries {
            let text =
                format!("{check}: a TaskCompleted after {finals} final answers to {deliveries} deliveries");
            broken.push(text);
        }
        // A claim counts from the time at which its callback began.
        let deadline = outgoing.callback_began + outgoing.timeout + GRACE;
        let (vm, token) = (outgoing.vm, outgoing.token);
        let send = Send { process, vm, token, deadline, fate: Fate::InFlight, ended: now, being_read: false };
        self.sends.entry(check.to_string()).or_default().push(send);
        broken
    }

    fn of_call(&mut self, vm: VmId, token: u32) -> impl Iterator<Item = &mut Send> {
        self.sends.values_mut().flatten().filter(move |send| send.is_of(vm, token))
    }

    /// A process has the answer to a write to the API server, or knows that there is none.
    fn written(&mut self, now: u64, call: &Call) {
        let is_clear = call.from_upstream
            && call
                .answer
                .as_ref()
                .is_some_and(|answer| matches!(answer.status, 200..=299 | 400 | 404 | 409 | 422));
        let contact =
            self.contacts.entry(call.outgoing.process).or_insert(Contact { last: now, ..Contact::default() });
        let was_silent = now > contact.last + SILENT;
        if was_silent || (!is_clear && call.outgoing.request.path().contains("/secrets")) {
            contact.troubled = Some(now);
        }
        if is_clear {
            contact.last = now;
        }
        if call.answer.as_ref().is_some_and(|answer| answer.status == 409)
            && let Some((_, name)) = call.outgoing.request.path().split_once("/secrets/")
        {
            contact.conflicts.insert(name.to_owned(), now);
        }
    }
}

impl Rules {
    /// A check that waits for a tag is about to be delivered to the module.
    pub(crate) fn delivery(&mut self, spec: &CheckSpec, tag: &str) {
        let check = check_name(&spec.plan, &spec.job, &spec.task);
        let mut checks = self.checks.borrow_mut();
        *checks.deliveries.entry(check).or_default() += 1;
        checks.proofs.needed(&spec.plan, tag);
    }

    /// From now on this process shares its checks with another.
    pub(crate) fn share_checks_with(&mut self, other: &Rules) {
        self.checks = other.checks.clone();
    }

    /// A hot restart: the new process takes this one's checks although it lives.
    pub(crate) fn replaced(&mut self, now: u64, process: u32) {
        let mut checks = self.checks.borrow_mut();
        let contact = checks.contacts.entry(process).or_insert(Contact { last: now, ..Contact::default() });
        contact.troubled = Some(now);
    }

    /// Rule `one event`: no second TaskCompleted for one delivery unless the answer before was lost or not final, or its sender was taken
    /// for dead or could not store what it did.
    pub(super) fn one_event(&mut self, now: u64, check: &str, outgoing: &Outgoing) {
        self.checked("one event");
        let broken = self.checks.borrow_mut().send(now, check, outgoing);
        for text in broken {
            self.violation(now, "one event", text);
        }
    }

    /// Whether the answer to a TaskCompleted for this check may still come.
    pub(crate) fn is_event_under_way(&self, now: u64, spec: &CheckSpec) -> bool {
        let checks = self.checks.borrow();
        let sends = checks.sends.get(&check_name(&spec.plan, &spec.job, &spec.task));
        sends.is_some_and(|sends| sends.iter().any(|send| send.fate == Fate::InFlight && now < send.deadline))
    }

    /// A thread stalls inside a callback. Nobody else knows what it reads until it goes on: if its claim ends before that,
    /// the answer is as good as lost.
    pub(crate) fn stalled(&mut self, thread: usize, until: u64) {
        self.stalled_until.insert(thread, until);
        let reading = &self.reading;
        for send in self.checks.borrow_mut().sends.values_mut().flatten() {
            if reading.contains(&(send.vm, send.token)) && until >= send.deadline {
                send.fate = Fate::Lost;
            }
        }
    }

    /// The module has the outcome of a call, or will never have it.
    pub(crate) fn call_ends(&mut self, now: u64, vm: VmId, token: u32, fate: Fate) {
        for send in self.checks.borrow_mut().of_call(vm, token) {
            if send.fate == Fate::InFlight {
                send.fate = if now >= send.deadline { Fate::Lost } else { fate };
                (send.ended, send.being_read) = (now, true);
            }
        }
    }

    /// The callback for the answer to a call has ended.
    pub(crate) fn call_was_read(&mut self, now: u64, call: &Call) {
        let (vm, token) = (call.outgoing.vm, call.outgoing.token);
        for send in self.checks.borrow_mut().of_call(vm, token) {
            if !send.is_known_final(now) && send.fate == Fate::Final {
                send.fate = Fate::Lost;
            }
            send.being_read = false;
        }
        if call.outgoing.cluster == KUBERNETES && call.outgoing.request.method != "GET" {
            self.checks.borrow_mut().written(now, call);
        }
        if !call.outgoing.is_of_a_stream() {
            self.note_reading(call);
        }
    }

    /// The VM trapped while it read the outcome of a call.
    pub(crate) fn call_unread(&mut self, vm: VmId, token: u32) {
        for send in self.checks.borrow_mut().of_call(vm, token) {
            send.fate = Fate::Lost;
        }
    }

    /// A process was killed. The answers that it had not read are lost, and with it those of which it had told nobody yet.
    pub(crate) fn killed(&mut self, now: u64, process: u32) {
        self.reading.clear();
        self.pollers.clear();
        let mut checks = self.checks.borrow_mut();
        let told_nobody = checks.may_be_cut_off(process, now);
        if !told_nobody {
            // Its silence from now on is no excuse.
            checks.contacts.remove(&process);
        }
        for send in checks.sends.values_mut().flatten().filter(|send| send.process == process) {
            if told_nobody || send.fate == Fate::InFlight || now < send.ended + STORED {
                send.fate = Fate::Lost;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fakes::Request;

    fn check() -> CheckSpec {
        CheckSpec {
            project: "p".into(),
            hub: "checks".into(),
            plan: "plan".into(),
            job: "job".into(),
            timeline: "plan".into(),
            task: "task".into(),
            token: "token".into(),
            build: None,
        }
    }

    /// A TaskCompleted of a process, in its only VM.
    fn event_of(process: u32) -> Outgoing {
        let body = r#"{"name":"TaskCompleted","jobId":"job","taskId":"task"}"#;
        Outgoing {
            process,
            vm: VmId(process),
            thread: 0,
            root: 1,
            context: 1,
            instance: "testrelay".into(),
            callback_began: 0,
            token: 4,
            cluster: "azure-devops".into(),
            request: Request::new("POST", "/f/p/_apis/distributedtask/hubs/checks/plans/plan/events")
                .body(body),
            timeout: 10 * SECOND,
        }
    }

    /// Two processes with one delivery of a check that the first has sent the event for; what the second breaks when it sends one
    /// as well, at 20 s.
    fn broken(shares: bool, meanwhile: impl FnOnce(&mut Rules)) -> usize {
        let (mut first, mut second) = (Rules::default(), Rules::default());
        if shares {
            second.share_checks_with(&first);
        }
        first.delivery(&check(), "tag");
        if !shares {
            second.delivery(&check(), "tag");
        }
        first.call_starts(0, &event_of(1));
        meanwhile(&mut first);
        second.call_starts(14 * SECOND, &event_of(2));
        assert_eq!(first.violations, []);
        second.violations.len()
    }

    fn answered(first: &mut Rules) {
        first.call_ends(SECOND, VmId(1), 4, Fate::Final);
    }

    #[test]
    fn processes_that_share_their_checks_send_one_event_for_a_delivery() {
        assert_eq!(broken(true, |_| {}), 1, "another is under way");
        assert_eq!(broken(true, answered), 1, "another was taken");
        assert_eq!(broken(true, |first| first.call_ends(SECOND, VmId(1), 4, Fate::Lost)), 0);
        assert_eq!(broken(true, |first| first.delivery(&check(), "tag")), 1, "the first is still under way");
        assert_eq!(broken(false, answered), 0, "each has its own");
    }

    #[test]
    fn what_a_killed_process_had_sent_is_sent_again_unless_it_had_told_the_others() {
        assert_eq!(broken(true, |first| first.killed(10 * SECOND, 1)), 0);
        let told_after = |millis: u64| {
            broken(true, |first| {
                answered(first);
                first.killed(SECOND + millis, 1);
            })
        };
        assert_eq!(told_after(STORED - 1), 0);
        assert_eq!(told_after(STORED), 1);
    }

    #[test]
    fn a_process_that_nobody_hears_of_excuses_a_second_event_while_it_lives_and_not_once_it_is_dead() {
        let last_heard = |at: u64| {
            move |first: &mut Rules| {
                answered(first);
                let contact = Contact { last: at, ..Contact::default() };
                first.checks.borrow_mut().contacts.insert(1, contact);
            }
        };
        assert_eq!(broken(true, last_heard(0)), 0);
        assert_eq!(broken(true, last_heard(5 * SECOND)), 1);
        broken(true, |first| {
            last_heard(5 * SECOND)(first);
            first.killed(6 * SECOND, 1);
            assert!(!first.checks.borrow().may_be_cut_off(1, 10 * MINUTE));
        });
    }
}
